"""Our own rules on a certificate, read from its bytes as a stranger would: what the profile promises is what it says."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from pki.profile import USAGE_NAMES, Profile, PublicKey, check_key

CROSS: Final = "cross-ca"
"""The profile that certifies another authority's name and key."""
VERSION: Final = 2
"""Rises with every change of a rule."""
_ORDER: Final = (
    NameOID.COUNTRY_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.COMMON_NAME,
    NameOID.USER_ID,
    NameOID.EMAIL_ADDRESS,
    NameOID.ORGANIZATION_IDENTIFIER,  # of the service's own units (ETSI EN 319 412-3, 4.2.1)
)
_EXACTLY_ONE: Final = (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME, NameOID.COMMON_NAME)
_STRINGS: Final = {"country_name": "PrintableString", "email_address": "EmailAddress"}
"""The types of a name that are no UTF8String (RFC 5280, appendix A.1)."""

RULES: Final = {
    "condau.serial": "the serial number is positive, random in at least 64 bits and has at most 20 octets",
    "condau.issuer_name": "the issuer's name is byte for byte the subject of the issuer's certificate",
    "condau.validity": "it ends no later than its issuer and within the profile's longest term",
    "condau.subject_order": "the subject is C, O, OU*, L, CN[, UID][, E][, organisation's identifier] in this order",
    "condau.subject_encoding": "names are UTF8String in Unicode NFC (C: PrintableString, E: IA5String)",
    "condau.public_key": "the key is of a kind and strength we certify",
    "condau.key_identifiers": "the subject's identifier is the SHA-1 of its key, the authority's that of the issuer",
    "condau.extensions": "there are exactly the extensions of the profile, critical or not as it says",
    "condau.purposes": "basic constraints, key usage, extended usage and policy are the profile's",
    "condau.status_pointers": "there is one CRL and one OCSP address where status is checked, and none elsewhere",
    "condau.host_names": "a server's certificate names hosts, any other's does not",
}
"""Every rule of ours on certificates by the name that a finding gives."""

CRL_RULES: Final = {
    "condau.crl_dates": "nextUpdate is later than thisUpdate",
    "condau.crl_numbers": "numbers count from 1, and a delta adds to no later CRL",
    "condau.crl_serials": "every serial number is positive, of at most 20 octets, and stands there once",
    "condau.crl_reasons": "removeFromCRL stands in delta CRLs only",
}
"""The same on CRLs; see :mod:`pki.lint_crl`."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a certificate is measured by."""

    profile: Profile
    issuer_subject: x509.Name
    issuer: x509.Certificate | None
    """None for a root, which signs itself."""


def break_rules(certificate: x509.Certificate, context: Context) -> Iterator[tuple[str, str]]:
    """Each rule that the certificate breaks: its name and what is wrong."""
    yield from _check_numbers(certificate, context)
    if context.profile.name != CROSS:  # there the name is another authority's, and must stay as that has it
        yield from _check_subject(certificate)
    for violation in check_key(certificate.public_key()):
        yield "condau.public_key", violation.message
    yield from _check_extensions(certificate, context)


def _check_numbers(certificate: x509.Certificate, context: Context) -> Iterator[tuple[str, str]]:
    if not 64 <= certificate.serial_number.bit_length() <= 159:
        yield "condau.serial", f"{certificate.serial_number.bit_length()} bits"
    if certificate.issuer.public_bytes() != context.issuer_subject.public_bytes():
        yield "condau.issuer_name", certificate.issuer.rfc4514_string()
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin < end or end - begin >= timedelta(days=context.profile.max_days):
        yield "condau.validity", f"{begin.isoformat()} to {end.isoformat()}"
    elif context.issuer is not None and end > context.issuer.not_valid_after_utc:
        yield "condau.validity", f"it outlives its issuer, which ends at {context.issuer.not_valid_after_utc.isoformat()}"


def _check_subject(certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    oids = [attribute.oid for attribute in certificate.subject]
    places = [_ORDER.index(oid) for oid in oids if oid in _ORDER]
    single = all(oids.count(oid) == 1 for oid in _EXACTLY_ONE) and all(oids.count(oid) <= 1 for oid in _ORDER[5:])
    if len(places) != len(oids) or places != sorted(places) or not single:
        yield "condau.subject_order", certificate.subject.rfc4514_string()
    name = asn1_x509.Name.load(certificate.subject.public_bytes())
    for relative in name.chosen:
        for attribute in relative:
            value = attribute["value"]
            chosen = getattr(value, "chosen", value)
            wanted = _STRINGS.get(attribute["type"].native, "UTF8String")
            if type(chosen).__name__ != wanted or not unicodedata.is_normalized("NFC", chosen.native):
                yield "condau.subject_encoding", f"{attribute['type'].native} is a {type(chosen).__name__}"


def _expected(context: Context, certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, bool]:
    """The extensions there must be, and whether each is critical."""
    profile = context.profile
    found = {ExtensionOID.BASIC_CONSTRAINTS: True, ExtensionOID.KEY_USAGE: True}
    found |= {ExtensionOID.SUBJECT_KEY_IDENTIFIER: False, ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False}
    if profile.extended:
        found[ExtensionOID.EXTENDED_KEY_USAGE] = profile.extended_critical
    if profile.policy is not None:
        found[ExtensionOID.CERTIFICATE_POLICIES] = False
    if profile.key_days is not None:
        found[ExtensionOID.PRIVATE_KEY_USAGE_PERIOD] = False
    if not profile.status_checked:
        found[ExtensionOID.OCSP_NO_CHECK] = False
    if context.issuer is not None:
        found[ExtensionOID.AUTHORITY_INFORMATION_ACCESS] = False
        if profile.status_checked:
            found[ExtensionOID.CRL_DISTRIBUTION_POINTS] = False
    has_email = bool(certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS))
    if profile.host_names or has_email:
        found[ExtensionOID.SUBJECT_ALTERNATIVE_NAME] = False
    return found


def _check_extensions(certificate: x509.Certificate, context: Context) -> Iterator[tuple[str, str]]:
    expected = _expected(context, certificate)
    found = {extension.oid: extension.critical for extension in certificate.extensions}
    if found != expected:
        odd = sorted(oid.dotted_string for oid in set(found) | set(expected) if found.get(oid) != expected.get(oid))
        yield "condau.extensions", f"missing, not foreseen or of the wrong criticality: {', '.join(odd)}"
        return
    yield from _check_identifiers(certificate, context)
    yield from _check_purposes(certificate, context.profile)
    yield from _check_pointers(certificate, context)
    if ExtensionOID.SUBJECT_ALTERNATIVE_NAME in found:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        kind = x509.DNSName if context.profile.host_names else x509.RFC822Name
        if not all(isinstance(item, kind) for item in names):
            yield "condau.host_names", f"subjectAltName holds something else than {kind.__name__}"


def _check_identifiers(certificate: x509.Certificate, context: Context) -> Iterator[tuple[str, str]]:
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    key: PublicKey = certificate.public_key()  # type: ignore[assignment]  # check_key has looked at its kind
    if own != x509.SubjectKeyIdentifier.from_public_key(key):
        yield "condau.key_identifiers", "the subject's identifier is not of its key"
    above = (context.issuer or certificate).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    if named != x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above):
        yield "condau.key_identifiers", "the authority's identifier is not that of the issuer"


def _check_purposes(certificate: x509.Certificate, profile: Profile) -> Iterator[tuple[str, str]]:
    extensions = certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    if (basic.ca, basic.path_length) != (profile.authority, profile.path_length):
        yield "condau.purposes", "basic constraints"
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    dependent = () if usage.key_agreement else ("encipher_only", "decipher_only")
    if {name for name in USAGE_NAMES if name not in dependent and getattr(usage, name)} != profile.usages:
        yield "condau.purposes", "key usage"
    if profile.extended and tuple(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) != profile.extended:
        yield "condau.purposes", "extended key usage"
    if profile.policy is not None:
        policies = [
            item.policy_identifier.dotted_string for item in extensions.get_extension_for_class(x509.CertificatePolicies).value
        ]
        if policies != [profile.policy]:
            yield "condau.purposes", "certificate policies"


def _check_pointers(certificate: x509.Certificate, context: Context) -> Iterator[tuple[str, str]]:
    if context.issuer is None:
        return
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    methods = [item.access_method.dotted_string for item in access]
    wanted = ["1.3.6.1.5.5.7.48.1", "1.3.6.1.5.5.7.48.2"] if context.profile.status_checked else ["1.3.6.1.5.5.7.48.2"]
    if methods != wanted:
        yield "condau.status_pointers", f"authorityInfoAccess: {', '.join(methods)}"
    if context.profile.status_checked:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        if len(points) != 1 or len(points[0].full_name or ()) != 1:
            yield "condau.status_pointers", "not exactly one CRL address"
