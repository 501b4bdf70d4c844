"""What the OCSP responder reads of the database, and what it writes down of its answers: records, and the answers that prove."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from audit.log import Actor, entry
from core.db import Database, Row
from core.raw_select import RawSelect
from pki.certificates import parse_serial
from pki.models import Authority, Certificate, CertificateState, OcspEvidence, OcspRecord, StatusEvent
from pki.ocsp_der import GOOD, UNKNOWN, Status

_SERIAL_COLUMN: Final = 80
_RECORD: Final = sa.insert(cast("sa.Table", OcspRecord.__table__))
_EVIDENCE: Final = sa.insert(cast("sa.Table", OcspEvidence.__table__))


class Standing(NamedTuple):
    """What the database knows of a certificate at a moment."""

    authority_id: int
    certificate_id: int
    status: Status
    version: int
    """The authority's ``status_version``, under which the status stands."""
    changed: int
    """The authority's ``status_version`` that its last change made; 0: it never changed."""
    proved: int | None
    """The ``status_version`` under which an answer about it was last kept; None: none ever was."""
    proved_at: datetime | None


class Answer(NamedTuple):
    """One response that was signed and that nobody has seen yet."""

    actor: Actor
    authority: str
    authority_id: int
    responder: str
    """The serial number of the responder's certificate."""
    statuses: tuple[tuple[str, Status], ...]
    """What it says of each serial number."""
    standing: Standing | None
    """Of the certificate, where it is about one that was issued."""
    next_update: datetime
    response: bytes


class Lookup:
    """The question to the database that every batch asks: one statement, so that all it says was so at one moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._standings = RawSelect(_build_standings(), database.engine.dialect, key=Certificate.serial)

    def load(self, serials: Sequence[str]) -> dict[str, Standing]:
        """What is known of each certificate with one of these serial numbers."""
        with self._database.look() as driver:
            return {row[0]: _standing(row) for row in self._standings.fetch(driver, serials)}


def _standing(row: Sequence[Any]) -> Standing:
    """One whose issuance is not complete was never issued: unknown."""
    _, authority_id, certificate_id, state, at, reason, invalidity_date, version, changed, proved, proved_at = row
    status = GOOD if state == CertificateState.ISSUED else UNKNOWN
    if at is not None:
        status = Status("revoked", at, reason, invalidity_date)
    return Standing(authority_id, certificate_id, status, version, changed or 0, proved, proved_at)


def find_answers(
    db: Session, serial: str, *, before: int | None = None, limit: int = 100
) -> list[tuple[int, datetime, str, str, str]]:
    """What was said of this serial number (as a person writes it), the newest first: id, moment, serial, authority, status.

    ``before``: only those with an id below it. Raises NotFound for what can be no serial number.
    """
    query = sa.select(OcspRecord.id, OcspRecord.at, OcspRecord.serial, Authority.name, OcspRecord.status)
    query = query.join(Authority, OcspRecord.authority_id == Authority.id).where(OcspRecord.serial == parse_serial(serial))
    if before is not None:
        query = query.where(OcspRecord.id < before)
    found = db.execute(query.order_by(OcspRecord.id.desc()).limit(limit))
    return [(number, at, of, authority, status) for number, at, of, authority, status in found]


def build_rows(answers: Iterable[Answer], *, at: datetime, keep_every: timedelta) -> list[Row]:
    """What is written down, in one transaction, of answers signed at ``at``: every status said of every serial number, one
    audit entry for each responder (whose key was used) and caller, and the answers that are kept because they prove.

    Kept is the first answer about a certificate after each change of its status, and then one in ``keep_every`` (zero:
    none); only those about one certificate.
    """
    rows: list[Row] = []
    uses: dict[tuple[str, str, str, str], list[Answer]] = {}
    kept: set[int] = set()
    for answer in answers:
        uses.setdefault((answer.responder, answer.authority, answer.actor.name, answer.actor.role), []).append(answer)
        rows += [
            (_RECORD, {"at": at, "authority_id": answer.authority_id, "serial": serial[:_SERIAL_COLUMN], "status": status.name})
            for serial, status in answer.statuses
        ]
        standing = answer.standing
        if standing is not None and standing.certificate_id not in kept and _proves_anew(standing, at, keep_every):
            kept.add(standing.certificate_id)
            rows.append(_evidence(standing, answer, at))
    return rows + [_use(responder, authority, made, at) for (responder, authority, _, _), made in uses.items()]


def _proves_anew(standing: Standing, at: datetime, keep_every: timedelta) -> bool:
    if standing.status is UNKNOWN:
        return False
    if standing.proved is None or standing.proved_at is None or standing.changed > standing.proved:
        return True
    return bool(keep_every) and at - standing.proved_at >= keep_every


def _evidence(standing: Standing, answer: Answer, at: datetime) -> Row:
    moments = {"at": at, "next_update": answer.next_update}
    return _EVIDENCE, {
        "certificate_id": standing.certificate_id,
        "status_version": standing.version,
        "der": answer.response,
        **moments,
    }


def _use(responder: str, authority: str, made: Sequence[Answer], at: datetime) -> Row:
    """The audit entry; the request id is the first one's, further ones are in its detail."""
    told = {serial[:_SERIAL_COLUMN]: status.name for answer in made for serial, status in answer.statuses}
    requests = [answer.actor.request_id for answer in made]
    detail: dict[str, Any] = {"authority": authority, "answers": told}
    if len(requests) > 1:
        detail["requests"] = requests
    return entry(at=at, actor=made[0].actor, action="ocsp.respond", subject=responder, **detail)


def _build_standings() -> sa.Select[Any]:
    newest = sa.select(sa.func.max(OcspEvidence.id)).where(OcspEvidence.certificate_id == Certificate.id).scalar_subquery()
    changed = sa.select(sa.func.max(StatusEvent.version)).where(StatusEvent.certificate_id == Certificate.id).scalar_subquery()
    kept = aliased(OcspEvidence)
    known = (Certificate.state, Certificate.revoked_at, Certificate.revocation_reason, Certificate.invalidity_date)
    proof = (kept.status_version, kept.at)
    query = sa.select(
        Certificate.serial, Certificate.authority_id, Certificate.id, *known, Authority.status_version, changed, *proof
    )
    return query.join(Authority, Authority.id == Certificate.authority_id).outerjoin(kept, kept.id == newest)
