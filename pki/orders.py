"""What is to be issued: drawing up an order from the registry and the profile, and who may have which key certified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor
from core.clock import Now
from core.errors import Conflict, NotFound, Rejected, Unavailable, Violation
from pki.certificates import authority_certificate, authority_named, format_serial
from pki.issuer import Issuer
from pki.models import Authority, Certificate, CertificateState, ProfileVersion, SubjectKey
from pki.profile import (
    Profile,
    PublicKey,
    build_alternative_names,
    build_subject,
    check_days,
    check_holder,
    check_subject,
    max_term,
    profile_digest,
    profile_terms,
    subscriber_profile,
)
from registry.agencies import check_open, path_at
from registry.models import Agency, Subscriber, SubscriberKind
from registry.registry import subscriber_named

REFERENCE_LENGTH: Final = 200


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
    agency_id: int | None = None
    """The subscriber's, which the subject names."""
    key_label: str | None = None
    """Set when the private key is in the token."""
    authority_id: int | None = None
    """Set when this is the certificate of an authority of our own."""
    names: tuple[x509.GeneralName, ...] = ()
    """What else it calls its holder."""
    reference: str | None = None
    """The written request it is issued on; None for the service's own."""
    predecessor_id: int | None = None
    """Set when it follows another certificate of the same holder and profile."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks for, as they said it."""

    profile: str
    subscriber: str
    """The subscriber's handle."""
    reference: str
    """Number and date, or whatever else finds the managing agency's written request again (Nghị định 68/2024/NĐ-CP, article 10)."""
    actor: Actor
    days: int | None = None
    """None: the profile's term, or the instance's where that is shorter."""
    renewal: bool = False
    """Whether the certificate follows another of the same holder and profile; then it may live 3 years at most."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one session has looked up already, where many orders are drawn up in it."""

    holders: Mapping[str, Subscriber] = field(default_factory=dict)
    """By handle."""
    issuers: dict[str, Issuer] = field(default_factory=dict)
    """By profile."""


def draw_order(
    db: Session,
    wish: Wish,
    *,
    profiles: Mapping[str, Profile],
    usual_days: int,
    at: datetime,
    key_label: str | None = None,
    known: Known | None = None,
) -> tuple[Order | None, list[Violation]]:
    """The order for a subscriber's certificate, unless it cannot even be drawn up, and everything that is wrong with it.

    ``usual_days`` is the instance's term where the wish names none. Raises Conflict when nothing is wrong with the request but
    the subscriber's agency is closed.
    """
    violations = list(check_reference(wish.reference))
    known = known or Known()
    profile: Profile | None = None
    holder: Subscriber | None = None
    try:
        profile = subscriber_profile(profiles, wish.profile)
    except Rejected as error:
        violations += error.violations
    try:
        holder = known.holders.get(wish.subscriber) or subscriber_named(db, wish.subscriber)
    except NotFound as error:
        violations.append(Violation(error.field, error.detail))
    days = wish.days
    if profile is not None:
        if days is None:
            days = min(profile.days, usual_days, max_term(profile, renewal=wish.renewal))
        violations += check_days(profile, days, renewal=wish.renewal)
    if profile is None or holder is None or days is None:
        return None, violations
    violations += check_holder(profiles, profile, holder.kind)
    if profile.host_names and not holder.dns_names:
        violations.append(Violation("subscriber", f"{holder.handle} has no host names in the registry: add them first"))
    try:
        server = holder.dns_names[0] if profile.host_names and holder.dns_names else None  # what clients show as its name
        subject = build_holder_subject(db, holder, at, common_name=server)
        names = build_alternative_names(profile, email=holder.email, host_names=holder.dns_names)
    except ValueError as error:
        return None, [*violations, Violation("subscriber", f"the registry's entry makes no valid name: {error}")]
    violations += check_subject(subject)
    if not violations:
        check_open(db, holder.agency, at)
    owner, issuer = f"subscriber/{holder.handle}", known.issuers.get(profile.name) or load_issuer_of(db, profile)
    known.issuers[profile.name] = issuer
    order = Order(
        profile,
        subject,
        days,
        owner,
        issuer,
        wish.actor,
        holder.id,
        holder.agency_id,
        key_label,
        names=names,
        reference=wish.reference.strip(),
    )
    return order, violations


def build_holder_subject(db: Session, holder: Subscriber, at: datetime, *, common_name: str | None = None) -> x509.Name:
    """The name of a subscriber at ``at``: O is the top of the agency's tree, the OUs lead down to the agency.

    The agency itself is not among the OUs of its own seal, whose CN it is. ``common_name`` stands in for the registry's. Raises
    ValueError for what makes no name.
    """
    path = path_at(db, holder.agency, at)
    units = path[1:-1] if holder.kind == SubscriberKind.AGENCY else path[1:]
    return build_subject(
        organization=path[0].certificate_name or path[0].name,
        units=[version.certificate_name or version.name for version in units],
        locality=path[-1].locality,
        common_name=common_name or holder.common_name,
        uid=holder.uid,
        email=holder.email,
    )


def check_reference(reference: str) -> Iterator[Violation]:
    """Whether a written request is named."""
    text = reference.strip()
    if not text or len(text) > REFERENCE_LENGTH or not text.isprintable():
        yield Violation("reference", f"name the written request the certificate is issued on: 1 to {REFERENCE_LENGTH} characters")


def check_standing(db: Session, order: Order, spki_sha256: str, now: Now) -> None:
    """What was looked at while the order was drawn up, asked again in the transaction that stores its intent: Conflict when the
    issuer or the certificate it follows was revoked, that one's key renewed, or the subscriber's agency closed meanwhile.

    Each row is held, so that none of this happens before the intent is stored. Called after :func:`claim_key`: whoever revokes
    takes keys before certificates as well.
    """
    _check_issuer(db, order.issuer)
    _check_predecessor(db, order, spki_sha256)
    if order.subscriber_id is not None:
        db.execute(sa.select(Agency.id).where(Agency.id == order.agency_id).with_for_update(read=True))
        holder = db.get_one(Subscriber, order.subscriber_id)
        if holder.agency_id != order.agency_id:
            raise Conflict(f"{holder.handle} came to another agency a moment ago: ask again, for a certificate that names that one")
        check_open(db, holder.agency, now())  # the moment after the wait for the row: it may be closed since this very second


def _check_issuer(db: Session, issuer: Issuer) -> None:
    if issuer.certificate is None:
        return
    serial = format_serial(issuer.certificate.serial_number)
    revoked = sa.select(Certificate.revoked_at).where(Certificate.serial == serial).with_for_update(read=True)
    if db.scalar(revoked) is not None:
        raise Conflict(f"the authority {issuer.name} is revoked: create a new one")


def _check_predecessor(db: Session, order: Order, spki_sha256: str) -> None:
    if order.predecessor_id is None:
        return
    query = sa.select(Certificate).where(Certificate.id == order.predecessor_id).with_for_update(key_share=True)
    row = db.scalars(query, execution_options={"populate_existing": True}).one()
    if row.revoked_at is not None:
        raise Conflict(f"the certificate {row.serial} is {row.revocation_reason} since a moment ago: issue a new one")
    renewed = sa.select(Certificate.id).where(
        Certificate.predecessor_id == row.id,
        Certificate.spki_sha256 == row.spki_sha256,
        Certificate.state != CertificateState.ABANDONED,
    )
    if spki_sha256 == row.spki_sha256 and db.scalar(renewed.limit(1)) is not None:
        raise Conflict(f"the key of {row.serial} was renewed once already: rekey, with a new key")


def record_profile(db: Session, profile: Profile, at: datetime) -> None:
    """Keep what this version of a profile says, in the caller's transaction, at its first use.

    Raises Conflict when the same version has said something else before: whoever changes a profile raises its version.
    """
    digest = profile_digest(profile)
    known = sa.select(ProfileVersion.sha256).where(ProfileVersion.name == profile.name, ProfileVersion.version == profile.version)
    recorded = db.scalar(known)
    if recorded is None:
        row = {"name": profile.name, "version": profile.version, "sha256": digest, "terms": profile_terms(profile)}
        try:
            with db.begin_nested():
                db.execute(sa.insert(ProfileVersion).values(**row, first_used_at=at))
        except IntegrityError:
            pass  # another process was faster; what it wrote is looked at next
        recorded = db.scalar(known)
    if recorded != digest:
        raise Conflict(
            f"the profile {profile.name} was changed without raising its version {profile.version}, under which certificates "
            f"were issued already: set version = {profile.version + 1} in profiles/{profile.name}.toml"
        )


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


def load_issuer_of(db: Session, profile: Profile) -> Issuer:
    """The authority that issues certificates of a subscriber's profile. Raises Conflict (no such alias), Unavailable."""
    if profile.issued_by is None:
        return load_issuer(db, None)
    query = sa.select(Authority.name).where(Authority.alias == profile.issued_by, Authority.certificate_der.is_not(None))
    name = db.scalar(query.where(Authority.parent_id.is_not(None)).order_by(Authority.generation.desc()).limit(1))
    if name is None:
        raise Conflict(
            f"the profile {profile.name} is issued by {profile.issued_by}, and no issuing authority has that alias: make it"
        )
    return load_issuer(db, name)


def check_issuer_term(issuer: Issuer, at: datetime) -> None:
    """Raise Conflict when the issuer has expired. A root about to sign itself has not."""
    if issuer.certificate is not None and at >= issuer.certificate.not_valid_after_utc:
        raise Conflict(f"the authority {issuer.name} has expired: create a new one")


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
            if claim is None:  # it was not another one's claim that stood in the way: the key stays unclaimed
                raise
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
