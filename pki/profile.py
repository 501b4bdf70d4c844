"""Certificate profiles: what a certificate of each kind says, and every rule a request for one must keep. No effects here."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import Malformed, Rejected, Violation
from registry.models import SubscriberKind

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

SUBSCRIBER_MAX_DAYS: Final = 1826
"""5 years (Nghị định 68/2024/NĐ-CP, article 9)."""
DOCUMENT_SIGNING: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning (RFC 9336)."""
_ANY_POLICY: Final = "2.5.29.32.0"
_POLICY_ARC: Final = "1.3.6.1.4.1.99999.2"
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LENGTHS: Final = {
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.COMMON_NAME: 64,
}
"""Upper bounds in characters (RFC 5280, appendix A.1, ub-…)."""
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
    usages: frozenset[str]
    """Names of key usage bits as :class:`cryptography.x509.KeyUsage` spells them."""
    days: int
    """The term unless another is asked for."""
    max_days: int
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


_SIGNING: Final = frozenset({"digital_signature", "content_commitment"})
_AUTHORITY: Final = frozenset({"key_cert_sign", "crl_sign"})
_DOCUMENTS: Final = (ExtendedKeyUsageOID.EMAIL_PROTECTION, DOCUMENT_SIGNING)

PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("root", _AUTHORITY, days=7305, max_days=7305, authority=True),
        Profile("issuing-ca", _AUTHORITY, days=3652, max_days=7305, authority=True, path_length=0, policy=_ANY_POLICY),
        Profile(
            "agency-seal",
            _SIGNING,
            days=1095,
            max_days=SUBSCRIBER_MAX_DAYS,
            holder=SubscriberKind.AGENCY,
            extended=_DOCUMENTS,
            policy=f"{_POLICY_ARC}.2",
        ),
        Profile(
            "officer",
            _SIGNING,
            days=1095,
            max_days=SUBSCRIBER_MAX_DAYS,
            holder=SubscriberKind.OFFICER,
            extended=_DOCUMENTS,
            policy=f"{_POLICY_ARC}.1",
        ),
        Profile(
            "device",
            _SIGNING,
            days=1095,
            max_days=SUBSCRIBER_MAX_DAYS,
            holder=SubscriberKind.DEVICE,
            extended=(ExtendedKeyUsageOID.CLIENT_AUTH, DOCUMENT_SIGNING),
            policy=f"{_POLICY_ARC}.3",
        ),
        Profile(
            "tsa",
            frozenset({"digital_signature"}),
            days=2922,
            max_days=3652,
            extended=(ExtendedKeyUsageOID.TIME_STAMPING,),
            extended_critical=True,  # RFC 3161, 2.3: critical, and alone
            policy=f"{_POLICY_ARC}.4",
            key_days=731,
        ),
        Profile(
            "ocsp-responder",
            frozenset({"digital_signature"}),
            days=366,
            max_days=366,
            extended=(ExtendedKeyUsageOID.OCSP_SIGNING,),
            status_checked=False,
        ),
    )
}


def subscriber_profile(name: str) -> Profile:
    """The profile of this name that a subscriber's certificate may have; raises Rejected naming the choices."""
    profile = PROFILES.get(name)
    if profile is None or profile.holder is None:
        choices = ", ".join(sorted(known.name for known in PROFILES.values() if known.holder is not None))
        raise Rejected("profile", f"unknown profile {name[:80]!r}: one of {choices}")
    return profile


def build_subject(*, organization: str, locality: str, common_name: str, units: Sequence[str] = ()) -> x509.Name:
    """``C=VN, O, OU*, L, CN`` in this order, each a UTF8String in Unicode NFC (C is a PrintableString, as X.520 has it).

    The values come from the registry, so they are right however a request spells them. Too long ones are left to
    :func:`check_subject`, except that the library refuses an empty one and a common name above 64 characters: ValueError.
    """
    parts = [
        (NameOID.ORGANIZATION_NAME, organization),
        *((NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units),
        (NameOID.LOCALITY_NAME, locality),
        (NameOID.COMMON_NAME, common_name),
    ]
    country = x509.NameAttribute(NameOID.COUNTRY_NAME, "VN")
    return x509.Name([country, *(x509.NameAttribute(oid, unicodedata.normalize("NFC", value)) for oid, value in parts)])


def check_subject(subject: x509.Name) -> Iterator[Violation]:
    """What of a subject a certificate cannot hold."""
    for attribute in subject:
        most = _LENGTHS.get(attribute.oid)
        if most is not None and len(attribute.value) > most:
            message = f"{_FIELDS[attribute.oid]} has {len(attribute.value)} characters and a certificate holds {most}: shorten it"
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


def check_days(profile: Profile, days: int) -> Iterator[Violation]:
    """Whether the profile allows this term."""
    if not 1 <= days <= profile.max_days:
        yield Violation("days", f"{days} days: a certificate of the profile {profile.name} lives from 1 to {profile.max_days}")


def check_holder(profile: Profile, kind: str) -> Iterator[Violation]:
    """Whether the profile is for a subscriber of this kind."""
    if profile.holder is not None and profile.holder != kind:
        fitting = ", ".join(sorted(item.name for item in PROFILES.values() if item.holder == kind))
        yield Violation("profile", f"{profile.name} is not for a subscriber of the kind {kind}: use {fitting}")


def term(profile: Profile, *, at: datetime, days: int, issuer_not_after: datetime | None) -> tuple[datetime, datetime]:
    """From when to when: ``days`` from ``at`` on, in whole seconds, the last second included, never beyond the issuer."""
    not_before = at.replace(microsecond=0)
    not_after = not_before + timedelta(days=min(days, profile.max_days), seconds=-1)
    return not_before, not_after if issuer_not_after is None else min(not_after, issuer_not_after)


def build_extensions(profile: Profile, *, not_before: datetime, not_after: datetime) -> list[x509.Extension[x509.ExtensionType]]:
    """The extensions that follow from the profile alone."""
    usages = {name: name in profile.usages for name in _USAGE_NAMES}
    found = [
        _extension(x509.BasicConstraints(ca=profile.authority, path_length=profile.path_length), critical=True),
        _extension(x509.KeyUsage(**usages), critical=True),
    ]
    if profile.extended:
        found.append(_extension(x509.ExtendedKeyUsage(profile.extended), critical=profile.extended_critical))
    if profile.policy is not None:
        information = x509.PolicyInformation(x509.ObjectIdentifier(profile.policy), None)
        found.append(_extension(x509.CertificatePolicies([information])))
    if profile.key_days is not None:
        last = min(not_before + timedelta(days=profile.key_days), not_after)
        found.append(_extension(x509.PrivateKeyUsagePeriod(not_before, last)))
    if not profile.status_checked:
        found.append(_extension(x509.OCSPNoCheck()))
    return found


_USAGE_NAMES: Final = (
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


def _extension(value: x509.ExtensionType, *, critical: bool = False) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, critical, value)
