"""The tables of batches: what a client system handed in at once, and how far each item of it came."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class BatchState(StrEnum):
    """``RUNNING`` until no item is left; ``DISCARDED``: its files were deleted, what is known of it stays."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


class ItemState(StrEnum):
    """``READY`` -> ``WORKING`` -> ``DONE`` or ``FAILED``, and back to ``READY`` where a part was away or a worker was lost."""

    READY = "ready"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Batch(Base):
    """One call. ``key`` is its Idempotency-Key, ``request_sha256`` over what it asked for, ``folder`` its place in the spool.

    ``left``, ``done`` and ``failed`` count its items, so that nobody has to; ``activation`` is the SHA-256 of the token of the
    activation all its items are signed under.
    """

    __tablename__ = "batch"
    __table_args__ = (sa.UniqueConstraint("client", "key"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True, autoincrement=True)
    client: Mapped[str] = mapped_column(sa.String(200))
    role: Mapped[str] = mapped_column(sa.String(20))
    key: Mapped[str | None] = mapped_column(sa.String(255))
    request_sha256: Mapped[str] = mapped_column(sa.String(64))
    kind: Mapped[str] = mapped_column(sa.String(8))
    """``pdf`` or ``digest``."""
    serial: Mapped[str] = mapped_column(sa.String(40))
    """The signing certificate's."""
    level: Mapped[str] = mapped_column(sa.String(8))
    activation: Mapped[str | None] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(sa.String(10), index=True)
    folder: Mapped[str] = mapped_column(sa.String(32))
    total: Mapped[int]
    left: Mapped[int]
    done: Mapped[int]
    failed: Mapped[int]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class BatchItem(Base):
    """One document or digest. Whoever works on it puts ``attempt`` there, and its result counts while that still stands.

    ``digest`` is the SHA-256 of the document, or the digest that was handed in, lower-case hex; ``problem`` why it failed or
    what it waits for; ``level`` what it was signed at.
    """

    __tablename__ = "batch_item"
    __table_args__ = (sa.Index("ix_batch_item_state", "state", "number", "batch_id"),)

    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batch.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(255))
    digest: Mapped[str] = mapped_column(sa.String(128))
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    """Bytes of the document; NULL where only a digest was handed in."""
    options: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(sa.String(10))
    attempt: Mapped[str | None] = mapped_column(sa.String(32))
    attempts: Mapped[int]
    lease_until: Mapped[datetime | None]
    level: Mapped[str | None] = mapped_column(sa.String(8))
    problem: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    finished_at: Mapped[datetime | None]
