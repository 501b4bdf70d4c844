"""The table of answers that were given to requests with an Idempotency-Key."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class StoredAnswer(Base):
    """One request of one caller under one key, and its answer once there is one (``status`` NULL until then).

    ``attempt`` names who is working on it now: a later attempt that takes over changes it, and the earlier one's answer is
    no longer stored. ``request_sha256`` is over method, path, query and body, in lower-case hex.
    """

    __tablename__ = "stored_answer"
    __table_args__ = (sa.UniqueConstraint("caller", "key"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    caller: Mapped[str] = mapped_column(sa.String(64))
    key: Mapped[str] = mapped_column(sa.String(255))
    request_sha256: Mapped[str] = mapped_column(sa.String(64))
    attempt: Mapped[str] = mapped_column(sa.String(32))
    begun_at: Mapped[datetime] = mapped_column(index=True)
    status: Mapped[str | None] = mapped_column(sa.String(80))
    content_type: Mapped[str | None] = mapped_column(sa.String(200))
    location: Mapped[str | None] = mapped_column(sa.String(400))
    body: Mapped[bytes | None]
