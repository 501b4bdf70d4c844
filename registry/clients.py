"""Changing what a caller of the API may do."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Forbidden, NotFound
from registry.models import ApiClient, Grant, Role


class Clients:
    """The callers and their roles."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    def check_role_change(self, name: str, actor: Actor) -> str:
        """The role the caller ``name`` has now; raises NotFound, and Forbidden for one's own."""
        if name == actor.name:
            raise Forbidden("nobody changes their own role: another admin has to")
        with self._database.read() as db:
            return _client(db, name).role

    def change_role(self, payload: dict[str, Any], actor: Actor) -> dict[str, Any]:
        """Give ``payload["client"]`` the role ``to`` if it still has the role ``from``; doing it again changes nothing.

        What a client system was granted ends with its role. Raises Conflict when the role was changed meanwhile.
        """
        name, before, after = payload["client"], payload["from"], payload["to"]
        with self._database.write() as db:
            client = _client(db, name, lock=True)
            if client.role == after:
                return {"client": name, "role": after}
            if client.role != before:
                raise Conflict(f"{name} is a {client.role} by now, not a {before}: ask again")
            client.role = after
            if before == Role.CLIENT:
                db.execute(sa.delete(Grant).where(Grant.client_id == client.id))
            append(db, at=self._now(), actor=actor, action="client.role", subject=name, before=before, after=after)
        return {"client": name, "role": after}


def _client(db: Session, name: str, *, lock: bool = False) -> ApiClient:
    query = sa.select(ApiClient).where(ApiClient.name == name)
    client = db.scalar(query.with_for_update() if lock else query)
    if client is None:
        raise NotFound("client", f"no client is named {name}")
    return client
