"""Taking in a CRL of ours that this database does not have: made offline, or lost by a restore (docs/adr/0017)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.db import Database
from core.errors import Conflict, Malformed, Rejected
from pki.certificates import authority_certificate, format_serial
from pki.crl_der import crl_number
from pki.grounds import HOLD
from pki.models import Authority, Certificate, CertificateState, Crl, CrlState, StatusAct
from pki.profile import PublicKey
from pki.revocation import Change, change_standing

LOST_PROFILE = "lost"
"""The profile of an entry that stands for a certificate the database knows by its serial number alone."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What a CRL taught the database."""

    authority: str
    number: int
    revoked: tuple[str, ...]
    """Serial numbers of certificates that are revoked by it and were not before."""
    lost: tuple[str, ...]
    """Serial numbers it lists of certificates the database did not know: they stay on every later CRL."""


def take_in_crl(database: Database, der: bytes, *, at: datetime, actor: Actor) -> TakenIn:
    """Make a CRL the newest of its authority, with every revocation on it.

    Raises Malformed, Rejected (no authority of ours signed it, or it is not a complete full CRL) or Conflict (its number is not
    above the newest one's, or it lacks a revocation that is known here).
    """
    try:
        crl = x509.load_der_x509_crl(der) if b"-----BEGIN" not in der[:64] else x509.load_pem_x509_crl(der)
        listed = {format_serial(item.serial_number): item for item in crl}
        extensions = {extension.oid for extension in crl.extensions}
        number = crl_number(crl)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Malformed("crl", "not a CRL with a number, in DER or PEM") from error
    if extensions & {x509.DeltaCRLIndicator.oid, x509.IssuingDistributionPoint.oid} or crl.next_update_utc is None:
        raise Rejected("crl", "it is a part or a delta, or has no nextUpdate: give the complete full CRL")
    with database.write() as db:
        authority = _signer(db, crl)
        if number <= authority.crl_number:
            raise Conflict(f"its number {number} is not above {authority.crl_number}, the last of {authority.name}")
        known = sa.select(Certificate.serial).where(Certificate.authority_id == authority.id, Certificate.revoked_at.is_not(None))
        missing = set(db.scalars(known)) - set(listed)
        if missing:
            raise Conflict(f"it lacks {len(missing)} revocations that are known here: make a new one that has them")
        revoked, lost = learn_revocations(db, authority, listed, at=at, actor=actor)
        authority.crl_number = number
        db.refresh(authority, ["status_version"])
        row = Crl(
            authority_id=authority.id,
            number=number,
            status_version=authority.status_version,
            state=CrlState.ISSUED,
            der=crl.public_bytes(Encoding.DER),
            this_update=crl.last_update_utc,
            next_update=crl.next_update_utc,
            published_at=at,
        )
        db.add(row)
        append(db, at=at, actor=actor, action="crl.import", subject=authority.name, number=number, entries=len(listed))
        return TakenIn(authority.name, number, revoked, lost)


def learn_revocations(
    db: Session, authority: Authority, listed: dict[str, x509.RevokedCertificate], *, at: datetime, actor: Actor
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Revoke here what ``listed`` says is revoked: the serials that are so now, and those nobody here had heard of."""
    revoked, lost = [], []
    for serial, item in sorted(listed.items()):
        row = db.scalar(sa.select(Certificate).where(Certificate.serial == serial))
        if row is None:
            row = _unknown(authority, serial, item.revocation_date_utc, at)
            db.add(row)
            db.flush()
            lost.append(serial)
        elif row.revoked_at is not None and row.revocation_reason != HOLD:
            continue
        else:
            revoked.append(serial)
        change_standing(db, [row], _change(item), actor)
    return tuple(revoked), tuple(lost)


def _signer(db: Session, crl: x509.CertificateRevocationList) -> Authority:
    for authority in db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None)).with_for_update(key_share=True)):
        certificate = authority_certificate(authority)
        key: PublicKey = certificate.public_key()  # type: ignore[assignment]  # KeySpec has only these kinds
        if certificate.subject == crl.issuer and crl.is_signature_valid(key):
            return authority
    raise Rejected("crl", "no authority of this instance signed it")


def _change(item: x509.RevokedCertificate) -> Change:
    reason, invalidity = "unspecified", None
    for extension in item.extensions:
        if isinstance(extension.value, x509.CRLReason):
            reason = extension.value.reason.value
        elif isinstance(extension.value, x509.InvalidityDate):
            invalidity = extension.value.invalidity_date_utc
    act = StatusAct.SUSPEND if reason == HOLD else StatusAct.REVOKE
    return Change(act, item.revocation_date_utc, reason, invalidity_date=invalidity)


def _unknown(authority: Authority, serial: str, revoked_at: datetime, at: datetime) -> Certificate:
    return Certificate(
        serial=serial,
        authority_id=authority.id,
        profile=LOST_PROFILE,
        subject="",
        spki_sha256="",
        state=CertificateState.ABANDONED,
        tbs=b"",
        not_before=revoked_at,
        not_after=revoked_at,
        intended_at=at,
    )
