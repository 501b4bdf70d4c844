"""A public key infrastructure of software keys, made to order: whatever a test wants wrong, it can have wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki.trust import TrustMaterial

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = datetime.now(UTC).replace(microsecond=0)
"""One present for all of these tests."""
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def name(common_name: str) -> x509.Name:
    """A subject in Viet Nam."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "VN"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Cơ quan thử nghiệm"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def issue(
    common_name: str,
    *,
    issuer: Identity | None = None,
    ca: bool = False,
    key: Key | None = None,
    not_before: datetime = NOW - 30 * DAY,
    not_after: datetime = NOW + 365 * DAY,
    usages: Sequence[x509.ObjectIdentifier] = (),
    usages_critical: bool = True,
    key_usage: bool = True,
    algorithm: hashes.SHA256 | hashes.SHA512 | None = None,
    extra: Sequence[x509.ExtensionType] = (),
) -> Identity:
    """A new identity; self-signed without an ``issuer``."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.certificate.subject if issuer else name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if key_usage:
        builder = builder.add_extension(_key_usage(ca=ca), critical=True)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=usages_critical)
    for extension in extra:
        builder = builder.add_extension(extension, critical=True)
    return Identity(builder.sign(issuer.key if issuer else key, algorithm or hashes.SHA256()), key)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=not ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass
class Pki:
    """root -> issuing -> signer and TSA, with a CRL of each authority."""

    root: Identity = field(default_factory=lambda: issue("Root", ca=True, not_before=NOW - 3650 * DAY, not_after=NOW + 3650 * DAY))
    issuing: Identity = field(init=False)
    signer: Identity = field(init=False)
    tsa: Identity = field(init=False)

    def __post_init__(self) -> None:
        long: dict[str, Any] = {"not_before": NOW - 2000 * DAY, "not_after": NOW + 2000 * DAY}
        self.issuing = issue("Issuing", issuer=self.root, ca=True, **long)
        self.signer = self.issue("Nguyễn Văn Thử")
        self.tsa = self.issue("TSA", key=rsa.generate_private_key(65537, 2048), usages=(ExtendedKeyUsageOID.TIME_STAMPING,), **long)

    def issue(self, common_name: str, **options: Any) -> Identity:
        """A leaf below the issuing authority; ``options`` as :func:`issue`'s."""
        return issue(common_name, issuer=self.issuing, **options)

    def trust(
        self,
        revoked: Sequence[tuple[Identity, datetime, x509.ReasonFlags | None]] = (),
        *,
        at: datetime = NOW - timedelta(hours=1),
        hours: float = 24,
    ) -> TrustMaterial:
        """The trust material with CRLs made ``at``; ``revoked`` are all the issuing authority's."""
        lists = (crl(self.root, (), at=at, hours=hours), crl(self.issuing, revoked, at=at, hours=hours))
        return TrustMaterial((self.root.certificate,), (self.issuing.certificate,), lists)


def crl(
    issuer: Identity,
    revoked: Sequence[tuple[Identity, datetime, x509.ReasonFlags | None]] = (),
    *,
    at: datetime,
    hours: float = 24,
    key: Key | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """A CRL in DER, signed with the issuer's key or, to forge one, with another."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(at)
        .next_update(at + timedelta(hours=hours))
        .add_extension(x509.CRLNumber(7), critical=False)
    )
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    for identity, since, reason in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(identity.certificate.serial_number).revocation_date(since)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key or issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
