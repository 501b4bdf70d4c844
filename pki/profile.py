"""Certificate profiles: what a certificate of each kind says, and every rule a request for one must keep. No effects here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from core.errors import Malformed, Rejected, Violation
from registry.models import SubscriberKind

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

SUBSCRIBER_MAX_DAYS: Final = 1826
"""5 years (Nghị định 68/2024/NĐ-CP, article 9)."""
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning (RFC 9336)."""
USAGE_NAMES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
"""The names of key usage bits, as :class:`cryptography.x509.KeyUsage` spells them, in their order."""
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LENGTHS: Final = {
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.COMMON_NAME: 64,
}
"""Upper bounds in characters (RFC 5280, appendix A.1, ub-…)."""
_AGENCY_NAMES: Final = (NameOID.ORGANIZATION_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
_FIELDS: Final = {
    NameOID.ORGANIZATION_NAME: "the agency's name",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "the name of a unit",
    NameOID.LOCALITY_NAME: "the agency's locality",
    NameOID.COMMON_NAME: "the common name",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a certificate of one kind looks like."""

    name: str
    version: int
    """Rises with every change; certificates, the log and the table of profile versions name it."""
    usages: frozenset[str]
    """Names of key usage bits as :class:`cryptography.x509.KeyUsage` spells them."""
    days: int
    """The term unless another is asked for."""
    max_days: int
    renewal_max_days: int | None = None
    """The longest term of a certificate that follows another; a subscriber's profile has one."""
    holder: SubscriberKind | None = None
    """Whom it may be issued to; None for authorities and the service's own certificates."""
    extended: tuple[x509.ObjectIdentifier, ...] = ()
    extended_critical: bool = False
    policy: str | None = None
    authority: bool = False
    path_length: int | None = None
    key_days: int | None = None
    """For how long the private key may be used, where that is shorter than the certificate's term."""
    status_checked: bool = True
    """False for an OCSP responder, whose status nobody asks (RFC 6960, 4.2.2.2.1)."""
    host_names: bool = False
    """Whether the holder's host names go into subjectAltName; then it must have some."""
    issued_by: str | None = None
    """The alias of the authority that issues it, by its newest generation; None: the newest authority below a root."""


def profile_terms(profile: Profile) -> dict[str, Any]:
    """Everything a profile says, as JSON values: what its digest is over."""
    terms: dict[str, Any] = {field.name: getattr(profile, field.name) for field in dataclasses.fields(profile)}
    terms["usages"] = sorted(profile.usages)
    terms["extended"] = [purpose.dotted_string for purpose in profile.extended]
    if profile.issued_by is None:
        del terms["issued_by"]  # so that what was recorded before there was such a choice keeps its digest
    return terms


@lru_cache(maxsize=256)
def profile_digest(profile: Profile) -> str:
    """SHA-256 in lower-case hex over the canonical form: JSON in UTF-8, keys sorted, no blanks."""
    form = json.dumps(profile_terms(profile), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(form.encode()).hexdigest()


def subscriber_profile(profiles: Mapping[str, Profile], name: str) -> Profile:
    """The profile of this name that a subscriber's certificate may have; raises Rejected naming the choices."""
    profile = profiles.get(name)
    if profile is None or profile.holder is None:
        choices = ", ".join(sorted(known.name for known in profiles.values() if known.holder is not None))
        raise Rejected("profile", f"unknown profile {name[:80]!r}: one of {choices}")
    return profile


def build_subject(
    *,
    organization: str,
    locality: str,
    common_name: str,
    units: Sequence[str] = (),
    uid: str | None = None,
    email: str | None = None,
) -> x509.Name:
    """``C=VN, O, OU*, L, CN[, UID][, E]`` in this order, in Unicode NFC.

    Each is a UTF8String, but C, a PrintableString, and E, an IA5String (their only type in X.520 and RFC 5280, A.1). The
    values come from the registry, so they are right however a request spells them. Too long ones are left to
    :func:`check_subject`, except that the library refuses an empty one and a common name above 64 characters: ValueError.
    """
    parts = [
        (NameOID.ORGANIZATION_NAME, organization),
        *((NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units),
        (NameOID.LOCALITY_NAME, locality),
        (NameOID.COMMON_NAME, common_name),
    ]
    if uid is not None:
        parts.append((NameOID.USER_ID, uid))
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "VN")]
    attributes += [x509.NameAttribute(oid, unicodedata.normalize("NFC", value)) for oid, value in parts]
    if email is not None:
        attributes.append(x509.NameAttribute(NameOID.EMAIL_ADDRESS, email))
    return x509.Name(attributes)


def build_alternative_names(profile: Profile, *, email: str | None, host_names: Sequence[str]) -> tuple[x509.GeneralName, ...]:
    """What else the certificate calls its holder: a server by its host names, anybody else by the e-mail address, if any."""
    if profile.host_names:
        return tuple(x509.DNSName(name) for name in host_names)
    return () if email is None else (x509.RFC822Name(email),)


def check_subject(subject: x509.Name) -> Iterator[Violation]:
    """What of a subject a certificate cannot hold."""
    for attribute in subject:
        most = _LENGTHS.get(attribute.oid)
        if most is not None and len(attribute.value) > most:
            remedy = "record a certificate_name with the agency" if attribute.oid in _AGENCY_NAMES else "shorten it"
            message = f"{_FIELDS[attribute.oid]} has {len(attribute.value)} characters and a certificate holds {most}: {remedy}"
            yield Violation("subscriber", message)


def parse_csr(data: bytes) -> x509.CertificateSigningRequest:
    """A PKCS #10 request in PEM or DER; raises Malformed for anything else.

    Only its public key and the proof of possession count. Whatever name and extensions it asks for have no effect: the
    subject comes from the registry and the rest from the profile.
    """
    try:
        if b"-----BEGIN" in data[:4096]:
            return x509.load_pem_x509_csr(data)
        return x509.load_der_x509_csr(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed("csr", "not a PKCS #10 certificate request in PEM or DER: make one with `openssl req -new`") from error


def check_csr(csr: x509.CertificateSigningRequest) -> Iterator[Violation]:
    """Every rule the request's key and its proof of possession break."""
    try:
        key = csr.public_key()
        valid = csr.is_signature_valid
        digest = csr.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        yield Violation("csr", "its key or signature algorithm is not one we know: use RSA, P-256, P-384, P-521 or Ed25519")
        return
    if isinstance(digest, hashes.MD5 | hashes.SHA1):
        yield Violation("csr", f"it is signed with {digest.name}, which is broken and proves nothing: sign it with sha256")
    elif not valid:
        yield Violation("csr", "its signature does not verify, so possession of the private key is not proved: make it again")
    yield from check_key(key)


def check_key(key: object) -> Iterator[Violation]:
    """Why a public key must not be certified: too weak, or of a kind that clients do not know."""
    if isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= 8192 or key.key_size % 8:
            yield Violation("csr", f"a RSA key of {key.key_size} bits: use 2048, 3072 or 4096")
        exponent = key.public_numbers().e
        if exponent < 65537 or exponent % 2 == 0 or exponent.bit_length() > 256:
            yield Violation("csr", "a RSA public exponent that is even, below 65537 or above 256 bits: use 65537")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            yield Violation("csr", f"the curve {key.curve.name}: use P-256, P-384 or P-521")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        yield Violation("csr", "a key of this kind is not certified here: use RSA, P-256, P-384, P-521 or Ed25519")


def check_days(profile: Profile, days: int, *, renewal: bool = False) -> Iterator[Violation]:
    """Whether the profile allows this term, for a new certificate or (``renewal``) for one that follows another."""
    most = max_term(profile, renewal=renewal)
    if not 1 <= days <= most:
        what = "a renewal" if renewal else "a certificate"
        yield Violation("days", f"{days} days: {what} of the profile {profile.name} lives from 1 to {most}")


def max_term(profile: Profile, *, renewal: bool) -> int:
    """The longest term in days."""
    return profile.renewal_max_days if renewal and profile.renewal_max_days is not None else profile.max_days


def check_holder(profiles: Mapping[str, Profile], profile: Profile, kind: str) -> Iterator[Violation]:
    """Whether the profile is for a subscriber of this kind."""
    if profile.holder is not None and profile.holder != kind:
        fitting = ", ".join(sorted(item.name for item in profiles.values() if item.holder == kind))
        yield Violation("profile", f"{profile.name} is not for a subscriber of the kind {kind}: use {fitting}")


def term(profile: Profile, *, at: datetime, days: int, issuer_not_after: datetime | None) -> tuple[datetime, datetime]:
    """From when to when: ``days`` from ``at`` on, in whole seconds, the last second included, never beyond the issuer."""
    not_before = at.replace(microsecond=0)
    not_after = not_before + timedelta(days=min(days, profile.max_days), seconds=-1)
    return not_before, not_after if issuer_not_after is None else min(not_after, issuer_not_after)


def build_extensions(
    profile: Profile, *, not_before: datetime, not_after: datetime, names: Sequence[x509.GeneralName] = ()
) -> list[x509.Extension[x509.ExtensionType]]:
    """The extensions that follow from the profile, and the holder's other ``names``."""
    usages = {name: name in profile.usages for name in USAGE_NAMES}
    found = [
        _extension(x509.BasicConstraints(ca=profile.authority, path_length=profile.path_length), critical=True),
        _extension(x509.KeyUsage(**usages), critical=True),
    ]
    if profile.extended:
        found.append(_extension(x509.ExtendedKeyUsage(profile.extended), critical=profile.extended_critical))
    if profile.policy is not None:
        information = x509.PolicyInformation(x509.ObjectIdentifier(profile.policy), None)
        found.append(_extension(x509.CertificatePolicies([information])))
    if names:
        found.append(_extension(x509.SubjectAlternativeName(names)))
    if profile.key_days is not None:
        last = min(not_before + timedelta(days=profile.key_days), not_after)
        found.append(_extension(x509.PrivateKeyUsagePeriod(not_before, last)))
    if not profile.status_checked:
        found.append(_extension(x509.OCSPNoCheck()))
    return found


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, critical, value)
