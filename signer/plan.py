"""Which documents need their next archive timestamp, and when. The documents are elsewhere: here are their digests and dates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import sqlalchemy as sa
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, entry
from core.clock import Now
from core.db import Database, Row
from core.settings import Config
from notices.models import OutboxEvent
from notices.outbox import record_once
from signer.carried import Carried, Token
from signer.models import ArchivedDocument

DUE: Final = "archive.due"
_RSA_UNTIL: Final = datetime(2029, 1, 1, tzinfo=UTC)
"""ETSI TS 119 312 v1.5.1: RSA by PKCS #1 v1.5, and by PSS below 3000 bits, is to be relied on until then."""
_PSS_BITS: Final = 3000
_EVERY: Final = timedelta(hours=1)
_INSERT: Final = sa.insert(cast("sa.Table", ArchivedDocument.__table__))


class PlanQuery(BaseModel):
    """Which documents to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    due_before: datetime | None = Field(default=None, description="Only those due before this moment. Default: all.")
    after: int = Field(default=0, ge=0, description="Go on behind this id: the last one of the page before.")
    limit: int = Field(default=100, ge=1, le=1000)


class PlannedDocument(BaseModel):
    """A document that this service stamped for the archive."""

    id: int
    digest: str = Field(description="SHA-256 of the file as it was handed out")
    stamped_at: datetime
    client: str
    due: datetime = Field(description="By then it should get its next archive timestamp")
    until: datetime = Field(description="From then on its newest timestamp proves nothing any more by itself")


class Plan(BaseModel):
    """A page of the plan, in the order in which the documents were stamped."""

    documents: list[PlannedDocument]


def holds_until(token: Token) -> datetime:
    """Until when a timestamp proves what it covers: its certificate's end, or its algorithm's where that is earlier."""
    until = token.signer.not_valid_after_utc
    try:
        key = token.signer.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return until  # somebody else's, of a kind not known here: its certificate's end is all there is to go by
    weak = isinstance(key, rsa.RSAPublicKey) and not (token.pss and key.key_size >= _PSS_BITS)
    return min(until, _RSA_UNTIL) if weak else until


def newest_timestamp(carried: Sequence[Carried]) -> Token | None:
    """The document timestamp that covers all the others, if that is what the file ends with."""
    return carried[-1].document_timestamp if carried else None


class ArchivePlan:
    """The plan, kept in the database."""

    def __init__(self, *, database: Database, now: Now, config: Config) -> None:
        self._database = database
        self._now = now
        self._config = config
        self._margin = timedelta(days=config.signer.archive_margin_days)
        self._next_at: datetime | None = None

    def due(self, until: datetime) -> datetime:
        """When a document needs its next timestamp whose newest proves something ``until`` then."""
        return until - self._margin

    def note(self, digest: str, until: datetime, actor: Actor) -> None:
        """Plan for a document with this SHA-256 (hex) that was signed here, whose newest timestamp proves it ``until`` then."""
        self._database.insert(*self._rows(digest, until, actor, client=actor.name))

    def follow(self, db: Session, digest: str, until: datetime, actor: Actor, *, predecessor: str) -> None:
        """The same in the caller's transaction for one made of ``predecessor``, which it takes the place of in the plan.

        It stays with the client for which that was planned.
        """
        query = sa.update(ArchivedDocument).where(ArchivedDocument.digest == predecessor).values(successor=digest)
        client = db.execute(query.returning(ArchivedDocument.client)).scalar_one_or_none()
        for statement, row in self._rows(digest, until, actor, client=client or actor.name):
            db.execute(statement, row)

    def _rows(self, digest: str, until: datetime, actor: Actor, *, client: str) -> tuple[Row, Row]:
        at, due = self._now(), self.due(until)
        row = {"digest": digest, "at": at, "client": client, "due": due, "until": until, "successor": None}
        return (_INSERT, row), entry(at=at, actor=actor, action="archive.plan", subject=digest, due=f"{due:%Y-%m-%d}")

    def page(self, query: PlanQuery, *, client: str | None = None) -> Plan:
        """Documents without a newer timestamp; ``client``: only those stamped for this one."""
        found = sa.select(ArchivedDocument).where(ArchivedDocument.successor.is_(None), ArchivedDocument.id > query.after)
        if query.due_before is not None:
            found = found.where(ArchivedDocument.due < query.due_before)
        if client is not None:
            found = found.where(ArchivedDocument.client == client)
        with self._database.read() as db:
            rows = list(db.scalars(found.order_by(ArchivedDocument.id).limit(query.limit)))
        return Plan(
            documents=[
                PlannedDocument(id=row.id, digest=row.digest, stamped_at=row.at, client=row.client, due=row.due, until=row.until)
                for row in rows
            ]
        )

    def remind(self) -> int:
        """Tell, once for each client and month, how many of its documents have come due; returns how often. Looks once an hour."""
        at = self._now()
        if self._next_at is not None and at < self._next_at:
            return 0
        self._next_at = at + _EVERY
        with self._database.read() as db:
            waiting = _waiting(db, at)
        return sum(self._remind_of(client, count, first, at) for client, count, first in waiting)

    def _remind_of(self, client: str, count: int, first: datetime, at: datetime) -> bool:
        config = self._config.notices
        try:
            with self._database.write() as db:
                record_once(
                    db,
                    key=f"{DUE}/{client}/{at:%Y-%m}",
                    at=at,
                    kind=DUE,
                    subject=client,
                    emails=[config.operator_email] if config.smtp_host and config.operator_email else [],
                    client=client,
                    documents=count,
                    until=first.isoformat(),
                )
        except IntegrityError:
            return False  # another process was faster
        return True


def _waiting(db: Session, at: datetime) -> list[tuple[str, int, datetime]]:
    """Client, how many of its documents are due, and when the first of them loses its proof; of whom nobody was told this month."""
    told = sa.literal(f"{DUE}/") + ArchivedDocument.client + f"/{at:%Y-%m}"
    query = (
        sa.select(ArchivedDocument.client, sa.func.count(), sa.func.min(ArchivedDocument.until))
        .where(ArchivedDocument.successor.is_(None), ArchivedDocument.due <= at, ~sa.exists().where(OutboxEvent.key == told))
        .group_by(ArchivedDocument.client)
    )
    return [(client, count, first) for client, count, first in db.execute(query)]
