"""Enrolment beyond one request: checking without issuing, and certificates that follow others (renewal and rekey)."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, NotFound, Rejected, TooLarge, Unavailable, Violation
from core.settings import Config
from hsm.keys import KeySpec
from pki.ca import CertificateAuthority, IssuedCertificate
from pki.certificates import certificate_with_serial
from pki.issuer import spki_digest
from pki.models import Certificate, CertificateState, SubjectKey
from pki.orders import Known, Order, Wish, check_claim, draw_order
from pki.profile import PublicKey, check_csr, check_key, parse_csr
from pki.views import CSR_LENGTH, CertificateRequest, IssueOptions, RekeyRequest, RenewalRequest
from registry.models import Subscriber

Payload = dict[str, Any]
_TOGETHER: Final = 1_000
"""Requests that are checked in one session, so that agencies and authorities are looked up once for all of them."""


class Enrolments:
    """Draws up what is asked for and lists everything wrong with it, without using a key; then has it issued.

    What waits for approval is a payload made by one of the ``describe_…`` methods; ``perform_…`` carries it out as it was,
    and refuses when the certificate would by now say something else than what was approved.
    """

    def __init__(self, *, authority: CertificateAuthority, database: Database, now: Now, config: Config) -> None:
        self._authority = authority
        self._database = database
        self._now = now
        self._days = config.pki.certificate_days

    def check(self, request: CertificateRequest, actor: Actor) -> Order:
        """The order for a new certificate; raises Rejected with every violation at once, Malformed, Conflict."""
        wish = Wish(request.profile, request.subscriber, request.reference, actor, request.days)
        violations: list[Violation] = []
        key = None if request.csr is None else _key_in(request.csr, violations)
        with self._database.read() as db:
            return self._draw(db, wish, key, violations)

    def check_all(self, requests: Sequence[CertificateRequest], actor: Actor) -> list[CondauError | None]:
        """What :meth:`check` raises for each of many requests, or None; Unavailable is raised for all of them."""
        found: list[CondauError | None] = []
        for start in range(0, len(requests), _TOGETHER):
            chunk = requests[start : start + _TOGETHER]
            handles = {request.subscriber for request in chunk}
            with self._database.read() as db:
                known = Known(
                    {holder.handle: holder for holder in db.scalars(sa.select(Subscriber).where(Subscriber.handle.in_(handles)))}
                )
                found += [self._problem(db, request, actor, known) for request in chunk]
        return found

    def _problem(self, db: Session, request: CertificateRequest, actor: Actor, known: Known) -> CondauError | None:
        violations: list[Violation] = []
        try:
            key = None if request.csr is None else _key_in(request.csr, violations)
            wish = Wish(request.profile, request.subscriber, request.reference, actor, request.days)
            self._draw(db, wish, key, violations, known=known)
        except Unavailable:
            raise
        except CondauError as error:
            return error
        return None

    def issue(self, request: CertificateRequest, actor: Actor) -> IssuedCertificate:
        """A new certificate, or the one that was issued for ``actor.origin`` already; errors as :meth:`check`, and Unavailable."""
        again = self._authority.issued_for(actor.origin)
        if again is not None:
            return again
        order = {"profile": request.profile, "subscriber": request.subscriber, "reference": request.reference, "days": request.days}
        if request.csr is not None:
            return self._authority.issue_from_csr(request.csr.encode(), actor=actor, **order)  # type: ignore[arg-type]  # its own fields
        return self._authority.issue_for_key(spec=request.key or KeySpec.P_256, actor=actor, **order)  # type: ignore[arg-type]  # the same

    def check_renewal(self, serial: str, request: RenewalRequest, actor: Actor) -> tuple[Order, PublicKey]:
        """The order for a certificate over the key of the one with this serial number, which stays in force beside it.

        A key is renewed once. Raises NotFound, Rejected, Conflict (revoked, suspended or expired).
        """
        with self._database.read() as db:
            row = self._predecessor(db, serial)
            if row.der is None:
                raise NotFound("serial", f"the issuance of {row.serial} was never completed")
            before = None if row.predecessor_id is None else db.get(Certificate, row.predecessor_id)
            violations = []
            if before is not None and before.spki_sha256 == row.spki_sha256:
                violations.append(Violation("serial", "its key was renewed once already: rekey, with a new key"))
            key = x509.load_der_x509_certificate(row.der).public_key()
            violations += check_key(key)
            order = self._draw(db, _wish(row, request, actor), _certified(key), violations, label=row.key_label)
            return dataclasses.replace(order, predecessor_id=row.id), _certified(key)

    def check_rekey(self, serial: str, request: RekeyRequest, actor: Actor) -> tuple[Order, PublicKey | KeySpec]:
        """The order for a certificate over a new key, for the holder and profile of the one with this serial number.

        Raises NotFound, Rejected, Malformed, Conflict (revoked, suspended or expired).
        """
        violations: list[Violation] = []
        key = None if request.csr is None else _key_in(request.csr, violations)
        with self._database.read() as db:
            row = self._predecessor(db, serial)
            if key is not None and spki_digest(key) == row.spki_sha256:
                violations.append(Violation("csr", "this is the key of the old certificate: make a new one, or renew"))
            label = None if request.key is None else f"{row.subscriber.handle if row.subscriber else ''}-{secrets.token_hex(6)}"
            order = self._draw(db, _wish(row, request, actor), key, violations, label=label)
            return dataclasses.replace(order, predecessor_id=row.id), key or request.key or KeySpec.P_256

    def renew(self, serial: str, request: RenewalRequest, actor: Actor) -> IssuedCertificate:
        """A successor over the same key; errors as :meth:`check_renewal`, and Unavailable."""
        again = self._authority.issued_for(actor.origin)
        return again or self._authority.issue_order(*self.check_renewal(serial, request, actor))

    def rekey(self, serial: str, request: RekeyRequest, actor: Actor) -> IssuedCertificate:
        """A successor over a new key; errors as :meth:`check_rekey`, and Unavailable."""
        again = self._authority.issued_for(actor.origin)
        return again or self._authority.issue_order(*self.check_rekey(serial, request, actor))

    def perform_issue(self, payload: Payload, actor: Actor) -> Payload:
        """Carry out an approved issuance."""
        request = CertificateRequest.model_validate(payload["request"])
        if self._authority.issued_for(actor.origin) is None:
            _check_name(payload, self.check(request, actor))
        return {"serial": self.issue(request, actor).serial}

    def perform_renewal(self, payload: Payload, actor: Actor) -> Payload:
        """Carry out an approved renewal."""
        request = RenewalRequest.model_validate(payload["request"])
        if self._authority.issued_for(actor.origin) is None:
            _check_name(payload, self.check_renewal(payload["serial"], request, actor)[0])
        return {"serial": self.renew(payload["serial"], request, actor).serial}

    def perform_rekey(self, payload: Payload, actor: Actor) -> Payload:
        """Carry out an approved rekey."""
        request = RekeyRequest.model_validate(payload["request"])
        if self._authority.issued_for(actor.origin) is None:
            _check_name(payload, self.check_rekey(payload["serial"], request, actor)[0])
        return {"serial": self.rekey(payload["serial"], request, actor).serial}

    def _draw(
        self,
        db: Session,
        wish: Wish,
        key: PublicKey | None,
        violations: list[Violation],
        *,
        label: str | None = None,
        known: Known | None = None,
    ) -> Order:
        profiles, days = self._authority.profiles, self._days
        order, found = draw_order(db, wish, profiles=profiles, usual_days=days, at=self._now(), key_label=label, known=known)
        if order is not None and key is not None and not violations:
            found += check_claim(db.get(SubjectKey, spki_digest(key)), order.owner)
        if order is None or violations or found:
            raise Rejected.all([*violations, *found])
        return order

    def _predecessor(self, db: Session, serial: str) -> Certificate:
        row = certificate_with_serial(db, serial)
        if row.state != CertificateState.ISSUED or row.subscriber is None:
            raise Conflict(f"{row.serial} is no subscriber's certificate that was issued: nothing follows it")
        if row.revoked_at is not None:
            raise Conflict(
                f"the certificate {row.serial} is {row.revocation_reason}, since {row.revoked_at:%Y-%m-%d}: issue a new one"
            )
        if row.not_after < self._now():
            raise Conflict(f"the certificate {row.serial} expired on {row.not_after:%Y-%m-%d}: issue a new one")
        return row


def build_request(options: IssueOptions | None, csr: bytes | None) -> CertificateRequest:
    """The request that a bare PKCS #10 request and its options make; raises Malformed, Rejected."""
    if options is None:
        raise Rejected("profile", "say profile, subscriber and reference")
    pem = parse_csr(csr or b"").public_bytes(Encoding.PEM).decode()
    if len(pem) > CSR_LENGTH:
        raise TooLarge("csr", f"at most {CSR_LENGTH} characters in PEM")
    return CertificateRequest(**options.model_dump(), csr=pem)


def build_payload(order: Order, request: CertificateRequest | RenewalRequest, serial: str | None = None) -> Payload:
    """What is approved: the request as it was sent, the name and profile version the certificate will have."""
    payload: Payload = {
        "request": request.model_dump(mode="json", exclude_none=True),
        "profile": order.profile.name,
        "profile_version": order.profile.version,
        "subject": order.subject.rfc4514_string(),
        "days": order.days,
    }
    return payload if serial is None else {**payload, "serial": serial}


def _check_name(payload: Payload, order: Order) -> None:
    now = (order.subject.rfc4514_string(), order.profile.version, order.days)
    if now != (payload["subject"], payload["profile_version"], payload["days"]):
        raise Conflict("the registry or the profile was changed since this was asked for: ask again, with what they say now")


def _wish(row: Certificate, request: RenewalRequest, actor: Actor) -> Wish:
    handle = "" if row.subscriber is None else row.subscriber.handle
    return Wish(row.profile, handle, request.reference, actor, request.days, renewal=True)


def _key_in(csr: str, violations: list[Violation]) -> PublicKey | None:
    """The key of a request, unless something is wrong with it."""
    request = parse_csr(csr.encode())
    found = list(check_csr(request))
    violations += found
    return None if found else _certified(request.public_key())


def _certified(key: object) -> PublicKey:
    """A key that check_key found nothing wrong with, so it is of a kind we certify."""
    certified: PublicKey = key  # type: ignore[assignment]  # see above
    return certified
