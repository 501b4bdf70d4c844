"""Making one certificate: a draft signed by a throw-away key, and the same bytes signed by the authority's key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from core.errors import Unavailable
from core.signatures import fitting_hash, verify
from hsm.keys import PrivateKey
from pki.lint import check_certificate_lints
from pki.lint_rules import Context
from pki.profile import Profile, PublicKey, build_extensions


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: an authority's name here, its distinguished name and public key, and its certificate (None: it signs itself)."""

    id: int
    name: str
    key_label: str
    subject: x509.Name
    public_key: PublicKey
    certificate: x509.Certificate | None


@dataclass(frozen=True, slots=True)
class Urls:
    """Where the status of an issuer's certificates and its own certificate are found; written into what it issues."""

    base: str
    """The service's public URL, without a slash at the end."""
    crl_partitions: int = 1
    """Over how many parts of the CRL new certificates are spread; 1: all of them name the complete one."""

    def crl(self, name: str, partition: int = 0, *, delta: bool = False) -> str:
        """Where a CRL of the authority ``name`` is: the complete one, or a part of it from 1 on, or the newest delta to it."""
        if not partition:
            return f"{self.base}/crl/{name}/delta.crl" if delta else f"{self.base}/crl/{name}.crl"
        return f"{self.base}/crl/{name}/{partition}{'-delta' if delta else ''}.crl"

    def crl_partition(self, serial: int) -> int:
        """The part of the CRL a new certificate will name for ever, however many parts there are later; 0: the complete one."""
        return 0 if self.crl_partitions == 1 else 1 + serial % self.crl_partitions

    def certificate(self, name: str) -> str:
        """Where the authority's certificate is, in DER (RFC 5280, 4.2.2.1)."""
        return f"{self.base}/ca/{name}.cer"

    def ocsp(self) -> str:
        """Where OCSP is answered for every authority."""
        return f"{self.base}/ocsp"


@dataclass(frozen=True, slots=True)
class Draft:
    """A certificate ready to be signed: what the key will be asked to sign is in ``tbs``, and nothing else gets signed."""

    serial: int
    tbs: bytes
    subject: x509.Name
    spki_sha256: str
    not_before: datetime
    not_after: datetime
    issuer: Issuer
    crl_partition: int
    """Which part of the issuer's CRL it names, 0 for the complete one."""
    builder: x509.CertificateBuilder

    def sign(self, key: PrivateKey) -> x509.Certificate:
        """The certificate, signed by the issuer's ``key`` over exactly ``tbs`` and checked with the issuer's public key.

        Raises Unavailable when what came back is not that: a token that signs wrongly is a token that is away.
        """
        certificate = self.builder.sign(key, x509_hash(self.issuer.public_key))
        if certificate.tbs_certificate_bytes != self.tbs:
            raise Unavailable("hsm", "the certificate signed is not the one that was written down: it was discarded")
        check_signature(certificate, self.issuer.public_key)
        return certificate


def build_draft(
    profile: Profile,
    *,
    subject: x509.Name,
    public_key: PublicKey,
    issuer: Issuer,
    not_before: datetime,
    not_after: datetime,
    urls: Urls,
    names: Sequence[x509.GeneralName] = (),
) -> Draft:
    """A draft with a new random serial number, signed by a throw-away key of the issuer's kind to get its exact bytes.

    These are linted here, so that there is no draft that was not: raises Rejected with every finding.
    """
    serial = x509.random_serial_number()  # 159 random bits: positive, and never more than RFC 5280's 20 octets (4.1.2.2)
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial)
        .issuer_name(issuer.subject)
        .subject_name(subject)
        .public_key(public_key)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    is_root = issuer.certificate is None or issuer.certificate.issuer == issuer.certificate.subject
    partition = 0 if is_root else urls.crl_partition(serial)  # a root issues too little to be divided
    extensions = build_extensions(profile, not_before=not_before, not_after=not_after, names=names)
    for extension in [*extensions, *_pointers(profile, public_key, issuer, urls, partition)]:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    signed = builder.sign(throwaway_key(issuer.public_key), x509_hash(issuer.public_key))
    check_certificate_lints(signed, Context(profile, issuer.subject, issuer.certificate))
    return Draft(
        serial,
        signed.tbs_certificate_bytes,
        subject,
        spki_digest(public_key),
        not_before,
        not_after,
        issuer=issuer,
        crl_partition=partition,
        builder=builder,
    )


def _pointers(
    profile: Profile, key: PublicKey, issuer: Issuer, urls: Urls, partition: int
) -> list[x509.Extension[x509.ExtensionType]]:
    """Key identifiers, and for whatever has an issuer above it where to find status and issuer."""
    own = x509.SubjectKeyIdentifier.from_public_key(key)
    above = own  # a root names itself
    if issuer.certificate is not None:
        above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    values: list[x509.ExtensionType] = [own, x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)]
    if issuer.certificate is not None:
        access = [_access(AuthorityInformationAccessOID.CA_ISSUERS, urls.certificate(issuer.name))]
        if profile.status_checked:
            access.insert(0, _access(AuthorityInformationAccessOID.OCSP, urls.ocsp()))
            point = x509.DistributionPoint([x509.UniformResourceIdentifier(urls.crl(issuer.name, partition))], None, None, None)
            values.append(x509.CRLDistributionPoints([point]))
        values.append(x509.AuthorityInformationAccess(access))
    return [x509.Extension(value.oid, False, value) for value in values]


def _access(method: x509.ObjectIdentifier, url: str) -> x509.AccessDescription:
    return x509.AccessDescription(method, x509.UniformResourceIdentifier(url))


def check_signature(certificate: x509.Certificate, issuer_key: PublicKey) -> None:
    """Verify a certificate with its issuer's public key; raises Unavailable when it does not verify."""
    try:
        verify(issuer_key, certificate.signature, certificate.tbs_certificate_bytes, fitting_hash(issuer_key))
    except InvalidSignature as error:
        raise Unavailable("hsm", "the issuer's public key does not verify what the token signed: it was discarded") from error


def x509_hash(key: PublicKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash cryptography's X.509 builders want with a key: None for Ed25519, which hashes by itself."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    return fitting_hash(key)


def spki_digest(key: PublicKey) -> str:
    """SHA-256 of the SubjectPublicKeyInfo in lower-case hex: what identifies a key whatever certificate it is in."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


def throwaway_key(like: PublicKey) -> PrivateKey:
    """A software key of the same kind and size, made once per process; it signs drafts that nobody gets to see."""
    if isinstance(like, ed25519.Ed25519PublicKey):
        return _throwaway("ed25519", 0)
    if isinstance(like, ec.EllipticCurvePublicKey):
        return _throwaway(like.curve.name, 0)
    return _throwaway("rsa", like.key_size)


@lru_cache(maxsize=16)
def _throwaway(kind: str, bits: int) -> PrivateKey:
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "rsa":
        return rsa.generate_private_key(65537, bits)
    curves: dict[str, ec.EllipticCurve] = {curve.name: curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
    return ec.generate_private_key(curves[kind])
