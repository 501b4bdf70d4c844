"""CRLs as bytes: what a full and a delta CRL hold, and the reading back before anybody else can. No effects here."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import Unavailable
from hsm.keys import PrivateKey
from pki.issuer import Urls, x509_hash
from pki.profile import PublicKey

_log = logging.getLogger("condau.pki")
_EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")
_REASONS: Final = {flag.value: x509.CRLReason(flag) for flag in x509.ReasonFlags}
REMOVED: Final = "removeFromCRL"


class Entry(NamedTuple):
    """One line of a CRL: a serial number, since when, why (``removeFromCRL`` only in a delta), and since when it is invalid."""

    serial: str
    at: datetime
    reason: str
    invalidity_date: datetime | None = None


@dataclass(frozen=True, slots=True)
class CrlDraft:
    """A CRL about to be signed: its number is taken, and its entries are those of the moment it was taken."""

    authority: str
    certificate: x509.Certificate
    """The authority's."""
    partition: int
    """0: everything the authority issued; n: only the certificates that name this part."""
    number: int
    base_number: int | None
    """Set in a delta CRL: the number of the full CRL it adds to."""
    this_update: datetime
    next_update: datetime
    entries: Sequence[Entry]


def sign_crl(draft: CrlDraft, key: PrivateKey, urls: Urls) -> bytes:
    """The CRL in DER, signed by the authority's ``key``."""
    issuer_key: PublicKey = draft.certificate.public_key()  # type: ignore[assignment]  # KeySpec has only these kinds
    builder = x509.CertificateRevocationListBuilder(revoked_certificates=list(_build_entries(draft.entries)))
    builder = builder.issuer_name(draft.certificate.subject).last_update(draft.this_update).next_update(draft.next_update)
    for value, critical in _extensions(draft, urls):
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(key, x509_hash(issuer_key)).public_bytes(Encoding.DER)


def _extensions(draft: CrlDraft, urls: Urls) -> Iterable[tuple[x509.ExtensionType, bool]]:
    identifier = draft.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    yield x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False
    yield x509.CRLNumber(draft.number), False
    if draft.partition:  # RFC 5280, 5.2.5: whoever reads this must know that it is not about every certificate
        point = [x509.UniformResourceIdentifier(urls.crl(draft.authority, draft.partition))]
        yield x509.IssuingDistributionPoint(point, None, False, False, None, False, False), True
    if draft.base_number is not None:
        yield x509.DeltaCRLIndicator(draft.base_number), True  # RFC 5280, 5.2.4
        return
    delta = x509.UniformResourceIdentifier(urls.crl(draft.authority, draft.partition, delta=True))
    yield x509.FreshestCRL([x509.DistributionPoint([delta], None, None, None)]), False  # RFC 5280, 5.2.6
    since = asn1.encode_der(asn1.GeneralizedTime(draft.certificate.not_valid_before_utc))
    yield x509.UnrecognizedExtension(_EXPIRED_CERTS_ON_CRL, since), False  # X.509, 9.5.2.8: none is dropped


def _build_entries(entries: Iterable[Entry]) -> Iterable[x509.RevokedCertificate]:
    for serial, at, reason, invalidity_date in entries:
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(at)
        if reason != "unspecified":  # RFC 5280, 5.3.1: then the extension should be absent
            entry = entry.add_extension(_REASONS[reason], critical=False)
        if invalidity_date is not None:
            entry = entry.add_extension(x509.InvalidityDate(invalidity_date), critical=False)
        yield entry.build()


def check_crl(
    der: bytes,
    *,
    issuer_key: PublicKey,
    number: int,
    entries: Sequence[Entry],
    predecessor: bytes | None,
    resumed: AbstractSet[str] = frozenset(),
    base_number: int | None = None,
) -> None:
    """Read a CRL back as a stranger would, before anybody else can.

    Its signature verifies, its number is the one taken and its base the one meant, it lists exactly ``entries``, and its number
    is above the predecessor's. A full one lists whatever its predecessor did but the ``resumed``, whose suspension ended since,
    and has the predecessor's scope. Raises Unavailable saying which of these fails.
    """
    crl = x509.load_der_x509_crl(der)
    listed = {item.serial_number for item in crl}
    problem = None
    if not crl.is_signature_valid(issuer_key):
        problem = "the issuer's public key does not verify it"
    elif crl_number(crl) != number:
        problem = "it does not bear its number"
    elif _base_number(crl) != base_number:
        problem = "it does not name its base"
    elif len(crl) != len(entries) or listed != {int(entry[0], 16) for entry in entries}:
        problem = "it does not list what was revoked"
    elif predecessor is not None:
        problem = _compare(crl, listed, x509.load_der_x509_crl(predecessor), resumed)
    if problem is not None:
        _log.error("a CRL was built wrongly and withheld", extra={"fields": {"number": number, "detail": problem}})
        raise Unavailable("pki", f"the CRL was withheld: {problem}")


def _compare(
    crl: x509.CertificateRevocationList, listed: AbstractSet[int], before: x509.CertificateRevocationList, resumed: AbstractSet[str]
) -> str | None:
    if crl_number(before) >= crl_number(crl):
        return f"its number {crl_number(crl)} is not above its predecessor's, {crl_number(before)}"
    if _scope(before) != _scope(crl):
        return "it is not about the same certificates as its predecessor"
    if _base_number(crl) is None:
        missing = {item.serial_number for item in before} - listed - {int(serial, 16) for serial in resumed}
        if missing:
            return f"{len(missing)} entries of its predecessor are missing from it"
    return None


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """A CRL's number (RFC 5280, 5.2.3)."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _base_number(crl: x509.CertificateRevocationList) -> int | None:
    try:
        return crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _scope(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None
