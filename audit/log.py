"""The audit log's table and the one way to write to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db import Base, Record, Row


@dataclass(frozen=True, slots=True)
class Actor:
    """Who is acting: ``name`` and ``role`` as the registry knows them, and the ``request_id`` it happens under.

    ``origin`` names what the act is done for where that must happen at most once, however often it is tried: a stored
    answer, an approval, a row of a job (``job/7/12``). Empty: nothing but this request.
    """

    name: str
    role: str
    request_id: str = ""
    origin: str = ""


SYSTEM = Actor(name="condau", role="system")
"""The service itself: schedules, reconciliation, initialisation."""


class AuditEntry(Base):
    """One line of the log. The database refuses to change or delete it (a trigger, see the migrations)."""

    __tablename__ = "audit_entry"

    id: Mapped[int] = mapped_column(Record, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(sa.String(200))
    role: Mapped[str] = mapped_column(sa.String(20))
    request_id: Mapped[str] = mapped_column(sa.String(64), index=True)
    action: Mapped[str] = mapped_column(sa.String(60))
    subject: Mapped[str] = mapped_column(sa.String(400), index=True)
    detail: Mapped[dict[str, Any]]


_INSERT: Final = sa.insert(cast("sa.Table", AuditEntry.__table__))
"""On the table and made once: through the mapper it costs more than the row itself, and every use of a key pays it."""


def entry(*, at: datetime, actor: Actor, action: str, subject: str, **detail: Any) -> Row:
    """One entry as a row for :meth:`core.db.Database.insert`, beside the rows it tells of.

    ``action`` is ``noun.verb`` (``certificate.issue``, ``signature.intend``, ``crl.publish``); ``subject`` names what it was
    done to (a serial number, a label); ``detail`` holds JSON values only, never a secret and never a document.
    """
    who = {"actor": actor.name, "role": actor.role, "request_id": actor.request_id}
    return _INSERT, {"at": at, **who, "action": action, "subject": subject, "detail": detail}


def append(db: Session, *, at: datetime, actor: Actor, action: str, subject: str, **detail: Any) -> None:
    """Add one entry (see :func:`entry`) to the caller's transaction, so that it is there exactly when the act is."""
    db.connection().execute(*entry(at=at, actor=actor, action=action, subject=subject, **detail))  # past the mapper's machinery


def entries(db: Session, *, before: int | None = None, subject: str | None = None, limit: int = 100) -> list[AuditEntry]:
    """The newest entries first, those with an id below ``before``, about ``subject`` when it is given."""
    query = sa.select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    if subject is not None:
        query = query.where(AuditEntry.subject == subject)
    return list(db.scalars(query))
