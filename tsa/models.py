"""The record of every timestamp that left the house."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class Timestamp(Base):
    """One timestamp: what was stamped (only its hash), when, by which unit, for whom, and the TimeStampToken itself.

    ``serial`` and ``certificate_serial`` are lower-case hex without leading zeros, ``imprint`` is lower-case hex; ``client``
    is the actor's name. Nothing is ever changed or deleted here.
    """

    __tablename__ = "timestamp"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    serial: Mapped[str] = mapped_column(sa.String(40), unique=True)
    gen_time: Mapped[datetime] = mapped_column(index=True)
    hash_algorithm: Mapped[str] = mapped_column(sa.String(10))
    imprint: Mapped[str] = mapped_column(sa.String(128), index=True)
    policy: Mapped[str] = mapped_column(sa.String(200))
    key_label: Mapped[str] = mapped_column(sa.String(128))
    certificate_serial: Mapped[str] = mapped_column(sa.String(40), index=True)
    client: Mapped[str] = mapped_column(sa.String(200))
    der: Mapped[bytes]
