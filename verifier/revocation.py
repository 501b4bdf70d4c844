"""Was a certificate revoked at a moment? Answered from CRLs at hand (RFC 5280 clause 6.3), never by asking the network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from asn1crypto import core
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from core.errors import Malformed
from verifier.reading import reading
from verifier.verdict import Revocation

_UNDERSTOOD: Final = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_NUMBER,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
}
_EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")


def revocation_at(
    certificate: x509.Certificate, issuer: x509.Certificate, crls: Sequence[x509.CertificateRevocationList], at: datetime
) -> Revocation:
    """The status of ``certificate`` at moment ``at``, by the newest of ``crls`` that ``issuer`` signed and that covers it.

    ``good`` needs a list that was still fresh at ``at`` (or is newer) and was made while the certificate had not yet
    expired: lists forget expired certificates. Otherwise ``unknown``.
    """
    usable = [one for one in crls if _speaks_for(one, certificate, issuer)]
    usable.sort(key=lambda one: one.last_update_utc, reverse=True)
    for position, crl in enumerate(usable):
        entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is None or _reason(entry) == "removeFromCRL":
            continue
        if _reason(entry) == "certificateHold" and any(newer.last_update_utc <= at for newer in usable[:position]):
            continue  # the suspension had been lifted by then: only this reason may leave a list again
        return _revoked(crl, entry, issuer, at)
    for crl in usable:
        forgets = crl.last_update_utc > certificate.not_valid_after_utc and not _keeps_expired(crl, certificate)
        stale = crl.next_update_utc is None or crl.next_update_utc < at
        if not forgets and (not stale or crl.last_update_utc >= at):
            return Revocation(status="good", at=at, source=_name(crl, issuer), published_at=crl.last_update_utc)
    return Revocation(status="unknown", at=at)


def _revoked(
    crl: x509.CertificateRevocationList, entry: x509.RevokedCertificate, issuer: x509.Certificate, at: datetime
) -> Revocation:
    since = entry.revocation_date_utc
    return Revocation(
        status="revoked" if since <= at else "good",
        at=at,
        source=_name(crl, issuer),
        published_at=crl.last_update_utc,
        revoked_at=since,
        reason=_reason(entry),
    )


def _speaks_for(crl: x509.CertificateRevocationList, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Issued by this issuer, whole (no delta, no indirect list, all reasons), and about this kind of certificate."""
    if crl.issuer != issuer.subject:
        return False
    try:
        with reading("crl"):
            if any(extension.critical and extension.oid not in _UNDERSTOOD for extension in crl.extensions):
                return False
            if not _may_sign_crls(issuer) or not _in_scope(crl, certificate):
                return False
            return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # a key of a kind that cannot sign raises
    except Malformed:
        return False


def _may_sign_crls(issuer: x509.Certificate) -> bool:
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _in_scope(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    try:
        scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return True
    if scope.indirect_crl or scope.only_some_reasons or scope.only_contains_attribute_certs:
        return False
    authority = _is_authority(certificate)
    if (scope.only_contains_user_certs and authority) or (scope.only_contains_ca_certs and not authority):
        return False
    return scope.full_name is None or any(name in _distribution_points(certificate) for name in scope.full_name)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _distribution_points(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return []
    return [name for point in points for name in point.full_name or ()]


def _keeps_expired(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """The list says (expiredCertsOnCRL, X.509 clause 9.5.2.8) that it still names certificates that expired when this one did."""
    for extension in crl.extensions:
        if extension.oid == _EXPIRED_CERTS_ON_CRL and isinstance(extension.value, x509.UnrecognizedExtension):
            since: datetime = core.GeneralizedTime.load(extension.value.value).native
            return certificate.not_valid_after_utc >= since
    return False


def _reason(entry: x509.RevokedCertificate) -> str | None:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        return None


def _name(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> str:
    try:
        number = f" {crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number}"
    except x509.ExtensionNotFound:
        number = ""
    return f"CRL{number} · {issuer.subject.rfc4514_string()}"
