"""Was a certificate revoked at a moment? Answered from CRLs at hand (RFC 5280 clause 6.3), never by asking the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from asn1crypto import core
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from core.errors import Malformed
from verifier.names import name_key, same_name
from verifier.reading import reading
from verifier.verdict import Revocation

_UNDERSTOOD: Final = {
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_NUMBER,
    ExtensionOID.DELTA_CRL_INDICATOR,
    ExtensionOID.ISSUING_DISTRIBUTION_POINT,
}
_EXPIRED_CERTS_ON_CRL: Final = x509.ObjectIdentifier("2.5.29.60")


def revocation_at(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    crls: Sequence[x509.CertificateRevocationList],
    at: datetime,
    *,
    signers: Sequence[x509.Certificate] = (),
) -> Revocation:
    """The status of ``certificate`` at moment ``at``, by the newest of ``crls`` that ``issuer`` signed and that covers it.

    ``signers``: certificates of the same authority over further keys of its that may sign its lists, checked by the caller.
    A delta list (RFC 5280 clause 5.2.4) amends the complete ones it was made for. ``good`` needs a complete list that was
    still fresh at ``at`` (or is newer) and was made while the certificate had not yet expired: lists forget expired
    certificates. Otherwise ``unknown``.
    """
    usable = [one for one in crls if _speaks_for(one, certificate, (issuer, *signers))]
    complete = [one for one in usable if _base_number(one) is None]
    usable = [one for one in usable if one in complete or any(_amends(one, whole) for whole in complete)]
    usable.sort(key=lambda one: (one.last_update_utc, one not in complete), reverse=True)
    lifted = False
    for crl in usable:
        entry = _entry(crl, certificate.serial_number)
        removed = entry is not None and _reason(entry) == "removeFromCRL"
        if entry is not None and not removed and not (lifted and _reason(entry) == "certificateHold"):
            return _revoked(crl, entry, issuer, at)
        # only a suspension may leave a list again: it is on no newer complete list, or taken back by a delta
        lifted |= (removed or crl in complete) and crl.last_update_utc <= at
    for crl in sorted(complete, key=lambda one: one.last_update_utc, reverse=True):
        forgets = crl.last_update_utc > certificate.not_valid_after_utc and not _keeps_expired(crl, certificate)
        stale = crl.next_update_utc is None or crl.next_update_utc < at
        if not forgets and (not stale or crl.last_update_utc >= at):
            return Revocation(status="good", at=at, source=_name(crl, issuer), published_at=crl.last_update_utc)
    return Revocation(status="unknown", at=at)


def _entry(crl: x509.CertificateRevocationList, serial: int) -> x509.RevokedCertificate | None:
    if serial > 0:
        return crl.get_revoked_certificate_by_serial_number(serial)
    return next((entry for entry in crl if entry.serial_number == serial), None)  # RFC 5280 forbids it; some exist


def _base_number(crl: x509.CertificateRevocationList) -> int | None:
    """On which list a delta builds; None for a complete one."""
    try:
        return crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator).value.crl_number
    except x509.ExtensionNotFound:
        return None


def _amends(delta: x509.CertificateRevocationList, whole: x509.CertificateRevocationList) -> bool:
    """RFC 5280 clause 5.2.4: the complete list is the delta's base or newer, and older than the delta."""
    base = _base_number(delta)
    try:
        number = whole.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        own = delta.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return False
    return base is not None and base <= number <= own and _scope(delta) == _scope(whole)


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


def _speaks_for(crl: x509.CertificateRevocationList, certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> bool:
    """Issued by one of these certificates of the issuer (no indirect list, all reasons), and about this kind of certificate."""
    if not same_name(crl.issuer, issuers[0].subject):
        return False
    try:
        with reading("crl"):
            if any(extension.critical and extension.oid not in _UNDERSTOOD for extension in crl.extensions):
                return False
            return _in_scope(crl, certificate) and any(may_sign_crls(one) and _signed(crl, one) for one in issuers)
    except Malformed:
        return False


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # a key of a kind that cannot sign raises
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False  # a key of another kind than the one that signed


def may_sign_crls(issuer: x509.Certificate) -> bool:
    """Its key usage allows it, or says nothing."""
    try:
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except x509.ExtensionNotFound:
        return True


def _scope(crl: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None


def _in_scope(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    scope = _scope(crl)
    if scope is None:
        return True
    if scope.indirect_crl or scope.only_some_reasons or scope.only_contains_attribute_certs:
        return False
    authority = _is_authority(certificate)
    if (scope.only_contains_user_certs and authority) or (scope.only_contains_ca_certs and not authority):
        return False
    named = set(_place(scope.full_name, scope.relative_name, crl.issuer))
    return not named or not named.isdisjoint(_distribution_points(certificate))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _distribution_points(certificate: x509.Certificate) -> Iterator[str]:
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return
    for point in points:
        yield from _place(point.full_name, point.relative_name, certificate.issuer)


def _place(
    full: Sequence[x509.GeneralName] | None, relative: x509.RelativeDistinguishedName | None, issuer: x509.Name
) -> Iterator[str]:
    """A distribution point's names, written so that the same ones are equal."""
    for name in full or ():
        yield name_key(name.value) if isinstance(name, x509.DirectoryName) else repr(name)
    if relative is not None:
        yield name_key(x509.Name([*issuer.rdns, relative]))


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
