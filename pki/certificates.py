"""Which certificate, chain and key to sign with: the question the time-stamping unit, the signer and OCSP ask."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session, joinedload

from core.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from pki.models import OWN_DOMAIN, Authority, Certificate, CertificateState, ExternalCertificate
from registry.models import Subscriber
from registry.registry import granted_subscribers

_SERIAL = re.compile(r"[0-9a-f]{1,40}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate of ours with what is needed to sign as it."""

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    """The issuer first, the root last."""
    key_label: str
    """Under which the key store has the private key."""
    serial: str
    subscriber: str | None
    """The handle of whom it names; None for the service's own certificates."""
    profile: str
    domain: str = OWN_DOMAIN
    """Whose trust it stands under. The revocation status of any but our own is known to its issuer alone."""


def format_serial(number: int) -> str:
    """How a serial number is written everywhere outside ASN.1: lower-case hex without leading zeros."""
    return format(number, "x")


def parse_serial(text: str) -> str:
    """The serial a person wrote: any case, with 0x, leading zeros and colons (as openssl prints it) or without.

    Raises NotFound for what can be no serial number of ours.
    """
    serial = text.strip().lower().removeprefix("0x").replace(":", "").lstrip("0")
    if not _SERIAL.fullmatch(serial):
        raise NotFound("serial", f"nothing has the serial number {text[:80]!r}: it is 1 to 40 hexadecimal digits")
    return serial


def certificate_with_serial(db: Session, serial: str) -> Certificate:
    """The certificate with this serial number (as a person wrote it), whatever its state; raises NotFound."""
    row = db.scalar(sa.select(Certificate).where(Certificate.serial == parse_serial(serial)))
    if row is None:
        raise NotFound("serial", f"no certificate has the serial number {serial}")
    return row


def authority_named(db: Session, name: str) -> Authority:
    """The authority with this name that has its certificate; raises NotFound."""
    authority = db.scalar(sa.select(Authority).where(Authority.name == name, Authority.certificate_der.is_not(None)))
    if authority is None:
        raise NotFound("authority", f"no certificate authority is named {name!r}")
    return authority


def newest_generation(db: Session, alias: str) -> Authority:
    """The newest generation of an authority, which is the one that issues; raises NotFound."""
    query = sa.select(Authority).where(Authority.alias == alias, Authority.certificate_der.is_not(None))
    authority = db.scalar(query.order_by(Authority.generation.desc()).limit(1))
    if authority is None:
        raise NotFound("authority", f"no certificate authority has the alias {alias!r}")
    return authority


def authority_certificate(authority: Authority) -> x509.Certificate:
    """The authority's own certificate; Unavailable when its creation was cut off and has not been repeated yet."""
    if authority.certificate_der is None:
        raise Unavailable("pki", f"the authority {authority.name} has no certificate yet: repeat its creation")
    return x509.load_der_x509_certificate(authority.certificate_der)


def authority_chain(db: Session, authority_id: int) -> tuple[x509.Certificate, ...]:
    """The certificates from this authority (first) up to its root (last)."""
    chain: list[x509.Certificate] = []
    parent: int | None = authority_id
    while parent is not None:
        authority = db.get_one(Authority, parent)
        chain.append(authority_certificate(authority))
        parent = authority.parent_id
    return tuple(chain)


def service_certificate(db: Session, profile: str, at: datetime, *, issuer: str | None = None) -> Identity:
    """The newest certificate of ``profile`` (``tsa``, ``ocsp-responder``) that is valid and unrevoked at ``at``.

    ``issuer`` narrows it to one authority by name. Raises Unavailable when there is none.
    """
    for identity in service_certificates(db, profile, at, issuer=issuer):
        return identity
    raise Unavailable("pki", f"there is no valid {profile} certificate: issue one")


def service_certificates(db: Session, profile: str, at: datetime, *, issuer: str | None = None) -> Iterator[Identity]:
    """Every certificate of ``profile`` that is valid, unrevoked and within its key's usage period at ``at``, newest first."""
    query = _issued().where(Certificate.profile == profile, Certificate.key_label.is_not(None), *_valid(at))
    if issuer is not None:
        query = query.join(Authority, Certificate.authority_id == Authority.id).where(Authority.name == issuer)
    for row in db.scalars(query):
        identity = _identity(db, row)
        if usable_until(identity.certificate) >= at and _why_chain_unusable(db, identity, at) is None:
            yield identity


def usable_until(certificate: x509.Certificate) -> datetime:
    """Until when its private key may sign: the certificate's end, or earlier where it carries a private key usage period."""
    until = certificate.not_valid_after_utc
    try:
        period = certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
    except x509.ExtensionNotFound:
        return until
    return until if period.not_after is None else min(until, period.not_after.replace(tzinfo=UTC))


def signing_identity(db: Session, *, client: str, signer: str | None, at: datetime) -> Identity:
    """The certificate the client system named ``client`` asks to sign with.

    ``signer`` is a subscriber's handle (then their newest valid certificate is taken) or a certificate's serial number;
    None stands for the only subscriber this client may sign for. Raises, all about the field ``signer``: Rejected (unknown,
    or more than one possible), Forbidden (not granted), Conflict (revoked, expired, not yet valid, or no key in the token).
    """
    granted = {subscriber.id: subscriber for subscriber in granted_subscribers(db, client)}
    if not granted:
        raise Forbidden(f"the client {client} has been granted no subscriber to sign for: an admin grants one")
    if signer is None:
        return _only_one(db, list(granted.values()), at)
    subscriber = db.scalar(sa.select(Subscriber).where(Subscriber.handle == signer))
    if subscriber is not None:
        if subscriber.id not in granted:
            raise Forbidden(f"the client {client} may not sign for {signer}: an admin grants that")
        return _newest(db, subscriber, at)
    row = _by_serial(db, signer)
    if row is None:
        return _external_by_serial(db, signer, at, client=client, granted=granted)
    if row.subscriber_id not in granted:
        raise Forbidden(f"the client {client} may not sign with the certificate {row.serial}: an admin grants its subscriber")
    return _usable(db, row, at)


def signing_identities(db: Session, *, client: str, at: datetime) -> list[Identity]:
    """Everything the client system named ``client`` may sign with at ``at``: one certificate for each subscriber that has one."""
    found = []
    for subscriber in granted_subscribers(db, client):
        try:
            found.append(_newest(db, subscriber, at))
        except Conflict:
            continue  # it has none that is valid
    return found


def _by_serial(db: Session, signer: str) -> Certificate | None:
    try:
        serial = parse_serial(signer)
    except NotFound:
        serial = ""
    return db.scalar(_issued().where(Certificate.serial == serial))


def _external_by_serial(db: Session, signer: str, at: datetime, *, client: str, granted: Collection[int]) -> Identity:
    try:
        rows = list(db.scalars(_externals().where(ExternalCertificate.serial == parse_serial(signer))))
    except NotFound:
        rows = []
    mine = [row for row in rows if row.subscriber_id in granted]
    if len(mine) == 1:
        row = mine[0]
        if row.withdrawn_at is None and row.not_before is not None and row.not_after is not None:
            if row.not_before <= at <= row.not_after:
                return _external_identity(row)
            raise Conflict(f"signer: the certificate {row.serial} is valid from {row.not_before} to {row.not_after} only")
        raise Conflict(f"signer: the certificate {row.serial} was withdrawn")
    if mine:
        raise Rejected("signer", f"certificates of several authorities have the serial number {signer[:80]}: name the subscriber")
    if rows:
        raise Forbidden(f"the client {client} may not sign with the certificate {signer[:80]}: an admin grants its subscriber")
    raise Rejected("signer", f"no subscriber has the handle {signer[:80]!r} and no certificate that serial number")


def _only_one(db: Session, granted: Sequence[Subscriber], at: datetime) -> Identity:
    if len(granted) == 1:
        return _newest(db, granted[0], at)
    holders: set[int | None] = set(
        db.scalars(
            sa.select(Certificate.subscriber_id).where(
                Certificate.state == CertificateState.ISSUED,
                Certificate.key_label.is_not(None),
                Certificate.subscriber_id.in_([subscriber.id for subscriber in granted]),
                *_valid(at),
            )
        )
    )
    holders |= {row.subscriber_id for row in db.scalars(_valid_externals([subscriber.id for subscriber in granted], at))}
    able = [subscriber for subscriber in granted if subscriber.id in holders]
    if len(able) == 1:
        return _newest(db, able[0], at)
    handles = ", ".join(subscriber.handle for subscriber in able or granted)
    raise Rejected("signer", f"say whose certificate to sign with, one of: {handles}")


def _newest(db: Session, subscriber: Subscriber, at: datetime) -> Identity:
    query = _issued().where(Certificate.subscriber_id == subscriber.id, Certificate.key_label.is_not(None))
    valid = db.scalar(query.where(*_valid(at)).limit(1))
    external = db.scalar(_valid_externals([subscriber.id], at).limit(1))
    if external is not None and (valid is None or (external.not_before or at) > valid.not_before):
        return _external_identity(external)
    row = valid or db.scalar(query.limit(1))
    if row is None:
        raise Conflict(f"signer: {subscriber.handle} has no certificate whose key is in the HSM: an admin issues one")
    return _usable(db, row, at)


def _usable(db: Session, row: Certificate, at: datetime) -> Identity:
    problem = _why_unusable(row, at)
    if problem is None:
        identity = _identity(db, row)
        problem = _why_chain_unusable(db, identity, at)
        if problem is None:
            return identity
    raise Conflict(f"signer: the certificate {row.serial} {problem}")


def _why_unusable(row: Certificate, at: datetime) -> str | None:
    if row.revoked_at is not None and row.revocation_reason == "certificateHold":
        return f"is suspended since {row.revoked_at.isoformat()}: it signs again once it is resumed"
    if row.revoked_at is not None:
        return f"was revoked at {row.revoked_at.isoformat()} ({row.revocation_reason})"
    if at > row.not_after:
        return f"expired at {row.not_after.isoformat()}"
    if at < row.not_before:
        return f"is not valid before {row.not_before.isoformat()}"
    if row.key_label is None:
        return "has its key elsewhere: it was issued from a CSR"
    return None


def _why_chain_unusable(db: Session, identity: Identity, at: datetime) -> str | None:
    """None, or what is wrong with the authorities above (a revoked one takes everything below it along)."""
    if any(at > issuer.not_valid_after_utc for issuer in identity.chain):
        return "has an issuer that expired"
    serials = [format_serial(issuer.serial_number) for issuer in identity.chain]
    revoked = db.scalar(sa.select(Certificate.serial).where(Certificate.serial.in_(serials), Certificate.revoked_at.is_not(None)))
    return None if revoked is None else f"has a revoked issuer ({revoked})"


def _identity(db: Session, row: Certificate) -> Identity:
    if row.der is None or row.key_label is None:
        raise ValueError(f"certificate {row.serial} is {row.state} without its bytes or key")
    return Identity(
        certificate=x509.load_der_x509_certificate(row.der),
        chain=authority_chain(db, row.authority_id),
        key_label=row.key_label,
        serial=row.serial,
        subscriber=row.subscriber.handle if row.subscriber else None,
        profile=row.profile,
    )


def _issued() -> sa.Select[Certificate]:
    newest_first = (Certificate.not_before.desc(), Certificate.id.desc())
    issued = Certificate.state == CertificateState.ISSUED
    return sa.select(Certificate).where(issued).options(joinedload(Certificate.subscriber)).order_by(*newest_first)


def _valid(at: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (Certificate.revoked_at.is_(None), Certificate.not_before <= at, Certificate.not_after >= at)


def _externals() -> sa.Select[ExternalCertificate]:
    """Certificates of other authorities over keys in our token, the newest first."""
    imported = sa.select(ExternalCertificate).where(ExternalCertificate.der.is_not(None))
    newest_first = (ExternalCertificate.not_before.desc(), ExternalCertificate.id.desc())
    return imported.options(joinedload(ExternalCertificate.subscriber)).order_by(*newest_first)


def _valid_externals(subscribers: Sequence[int], at: datetime) -> sa.Select[ExternalCertificate]:
    return _externals().where(
        ExternalCertificate.subscriber_id.in_(subscribers),
        ExternalCertificate.withdrawn_at.is_(None),
        ExternalCertificate.not_before <= at,
        ExternalCertificate.not_after >= at,
    )


def _external_identity(row: ExternalCertificate) -> Identity:
    if row.der is None or row.chain_pem is None or row.serial is None or row.domain is None:
        raise ValueError(f"external certificate {row.id} was never imported")
    return Identity(
        certificate=x509.load_der_x509_certificate(row.der),
        chain=tuple(x509.load_pem_x509_certificates(row.chain_pem.encode("ascii"))),
        key_label=row.key_label,
        serial=row.serial,
        subscriber=row.subscriber.handle,
        profile="external",
        domain=row.domain,
    )
