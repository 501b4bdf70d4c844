"""What is to be issued: drawing up an order from the registry and the profile, and who may have which key certified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor
from core.errors import Conflict, NotFound, Rejected, Unavailable, Violation
from pki.certificates import authority_certificate, authority_named, format_serial
from pki.issuer import Issuer
from pki.models import Authority, Certificate, SubjectKey
from pki.profile import Profile, PublicKey, build_subject, check_days, check_holder, check_subject, subscriber_profile
from registry.models import Subscriber
from registry.registry import subscriber_named


@dataclass(frozen=True, slots=True)
class Order:
    """A request that has passed every check which needs no key."""

    profile: Profile
    subject: x509.Name
    days: int
    owner: str
    """Who owns the key, as in :class:`pki.models.SubjectKey`."""
    issuer: Issuer
    actor: Actor
    subscriber_id: int | None = None
    key_label: str | None = None
    """Set when the private key is in the token."""
    authority_id: int | None = None
    """Set when this is the certificate of an authority of our own."""


def draw_order(
    db: Session, *, profile: str, subscriber: str, days: int, actor: Actor, key_label: str | None = None
) -> tuple[Order | None, list[Violation]]:
    """The order for a subscriber's certificate, unless it cannot even be drawn up, and everything that is wrong with it."""
    violations: list[Violation] = []
    found: Profile | None = None
    holder: Subscriber | None = None
    try:
        found = subscriber_profile(profile)
    except Rejected as error:
        violations += error.violations
    try:
        holder = subscriber_named(db, subscriber)
    except NotFound as error:
        violations.append(Violation(error.field, error.detail))
    if found is None or holder is None:
        return None, violations
    violations += [*check_days(found, days), *check_holder(found, holder.kind)]
    agency = holder.agency
    try:
        subject = build_subject(organization=agency.name, locality=agency.locality, common_name=holder.common_name)
    except ValueError as error:
        return None, [*violations, Violation("subscriber", f"the registry's entry makes no valid name: {error}")]
    violations += check_subject(subject)
    owner, issuer = f"subscriber/{holder.handle}", load_issuer(db, None)
    return Order(found, subject, days, owner, issuer, actor, subscriber_id=holder.id, key_label=key_label), violations


def load_issuer(db: Session, name: str | None) -> Issuer:
    """The authority with this name; None: the newest one below a root, which serves subscribers. NotFound, Unavailable."""
    if name is not None:
        authority = authority_named(db, name)
    else:
        query = sa.select(Authority).where(Authority.parent_id.is_not(None), Authority.certificate_der.is_not(None))
        newest = db.scalar(query.order_by(Authority.id.desc()).limit(1))
        if newest is None:
            raise Unavailable("pki", "there is no issuing authority yet: run `condau init`")
        authority = newest
    certificate = authority_certificate(authority)
    key: PublicKey = certificate.public_key()  # type: ignore[assignment]  # we made it: KeySpec has only these kinds
    return Issuer(authority.id, authority.name, authority.key_label, certificate.subject, key, certificate)


def check_issuer_term(issuer: Issuer, at: datetime) -> None:
    """Raise Conflict when the issuer has expired. A root about to sign itself has not."""
    if issuer.certificate is not None and at >= issuer.certificate.not_valid_after_utc:
        raise Conflict(f"the authority {issuer.name} has expired: create a new one")


def check_issuer_standing(db: Session, issuer: Issuer) -> None:
    """Raise Conflict when the issuer is revoked; in the transaction that stores an intent, so that none comes after."""
    if issuer.certificate is None:
        return
    serial = format_serial(issuer.certificate.serial_number)
    if db.scalar(sa.select(Certificate.revoked_at).where(Certificate.serial == serial)) is not None:
        raise Conflict(f"the authority {issuer.name} is revoked: create a new one")


def claim_key(db: Session, spki_sha256: str, owner: str) -> None:
    """Make the key its owner's, or raise Rejected when it is another's or blocked; of two at once one waits for the other."""
    query = sa.select(SubjectKey).where(SubjectKey.spki_sha256 == spki_sha256).with_for_update()
    claim = db.scalar(query)
    if claim is None:
        try:
            with db.begin_nested():
                db.execute(sa.insert(SubjectKey).values(spki_sha256=spki_sha256, owner=owner))
        except IntegrityError:
            claim = db.scalar(query)
    violations = check_claim(claim, owner)
    if violations:
        raise Rejected.all(violations)


def check_claim(claim: SubjectKey | None, owner: str) -> list[Violation]:
    """Why a key with this claim on it (None: it was never certified) must not be certified for ``owner``."""
    if claim is None:
        return []
    if claim.blocked_at is not None:
        return [Violation("csr", "this key was revoked as compromised and is blocked for ever: make a new one")]
    if claim.owner != owner:
        return [Violation("csr", "this key is certified for somebody else already: make a new one")]
    return []
