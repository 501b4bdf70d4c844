"""Reading a TimeStampReq (RFC 3161, 2.4.1): bytes in, a Query or a Refusal out, and nothing else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes

from core.cms import AlgorithmIdentifier

QUERY_LIMIT: Final = 65_536
"""Bytes of a request at most; bounded where it is received."""
NONCE_OCTETS: Final = 64
"""The longest nonce echoed, as octets of its two's complement. RFC 3161 sets no limit; clients send 8 to 20."""


class Failure(IntEnum):
    """PKIFailureInfo (RFC 3161, 2.4.2), by bit number: the only ones a time-stamping authority may send."""

    BAD_ALG = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    ADD_INFO_NOT_AVAILABLE = 17
    SYSTEM_FAILURE = 25


@dataclass(frozen=True, slots=True)
class Query:
    """A request that will be granted. ``imprint`` is its MessageImprint in DER, to be repeated as it came."""

    imprint: bytes
    hash_name: str
    hashed: bytes
    policy: str | None
    nonce: int | None
    certificates_wanted: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not granted: the failure bit for programs, the reason with its remedy for people."""

    failure: Failure
    reason: str


@asn1.sequence
class _MessageImprint:
    """RFC 3161, 2.4.1; the algorithm stays as it is encoded, so that its parameters come back as they were."""

    hash_algorithm: asn1.TLV
    hashed: bytes


@asn1.sequence
class _Extension:
    name: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _TimeStampReq:
    version: int
    imprint: asn1.TLV
    policy: x509.ObjectIdentifier | None
    nonce: int | None
    certificates_wanted: Annotated[bool, asn1.Default(False)]
    extensions: Annotated[list[_Extension] | None, asn1.Implicit(0)]


@asn1.sequence
class _BareAlgorithm:
    algorithm: x509.ObjectIdentifier


@asn1.sequence
class _ParameterizedAlgorithm:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.TLV


_NIST_HASHES: Final = "2.16.840.1.101.3.4.2."
_SIZES: Final = {
    "sha256": (_NIST_HASHES + "1", 32),
    "sha384": (_NIST_HASHES + "2", 48),
    "sha512": (_NIST_HASHES + "3", 64),
    "sha3-256": (_NIST_HASHES + "8", 32),
    "sha3-384": (_NIST_HASHES + "9", 48),
    "sha3-512": (_NIST_HASHES + "10", 64),
}


HASH_NAMES: Final = tuple(_SIZES)
"""The digests that are taken."""


def _algorithm(hash_name: str, *, null: bool) -> bytes:
    parameters = asn1.Null() if null else None
    return asn1.encode_der(AlgorithmIdentifier(algorithm=x509.ObjectIdentifier(_SIZES[hash_name][0]), parameters=parameters))


# Both forms occur and both are to be taken (RFC 5754, 2), so an accepted algorithm is one of twelve byte strings.
_ACCEPTED: Final = {_algorithm(name, null=null): (name, size) for name, (_, size) in _SIZES.items() for null in (False, True)}


def parse_query(der: bytes, *, policies: Collection[str]) -> Query | Refusal:
    """Check a request in the order of RFC 3161, 2.4.2, and stop at the first failure; never raises for any bytes.

    ``policies``: the policy OIDs this authority issues under. Only DER is read (RFC 3161, 3.4), and nothing may follow it.
    """
    try:
        request = asn1.decode_der(_TimeStampReq, der)
        imprint = request.imprint.parse(_MessageImprint)
    except ValueError:
        return Refusal(Failure.BAD_DATA_FORMAT, "not a TimeStampReq (RFC 3161, 2.4.1) in DER with nothing after it")
    if request.version != 1:
        return Refusal(Failure.BAD_REQUEST, "the version is not 1, the only one there is")
    known = _ACCEPTED.get(asn1.encode_der(imprint.hash_algorithm))
    if known is None:
        return _refuse_algorithm(imprint.hash_algorithm)
    hash_name, size = known
    if len(imprint.hashed) != size:
        return Refusal(Failure.BAD_DATA_FORMAT, f"hashedMessage is {len(imprint.hashed)} octets long; a {hash_name} is {size}")
    policy = None if request.policy is None else request.policy.dotted_string
    return _refuse_options(request, policy, policies) or Query(
        imprint=asn1.encode_der(request.imprint),
        hash_name=hash_name,
        hashed=imprint.hashed,
        policy=policy,
        nonce=request.nonce,
        certificates_wanted=request.certificates_wanted,
    )


def build_query(data: bytes) -> Query:
    """What somebody in the house asks: the SHA-256 of ``data``, the default policy, no nonce, certificates wanted."""
    return build_query_of(hashes.Hash.hash(hashes.SHA256(), data))


def build_query_of(hashed: bytes) -> Query:
    """The same for data that were digested already, with SHA-256."""
    imprint = _MessageImprint(hash_algorithm=asn1.decode_der(asn1.TLV, _algorithm("sha256", null=False)), hashed=hashed)
    return Query(asn1.encode_der(imprint), "sha256", hashed, policy=None, nonce=None, certificates_wanted=True)


def _refuse_algorithm(algorithm: asn1.TLV) -> Refusal:
    for form in (_BareAlgorithm, _ParameterizedAlgorithm):
        try:
            algorithm.parse(form)
        except ValueError:
            continue
        return Refusal(Failure.BAD_ALG, f"this hash algorithm is not taken, nor are parameters to one: use {', '.join(_SIZES)}")
    return Refusal(Failure.BAD_DATA_FORMAT, "hashAlgorithm is not an AlgorithmIdentifier in DER")


def _refuse_options(request: _TimeStampReq, policy: str | None, policies: Collection[str]) -> Refusal | None:
    if policy is not None and policy not in policies:
        return Refusal(Failure.UNACCEPTED_POLICY, f"this policy is not ours: name none, or {', '.join(sorted(policies))}")
    if request.extensions == []:
        return Refusal(Failure.BAD_DATA_FORMAT, "the list of extensions is empty: leave it out (RFC 5280, 4.1)")
    if request.extensions is not None:
        return Refusal(Failure.UNACCEPTED_EXTENSION, "no extension is known here, critical or not: send none (RFC 3161, 2.4.1)")
    if request.nonce is not None and not -(1 << 8 * NONCE_OCTETS - 1) <= request.nonce < 1 << 8 * NONCE_OCTETS - 1:
        return Refusal(Failure.BAD_DATA_FORMAT, f"the nonce is longer than {NONCE_OCTETS} octets")
    return None
