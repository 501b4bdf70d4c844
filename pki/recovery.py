"""After a restore: numbers jump forward, what was lost is found, and every key is held against its certificate (docs/adr/0017)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import sqlalchemy as sa
from cryptography import x509

from audit.log import Actor, append
from core.db import Database
from core.errors import CondauError, Malformed, NotFound, Rejected
from hsm.keys import KeyStore
from pki.certificates import format_serial
from pki.crl_der import crl_number
from pki.crl_import import learn_revocations
from pki.models import Authority, Certificate, CertificateState, ExternalCertificate
from pki.profile import PublicKey

_PROBE: Final = "condau-probe"


class ListedKeys(KeyStore, Protocol):
    """A key store that can say what it holds."""

    def labels(self, token: str = "") -> list[str]:
        """The labels of all private keys in the token of this name."""
        ...


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """One thing wrong between the token and the certificates."""

    label: str
    problem: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found and done after a restore."""

    crl_numbers: Mapping[str, int]
    """By authority: the number after which the next CRL is counted."""
    revoked: tuple[str, ...]
    """Serials revoked since the backup, known from a published CRL, and revoked here again."""
    lost: tuple[str, ...]
    """Serials of certificates issued since the backup, which this database does not have."""


def recover(
    database: Database,
    *,
    at: datetime,
    actor: Actor,
    gap: int,
    crls: Sequence[bytes] = (),
    audit: Iterable[str] = (),
) -> Recovered:
    """Bring a database that was restored from a backup abreast of what the world has seen since.

    ``crls``: the last published CRLs in DER, as far as they can be had. ``audit``: lines of JSON exported from the audit log
    after the backup, each with ``action`` and ``subject``. ``gap``: by how much every CRL number jumps beyond the highest known.
    """
    with database.write() as db:
        authorities = list(db.scalars(sa.select(Authority).order_by(Authority.id).with_for_update()))
        revoked: list[str] = []
        lost: set[str] = set()
        for der in crls:
            crl = _load(der)
            authority = _signer(authorities, crl)
            listed = {format_serial(item.serial_number): item for item in crl}
            authority.crl_number = max(authority.crl_number, crl_number(crl))
            more, unknown = learn_revocations(db, authority, listed, at=at, actor=actor)
            revoked += more
            lost |= set(unknown)
        known = sa.select(Certificate.id)
        for serial in _issued(audit):
            if db.scalar(known.where(Certificate.serial == serial).limit(1)) is None:
                lost.add(serial)
        for authority in authorities:
            authority.crl_number += gap
        numbers = {authority.name: authority.crl_number for authority in authorities}
        told = {"crl_numbers": numbers, "lost": sorted(lost)[:1000], "revoked": revoked[:1000]}
        append(db, at=at, actor=actor, action="backup.recover", subject="database", **told)
    return Recovered(numbers, tuple(revoked), tuple(sorted(lost)))


def check_keys(database: Database, keys: ListedKeys, tokens: Sequence[str] = ()) -> Iterator[KeyFinding]:
    """Hold the token against the database: keys without a certificate, certificates without their key, and keys that differ.

    ``tokens``: names of further tokens to look into; one that is away is skipped. Raises Unavailable when the default one is.
    """
    held = set(keys.labels())
    away = set()
    for name in tokens:
        try:
            held |= set(keys.labels(name))
        except CondauError as error:
            away.add(name)
            yield KeyFinding(f"{name}:", error.detail)
    expected = _expected(database)
    for label in sorted(held - set(expected) - {_PROBE}):
        yield KeyFinding(label, "no certificate names this key")
    for label, public_key in sorted(expected.items(), key=lambda item: item[0]):
        if label.partition(":")[0] in away:
            continue
        try:
            found = keys.key(label).public_key()
        except NotFound:
            yield KeyFinding(label, "its certificate is here, and the key is not in the token")
            continue
        if public_key is not None and found != public_key:
            yield KeyFinding(label, "the key in the token is not the one its certificate is for")


def _expected(database: Database) -> dict[str, Any]:
    """Label and public key (None: no certificate yet) of everything the database says is in a token."""
    found: dict[str, Any] = {}
    with database.read() as db:
        for label, der in db.execute(sa.select(ExternalCertificate.key_label, ExternalCertificate.der)):
            found[label] = None if der is None else x509.load_der_x509_certificate(der).public_key()
        rows = sa.select(Certificate.key_label, Certificate.der).where(
            Certificate.key_label.is_not(None), Certificate.state == CertificateState.ISSUED
        )
        for key_label, der in db.execute(rows):
            if key_label is not None and der is not None:
                found[key_label] = x509.load_der_x509_certificate(der).public_key()
        for label, der in db.execute(sa.select(Authority.key_label, Authority.certificate_der)):
            found[label] = None if der is None else x509.load_der_x509_certificate(der).public_key()
    return found


def _load(der: bytes) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(der) if b"-----BEGIN" in der[:64] else x509.load_der_x509_crl(der)
    except ValueError as error:
        raise Malformed("crl", "not a CRL in DER or PEM") from error


def _signer(authorities: Sequence[Authority], crl: x509.CertificateRevocationList) -> Authority:
    for authority in authorities:
        if authority.certificate_der is not None:
            key: PublicKey = x509.load_der_x509_certificate(authority.certificate_der).public_key()  # type: ignore[assignment]  # ours
            if crl.is_signature_valid(key):
                return authority
    raise Rejected("crl", "no authority of this instance signed it")


def _issued(lines: Iterable[str]) -> Iterator[str]:
    """The serials that exported audit lines say were issued."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            action, subject = entry["action"], entry["subject"]
        except (ValueError, KeyError, TypeError) as error:
            raise Malformed("audit", f"line {number} is not an exported audit entry") from error
        if action == "certificate.issue":
            yield str(subject)
