"""CMS SignedData (RFC 5652) with one signer, in DER: the one builder behind PAdES signatures and RFC 3161 timestamps.

    signer = CmsSigner(certificate)                                     # or CmsSigner(certificate, hashes.SHA512())
    digest = signer.digest(content)                                     # or whatever hashed the document
    attributes = signer.build_attributes(content_type=ID_DATA, message_digest=digest)
    signature = sign(key, attributes, signer.hash_algorithm)              # core.signatures
    certificates = encode_certificates([certificate, *chain])
    der = signer.build_signed_data(attributes, signature, content_type=ID_DATA, content=None, certificates=certificates)
    check_signed_data(der, certificate=certificate, message_digest=digest)

A ``CmsSigner`` holds what is the same in everything one certificate signs, encoded once; making one costs about as much as
building several messages, so a hot path keeps it. What changes from message to message is put together from bytes (core/der.py,
docs/adr/0020); what stays, and all that is read, is declared with ``cryptography.hazmat.asn1`` (docs/adr/0003).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier

from core.der import OCTET_STRING, SEQUENCE, SET, integer, set_of, tlv
from core.signatures import fitting_hash, verify

ID_DATA = "1.2.840.113549.1.7.1"
ID_SIGNED_DATA = "1.2.840.113549.1.7.2"
ID_TST_INFO = "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
TIMESTAMP_TOKEN = "1.2.840.113549.1.9.16.2.14"  # noqa: S105 - the OID id-aa-timeStampToken

_DIGESTS = {"sha256": "2.16.840.1.101.3.4.2.1", "sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3"}
_RSA = {"sha256": "1.2.840.113549.1.1.11", "sha384": "1.2.840.113549.1.1.12", "sha512": "1.2.840.113549.1.1.13"}
_ECDSA = {"sha256": "1.2.840.10045.4.3.2", "sha384": "1.2.840.10045.4.3.3", "sha512": "1.2.840.10045.4.3.4"}
_ED25519 = "1.3.101.112"
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_SHAPES = 1000
_VERSION_1, _VERSION_3 = integer(1), integer(3)
_HASHERS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    _DIGESTS[item.name]: item for item in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
}


@asn1.sequence
class AlgorithmIdentifier:
    """``parameters`` is NULL or absent: of the algorithms built here only RSASSA-PSS has others."""

    algorithm: ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _ParameterizedAlgorithm:
    algorithm: ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class _PssParameters:
    """RSASSA-PSS-params (RFC 4055, 3.1); trailerField is 1, the default, and therefore absent."""

    hash_algorithm: Annotated[AlgorithmIdentifier, asn1.Explicit(0)]
    mask: Annotated[_ParameterizedAlgorithm, asn1.Explicit(1)]
    salt_length: Annotated[int, asn1.Explicit(2)]


@asn1.sequence
class Attribute:
    """RFC 5652, 5.3; the values stay as they are encoded."""

    type: ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _EssCertIdV2:  # RFC 5035, 4: SHA-256 is the default and therefore absent; issuerSerial adds nothing to the hash
    hash: bytes


@asn1.sequence
class _SigningCertificateV2:
    certificates: list[_EssCertIdV2]


@asn1.sequence
class _SignerInfo:  # as far as it is checked
    version: int
    identifier: asn1.TLV
    digest_algorithm: AlgorithmIdentifier
    signed_attributes: Annotated[asn1.SetOf[Attribute], asn1.Implicit(0)]
    signature_algorithm: asn1.TLV
    signature: bytes
    unsigned_attributes: Annotated[asn1.SetOf[Attribute] | None, asn1.Implicit(1)]


@asn1.sequence
class _Content:
    type: ObjectIdentifier
    octets: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class _SignedData:
    version: int
    digest_algorithms: asn1.SetOf[asn1.TLV]
    content: _Content
    certificates: Annotated[asn1.SetOf[x509.Certificate] | None, asn1.Implicit(0)]
    signers: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _ContentInfo:
    type: ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


class CmsSigner:
    """What is the same in every message signed under one certificate, encoded once."""

    def __init__(
        self, certificate: x509.Certificate, hash_algorithm: hashes.HashAlgorithm | None = None, *, pss: bool = False
    ) -> None:
        """``hash_algorithm``: SHA-256, SHA-384 or SHA-512; by default what the key's strength asks for (:func:`fitting_hash`).
        ``pss``: a RSA key signs by PSS (RFC 4056), as :func:`core.signatures.sign` is then to be told too.

        Raises ValueError for another hash, another kind of key, and Ed25519 with a hash other than SHA-512 (RFC 8419, 3.1).
        """
        self.certificate = certificate
        self._public_key = key = certificate.public_key()
        self.hash_algorithm = hash_algorithm or fitting_hash(key)
        if self.hash_algorithm.name not in _DIGESTS:
            raise ValueError(f"{self.hash_algorithm.name} is not a hash this builder signs with: take SHA-256, SHA-384 or SHA-512")
        # RFC 5754, 2: SHA-2 identifiers are written with absent parameters
        self._digest_algorithm = asn1.encode_der(
            AlgorithmIdentifier(algorithm=ObjectIdentifier(_DIGESTS[self.hash_algorithm.name]), parameters=None)
        )
        self.pss = pss and isinstance(key, rsa.RSAPublicKey)
        identifier = _pss(self.hash_algorithm) if self.pss else signature_algorithm(key, self.hash_algorithm.name)
        self._signature_algorithm = asn1.encode_der(identifier)
        self._identifier = tlv(SEQUENCE, certificate.issuer.public_bytes(), integer(certificate.serial_number))
        self._checked_shapes: set[tuple[str, int, int, int]] = set()
        self._signing_certificate = _attribute(SIGNING_CERTIFICATE_V2, asn1.encode_der(_signing_certificate(certificate)))

    def digest(self, data: bytes) -> bytes:
        """The hash of ``data`` with this signer's algorithm: the message digest of a content held in memory."""
        return _hash(data, self.hash_algorithm)

    def build_attributes(self, *, content_type: str, message_digest: bytes, signing_time: datetime | None = None) -> bytes:
        """The signed attributes as the DER of a SET OF (tag 0x31), which are the bytes to sign (RFC 5652, 5.4).

        contentType, messageDigest, signingCertificateV2 (RFC 5035) and, only when given, signingTime, whole seconds
        (PAdES keeps it out: ETSI EN 319 142-1, 6.3).
        """
        attributes = [
            _attribute(CONTENT_TYPE, _oid(content_type)),
            _attribute(MESSAGE_DIGEST, tlv(OCTET_STRING, message_digest)),
            self._signing_certificate,
        ]
        if signing_time is not None:
            attributes.append(_attribute(SIGNING_TIME, asn1.encode_der(_time(signing_time))))
        return set_of(attributes)

    def build_signed_data(
        self,
        attributes: bytes,
        signature: bytes,
        *,
        content_type: str,
        content: bytes | None,
        certificates: bytes = b"",
        timestamp: bytes | None = None,
    ) -> bytes:
        """The ContentInfo, DER.

        ``attributes`` and ``signature`` as signed; ``content`` None makes it detached; ``certificates`` as
        :func:`encode_certificates` wrote them (empty: the field is absent); ``timestamp``, a TimeStampToken over ``signature``,
        becomes an unsigned attribute (RFC 3161, A).
        """
        signer = tlv(
            SEQUENCE,
            _VERSION_1,
            self._identifier,
            self._digest_algorithm,
            b"\xa0" + attributes[1:],  # the very bytes that were signed, under [0] IMPLICIT
            self._signature_algorithm,
            tlv(OCTET_STRING, signature),
            b"" if timestamp is None else tlv(0xA1, _attribute(TIMESTAMP_TOKEN, timestamp)),
        )
        signed = tlv(
            SEQUENCE,
            _VERSION_1 if content_type == ID_DATA else _VERSION_3,  # RFC 5652, 5.1
            tlv(SET, self._digest_algorithm),
            tlv(SEQUENCE, _oid(content_type), b"" if content is None else tlv(0xA0, tlv(OCTET_STRING, content))),
            certificates,
            tlv(SET, signer),
        )
        return tlv(SEQUENCE, _oid(ID_SIGNED_DATA), tlv(0xA0, signed))

    def check(self, der: bytes, attributes: bytes, signature: bytes, *, content: bytes, content_type: str) -> None:
        """Check what :meth:`build_signed_data` made of these, the content inside.

        The public key must verify the signature over the attributes, and these must hold the digest of the content. Messages
        whose parts are as long as those of an earlier one differ from it in nothing but these parts: the first of each shape is
        read back by the declared decoder as :func:`check_signed_data` does it, and its lengths then stand for all of them.
        Raises ValueError saying which of these fails.
        """
        digest = self.digest(content)
        if _attribute(MESSAGE_DIGEST, tlv(OCTET_STRING, digest)) not in attributes:
            raise ValueError("the signed attributes do not hold the digest of the content")
        _verify(self._public_key, signature, attributes, self.hash_algorithm, pss=self.pss)
        shape = (content_type, len(der), len(content), len(signature))
        if shape not in self._checked_shapes:
            check_signed_data(der, certificate=self.certificate, message_digest=digest)
            if len(self._checked_shapes) >= _SHAPES:
                self._checked_shapes.clear()
            self._checked_shapes.add(shape)


def encode_certificates(certificates: Sequence[x509.Certificate]) -> bytes:
    """The field of SignedData that holds ``certificates``, at least one, as a set."""
    return tlv(0xA0, *sorted(item.public_bytes(Encoding.DER) for item in certificates))


def signature_algorithm(key: object, hash_name: str) -> AlgorithmIdentifier:
    """The identifier of a signature by ``key``'s private key over ``sha256``, ``sha384`` or ``sha512`` (RFC 5754, RFC 8419).

    Raises ValueError for a key of another kind, and for Ed25519 with a hash other than SHA-512.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return AlgorithmIdentifier(algorithm=ObjectIdentifier(_RSA[hash_name]), parameters=asn1.Null())  # RFC 5754, 3.2
    if isinstance(key, ec.EllipticCurvePublicKey):
        return AlgorithmIdentifier(algorithm=ObjectIdentifier(_ECDSA[hash_name]), parameters=None)  # RFC 5754, 3.3
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError("only RSA, EC and Ed25519 keys sign CMS here")  # noqa: TRY004 - what a certificate holds is data
    if hash_name != "sha512":
        raise ValueError("Ed25519 signs CMS with SHA-512 only (RFC 8419, 3.1)")
    return AlgorithmIdentifier(algorithm=ObjectIdentifier(_ED25519), parameters=None)


def _pss(hash_algorithm: hashes.HashAlgorithm) -> _ParameterizedAlgorithm:
    """RSASSA-PSS with one hash for all and a salt as long as it (RFC 4056, 3). RFC 4055, 2.1: SHA-2 is written with NULL here."""
    hashed = AlgorithmIdentifier(algorithm=ObjectIdentifier(_DIGESTS[hash_algorithm.name]), parameters=asn1.Null())
    mask = _ParameterizedAlgorithm(algorithm=ObjectIdentifier(_MGF1), parameters=_tlv(hashed))
    parameters = _PssParameters(hash_algorithm=hashed, mask=mask, salt_length=hash_algorithm.digest_size)
    return _ParameterizedAlgorithm(algorithm=ObjectIdentifier(_RSASSA_PSS), parameters=_tlv(parameters))


def check_signed_data(der: bytes, *, certificate: x509.Certificate, message_digest: bytes) -> None:
    """Read back what was built and check it as a stranger would.

    One signer; the digest attribute is ``message_digest``, and so is the digest of the content where it is inside; the
    content type is the one signed; the ESSCertIDv2 names ``certificate``, whose public key verifies the signature.
    Raises ValueError saying which of these fails.
    """
    signed = asn1.decode_der(_ContentInfo, der).content
    signer = _only_signer(signed)
    values = {item.type.dotted_string: item.values.as_list() for item in signer.signed_attributes.as_list()}
    expected = {
        CONTENT_TYPE: asn1.encode_der(signed.content.type),
        MESSAGE_DIGEST: asn1.encode_der(message_digest),
        SIGNING_CERTIFICATE_V2: asn1.encode_der(_signing_certificate(certificate)),
    }
    for name, value in expected.items():
        if [asn1.encode_der(item) for item in values.get(name, ())] != [value]:
            raise ValueError(f"the signed attribute {name} is not what was to be signed")
    hash_algorithm = _HASHES[signer.digest_algorithm.algorithm.dotted_string]
    if signed.content.octets is not None and _hash(signed.content.octets, hash_algorithm) != message_digest:
        raise ValueError("the content is not what was digested")
    pss = asn1.encode_der(signer.signature_algorithm) == _PSS[signer.digest_algorithm.algorithm.dotted_string]
    _verify(certificate.public_key(), signer.signature, asn1.encode_der(signer.signed_attributes), hash_algorithm, pss=pss)


def _only_signer(signed: _SignedData) -> _SignerInfo:
    signers = signed.signers.as_list()
    if len(signers) != 1:
        raise ValueError("not exactly one signer")
    signer: _SignerInfo = signers[0].parse(_SignerInfo)
    return signer


def _verify(key: object, signature: bytes, data: bytes, hash_algorithm: hashes.HashAlgorithm, *, pss: bool) -> None:
    try:
        verify(key, signature, data, hash_algorithm, pss=pss)
    except InvalidSignature as error:
        raise ValueError("the certificate's public key does not verify the signature") from error


def _signing_certificate(certificate: x509.Certificate) -> _SigningCertificateV2:
    return _SigningCertificateV2(certificates=[_EssCertIdV2(hash=certificate.fingerprint(hashes.SHA256()))])


def _attribute(name: str, value: bytes) -> bytes:
    return tlv(SEQUENCE, _oid(name), tlv(SET, value))


@functools.cache
def _oid(name: str) -> bytes:
    """OBJECT IDENTIFIER, DER; only for the few that are written here."""
    return asn1.encode_der(ObjectIdentifier(name))


def _tlv(value: object) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, asn1.encode_der(value))


def _time(at: datetime) -> asn1.UTCTime | asn1.GeneralizedTime:
    at = at.astimezone(UTC).replace(microsecond=0)
    return asn1.UTCTime(at) if 1950 <= at.year < 2050 else asn1.GeneralizedTime(at)  # RFC 5652, 11.3


def _hash(data: bytes, hash_algorithm: hashes.HashAlgorithm) -> bytes:
    return _HASHERS[hash_algorithm.name](data).digest()


_PSS = {name: asn1.encode_der(_pss(hash_algorithm)) for name, hash_algorithm in _HASHES.items()}
"""The identifiers of PSS that are written here, by the digest's OID."""
