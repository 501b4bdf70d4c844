"""Whose signature a document bears: from certificates to people, and whether one of them may sign for the agency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from core.content import Content
from pki.models import OWN_DOMAIN, Certificate, CertificateState, ExternalCertificate
from registry.models import Agency, Subscriber, SubscriberKind
from signer.gate_models import SigningAuthorisation
from signer.models import Signature, SignatureState

_NOT_LEADING: Final = ("initial", "comment")
_ISSUING: Final = ("agency-issue",)
_NEAR: Final = timedelta(days=1)
"""How far the moment a signature states may lie from the moment we made it."""


@dataclass(frozen=True, slots=True)
class SignatureFound:
    """One signature of a document, and what the verifier says of it."""

    name: str
    """Of its field."""
    valid: bool
    """TOTAL-PASSED: whole, trusted, and nothing changed after it that may not be."""
    failed: bool
    """TOTAL-FAILED: broken, and it will stay so."""
    why: str
    """The verifier's sentence, where it is not valid."""
    domain: str | None = None
    """Whose trust its certificate stands under."""
    issuer: str | None = None
    """RFC 4514."""
    serial: str | None = None
    at: datetime | None = None
    """When it was made: proven by a timestamp, or else what it states."""
    contents: tuple[int, int] = (0, 0)
    """Where in the document its CMS stands, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Leader:
    """A leader's signature that counts."""

    handle: str
    serial: str
    field: str
    at: datetime | None
    authorisation: str | None
    """Capacity and reference, where it is not the agency's own officer."""

    @property
    def facts(self) -> dict[str, Any]:
        """For the audit entry."""
        facts = {"subscriber": self.handle, "serial": self.serial, "field": self.field, "authorisation": self.authorisation}
        return {**facts, "at": None if self.at is None else self.at.isoformat()}


def find_leader(
    db: Session,
    found: Sequence[SignatureFound],
    *,
    agency: Agency,
    document: Content,
    kind: str | None,
    not_by: Collection[str],
    now: datetime,
) -> tuple[Leader | None, str]:
    """The last signature of somebody who may sign for ``agency``, or None and why each of the others does not count.

    ``kind``: of the document, for authorisations that are limited to some. ``not_by``: handles that come last: a signature of
    theirs is taken only where there is no other, so that the rule of different people names them.
    """
    reasons, second = [], None
    for one in reversed(found):
        leader = _judge(db, one, agency=agency, document=document, kind=kind, now=now)
        if isinstance(leader, str):
            reasons.append(f"{one.name}: {leader}")
        elif leader.handle not in not_by:
            return leader, ""
        else:
            second = second or leader
    return second, "; ".join(reasons[:4]) or "it has no signature"


def _judge(db: Session, one: SignatureFound, *, agency: Agency, document: Content, kind: str | None, now: datetime) -> Leader | str:
    subscriber = find_subscriber(db, one) if one.valid else None
    if subscriber is None:
        return "its certificate names nobody of the registry" if one.valid else f"not valid ({one.why})"
    profile = _profile_made_with(db, one, document, among=_NOT_LEADING)
    if subscriber.kind != SubscriberKind.OFFICER or profile is not None:
        return f"{subscriber.handle} signed with the profile {profile} only" if profile else f"{subscriber.handle} is no person"
    capacity = None
    if subscriber.agency_id != agency.id:
        authorisation = _authorisation(db, subscriber, agency, kind=kind, at=one.at or now)
        if authorisation is None:
            return f"{subscriber.handle} is of {subscriber.agency.code} and no authorisation on record covers this document"
        capacity = f"{authorisation.capacity} {authorisation.reference}"
    return Leader(subscriber.handle, one.serial or "", one.name, one.at, capacity)


def find_subscriber(db: Session, one: SignatureFound) -> Subscriber | None:
    """Whom the signing certificate names, by trust domain, issuer and serial number."""
    if one.serial is None:
        return None
    if one.domain == OWN_DOMAIN:
        row = db.scalar(
            sa.select(Certificate).where(Certificate.serial == one.serial, Certificate.state == CertificateState.ISSUED)
        )
        return row.subscriber if row is not None and _issued_by(row.der, one.issuer) else None
    mine = (ExternalCertificate.serial == one.serial, ExternalCertificate.domain == one.domain)
    for external in db.scalars(sa.select(ExternalCertificate).where(*mine)):
        if _issued_by(external.der, one.issuer):
            return external.subscriber
    return None


def _issued_by(der: bytes | None, issuer: str | None) -> bool:
    return der is not None and x509.load_der_x509_certificate(der).issuer.rfc4514_string() == issuer


def find_issue(db: Session, found: Sequence[SignatureFound], *, agency: Agency, document: Content) -> str | None:
    """The field of a signature with which ``agency`` has issued this very document already; None where it has not."""
    for one in found:
        subscriber = find_subscriber(db, one)
        of_agency = subscriber is not None and subscriber.agency_id == agency.id
        if of_agency and _profile_made_with(db, one, document, among=_ISSUING) is not None:
            return one.name
    return None


def _profile_made_with(db: Session, one: SignatureFound, document: Content, *, among: Sequence[str]) -> str | None:
    """The profile a signature was made with, where it was made here with one ``among`` these."""
    query = sa.select(Signature.profile, Signature.value).where(
        Signature.serial == one.serial, Signature.profile.in_(among), Signature.state == SignatureState.SIGNED
    )
    if one.at is not None:
        query = query.where(Signature.at.between(one.at - _NEAR, one.at + _NEAR))
    digits = document.read(*one.contents).lower()
    return next((profile for profile, value in db.execute(query) if value is not None and value.hex().encode() in digits), None)


def _authorisation(
    db: Session, subscriber: Subscriber, agency: Agency, *, kind: str | None, at: datetime
) -> SigningAuthorisation | None:
    query = sa.select(SigningAuthorisation).where(
        SigningAuthorisation.agency_id == agency.id,
        SigningAuthorisation.subscriber_id == subscriber.id,
        SigningAuthorisation.since <= at,
        sa.or_(SigningAuthorisation.until.is_(None), SigningAuthorisation.until > at),
        sa.or_(SigningAuthorisation.withdrawn_at.is_(None), SigningAuthorisation.withdrawn_at > at),
    )
    rows = db.scalars(query.order_by(SigningAuthorisation.id.desc())).all()
    return next((row for row in rows if not row.kinds or kind in row.kinds), None)
