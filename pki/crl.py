"""Certificate revocation lists: numbered by the database, checked before they are published, kept for ever (docs/adr/0005)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.config import Config
from core.db import Database
from core.errors import CondauError, NotFound, Unavailable
from hsm.keys import KeyStore
from pki.certificates import authority_certificate, authority_named
from pki.issuer import x509_hash
from pki.models import Authority, Certificate, Crl, CrlState
from pki.profile import PublicKey

_log = logging.getLogger("condau.pki")
_EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")
_FRESH: Final = timedelta(seconds=30)
"""An intent younger than this is being built by somebody: nobody else begins the same."""
Entry = tuple[str, datetime, str]
"""Serial number, moment and reason of one revocation."""


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL that anybody may have."""

    authority: str
    number: int
    this_update: datetime
    next_update: datetime
    der: bytes


@dataclass(frozen=True, slots=True)
class _Intent:
    """A CRL about to be signed: its number is taken, and its entries are those of the moment it was taken."""

    id: int
    name: str
    key_label: str
    certificate: x509.Certificate
    number: int
    this_update: datetime
    next_update: datetime
    entries: Sequence[Entry]
    predecessor: bytes | None


class CrlPublisher:
    """Issues the full CRL of every authority. Any number of processes may do so at once."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, config: Config) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._life = timedelta(hours=config.pki.crl_hours)

    def publish(self, authority: str, *, actor: Actor) -> PublishedCrl:
        """Issue a new CRL now. Raises NotFound, Unavailable."""
        intent = self._intend(authority, actor, only_when_due=False)
        if intent is None:
            raise ValueError("a CRL that was asked for is always due")
        return self._finish(intent, actor)

    def current(self, authority: str) -> PublishedCrl:
        """The newest CRL, issued anew when half of its life has passed or a revocation is missing from it.

        While it cannot be issued anew, and while somebody else is at it, this is the last one as long as that is valid.
        Raises NotFound, Unavailable.
        """
        with self._database.read() as db:
            row = authority_named(db, authority)
            newest = _newest(db, row.id)
            if newest is not None and not self._is_due(row, newest):
                return _published(authority, newest)
        try:
            intent = self._intend(authority, SYSTEM, only_when_due=True)
            if intent is not None:
                return self._finish(intent, SYSTEM)
        except Unavailable as error:
            if newest is None or newest.next_update <= self._now():
                raise
            _log.warning("the CRL is due but cannot be issued", extra={"fields": {"authority": authority, "detail": error.detail}})
        return self._last(authority)

    def refresh(self) -> None:
        """Issue what is due, of every authority; what fails is logged and tried again at the next call."""
        for name in self.authorities():
            try:
                self.current(name)
            except CondauError as error:
                _log.warning("no valid CRL", extra={"fields": {"authority": name, "detail": error.detail}})

    def authorities(self) -> list[str]:
        """The names of all authorities that can issue a CRL, oldest first."""
        with self._database.read() as db:
            return list(db.scalars(sa.select(Authority.name).where(Authority.certificate_der.is_not(None)).order_by(Authority.id)))

    def reconcile(self, before: datetime) -> int:
        """Give up the CRLs intended before ``before`` that have no result; returns how many. Their numbers are not used again."""
        undecided = sa.update(Crl).where(Crl.state == CrlState.INTENDED, Crl.this_update < before)
        with self._database.write() as db:
            settled = db.execute(undecided.values(state=CrlState.ABANDONED).returning(Crl.authority_id, Crl.number)).all()
            for authority_id, number in settled:
                name = db.get_one(Authority, authority_id).name
                append(db, at=self._now(), actor=SYSTEM, action="crl.abandon", subject=name, number=number)
        return len(settled)

    def _is_due(self, authority: Authority, newest: Crl) -> bool:
        half = newest.this_update + (newest.next_update - newest.this_update) / 2
        return self._now() >= half or newest.status_version < authority.status_version

    def _intend(self, name: str, actor: Actor, *, only_when_due: bool) -> _Intent | None:
        """Transaction 1: take the next number under the authority's row lock and read the entries that belong to it.

        Because the entries are read under that lock, a CRL of a higher number never knows less. With ``only_when_due`` None
        means that there is nothing to do, or that another process is doing it.
        """
        with self._database.read() as db:
            key_label = authority_named(db, name).key_label
        self._keys.key(key_label)  # a token that is away is noticed before a number is spent
        with self._database.write() as db:
            # key_share: who only refers to the authority (an issuance, an OCSP record) need not wait meanwhile
            authority = db.scalar(sa.select(Authority).where(Authority.name == name).with_for_update(key_share=True))
            if authority is None:
                raise NotFound("authority", f"no certificate authority is named {name!r}")
            at = self._now()
            # in this order: one that is finished between the two questions is then seen by the second
            under_way = self._is_under_way(db, authority, at)
            newest = _newest(db, authority.id)
            if only_when_due and (under_way or (newest and not self._is_due(authority, newest))):
                return None
            authority.crl_number += 1
            this_update = at.replace(microsecond=0)
            if newest is not None:  # the clocks of two machines differ, and a CRL must not look older than the one before
                this_update = max(this_update, newest.this_update)
            row = Crl(
                authority_id=authority.id,
                number=authority.crl_number,
                status_version=authority.status_version,
                state=CrlState.INTENDED,
                this_update=this_update,
                next_update=this_update + self._life,
            )
            db.add(row)
            db.flush()
            entries = _load_entries(db, authority.id)
            append(db, at=at, actor=actor, action="crl.intend", subject=name, number=row.number, entries=len(entries))
            return _Intent(
                row.id,
                name,
                key_label,
                authority_certificate(authority),
                row.number,
                row.this_update,
                row.next_update,
                entries,
                predecessor=None if newest is None else newest.der,
            )

    def _is_under_way(self, db: Session, authority: Authority, at: datetime) -> bool:
        query = sa.select(Crl.id).where(
            Crl.authority_id == authority.id,
            Crl.state == CrlState.INTENDED,
            Crl.status_version >= authority.status_version,
            Crl.this_update > at - _FRESH,
        )
        return db.scalar(query.limit(1)) is not None

    def _finish(self, intent: _Intent, actor: Actor) -> PublishedCrl:
        """Sign, check, and transaction 2: publish, if the intent still stands."""
        issuer_key: PublicKey = intent.certificate.public_key()  # type: ignore[assignment]  # KeySpec has only these kinds
        builder = _build(intent)
        der = builder.sign(self._keys.key(intent.key_label), x509_hash(issuer_key)).public_bytes(Encoding.DER)
        check_crl(der, issuer_key=issuer_key, number=intent.number, entries=intent.entries, predecessor=intent.predecessor)
        with self._database.write() as db:
            stands = sa.update(Crl).where(Crl.id == intent.id, Crl.state == CrlState.INTENDED)
            if db.execute(stands.values(state=CrlState.ISSUED, der=der).returning(Crl.id)).first() is None:
                raise Unavailable("pki", "the CRL took too long and was given up: try again")
            append(db, at=self._now(), actor=actor, action="crl.publish", subject=intent.name, number=intent.number, bytes=len(der))
        return PublishedCrl(intent.name, intent.number, intent.this_update, intent.next_update, der)

    def _last(self, name: str) -> PublishedCrl:
        with self._database.read() as db:
            newest = _newest(db, authority_named(db, name).id)
        if newest is None or newest.next_update <= self._now():
            raise Unavailable("pki", f"the CRL of {name} is being issued: ask again")
        return _published(name, newest)


def bump_status(db: Session, authority_id: int) -> str:
    """Note, in the caller's transaction, that a status of this authority's certificates changed; returns its name.

    It takes the authority's row lock, so that the change is either on a CRL being begun or makes that one outdated.
    """
    change = sa.update(Authority).where(Authority.id == authority_id).values(status_version=Authority.status_version + 1)
    return db.execute(change.returning(Authority.name)).scalar_one()


def check_crl(der: bytes, *, issuer_key: PublicKey, number: int, entries: Sequence[Entry], predecessor: bytes | None) -> None:
    """Read a CRL back as a stranger would, before anybody else can.

    Its signature verifies, its number is the one taken, it lists exactly ``entries``, its number is above the
    predecessor's, and nothing listed there is missing here. Raises Unavailable saying which of these fails.
    """
    crl = x509.load_der_x509_crl(der)
    listed = {item.serial_number for item in crl}
    problem = None
    if not crl.is_signature_valid(issuer_key):
        problem = "the issuer's public key does not verify it"
    elif _number(crl) != number:
        problem = "it does not bear its number"
    elif len(crl) != len(entries) or listed != {int(serial, 16) for serial, _, _ in entries}:
        problem = "it does not list what was revoked"
    elif predecessor is not None:
        before = x509.load_der_x509_crl(predecessor)
        if _number(before) >= number:
            problem = f"its number {number} is not above its predecessor's, {_number(before)}"
        elif missing := {item.serial_number for item in before} - listed:
            problem = f"{len(missing)} entries of its predecessor are missing from it"
    if problem is not None:
        _log.error("a CRL was built wrongly and withheld", extra={"fields": {"number": number, "detail": problem}})
        raise Unavailable("pki", f"the CRL was withheld: {problem}")


def _build(intent: _Intent) -> x509.CertificateRevocationListBuilder:
    identifier = intent.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    since = asn1.encode_der(asn1.GeneralizedTime(intent.certificate.not_valid_before_utc))
    builder = x509.CertificateRevocationListBuilder(revoked_certificates=list(_build_entries(intent.entries)))
    return (
        builder.issuer_name(intent.certificate.subject)
        .last_update(intent.this_update)
        .next_update(intent.next_update)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.CRLNumber(intent.number), critical=False)
        .add_extension(x509.UnrecognizedExtension(_EXPIRED_CERTS_ON_CRL, since), critical=False)  # X.509, 9.5.2.8: none is dropped
    )


def _build_entries(entries: Iterable[Entry]) -> Iterable[x509.RevokedCertificate]:
    for serial, at, reason in entries:
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at)
        if reason != "unspecified":  # RFC 5280, 5.3.1: then the extension should be absent
            entry = entry.add_extension(_REASONS[reason], critical=False)
        yield entry.build()


_REASONS: Final = {flag.value: x509.CRLReason(flag) for flag in x509.ReasonFlags}


def _load_entries(db: Session, authority_id: int) -> Sequence[Entry]:
    columns = sa.select(Certificate.serial, Certificate.revoked_at, Certificate.revocation_reason)
    revoked = columns.where(Certificate.authority_id == authority_id, Certificate.revoked_at.is_not(None)).order_by(Certificate.id)
    return [(serial, at, reason or "unspecified") for serial, at, reason in db.execute(revoked) if at is not None]


def _newest(db: Session, authority_id: int) -> Crl | None:
    issued = sa.select(Crl).where(Crl.authority_id == authority_id, Crl.state == CrlState.ISSUED)
    return db.scalar(issued.order_by(Crl.number.desc()).limit(1))


def _published(authority: str, row: Crl) -> PublishedCrl:
    if row.der is None:
        raise ValueError(f"CRL {row.number} of {authority} is issued without its bytes")
    return PublishedCrl(authority, row.number, row.this_update, row.next_update, row.der)


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
