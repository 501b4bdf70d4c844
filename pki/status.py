"""What was known of a certificate at a moment, and the CRL and the OCSP response that prove it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from cryptography import x509
from cryptography.x509 import ocsp
from sqlalchemy.orm import Session

from core.clock import Now
from core.db import Database
from core.errors import Rejected
from core.settings import Config
from pki.certificates import certificate_with_serial
from pki.models import Certificate, Crl, CrlState, OcspEvidence, StatusAct, StatusEvent
from pki.status_views import CrlEvidence, OcspProof, StatusAtMoment, StatusStep


@dataclass(frozen=True, slots=True)
class _Known:
    """A status with what it rests on."""

    status: str
    event: StatusEvent | None = None


class StatusHistory:
    """Answers what a certificate was worth at any moment since it was intended."""

    def __init__(self, *, database: Database, now: Now, config: Config) -> None:
        self._database = database
        self._now = now
        self._base = config.public_url

    def status(self, serial: str, at: datetime | None = None) -> StatusAtMoment:
        """What was known at ``at`` (by default now). Raises NotFound (no such serial), Rejected (the moment lies ahead)."""
        now = self._now()
        if at is not None and at > now:
            raise Rejected("at", "must not lie in the future: nobody knows a status beforehand")
        at = at or now
        with self._database.read() as db:
            row = certificate_with_serial(db, serial)
            every = sa.select(StatusEvent).where(StatusEvent.certificate_id == row.id).order_by(StatusEvent.id)
            events = [event for event in db.scalars(every) if event.at <= at]
            known = _judge(row, events, at)
            evidence = self._evidence(db, row, known, at)
            proof = _find_proof(db, row, known, at)
        event = known.event
        return StatusAtMoment.model_validate(
            {
                "serial": row.serial,
                "at": at,
                "status": known.status,
                "since": event.since if event else None,
                "reason": event.reason if event else None,
                "ground": event.ground if event else None,
                "invalidity_date": row.invalidity_date,
                "history": [_step(item) for item in events],
                "evidence": evidence,
                "ocsp": proof,
            }
        )

    def _evidence(self, db: Session, row: Certificate, known: _Known, at: datetime) -> CrlEvidence | None:
        """The newest full CRL of the moment if it says the same, or else the first one after it that does."""
        if known.status == "unknown":
            return None
        scope = (Crl.authority_id == row.authority_id, Crl.partition == row.crl_partition, ~Crl.delta, Crl.state == CrlState.ISSUED)
        published = sa.select(Crl).where(*scope)
        before = db.scalar(published.where(Crl.published_at <= at).order_by(Crl.number.desc()).limit(1))
        after = db.scalar(published.where(Crl.published_at > at).order_by(Crl.number).limit(1))
        for crl in (before, after):
            if crl is not None and crl.der is not None and _agrees(crl.der, row.serial, known, at):
                return self._show(row.authority.name, crl, crl.der)
        return None

    def _show(self, authority: str, crl: Crl, der: bytes) -> CrlEvidence:
        return CrlEvidence(
            authority=authority,
            number=crl.number,
            partition=crl.partition,
            this_update=crl.this_update,
            url=f"{self._base}/v1/crls/{authority}?number={crl.number}&partition={crl.partition}",
            sha256=hashlib.sha256(der).hexdigest(),
            crl=base64.b64encode(der).decode("ascii"),
        )


def _judge(row: Certificate, events: Sequence[StatusEvent], at: datetime) -> _Known:
    last = events[-1] if events else None
    if last is not None and last.act != StatusAct.RESUME:
        return _Known("suspended" if last.act == StatusAct.SUSPEND else "revoked", last)
    if row.issued_at is None or at < row.issued_at:
        return _Known("unknown")
    if at < row.not_before:
        return _Known("not-yet-valid")
    return _Known("expired" if at > row.not_after else "good")


def _agrees(der: bytes, serial: str, known: _Known, at: datetime) -> bool:
    entry = x509.load_der_x509_crl(der).get_revoked_certificate_by_serial_number(int(serial, 16))
    if known.event is None or entry is None:
        return (known.event is None) == (entry is None)
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        reason = "unspecified"
    return entry.revocation_date_utc <= at and reason == known.event.reason


def _find_proof(db: Session, row: Certificate, known: _Known, at: datetime) -> OcspProof | None:
    """The newest OCSP response of the moment, if it was in force and says the same, or else the first one after it that does."""
    if known.status == "unknown":
        return None
    kept = sa.select(OcspEvidence).where(OcspEvidence.certificate_id == row.id)
    before = db.scalar(kept.where(OcspEvidence.at <= at, OcspEvidence.next_update >= at).order_by(OcspEvidence.id.desc()).limit(1))
    after = db.scalar(kept.where(OcspEvidence.at > at).order_by(OcspEvidence.id).limit(1))
    for evidence in (before, after):
        if evidence is not None and _says(evidence.der, known, at):
            return _show_proof(evidence)
    return None


def _says(der: bytes, known: _Known, at: datetime) -> bool:
    answer = ocsp.load_der_ocsp_response(der)
    if known.event is None or answer.certificate_status is not ocsp.OCSPCertStatus.REVOKED:
        return (known.event is None) == (answer.certificate_status is ocsp.OCSPCertStatus.GOOD)
    reason = answer.revocation_reason
    since = answer.revocation_time_utc
    return since is not None and since <= at and ("unspecified" if reason is None else reason.value) == known.event.reason


def _show_proof(evidence: OcspEvidence) -> OcspProof:
    answer = ocsp.load_der_ocsp_response(evidence.der)
    return OcspProof.model_validate(
        {
            "this_update": answer.this_update_utc,
            "next_update": answer.next_update_utc,
            "status": answer.certificate_status.name.lower(),
            "sha256": hashlib.sha256(evidence.der).hexdigest(),
            "response": base64.b64encode(evidence.der).decode("ascii"),
        }
    )


def _step(event: StatusEvent) -> StatusStep:
    return StatusStep.model_validate(
        {
            "act": event.act,
            "at": event.at,
            "since": event.since,
            "reason": event.reason,
            "ground": event.ground,
            "invalidity_date": event.invalidity_date,
            "actor": event.actor,
        }
    )
