"""The tables of approvals: what was asked for, and who said what to it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class ApprovalState(StrEnum):
    """How far it came. Only a ``PENDING`` one can be decided; ``EXECUTING`` is decided and must be carried out."""

    PENDING = "pending"
    EXECUTING = "executing"
    EXECUTED = "executed"
    FAILED = "failed"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class Approval(Base):
    """One act that somebody asked for.

    ``payload`` is its canonical JSON and all that will be carried out, ``payload_sha256`` its SHA-256 in lower-case hex.
    ``origin`` is that of the request, so that a repeated request finds it again. ``result`` is what the act gave back.
    """

    __tablename__ = "approval"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(40))
    payload: Mapped[str] = mapped_column(sa.Text)
    payload_sha256: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[str] = mapped_column(sa.String(10), index=True)
    needed: Mapped[int]
    requested_by: Mapped[str] = mapped_column(sa.String(200))
    role: Mapped[str] = mapped_column(sa.String(20))
    origin: Mapped[str | None] = mapped_column(sa.String(80), unique=True)
    requested_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    executing_at: Mapped[datetime | None]
    detail: Mapped[str] = mapped_column(sa.Text, default="")
    result: Mapped[dict[str, Any] | None]


class ApprovalVote(Base):
    """One person's consent; the primary key is what makes it one a person."""

    __tablename__ = "approval_vote"

    approval_id: Mapped[int] = mapped_column(sa.ForeignKey("approval.id"), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    at: Mapped[datetime]
