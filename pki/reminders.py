"""Reminders before certificates expire: the holder first, then their agency, then the operator (docs/adr/0019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from core.clock import Now
from core.db import Database
from core.settings import NoticesConfig
from notices.models import Contact, OutboxEvent
from notices.outbox import record_once
from pki.models import Certificate, CertificateState
from registry.models import Subscriber

EXPIRING: Final = "certificate.expiring"
_BATCH: Final = 100
_EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Stage:
    """From ``days`` down to (not including) ``until`` days before the end, those of ``who`` are told."""

    days: int
    until: int
    who: tuple[str, ...]


class Reminders:
    """Puts reminders into the outbox: one for each certificate and stage, whichever process is first."""

    def __init__(self, *, database: Database, config: NoticesConfig, now: Now) -> None:
        self._database = database
        self._config = config
        self._now = now
        self._next_at: datetime | None = None

    def remind(self) -> int:
        """Remind of every certificate that has come to a stage; returns of how many. Does so once an hour."""
        at = self._now()
        if self._next_at is not None and at < self._next_at:
            return 0
        reminded = sum(self._remind_all(stage, at) for stage in _stages(self._config))
        self._next_at = at + _EVERY
        return reminded

    def _remind_all(self, stage: _Stage, at: datetime) -> int:
        reminded = 0
        while True:
            with self._database.read() as db:
                found = list(db.scalars(_due(stage, at)))
            for certificate in found:
                reminded += self._remind_of(certificate, stage, at)
            if len(found) < _BATCH:
                return reminded

    def _remind_of(self, certificate: Certificate, stage: _Stage, at: datetime) -> bool:
        try:
            with self._database.write() as db:
                record_once(
                    db,
                    key=f"{EXPIRING}/{certificate.serial}/{stage.days}",
                    at=at,
                    kind=EXPIRING,
                    subject=certificate.serial,
                    emails=list(self._addresses(db, certificate, stage.who)) if self._config.smtp_host else [],
                    serial=certificate.serial,
                    name=_name(db, certificate),
                    profile=certificate.profile,
                    not_after=certificate.not_after.isoformat(),
                    days_left=(certificate.not_after - at).days,
                    told=list(stage.who),
                )
        except IntegrityError:
            return False  # another process was faster
        return True

    def _addresses(self, db: Session, certificate: Certificate, who: Sequence[str]) -> Iterator[str]:
        seen = {""}
        for one in who:
            address = self._config.operator_email if one == "operator" else _contact(db, certificate, one)
            if address not in seen:
                seen.add(address)
                yield address


def _stages(config: NoticesConfig) -> list[_Stage]:
    everybody = ("officer", "agency", "operator")
    days = (config.officer_days, config.agency_days, config.operator_days, 0)
    stages = [_Stage(here, below, everybody[: place + 1]) for place, (here, below) in enumerate(pairwise(days))]
    return [stage for stage in stages if stage.days > stage.until]


def _due(stage: _Stage, at: datetime) -> sa.Select[Certificate]:
    """Certificates at this stage, the first to expire first, whose holder has no later one and of which nobody was told yet."""
    key = sa.literal(f"{EXPIRING}/") + Certificate.serial + f"/{stage.days}"
    later = aliased(Certificate)
    renewed = sa.exists().where(
        later.subscriber_id == Certificate.subscriber_id,
        later.profile == Certificate.profile,
        later.not_after > Certificate.not_after,
        later.state == CertificateState.ISSUED,
        later.revoked_at.is_(None),
    )
    query = sa.select(Certificate).where(
        Certificate.not_after > at + timedelta(days=stage.until),
        Certificate.not_after <= at + timedelta(days=stage.days),
        Certificate.state == CertificateState.ISSUED,
        Certificate.revoked_at.is_(None),
        ~renewed,
        ~sa.exists().where(OutboxEvent.key == key),
    )
    return query.order_by(Certificate.not_after, Certificate.id).limit(_BATCH)


def _name(db: Session, certificate: Certificate) -> str:
    if certificate.subscriber_id is None:
        return certificate.subject
    return str(db.scalar(sa.select(Subscriber.common_name).where(Subscriber.id == certificate.subscriber_id)))


def _contact(db: Session, certificate: Certificate, who: str) -> str:
    subscriber = None if certificate.subscriber_id is None else db.get(Subscriber, certificate.subscriber_id)
    if subscriber is None:
        return ""
    owner = f"subscriber/{subscriber.handle}" if who == "officer" else f"agency/{subscriber.agency.code}"
    own = subscriber.email if who == "officer" else None
    return db.scalar(sa.select(Contact.email).where(Contact.owner == owner)) or own or ""
