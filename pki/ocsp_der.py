"""OCSP (RFC 6960) as bytes: reading requests and building responses, for any number of certificates at once. No effects here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ObjectIdentifier, ocsp

from core.cms import AlgorithmIdentifier, signature_algorithm
from core.signatures import fitting_hash

MOST_CERTIFICATES: Final = 100
"""Certificates asked for in one request."""
LONGEST_NONCE: Final = 32
"""Octets that are echoed (RFC 9654, 2.1: a longer one may be ignored)."""
_LONGEST_LEGAL_NONCE: Final = 128
_NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
_ARCHIVE_CUTOFF: Final = ObjectIdentifier("1.3.6.1.5.5.7.48.1.6")
_INVALIDITY_DATE: Final = ObjectIdentifier("2.5.29.24")
_BASIC: Final = ObjectIdentifier("1.3.6.1.5.5.7.48.1.1")
_SHA1: Final = hashes.SHA1()  # noqa: S303 - RFC 6960 identifies issuers by it; nothing is trusted because of it
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {"1.3.14.3.2.26": _SHA1, "2.16.840.1.101.3.4.2.1": hashes.SHA256()}
_KNOWN_EXTENSIONS: Final = (_NONCE, "1.3.6.1.5.5.7.48.1.4", "1.3.6.1.5.5.7.48.1.7", "1.3.6.1.5.5.7.48.1.8")
"""Nonce, acceptable responses, service locator, preferred signature algorithms: a critical one of these is no obstacle."""


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
class _Revoked:
    at: asn1.GeneralizedTime
    reason: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]  # EXPLICIT ENUMERATED


@asn1.sequence
class _Single:
    certificate: asn1.TLV
    status: asn1.TLV
    this_update: asn1.GeneralizedTime
    next_update: Annotated[asn1.GeneralizedTime, asn1.Explicit(0)]
    extensions: Annotated[list[_Extension], asn1.Explicit(1)]


@asn1.sequence
class _ResponseData:
    responder: Annotated[bytes, asn1.Explicit(2)]  # byKey
    produced_at: asn1.GeneralizedTime
    responses: list[_Single]
    extensions: Annotated[list[_Extension] | None, asn1.Explicit(1)]


@asn1.sequence
class _BasicResponse:
    data: asn1.TLV
    algorithm: AlgorithmIdentifier
    signature: asn1.BitString
    certificates: Annotated[list[x509.Certificate], asn1.Explicit(0)]


@asn1.sequence
class _ResponseBytes:
    type: ObjectIdentifier
    response: bytes


@asn1.sequence
class _OcspResponse:
    status: asn1.TLV
    bytes: Annotated[_ResponseBytes, asn1.Explicit(0)]


@dataclass(frozen=True, slots=True)
class CertId:
    """One certificate asked for; ``der`` is how the client wrote it, and it is given back exactly so."""

    der: bytes
    hash_name: str
    """``sha1`` or ``sha256``."""
    name_hash: bytes
    key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class OcspQuery:
    """What a client asks: at least one certificate, and perhaps a nonce to be echoed."""

    certificates: tuple[CertId, ...]
    nonce: bytes | None
    """1 to 32 octets."""


class Reason(IntEnum):
    """CRLReason (RFC 5280, 5.3.1) by the names this service uses."""

    unspecified = 0
    keyCompromise = 1  # noqa: N815 - the names are the standard's, here and below
    cACompromise = 2  # noqa: N815
    affiliationChanged = 3  # noqa: N815
    superseded = 4
    cessationOfOperation = 5  # noqa: N815
    certificateHold = 6  # noqa: N815
    privilegeWithdrawn = 9  # noqa: N815
    aACompromise = 10  # noqa: N815


@dataclass(frozen=True, slots=True)
class Status:
    """What is said of one certificate: ``good``, ``unknown``, or ``revoked`` with its moment and reason."""

    name: str
    revoked_at: datetime | None = None
    reason: str | None = None
    invalidity_date: datetime | None = None


def parse_request(der: bytes) -> OcspQuery:
    """Read an OCSPRequest (RFC 6960, 4.1). Raises Refusal with malformedRequest for what is none, asks nothing or asks too much.

    A CertID hashed with something other than SHA-1 or SHA-256 is of an issuer we cannot recognise: unauthorized.
    """
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
        der_of_name = asn1.encode_der(item.certificate)
        found.append(CertId(der_of_name, algorithm.name, bytes(name.name_hash), bytes(name.key_hash), name.serial))
    return OcspQuery(tuple(found), nonce)


def issuer_hashes(certificate: x509.Certificate) -> dict[tuple[str, bytes, bytes], None]:
    """How CertIDs may name this issuer: hash, hash of its name, hash of its public key's bits, for each hash we know."""
    name = certificate.subject.public_bytes()
    return {(item.name, hashes.Hash.hash(item, name), _key_hash(certificate, item)): None for item in _HASHES.values()}


def build_data(
    query: OcspQuery,
    statuses: Sequence[Status],
    *,
    responder: x509.Certificate,
    this_update: datetime,
    next_update: datetime,
    archive_cutoff: datetime,
) -> bytes:
    """ResponseData (RFC 6960, 4.2.1), the bytes to be signed; one status for each certificate asked for, in whole seconds.

    ``archive_cutoff`` (4.4.4): certificates that expired since then are still told of.
    """
    since, until = asn1.GeneralizedTime(this_update), asn1.GeneralizedTime(next_update)
    responses = [
        _Single(
            certificate=_tlv(wanted.der),
            status=_status(status),
            this_update=since,
            next_update=until,
            extensions=_single_extensions(status, archive_cutoff),
        )
        for wanted, status in zip(query.certificates, statuses, strict=True)
    ]
    nonce = None
    if query.nonce is not None:
        nonce = [_Extension(id=ObjectIdentifier(_NONCE), critical=False, value=asn1.encode_der(query.nonce))]
    data = _ResponseData(
        responder=_key_hash(responder, _SHA1),
        produced_at=since,
        responses=responses,
        extensions=nonce,
    )
    return asn1.encode_der(data)


def build_response(data: bytes, signature: bytes, responder: x509.Certificate) -> bytes:
    """A successful OCSPResponse around signed ``data``, with the responder's certificate."""
    key = responder.public_key()
    basic = _BasicResponse(
        data=_tlv(data),
        algorithm=signature_algorithm(key, fitting_hash(key).name),
        signature=asn1.BitString(signature, 0),
        certificates=[responder],
    )
    return asn1.encode_der(_OcspResponse(status=_SUCCESSFUL, bytes=_ResponseBytes(type=_BASIC, response=asn1.encode_der(basic))))


def build_refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    """An OCSPResponse that says only why there is no answer; it is not signed."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


def _nonce(extensions: Sequence[_Extension]) -> bytes | None:
    _refuse_unknown_critical(extensions)
    values = [item.value for item in extensions if item.id.dotted_string == _NONCE]
    if not values:
        return None
    nonce = asn1.decode_der(bytes, values[0])
    if len(values) > 1 or not 1 <= len(nonce) <= _LONGEST_LEGAL_NONCE:
        raise ValueError("more than one nonce, or one of a length that RFC 9654, 2.1 forbids")
    return nonce if len(nonce) <= LONGEST_NONCE else None


def _refuse_unknown_critical(extensions: Sequence[_Extension]) -> None:
    if any(item.critical and item.id.dotted_string not in _KNOWN_EXTENSIONS for item in extensions):
        raise ValueError("a critical extension that is not known here")


def _status(status: Status) -> asn1.TLV:
    if status.revoked_at is None:
        return _GOOD if status.name == "good" else _UNKNOWN
    reason = None if status.reason in (None, "unspecified") else [_ENUMERATED(Reason[str(status.reason)])]
    revoked = asn1.encode_der(_Revoked(at=asn1.GeneralizedTime(status.revoked_at), reason=reason))
    return _tlv(b"\xa1" + revoked[1:])  # [1] IMPLICIT in place of SEQUENCE


def _single_extensions(status: Status, archive_cutoff: datetime) -> list[_Extension]:
    """Archive cutoff, and the CRL entry extension invalidityDate, which OCSP takes over (RFC 6960, 4.4.5)."""
    dates = {_ARCHIVE_CUTOFF: archive_cutoff, _INVALIDITY_DATE: status.invalidity_date}
    return [
        _Extension(id=name, critical=False, value=asn1.encode_der(asn1.GeneralizedTime(at)))
        for name, at in dates.items()
        if at is not None
    ]


def _key_hash(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashes.Hash.hash(algorithm, asn1.decode_der(_SubjectPublicKey, spki).bits.as_bytes())


@asn1.sequence
class _SubjectPublicKey:
    algorithm: asn1.TLV
    bits: asn1.BitString


def _tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)


_ENUMERATED: Final[Callable[[int], asn1.TLV]] = lambda number: _tlv(bytes([0x0A, 0x01, number]))  # noqa: E731
_SUCCESSFUL: Final = _ENUMERATED(0)
_GOOD: Final = _tlv(b"\x80\x00")
_UNKNOWN: Final = _tlv(b"\x82\x00")
