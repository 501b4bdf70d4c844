"""The outbox: what happened and is to be told, to whom, and how each delivery went."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.db import Base, Record


class Channel(StrEnum):
    """How something is told."""

    WEBHOOK = "webhook"
    EMAIL = "email"


class DeliveryState(StrEnum):
    """How far a delivery came. ``DEAD`` is given up, after as many attempts as the configuration says."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


class OutboxEvent(Base):
    """Something that happened, written in the transaction that made it happen.

    ``key`` is set for what must be told once (a reminder): its uniqueness keeps two processes from telling it twice.
    ``dispatched_at`` is NULL until a delivery to each configured webhook was added.
    """

    __tablename__ = "outbox_event"
    __table_args__ = (
        sa.Index(
            "ix_outbox_event_undispatched",
            "id",
            sqlite_where=sa.text("dispatched_at IS NULL"),
            postgresql_where=sa.text("dispatched_at IS NULL"),
        ),
        sa.Index("ix_outbox_event_at", "at", "id"),
    )

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(sa.String(40))
    subject: Mapped[str] = mapped_column(sa.String(80), index=True)
    key: Mapped[str | None] = mapped_column(sa.String(120), unique=True)
    payload: Mapped[dict[str, Any]]
    dispatched_at: Mapped[datetime | None]


class Delivery(Base):
    """One event on its way to one recipient: the name of a configured webhook, or an e-mail address.

    It may be tried from ``next_at`` on. ``attempts`` counts the tries begun, and names the one under way: whoever raised it
    holds the delivery until ``leased_until`` and is the only one whose result counts. ``forgiven`` are those of them that do
    not count towards giving up any more, because an admin wants it tried again.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        sa.UniqueConstraint("event_id", "channel", "recipient"),
        sa.Index("ix_delivery_due", "state", "next_at"),
    )

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    event_id: Mapped[int] = mapped_column(sa.ForeignKey("outbox_event.id"))
    channel: Mapped[str] = mapped_column(sa.String(10))
    recipient: Mapped[str] = mapped_column(sa.String(254))
    state: Mapped[str] = mapped_column(sa.String(10), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(sa.Integer, default=0)
    forgiven: Mapped[int] = mapped_column(sa.Integer, default=0, server_default="0")
    next_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    event: Mapped[OutboxEvent] = relationship()
    history: Mapped[list[DeliveryAttempt]] = relationship(order_by="DeliveryAttempt.id")


class DeliveryAttempt(Base):
    """How one try ended: ``problem`` is NULL when the recipient took it."""

    __tablename__ = "delivery_attempt"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    delivery_id: Mapped[int] = mapped_column(sa.ForeignKey("delivery.id"), index=True)
    at: Mapped[datetime]
    problem: Mapped[str | None] = mapped_column(sa.String(300))


class Contact(Base):
    """Where a subscriber (``subscriber/HANDLE``) or an agency (``agency/CODE``) is reached."""

    __tablename__ = "contact"

    owner: Mapped[str] = mapped_column(sa.String(80), primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254))
