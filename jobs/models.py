"""The tables of jobs: what is to be done, row by row, and how far it came."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class JobState(StrEnum):
    """``CHECKED``: a dry run, nothing was done; ``RUNNING``: workers take it on; the other two are the end."""

    CHECKED = "checked"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class RowState(StrEnum):
    """``REFUSED``: the check found it wrong, it is never tried. ``READY`` -> ``WORKING`` -> ``DONE`` or ``FAILED``."""

    REFUSED = "refused"
    READY = "ready"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


class Job(Base):
    """One piece of work in bulk. ``rows_sha256`` is over every row's input, which is what an approval is bound to.

    ``lease_owner`` is the worker that has it now, until ``lease_until``; nobody else touches its rows before that.
    """

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(20))
    state: Mapped[str] = mapped_column(sa.String(10), index=True)
    created_by: Mapped[str] = mapped_column(sa.String(200))
    role: Mapped[str] = mapped_column(sa.String(20))
    origin: Mapped[str | None] = mapped_column(sa.String(80), unique=True)
    options: Mapped[dict[str, Any]]
    rows_sha256: Mapped[str] = mapped_column(sa.String(64))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(sa.String(64))
    lease_until: Mapped[datetime | None]


class JobRow(Base):
    """One row: ``input`` as it was checked, ``serial`` of the certificate made for it, ``detail`` why it was refused or failed."""

    __tablename__ = "job_row"
    __table_args__ = (
        sa.Index("ix_job_row_state", "job_id", "state", "number"),
        sa.Index("ix_job_row_finished_at", "finished_at"),
    )

    job_id: Mapped[int] = mapped_column(sa.ForeignKey("job.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    input: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(sa.String(10))
    serial: Mapped[str | None] = mapped_column(sa.String(40))
    detail: Mapped[str] = mapped_column(sa.Text, default="")
    milliseconds: Mapped[int | None]
    finished_at: Mapped[datetime | None]
