"""Who is asking: API keys, roles, request ids, and one log line for each request. Nobody is let in by default."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any, Final, Literal

import falcon

from audit.log import Actor
from core.clock import system_now
from core.db import Database
from core.errors import Forbidden, Unauthenticated
from registry.models import Role
from registry.registry import authenticate
from web.idempotency import StoredAnswers
from web.operation import Audience

ANONYMOUS: Final = "anonymous"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_log = logging.getLogger("condau.request")


class ApiKeys:
    """Admits callers by ``Authorization: Bearer <API key>``."""

    def __init__(self, *, database: Database) -> None:
        self.database = database

    def admit(self, req: falcon.Request, roles: frozenset[Role] | Literal[Audience.PUBLIC]) -> Actor:
        """The caller as an Actor; an operation open to the public asks for no key and reads none."""
        request_id: str = req.context.request_id
        if isinstance(roles, Audience):
            return Actor(ANONYMOUS, roles.value, request_id)
        scheme, _, key = (req.auth or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthenticated("send the API key as Authorization: Bearer <key>")
        with self.database.read() as db:
            client = authenticate(db, key.strip())
        if client.role not in roles:
            wanted = " or ".join(sorted(roles))
            raise Forbidden(f"{client.name} is known here as {client.role}; this is for {wanted}")
        return Actor(client.name, client.role, request_id)


class Shell:
    """Falcon middleware around every request: its id, its limits, its log line."""

    def __init__(self, *, access: ApiKeys, body_limit: int) -> None:
        self._access = access
        self._answers = StoredAnswers(database=access.database, now=system_now)
        self._body_limit = body_limit

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Give the request what the responders and the log need of it."""
        offered = req.get_header("X-Request-Id") or ""
        req.context.request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        req.context.access = self._access
        req.context.answers = self._answers
        req.context.body = b""
        req.context.body_limit = self._body_limit
        req.context.started = time.perf_counter()
        resp.set_header("X-Request-Id", req.context.request_id)
        resp.set_header("X-Content-Type-Options", "nosniff")

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: Any, _succeeded: bool) -> None:
        """Log one line; the query string stays out of it, for it may hold a document's password."""
        actor: Actor | None = getattr(req.context, "actor", None)
        _log.info(
            "request",
            extra={
                "fields": {
                    "request_id": req.context.request_id,
                    "method": req.method,
                    "path": req.path,
                    "status": resp.status_code,
                    "ms": round((time.perf_counter() - req.context.started) * 1000, 2),
                    "actor": actor.name if actor else None,
                }
            },
        )
