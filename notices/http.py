"""Routes about what is told to others: deliveries with their history, and where people are reached."""

from __future__ import annotations

import falcon
import sqlalchemy as sa
from sqlalchemy.orm import joinedload, selectinload

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound
from notices import outbox
from notices.contacts import load_contact, set_contact
from notices.models import Delivery, OutboxEvent
from notices.views import Attempt, ContactChange, ContactView, DeliveryPage, DeliveryQuery, DeliveryView
from registry.models import Role
from web.operation import operation, send_json


class Deliveries:
    """``/v1/deliveries``."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="List deliveries of webhooks and e-mails, newest first",
        tag="notices",
        query=DeliveryQuery,
        returns=DeliveryPage,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: DeliveryQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page, each with its attempts."""
        query = sa.select(Delivery).options(joinedload(Delivery.event), selectinload(Delivery.history))
        if options.before is not None:
            query = query.where(Delivery.id < options.before)
        if options.state is not None:
            query = query.where(Delivery.state == options.state)
        if options.subject is not None:
            query = query.where(Delivery.event_id.in_(sa.select(OutboxEvent.id).where(OutboxEvent.subject == options.subject)))
        with self._database.read() as db:
            rows = list(db.scalars(query.order_by(Delivery.id.desc()).limit(options.limit)))
        last = rows[-1].id if len(rows) == options.limit else None
        send_json(resp, DeliveryPage(deliveries=[_view(row) for row in rows], next=last))


class Redelivery:
    """``/v1/deliveries/{identifier}/redelivery``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN},
        summary="Try a delivery that was given up again",
        description="At once, and as often as a new one. What its earlier attempts ran into stays in its history.",
        tag="notices",
        returns=DeliveryView,
        problems=(NotFound, Conflict),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:
        """Make it due, and answer with it."""
        with self._database.write() as db:
            view = _view(outbox.revive(db, identifier, at=self._now(), actor=actor))
        send_json(resp, view)


class ContactResource:
    """``/v1/contacts/{kind}/{name}``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="Where a subscriber or an agency is reached",
        tag="notices",
        returns=ContactView,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, kind: str, name: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the address."""
        with self._database.read() as db:
            owner, email = load_contact(db, kind, name)
        send_json(resp, ContactView(owner=owner, email=email))

    @operation(
        roles={Role.ADMIN},
        summary="Change where a subscriber or an agency is reached",
        description="Reminders go there: before a certificate expires to its holder, then to the holder's agency as well.",
        tag="notices",
        body=ContactChange,
        returns=ContactView,
        problems=(NotFound,),
    )
    def on_put(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, kind: str, name: str, body: ContactChange) -> None:
        """Keep the address, and answer with it."""
        with self._database.write() as db:
            owner = set_contact(db, kind, name, body.email, at=self._now(), actor=actor)
        send_json(resp, ContactView(owner=owner, email=body.email))


def _view(row: Delivery) -> DeliveryView:
    return DeliveryView.model_validate(
        {
            "id": row.id,
            "event": row.event_id,
            "kind": row.event.kind,
            "subject": row.event.subject,
            "at": row.event.at,
            "channel": row.channel,
            "recipient": row.recipient,
            "state": row.state,
            "next_at": row.next_at,
            "attempts": [Attempt(at=attempt.at, problem=attempt.problem) for attempt in row.history],
        }
    )
