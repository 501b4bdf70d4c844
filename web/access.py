"""Who is asking: API keys, roles, request ids, and one log line for each request. Nobody is let in by default."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import falcon

from audit.log import Actor
from core.clock import system_now
from core.db import Database
from core.errors import Forbidden, Unauthenticated
from registry.models import Role
from registry.registry import authenticate
from web.body import Spool
from web.idempotency import StoredAnswers
from web.operation import Audience

ANONYMOUS: Final = "anonymous"
_KNOWN_FOR: Final = 5.0
_RECENT: Final = 1000
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
_numbers = itertools.count()
_log = logging.getLogger("condau.request")


class ApiKeys:
    """Admits callers by ``Authorization: Bearer <API key>``."""

    def __init__(self, *, database: Database) -> None:
        self.database = database
        self._recent: dict[str, tuple[float, Actor]] = {}

    def admit(self, req: falcon.Request, roles: frozenset[Role] | Audience) -> Actor:
        """The caller as an Actor; an operation open to the public asks for no key and reads none."""
        request_id: str = req.context.request_id
        if roles is Audience.PUBLIC:
            return Actor(ANONYMOUS, Audience.PUBLIC.value, request_id)
        if isinstance(roles, Audience):
            return self.identify(req.auth, request_id)
        actor = self._known(req.auth or "", request_id)
        if actor.role not in roles:
            wanted = " or ".join(sorted(roles))
            raise Forbidden(f"{actor.name} is known here as {actor.role}; this is for {wanted}")
        return actor

    def identify(self, authorization: str | None, request_id: str) -> Actor:
        """Who sends this Authorization field, anonymous without one; raises Unauthenticated for a key that is not known.

        A key counts as known for some seconds after it was looked up, for callers that come many times a second.
        """
        if not authorization:
            return Actor(ANONYMOUS, Audience.PUBLIC.value, request_id)
        known = self._recent.get(authorization)
        if known is None or known[0] < time.monotonic():
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            known = (time.monotonic() + _KNOWN_FOR, self._known(authorization, ""))
            self._recent[authorization] = known
        return replace(known[1], request_id=request_id)

    def _known(self, authorization: str, request_id: str) -> Actor:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthenticated("send the API key as Authorization: Bearer <key>")
        with self.database.read() as db:
            client = authenticate(db, key.strip())
        return Actor(client.name, client.role, request_id)


class Shell:
    """Falcon middleware around every request: its id, its limits, its log line."""

    def __init__(self, *, access: ApiKeys, body_limit: int, spool: Spool | None = None) -> None:
        """``body_limit``: bytes of a body kept in memory; ``spool``: where larger documents wait, none larger when left out."""
        self._access = access
        self._answers = StoredAnswers(database=access.database, now=system_now)
        self._body_limit = body_limit
        self._spool = spool or Spool(None, body_limit)

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Give the request what the responders and the log need of it."""
        req.context.request_id = choose_request_id(req.get_header("X-Request-Id"))
        req.context.access = self._access
        req.context.answers = self._answers
        req.context.body_digest = b""
        req.context.body_limit = self._body_limit
        req.context.spool = self._spool
        req.context.started = time.perf_counter()
        resp.set_header("X-Request-Id", req.context.request_id)
        resp.set_header("X-Content-Type-Options", "nosniff")

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: Any, _succeeded: bool) -> None:
        """Log one line; the query string stays out of it, for it may hold a document's password."""
        actor: Actor | None = getattr(req.context, "actor", None)
        took = time.perf_counter() - req.context.started
        log_request(req.method, req.path, resp.status_code, took, request_id=req.context.request_id, actor=actor)


def choose_request_id(offered: str | None) -> str:
    """The id the caller offers where it is a fit one, otherwise a new one.

    New ones of one process follow each other: rows that are filed by them lie side by side, which costs the database less.
    """
    return offered if offered and _REQUEST_ID.fullmatch(offered) else f"{_process_prefix()}{next(_numbers):012x}"


@functools.cache
def _process_prefix() -> str:
    """Of this process alone: drawn at the first request, which is after the fork."""
    return secrets.token_hex(10)


def log_request(method: str, path: str, status: int, seconds: float, *, request_id: str, actor: Actor | None) -> None:
    """The log line of one request; nothing in it could be a secret or a document."""
    log_requests(method, path, status, seconds, request_ids=[request_id], client=actor.name if actor else None)


def log_requests(method: str, path: str, status: int, seconds: float, *, request_ids: Sequence[str], client: str | None) -> None:
    """The log lines of several requests by one write: requests of one client (None: nobody we know) that ended alike."""
    fields = {"method": method, "path": path, "status": status, "ms": round(seconds * 1000, 2), "actor": client}
    _log.info("request", extra={"fields": fields, "each": ("request_id", request_ids)})
