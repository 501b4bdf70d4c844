"""The outbox: an event is written in the transaction that makes it happen, and delivered afterwards (docs/adr/0019)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, selectinload

from audit.log import SYSTEM, Actor, append
from core.errors import Conflict, NotFound
from notices.models import Channel, Delivery, DeliveryAttempt, DeliveryState, OutboxEvent

_BATCH = 100


def record(db: Session, *, at: datetime, kind: str, subject: str, **payload: Any) -> None:
    """Note in the caller's transaction that something happened which others want to know.

    ``kind`` is of a fixed set (``certificate.issued``), ``subject`` what it happened to (a serial number); ``payload`` is what
    JSON can hold, with nothing in it that a receiver of webhooks may not see.
    """
    db.execute(sa.insert(OutboxEvent).values(at=at, kind=kind, subject=subject, payload=payload))


def record_once(db: Session, *, key: str, at: datetime, kind: str, subject: str, emails: Sequence[str], **payload: Any) -> None:
    """The same for an event that goes by e-mail as well, and is told once: IntegrityError for a ``key`` used before."""
    event = OutboxEvent(at=at, kind=kind, subject=subject, key=key, payload=payload)
    db.add(event)
    db.flush()
    for address in emails:
        db.add(Delivery(event_id=event.id, channel=Channel.EMAIL, recipient=address, next_at=at))


def dispatch(db: Session, *, at: datetime, webhooks: Sequence[str]) -> int:
    """Add a delivery to each of ``webhooks`` for events that have none yet; returns how many events. Safe in several processes."""
    waiting = sa.select(OutboxEvent).where(OutboxEvent.dispatched_at.is_(None)).order_by(OutboxEvent.id).limit(_BATCH)
    events = list(db.scalars(waiting.with_for_update(skip_locked=True)))
    for event in events:
        event.dispatched_at = at
        for name in webhooks:
            db.add(Delivery(event_id=event.id, channel=Channel.WEBHOOK, recipient=name, next_at=at))
    return len(events)


def lease(db: Session, *, at: datetime, until: datetime, most: int) -> list[Delivery]:
    """Take up to ``most`` deliveries that are due, with their events; they are nobody else's before ``until``."""
    due = (
        sa.select(Delivery)
        .options(selectinload(Delivery.event))
        .where(
            Delivery.state == DeliveryState.PENDING,
            Delivery.next_at <= at,
            sa.or_(Delivery.leased_until.is_(None), Delivery.leased_until <= at),
        )
    )
    taken = list(db.scalars(due.order_by(Delivery.next_at).limit(most).with_for_update(skip_locked=True)))
    for delivery in taken:
        delivery.leased_until = until
        delivery.attempts += 1
    return taken


def settle(db: Session, delivery: Delivery, *, at: datetime, problem: str | None, next_at: datetime | None) -> bool:
    """Write down how a leased delivery went: delivered (``problem`` None), to be tried at ``next_at``, or given up (None).

    Its history is kept in any case. Returns whether the lease still held: if not, somebody else's attempt decides.
    """
    db.add(DeliveryAttempt(delivery_id=delivery.id, at=at, problem=None if problem is None else problem[:300]))
    failed = DeliveryState.DEAD if next_at is None else DeliveryState.PENDING
    state = DeliveryState.DELIVERED if problem is None else failed
    mine = sa.update(Delivery).where(
        Delivery.id == delivery.id, Delivery.attempts == delivery.attempts, Delivery.state == DeliveryState.PENDING
    )
    changed = mine.values(state=state, next_at=next_at or at, leased_until=None).returning(Delivery.id)
    return db.execute(changed).first() is not None


def revive(db: Session, identifier: int, *, at: datetime, actor: Actor) -> Delivery:
    """Have a delivery that was given up tried again from ``at`` on, as often as a new one. Raises NotFound, Conflict."""
    row = db.scalar(sa.select(Delivery).where(Delivery.id == identifier).with_for_update())
    if row is None:
        raise NotFound("id", f"there is no delivery {identifier}")
    if row.state != DeliveryState.DEAD:
        raise Conflict(f"the delivery {identifier} is {row.state}: only one that was given up is tried again by hand")
    row.state, row.next_at, row.forgiven = DeliveryState.PENDING, at, row.attempts
    append(db, at=at, actor=actor, action="delivery.retry", subject=str(identifier), recipient=row.recipient)
    return row


def prune(db: Session, *, at: datetime, before: datetime) -> int:
    """Remove some events from before a moment that everybody was told, with their deliveries; returns how many.

    What was not delivered stays, whatever its age; and the last event and delivery there are, for SQLite gives the number of a
    last row out again, by which receivers know what they were told already. Safe in several processes.
    """
    last = sa.select(Delivery.event_id).order_by(Delivery.id.desc()).limit(1).scalar_subquery()
    newest = sa.select(sa.func.max(OutboxEvent.id)).scalar_subquery()
    kept = sa.or_(OutboxEvent.id == newest, OutboxEvent.id == sa.func.coalesce(last, 0))
    untold = sa.exists().where(Delivery.event_id == OutboxEvent.id, Delivery.state != DeliveryState.DELIVERED)
    query = sa.select(OutboxEvent.id).where(OutboxEvent.at < before, OutboxEvent.dispatched_at.is_not(None), ~untold, ~kept)
    events = list(db.scalars(query.order_by(OutboxEvent.at, OutboxEvent.id).limit(_BATCH).with_for_update(skip_locked=True)))
    if events:
        deliveries = sa.select(Delivery.id).where(Delivery.event_id.in_(events))
        db.execute(sa.delete(DeliveryAttempt).where(DeliveryAttempt.delivery_id.in_(deliveries)))
        db.execute(sa.delete(Delivery).where(Delivery.event_id.in_(events)))
        db.execute(sa.delete(OutboxEvent).where(OutboxEvent.id.in_(events)))
        append(db, at=at, actor=SYSTEM, action="notices.prune", subject=before.isoformat(), events=len(events))
    return len(events)


def back_off(attempts: int) -> timedelta:
    """How long to wait after so many attempts: half a minute, doubling up to six hours."""
    return timedelta(seconds=min(30 << min(attempts - 1, 12), 6 * 3600))
