"""The certificate authority: issuance written ahead, and settling what a crash left (docs/adr/0004)."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound, Rejected, Unavailable, Violation
from core.settings import Config
from hsm.keys import KeySpec, KeyStore, PrivateKey
from notices import outbox
from pki import inventory
from pki.certificates import (
    authority_chain,
    authority_named,
    format_serial,
    newest_generation,
    service_certificate,
    usable_until,
)
from pki.issuer import Draft, Issuer, Urls, build_draft, spki_digest
from pki.lint import record_lint_set
from pki.models import Authority, Certificate, CertificateState, StatusAct, SubjectKey
from pki.orders import (
    Order,
    Wish,
    check_claim,
    check_issuer_term,
    check_standing,
    claim_key,
    draw_order,
    load_issuer,
)
from pki.place import Place
from pki.profile import PublicKey, check_csr, parse_csr, profile_digest, term
from pki.profile_changes import record_allowed_profile
from pki.profile_files import load_profiles
from pki.revocation import Change, change_standing
from registry.models import Subscriber

_log = logging.getLogger("condau.pki")


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """What an issuance gives back: it is in the database, and so is its audit entry."""

    serial: str
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    """The issuer first, the root last; empty for a root."""

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return to_pem(self.certificate)


_HERE: Final = Place()


class CertificateAuthority:
    """Issues, for every authority whose key is in the token."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, config: Config) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._days = config.pki.certificate_days
        self._gated = config.approvals.profile
        self.profiles = load_profiles(config.pki.profiles)
        self._urls = Urls(config.public_url, config.pki.crl_partitions)

    def create_authority(
        self,
        name: str,
        *,
        subject: x509.Name,
        spec: KeySpec,
        issuer: str | None,
        actor: Actor,
        place: Place = _HERE,
        days: int | None = None,
    ) -> IssuedCertificate:
        """A new authority with a new key in the token: a root (``issuer`` None), or one below the authority ``issuer``.

        ``place``: in which token the key is made, and which generation this is. A creation that was cut off is finished by
        calling this again. Raises Conflict when the authority stands already.
        """
        profile = self.profiles["root" if issuer is None else "issuing-ca"]
        label = place.label(f"ca-{name}")
        authority_id = self._intend_authority(name, subject=subject, key_label=label, issuer=issuer, place=place, actor=actor)
        public_key = self._make_key(label, spec, actor).public_key()
        signer = Issuer(authority_id, name, label, subject, public_key, certificate=None)
        if issuer is not None:
            with self._database.read() as db:
                signer = load_issuer(db, issuer)
        owner = f"authority/{name}"
        order = Order(profile, subject, days or profile.days, owner, signer, actor, key_label=label, authority_id=authority_id)
        return self._issue(order, public_key)

    def issue_from_csr(
        self,
        csr: bytes,
        *,
        profile: str,
        subscriber: str,
        reference: str,
        actor: Actor,
        days: int | None = None,
        renewal: bool = False,
    ) -> IssuedCertificate:
        """A certificate for the key in a PKCS #10 request (PEM or DER), named by the registry (see :func:`pki.profile.parse_csr`).

        The other arguments are those of :class:`pki.orders.Wish`; it never lives longer than the issuer. Raises Malformed for
        what is no request, Rejected with every violation at once, Conflict (the issuer may issue no more, the agency is
        closed), Unavailable.
        """
        wish = Wish(profile, subscriber, reference, actor, days, renewal)
        request = parse_csr(csr)
        violations = list(check_csr(request))
        with self._database.read() as db:
            order, found = self._draw(db, wish)
            if order is not None and not violations:
                found += check_claim(db.get(SubjectKey, spki_digest(_key_of(request))), order.owner)
        if order is None or violations or found:
            raise Rejected.all([*violations, *found])
        return self._issue(order, _key_of(request))

    def issue_for_key(
        self,
        *,
        profile: str,
        subscriber: str,
        reference: str,
        spec: KeySpec,
        actor: Actor,
        days: int | None = None,
        renewal: bool = False,
    ) -> IssuedCertificate:
        """A certificate for a new key in the token, so that client systems can sign for this subscriber. Errors as above."""
        label = f"{subscriber}-{secrets.token_hex(6)}"
        with self._database.read() as db:
            order, violations = self._draw(db, Wish(profile, subscriber, reference, actor, days, renewal), key_label=label)
        if order is None or violations:
            raise Rejected.all(violations)
        return self._issue(order, self._make_key(label, spec, actor).public_key())

    def _draw(self, db: Session, wish: Wish, *, key_label: str | None = None) -> tuple[Order | None, list[Violation]]:
        return draw_order(db, wish, profiles=self.profiles, usual_days=self._days, at=self._now(), key_label=key_label)

    def issue_order(self, order: Order, key: PublicKey | KeySpec) -> IssuedCertificate:
        """What an order drawn up and checked elsewhere asks for: over a key that is there, or a new one under its label."""
        if isinstance(key, KeySpec):
            if order.key_label is None:
                raise ValueError("a key made in the token needs a label")
            key = self._make_key(order.key_label, key, order.actor).public_key()
        return self._issue(order, key)

    def issued_for(self, origin: str) -> IssuedCertificate | None:
        """What was issued for an origin already (see :class:`audit.log.Actor`), so that nothing is issued for it twice.

        An issuance for it that was cut off is abandoned; should it still be under way, it is that one which fails.
        """
        query = sa.select(Certificate).where(Certificate.origin == origin, Certificate.state != CertificateState.ABANDONED)
        with self._database.read() as db:
            row = db.scalar(query) if origin else None
        if row is None or (row.state == CertificateState.INTENDED and self._abandon(row.id)):
            return None
        with self._database.read() as db:
            row = db.scalar(query)
            if row is None or row.der is None:
                return None  # another process has abandoned it meanwhile
            chain = authority_chain(db, row.authority_id)
        return IssuedCertificate(row.serial, x509.load_der_x509_certificate(row.der), chain)

    def issue_service(
        self,
        *,
        profile: str,
        subject: x509.Name,
        issuer: str,
        spec: KeySpec,
        actor: Actor,
        place: Place = _HERE,
        key_label: str | None = None,
    ) -> IssuedCertificate:
        """A certificate of the service's own (``tsa``, ``ocsp-responder``) for a new key in the token, or for the one under
        ``key_label``, which is made where it is not there yet. ``issuer``: the name of one generation of an authority."""
        found = self.profiles[profile]
        label = key_label or place.label(f"{profile}-{issuer}-{secrets.token_hex(6)}")
        with self._database.read() as db:
            signer = load_issuer(db, issuer)
        order = Order(found, subject, found.days, f"service/{profile}-{issuer}", signer, actor, key_label=label)
        return self._issue(order, self._make_key(label, spec, actor).public_key())

    def newest(self, alias: str) -> str:
        """The name of an authority's newest generation; raises NotFound."""
        with self._database.read() as db:
            return newest_generation(db, alias).name

    def has_certificate(self, subscriber: str) -> bool:
        """Whether a certificate whose key is in the token was ever issued to the subscriber with this handle."""
        issued = (Certificate.state == CertificateState.ISSUED, Certificate.key_label.is_not(None))
        query = sa.select(Certificate.id).join(Subscriber).where(Subscriber.handle == subscriber, *issued)
        with self._database.read() as db:
            return db.scalar(query.limit(1)) is not None

    def has_lasting_service(self, profile: str, issuer: str) -> bool:
        """Whether the service has a certificate of this profile whose key may be used for another third of its time."""
        at = self._now()
        try:
            with self._database.read() as db:
                certificate = service_certificate(db, profile, at, issuer=issuer).certificate
        except Unavailable:
            return False
        until = usable_until(certificate)
        return until - at > (until - certificate.not_valid_before_utc) / 3

    def reconcile(self, before: datetime) -> int:
        """Settle the issuances intended before ``before`` that have no result; returns how many there were.

        The token may have signed them, so each is abandoned and revoked as well: OCSP says so, and the next CRL.
        """
        intended = (Certificate.state == CertificateState.INTENDED, Certificate.intended_at < before)
        with self._database.read() as db:
            undecided = list(db.scalars(sa.select(Certificate.id).where(*intended)))
        return sum(self._abandon(identifier) for identifier in undecided)

    def _abandon(self, identifier: int) -> bool:
        at = self._now().replace(microsecond=0)
        with self._database.write() as db:
            row = _locked(db, db.get_one(Certificate, identifier))
            if row.state != CertificateState.INTENDED:
                return False  # it was finished, or settled by another process
            append(db, at=at, actor=SYSTEM, action="certificate.abandon", subject=row.serial)
            change_standing(db, [row], Change(StatusAct.REVOKE, at, "unspecified"), SYSTEM)  # which makes it ABANDONED
        return True

    def _intend_authority(
        self, name: str, *, subject: x509.Name, key_label: str, issuer: str | None, place: Place, actor: Actor
    ) -> int:
        text = subject.rfc4514_string()
        with self._database.write() as db:
            parent = None if issuer is None else authority_named(db, issuer).id
            authority = db.scalar(sa.select(Authority).where(Authority.name == name))
            if authority is None:
                alias, generation = place.alias or name, place.generation
                authority = Authority(
                    name=name, alias=alias, generation=generation, subject=text, key_label=key_label, parent_id=parent
                )
                db.add(authority)
                try:
                    db.flush()
                except IntegrityError as error:
                    raise Conflict(f"another process is creating the authority {name} at this moment") from error
                append(db, at=self._now(), actor=actor, action="authority.intend", subject=name, name=text)
            elif authority.certificate_der is not None:
                raise Conflict(f"an authority named {name} exists already")
            elif (authority.subject, authority.parent_id) != (text, parent):
                raise Conflict(f"the creation of the authority {name} was begun with another name or issuer: {authority.subject}")
            return authority.id

    def _make_key(self, label: str, spec: KeySpec, actor: Actor) -> PrivateKey:
        """A new key, or the one an earlier attempt made under this label; the log says so before the token does."""
        try:
            return self._keys.key(label)
        except NotFound:
            pass
        with self._database.write() as db:
            append(db, at=self._now(), actor=actor, action="key.generate", subject=label, spec=spec.value)
        try:
            return self._keys.generate(label, spec)
        except Conflict:
            return self._keys.key(label)  # another process was faster, at the same task

    def _issue(self, order: Order, public_key: PublicKey) -> IssuedCertificate:
        """Draft, write down, sign, check, store: the one way any certificate comes into being."""
        issuer = order.issuer
        at = self._now()
        check_issuer_term(issuer, at)
        issuer_key = self._keys.key(issuer.key_label)  # a token that is away is noticed before anything is written
        limit = None if issuer.certificate is None else issuer.certificate.not_valid_after_utc
        not_before, not_after = term(order.profile, at=at, days=order.days, issuer_not_after=limit)
        draft = build_draft(
            order.profile,
            subject=order.subject,
            public_key=public_key,
            issuer=issuer,
            not_before=not_before,
            not_after=not_after,
            urls=self._urls,
            names=order.names,
        )
        identifier = self._intend(order, draft)
        return self._complete(order, identifier, draft.sign(issuer_key))

    def _intend(self, order: Order, draft: Draft) -> int:
        """Transaction 1: the serial number, the bytes to be signed and whose key it is, before the token is asked."""
        at = self._now()
        row = Certificate(
            serial=format_serial(draft.serial),
            authority_id=order.issuer.id,
            subscriber_id=order.subscriber_id,
            profile=order.profile.name,
            subject=draft.subject.rfc4514_string(),
            request_reference=order.reference,
            profile_version=order.profile.version,
            profile_sha256=profile_digest(order.profile),
            key_label=order.key_label,
            spki_sha256=draft.spki_sha256,
            origin=order.actor.origin or None,
            predecessor_id=order.predecessor_id,
            crl_partition=draft.crl_partition,
            state=CertificateState.INTENDED,
            tbs=draft.tbs,
            not_before=draft.not_before,
            not_after=draft.not_after,
            intended_at=at,
        )
        detail: dict[str, object] = {"authority": order.issuer.name, "owner": order.owner, "name": row.subject}
        detail["reference"] = order.reference
        with self._database.write() as db:
            record_allowed_profile(db, order.profile, at, self._gated)
            row.lints = detail["lints"] = record_lint_set(db)
            claim_key(db, draft.spki_sha256, order.owner)
            check_standing(db, order, draft.spki_sha256, self._now)
            inventory.enter(db, row)
            db.add(row)
            try:
                db.flush()
            except IntegrityError as error:
                raise Conflict(f"this was asked for already and is being issued at this moment ({row.origin})") from error
            detail |= {"spki": row.spki_sha256, **_rules(order)}
            append(db, at=at, actor=order.actor, action="certificate.intend", subject=row.serial, **detail)
        return row.id

    def _complete(self, order: Order, identifier: int, certificate: x509.Certificate) -> IssuedCertificate:
        """Transaction 2: the certificate itself, if its intent still stands."""
        at = self._now()
        der = certificate.public_bytes(Encoding.DER)
        serial = format_serial(certificate.serial_number)
        with self._database.write() as db:
            intent = sa.update(Certificate).where(Certificate.id == identifier, Certificate.state == CertificateState.INTENDED)
            changed = db.execute(intent.values(state=CertificateState.ISSUED, der=der, issued_at=at).returning(Certificate.id))
            if changed.first() is None:
                raise Unavailable("pki", "the issuance took too long and was given up: try again")
            if order.authority_id is not None:
                _install(db, order.authority_id, der)
            digest = certificate.fingerprint(hashes.SHA256()).hex()
            told = {"profile": order.profile.name, "authority": order.issuer.name, "owner": order.owner}
            outbox.record(db, at=at, kind="certificate.issued", subject=serial, **told)
            append(db, at=at, actor=order.actor, action="certificate.issue", subject=serial, sha256=digest, **_rules(order))
            chain = () if order.issuer.certificate is None else authority_chain(db, order.issuer.id)
        return IssuedCertificate(serial, certificate, chain)


def to_pem(certificate: x509.Certificate) -> str:
    """A certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def _rules(order: Order) -> dict[str, str | int]:
    """By which profile a certificate is issued, for the log."""
    profile = order.profile
    return {"profile": profile.name, "profile_version": profile.version, "profile_sha256": profile_digest(profile)}


def _key_of(request: x509.CertificateSigningRequest) -> PublicKey:
    """The key of a request that check_csr found nothing wrong with, so it is of a kind we certify."""
    key: PublicKey = request.public_key()  # type: ignore[assignment]  # see above
    return key


def _locked(db: Session, row: Certificate) -> Certificate:
    """The row as it is now, held until the transaction ends."""
    db.refresh(row, with_for_update=True)
    return row


def _install(db: Session, authority_id: int, der: bytes) -> None:
    without = sa.update(Authority).where(Authority.id == authority_id, Authority.certificate_der.is_(None))
    if db.execute(without.values(certificate_der=der).returning(Authority.id)).first() is None:
        raise Unavailable("pki", "another process created this authority at the same moment: this certificate was given up")
