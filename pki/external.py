"""Keys of our token certified by somebody else: the request, the check of what came back, and its end (docs/adr/0017)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound, Rejected, Unavailable
from hsm.keys import KeySpec, KeyStore, PrivateKey
from pki.anchors import find_path, fingerprint, installed_anchors, parse_certificates
from pki.certificates import format_serial
from pki.issuer import spki_digest, x509_hash
from pki.models import Certificate, ExternalCertificate
from pki.orders import build_holder_subject, claim_key
from pki.profile import check_subject
from registry.agencies import check_open
from registry.models import Subscriber
from registry.registry import subscriber_named


class ExternalCertificates:
    """Requests to other authorities, and the certificates they answered with."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now) -> None:
        self._database = database
        self._keys = keys
        self._now = now

    def request(self, *, subscriber: str, spec: KeySpec | None, key_label: str | None, actor: Actor) -> ExternalCertificate:
        """A PKCS #10 request signed by a new key of kind ``spec``, or by the subscriber's existing key ``key_label``.

        Its subject is the one the registry gives; the other authority may name the holder as it likes. Raises NotFound,
        Rejected (neither or both of the two, a blocked key), Conflict (the agency is closed), Unavailable.
        """
        if (spec is None) == (key_label is None):
            raise Rejected("key", "give either the kind of a new key or the label of an existing one")
        with self._database.read() as db:
            holder = subscriber_named(db, subscriber)
            if key_label is not None and not _has_key(db, holder, key_label):
                raise NotFound("key_label", f"{subscriber} has no key labelled {key_label[:80]!r}")
            check_open(db, holder.agency, self._now())
            subject = _subject(db, holder, self._now())
        label = key_label or f"{subscriber}-{secrets.token_hex(6)}"
        key = self._keys.key(label) if spec is None else self._make_key(label, spec, actor)
        identifier = self._intend(holder, label, key, actor)
        return self._complete(identifier, subject, key, actor)

    def accept(self, identifier: int, data: bytes, actor: Actor) -> ExternalCertificate:
        """Take in what the other authority answered: the certificate for this request's key, and its issuers (PEM, or DER alone).

        The certificate is the one whose key is in the token under the request's label. Raises NotFound, Malformed, Conflict
        (answered already) or Rejected: another key, no path to an installed anchor, or of no use for signing.
        """
        certificates = parse_certificates(data)
        with self._database.read() as db:
            row = _requested(db, identifier)
            anchors = installed_anchors(db)
        key = self._keys.key(row.key_label).public_key()  # the token itself says what key it has
        mine = [one for one in certificates if _digest(one) == spki_digest(key)]
        if not mine:
            raise Rejected("certificates", f"none of the {len(certificates)} is for the key {row.key_label} in the token")
        leaf = mine[0]
        path = find_path(leaf, [one for one in certificates if one not in mine], anchors, self._now())
        problems = list(_why_no_signing(leaf))
        if problems:
            raise Rejected("certificates", "it cannot be used for signing: " + "; ".join(problems))
        return self._store(identifier, leaf, path.chain, path.domain, actor)

    def withdraw(self, identifier: int, *, why: str, actor: Actor) -> ExternalCertificate:
        """Sign with it no more, because its issuer revoked it or for any other reason; raises NotFound, Conflict."""
        at = self._now()
        with self._database.write() as db:
            row = _locked(db, identifier)
            if row.withdrawn_at is not None:
                raise Conflict(f"it was withdrawn already, at {row.withdrawn_at.isoformat()}")
            row.withdrawn_at = at
            append(db, at=at, actor=actor, action="external.withdraw", subject=row.key_label, id=row.id, serial=row.serial, why=why)
        return self.one(identifier)

    def one(self, identifier: int) -> ExternalCertificate:
        """The request or certificate with this id; raises NotFound."""
        with self._database.read() as db:
            row = db.scalar(_rows().where(ExternalCertificate.id == identifier))
        if row is None:
            raise _unknown(identifier)
        return row

    def all(self) -> list[ExternalCertificate]:
        """All of them, newest first."""
        with self._database.read() as db:
            return list(db.scalars(_rows().order_by(ExternalCertificate.id.desc())))

    def _make_key(self, label: str, spec: KeySpec, actor: Actor) -> PrivateKey:
        with self._database.write() as db:
            append(db, at=self._now(), actor=actor, action="key.generate", subject=label, spec=spec.value)
        return self._keys.generate(label, spec)

    def _intend(self, holder: Subscriber, label: str, key: PrivateKey, actor: Actor) -> int:
        at, digest = self._now(), spki_digest(key.public_key())
        row = ExternalCertificate(subscriber_id=holder.id, key_label=label, spki_sha256=digest, requested_at=at)
        with self._database.write() as db:
            claim_key(db, digest, f"subscriber/{holder.handle}")
            db.add(row)
            db.flush()
            append(db, at=at, actor=actor, action="external.intend", subject=label, id=row.id, spki=digest)
        return row.id

    def _complete(self, identifier: int, subject: x509.Name, key: PrivateKey, actor: Actor) -> ExternalCertificate:
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, x509_hash(key.public_key()))
        if not request.is_signature_valid:
            raise Unavailable("hsm", "the key's own public half does not verify its request: it was discarded")
        with self._database.write() as db:
            row = _locked(db, identifier)
            row.request_der = request.public_bytes(Encoding.DER)
            append(db, at=self._now(), actor=actor, action="external.request", subject=row.key_label, id=row.id)
        return self.one(identifier)

    def _store(
        self, identifier: int, leaf: x509.Certificate, chain: tuple[x509.Certificate, ...], domain: str, actor: Actor
    ) -> ExternalCertificate:
        at, serial, sha256 = self._now(), format_serial(leaf.serial_number), fingerprint(leaf)
        try:
            with self._database.write() as db:
                row = _locked(db, identifier)
                if row.der is not None or row.withdrawn_at is not None:
                    raise Conflict("this request was answered or withdrawn already: make another one")
                row.domain, row.serial, row.sha256 = domain, serial, sha256
                row.der = leaf.public_bytes(Encoding.DER)
                row.chain_pem = "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in chain)
                row.not_before, row.not_after, row.imported_at = leaf.not_valid_before_utc, leaf.not_valid_after_utc, at
                detail = {"id": row.id, "domain": domain, "sha256": sha256, "anchor": fingerprint(chain[-1])}
                append(db, at=at, actor=actor, action="external.import", subject=serial, **detail)
        except IntegrityError as error:
            raise Conflict("this certificate was imported already") from error
        return self.one(identifier)


def _rows() -> sa.Select[ExternalCertificate]:
    return sa.select(ExternalCertificate).options(joinedload(ExternalCertificate.subscriber))


def _unknown(identifier: int) -> NotFound:
    return NotFound("id", f"no request to another authority has the id {identifier}")


def _subject(db: Session, holder: Subscriber, at: datetime) -> x509.Name:
    try:
        subject = build_holder_subject(db, holder, at)
    except ValueError as error:
        raise Rejected("subscriber", f"the registry's entry makes no valid name: {error}") from error
    violations = list(check_subject(subject))
    if violations:
        raise Rejected.all(violations)
    return subject


def _requested(db: Session, identifier: int) -> ExternalCertificate:
    row = db.get(ExternalCertificate, identifier)
    if row is None:
        raise _unknown(identifier)
    return row


def _locked(db: Session, identifier: int) -> ExternalCertificate:
    row = _requested(db, identifier)
    db.refresh(row, with_for_update=True)
    return row


def _has_key(db: Session, holder: Subscriber, label: str) -> bool:
    """Whether the key was made for this subscriber: a certificate or an earlier request of theirs names it."""
    for table in (Certificate, ExternalCertificate):
        query = sa.select(table.id).where(table.key_label == label, table.subscriber_id == holder.id)
        if db.scalar(query.limit(1)) is not None:
            return True
    return False


def _digest(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except ValueError:
        return ""  # a key we cannot read is not one of ours
    return spki_digest(key)  # type: ignore[arg-type]  # any kind of key has a SubjectPublicKeyInfo


def _why_no_signing(leaf: x509.Certificate) -> Iterator[str]:
    """What keeps a certificate from being used for signatures on documents."""
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            yield "it is an authority's"
        elif isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.content_commitment):
            yield "its keyUsage has neither digitalSignature nor contentCommitment"
        elif isinstance(value, x509.ExtendedKeyUsage) and set(value) <= _OTHER_USES:
            yield "its extendedKeyUsage keeps it for something else"


_OTHER_USES = {
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CODE_SIGNING,
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
}
