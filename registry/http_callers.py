"""Routes of the registry about callers: client systems and people, their keys, and whom a client system may sign for."""

from __future__ import annotations

from collections.abc import Callable

import falcon
import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Forbidden, NotFound
from registry import registry
from registry.models import ApiClient, Role
from registry.views import ClientKey, ClientPage, ClientView, NewClient, PageQuery
from web.operation import operation, send_json

_READERS = {Role.ADMIN, Role.AUDITOR}


class _Callers:
    """What every resource here is made of."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now


class Callers(_Callers):
    """``/v1/clients``."""

    def __init__(self, *, database: Database, now: Now, needs_approval: Callable[[str], bool]) -> None:
        """``needs_approval``: whether a role is given only with the approval of another."""
        super().__init__(database=database, now=now)
        self._needs_approval = needs_approval

    @operation(roles=_READERS, summary="List the callers, by name", tag="registry", query=PageQuery, returns=ClientPage)
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: PageQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        query = sa.select(ApiClient).order_by(ApiClient.name).limit(options.limit)
        if options.after is not None:
            query = query.where(ApiClient.name > options.after)
        with self._database.read() as db:
            views = [_view(db, row) for row in db.scalars(query).all()]
        last = views[-1].name if len(views) == options.limit else None
        send_json(resp, ClientPage(clients=views, next=last))

    @operation(
        roles={Role.ADMIN},
        summary="Add a caller and get its API key",
        description="The key is in this answer and nowhere else: only its digest is kept.",
        tag="registry",
        body=NewClient,
        returns=ClientKey,
        status=201,
        problems=(Conflict,),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: NewClient) -> None:
        """Add it."""
        if body.role != Role.CLIENT and self._needs_approval(body.role):
            raise Conflict(f"the role {body.role} takes approval: add it as a client, then ask at /v1/clients/{body.name}/role")
        with self._database.write() as db:
            key = registry.add_client(db, at=self._now(), actor=actor, name=body.name, role=body.role)
        resp.location = f"/v1/clients/{body.name}"
        resp.cache_control = ["no-store"]
        send_json(resp, ClientKey(name=body.name, role=body.role, key=key))


class Caller(_Callers):
    """``/v1/clients/{name}``."""

    @operation(roles=_READERS, summary="Look up a caller", tag="registry", returns=ClientView, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, name: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the caller."""
        with self._database.read() as db:
            send_json(resp, _view(db, registry.client_named(db, name)))


class CallerDisablement(_Callers):
    """``/v1/clients/{name}/disablement``."""

    @operation(
        roles={Role.ADMIN},
        summary="Take a caller's access away for good",
        tag="registry",
        returns=ClientView,
        problems=(NotFound, Conflict, Forbidden),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, name: str) -> None:
        """Disable it."""
        if name == actor.name:
            raise Forbidden("nobody takes their own access away: another admin does")
        with self._database.write() as db:
            send_json(resp, _view(db, registry.disable_client(db, at=self._now(), actor=actor, name=name)))


class CallerGrant(_Callers):
    """``/v1/clients/{name}/grants/{subscriber}``."""

    @operation(
        roles={Role.ADMIN},
        summary="Let a client system sign for a subscriber",
        tag="registry",
        returns=ClientView,
        problems=(NotFound,),
    )
    def on_put(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, name: str, subscriber: str) -> None:
        """Grant it; doing it twice changes nothing."""
        with self._database.write() as db:
            registry.grant(db, at=self._now(), actor=actor, client=name, subscriber=subscriber)
            send_json(resp, _view(db, registry.client_named(db, name)))

    @operation(
        roles={Role.ADMIN},
        summary="End a client system's right to sign for a subscriber",
        tag="registry",
        returns=ClientView,
        problems=(NotFound,),
    )
    def on_delete(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, name: str, subscriber: str) -> None:
        """End it."""
        with self._database.write() as db:
            registry.withdraw_grant(db, at=self._now(), actor=actor, client=name, subscriber=subscriber)
            send_json(resp, _view(db, registry.client_named(db, name)))


def _view(db: Session, row: ApiClient) -> ClientView:
    db.flush()
    grants = [item.handle for item in registry.granted_subscribers(db, row.name)]
    return ClientView(name=row.name, role=Role(row.role), created_at=row.created_at, disabled_at=row.disabled_at, grants=grants)
