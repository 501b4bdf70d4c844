"""Reading OCSP requests (RFC 6960, 4.1). No effects here.

Nearly every request asks about one certificate in one form, down to the byte; that form is read by a pattern, at a tenth of
what the declared structure costs. Whatever differs from it in the least is left to the declared structure, which alone
decides what is refused: the pattern never refuses, so there are not two opinions of what a request is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ObjectIdentifier, ocsp

from core.cms import AlgorithmIdentifier
from pki.certificates import format_serial

MOST_CERTIFICATES: Final = 100
"""Certificates asked for in one request."""
LONGEST_NONCE: Final = 32
"""Octets that are echoed (RFC 9654, 2.1: a longer one may be ignored)."""
NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
_LONGEST_LEGAL_NONCE: Final = 128
_SHA1: Final = hashes.SHA1()  # noqa: S303 - RFC 6960 identifies issuers by it; nothing is trusted because of it
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"1.3.14.3.2.26": _SHA1, "2.16.840.1.101.3.4.2.1": hashes.SHA256()}
_KNOWN_EXTENSIONS: Final = (NONCE, "1.3.6.1.5.5.7.48.1.4", "1.3.6.1.5.5.7.48.1.7", "1.3.6.1.5.5.7.48.1.8")
"""Nonce, acceptable responses, service locator, preferred signature algorithms: a critical one of these is no obstacle."""

_LENGTH: Final = rb"([\x00-\x7f]|\x81[\x80-\xff])"
"""DER lengths below 256; the last byte is the length."""
_PLAIN: Final = re.compile(
    rb"\x30" + _LENGTH + rb"\x30" + _LENGTH + rb"\x30" + _LENGTH + rb"\x30" + _LENGTH  # OCSPRequest, TBSRequest, list, Request
    + rb"(\x30" + _LENGTH  # CertID
    + rb"(?:\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14(.{20})\x04\x14(.{20})"
    + rb"|\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20(.{32})\x04\x20(.{32}))"
    + rb"\x02([\x01-\x14])((?:[\x01-\x7f]|\x00[\x80-\xff]).{0,19}))"  # the shortest form of a positive INTEGER
    + rb"(?:\xa2" + _LENGTH + rb"\x30" + _LENGTH + rb"\x30" + _LENGTH + rb"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x02"
    + rb"\x04([\x03-\x22])\x04([\x01-\x20])(.{1,32}))?",
    re.DOTALL,
)  # fmt: skip


class Refusal(Exception):
    """The request is answered with an error status and no signature."""

    def __init__(self, status: ocsp.OCSPResponseStatus) -> None:
        super().__init__(status.name)
        self.status = status


@asn1.sequence
class _Extension:
    id: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _CertId:
    hash_algorithm: AlgorithmIdentifier
    name_hash: bytes
    key_hash: bytes
    serial: int


@asn1.sequence
class _Request:
    certificate: asn1.TLV
    extensions: Annotated[list[_Extension] | None, asn1.Explicit(0)]


@asn1.sequence
class _TbsRequest:
    version: Annotated[int, asn1.Explicit(0), asn1.Default(0)]
    requestor: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]  # EXPLICIT GeneralName: one value of any kind, not looked at
    requests: list[_Request]
    extensions: Annotated[list[_Extension] | None, asn1.Explicit(2)]


@asn1.sequence
class _OcspRequest:
    tbs: _TbsRequest
    signature: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]  # EXPLICIT Signature: who asks does not matter here


@asn1.sequence
class _SubjectPublicKey:
    algorithm: asn1.TLV
    bits: asn1.BitString


class IssuerHash(NamedTuple):
    """How a CertID names an issuer."""

    algorithm: str
    """``sha1`` or ``sha256``."""
    name: bytes
    key: bytes


class CertId(NamedTuple):
    """One certificate asked for; ``der`` is how the client wrote it, and it is given back exactly so."""

    der: bytes
    issuer: IssuerHash
    serial: str
    """As :func:`pki.certificates.format_serial` writes it; a client may ask for negative and for overlong ones."""


class OcspQuery(NamedTuple):
    """What a client asks: at least one certificate, and perhaps a nonce to be echoed."""

    certificates: tuple[CertId, ...]
    nonce: bytes | None
    """1 to 32 octets."""


def parse_request(der: bytes) -> OcspQuery:
    """Read an OCSPRequest. Raises Refusal with malformedRequest for what is none, asks nothing or asks too much.

    A CertID hashed with something other than SHA-1 or SHA-256 is of an issuer we cannot recognise: unauthorized.
    """
    return parse_plain(der) or parse_any(der)


def parse_plain(der: bytes) -> OcspQuery | None:
    """The request if it is about one certificate, without anything but perhaps a nonce of 1 to 32 octets; None otherwise."""
    found = _PLAIN.fullmatch(der)
    if found is None:
        return None
    end, whole = found.end(5), len(der)
    ends = [whole, whole, end, end, end, end]  # of the values whose lengths are groups 1, 2, 3, 4, 6 and 11
    spans = [found.end(1), found.end(2), found.end(3), found.end(4), found.end(6), found.end(11)]
    nonce = found[18]
    if nonce is not None:
        ends += [whole] * 5
        spans += [found.end(13), found.end(14), found.end(15), found.end(16), found.end(17)]
    if [der[begin - 1] + begin for begin in spans] != ends:
        return None
    _, name, key, name_256, key_256, _, serial = found.group(5, 7, 8, 9, 10, 11, 12)
    issuer = IssuerHash("sha1", name, key) if name is not None else IssuerHash("sha256", name_256, key_256)
    return OcspQuery((CertId(found[5], issuer, serial.hex().lstrip("0")),), nonce)


def parse_any(der: bytes) -> OcspQuery:
    """What :func:`parse_request` promises, of whatever form."""
    try:
        request = asn1.decode_der(_OcspRequest, der).tbs
        wanted = [item.certificate.parse(_CertId) for item in request.requests]
        nonce = _nonce(request.extensions or [])
        for item in request.requests:
            _refuse_unknown_critical(item.extensions or [])
    except (ValueError, TypeError) as error:
        raise Refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST) from error
    if request.version != 0 or not 1 <= len(wanted) <= MOST_CERTIFICATES:
        raise Refusal(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    found = []
    for item, name in zip(request.requests, wanted, strict=True):
        algorithm = _HASHES.get(name.hash_algorithm.algorithm.dotted_string)
        if algorithm is None:
            raise Refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)
        issuer = IssuerHash(algorithm.name, bytes(name.name_hash), bytes(name.key_hash))
        found.append(CertId(asn1.encode_der(item.certificate), issuer, format_serial(name.serial)))
    return OcspQuery(tuple(found), nonce)


def issuer_hashes(certificate: x509.Certificate) -> list[IssuerHash]:
    """How CertIDs may name this issuer: hash of its name and of its public key's bits, by each hash we know."""
    name = certificate.subject.public_bytes()
    return [IssuerHash(item.name, hashes.Hash.hash(item, name), _key_hash(certificate, item)) for item in _HASHES.values()]


def responder_hash(certificate: x509.Certificate) -> bytes:
    """KeyHash of a ResponderID (RFC 6960, 4.2.1): SHA-1 of the public key's bits."""
    return _key_hash(certificate, _SHA1)


def _key_hash(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashes.Hash.hash(algorithm, asn1.decode_der(_SubjectPublicKey, spki).bits.as_bytes())


def _nonce(extensions: Sequence[_Extension]) -> bytes | None:
    _refuse_unknown_critical(extensions)
    values = [item.value for item in extensions if item.id.dotted_string == NONCE]
    if not values:
        return None
    nonce = asn1.decode_der(bytes, values[0])
    if len(values) > 1 or not 1 <= len(nonce) <= _LONGEST_LEGAL_NONCE:
        raise ValueError("more than one nonce, or one of a length that RFC 9654, 2.1 forbids")
    return nonce if len(nonce) <= LONGEST_NONCE else None


def _refuse_unknown_critical(extensions: Sequence[_Extension]) -> None:
    if any(item.critical and item.id.dotted_string not in _KNOWN_EXTENSIONS for item in extensions):
        raise ValueError("a critical extension that is not known here")
