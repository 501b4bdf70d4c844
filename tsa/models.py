"""The record of every timestamp that left the house, and the keys of the units that make them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class Timestamp(Base):
    """One timestamp: what was stamped (only its hash), when, by which unit, for whom, and the TimeStampToken itself.

    ``serial`` and ``certificate_serial`` are lower-case hex without leading zeros, ``imprint`` is lower-case hex; ``client``
    is the actor's name. ``month`` is that of ``gen_time`` in UTC (``2026-01``): whole months are what is archived, and only
    then is anything removed here (tsa/archive.py).
    """

    __tablename__ = "timestamp"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    serial: Mapped[str] = mapped_column(sa.String(40), unique=True)
    month: Mapped[str] = mapped_column(sa.String(7), index=True)
    gen_time: Mapped[datetime]
    hash_algorithm: Mapped[str] = mapped_column(sa.String(10))
    imprint: Mapped[str] = mapped_column(sa.String(128), index=True)
    policy: Mapped[str] = mapped_column(sa.String(200))
    unit: Mapped[str] = mapped_column(sa.String(32))
    key_label: Mapped[str] = mapped_column(sa.String(128))
    certificate_serial: Mapped[str] = mapped_column(sa.String(40), index=True)
    client: Mapped[str] = mapped_column(sa.String(200))
    der: Mapped[bytes]


class TimestampUnitKey(Base):
    """A key made for a unit, written down before the token is asked for it; its certificates are found by ``key_label``.

    ``slot`` counts from 0 the keys a unit signs with in turn; ``generation`` counts from 1 the keys a slot has had. Of two
    processes that want the same successor the constraint lets one make it; ``claimed_at`` is when that one began.
    """

    __tablename__ = "timestamp_unit_key"
    __table_args__ = (sa.UniqueConstraint("unit", "slot", "generation"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    unit: Mapped[str] = mapped_column(sa.String(32))
    slot: Mapped[int]
    generation: Mapped[int]
    key_label: Mapped[str] = mapped_column(sa.String(128), unique=True)
    claimed_at: Mapped[datetime]
