"""OCSP responses (RFC 6960, 4.2) as bytes, for any number of certificates at once. No effects here.

Written by hand and not by declared structures, since one is made for each request: what is the same in all answers of a
responder is encoded once. tests/pki/test_ocsp_der.py holds the outcome against the declared structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from core.cms import signature_algorithm
from core.der import GENERALIZED_TIME, OCTET_STRING, SEQUENCE, tlv
from core.signatures import fitting_hash
from pki.ocsp_request import OcspQuery, responder_hash

_BASIC: Final = bytes.fromhex("06092b0601050507300101")
_NONCE: Final = bytes.fromhex("06092b0601050507300102")
_ARCHIVE_CUTOFF: Final = bytes.fromhex("06092b0601050507300106")
_INVALIDITY_DATE: Final = bytes.fromhex("0603551d18")
_SUCCESSFUL: Final = b"\x0a\x01\x00"
_GOOD: Final = b"\x80\x00"
_UNKNOWN: Final = b"\x82\x00"
_BIT_STRING: Final = 0x03
_EXPLICIT: Final = (0xA0, 0xA1, 0xA2)
"""Context tags [0], [1] and [2]."""
_MOST_FRAMES: Final = 256


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


GOOD: Final = Status("good")
UNKNOWN: Final = Status("unknown")


class ResponseForm:
    """What is the same in every answer that one responder's certificate signs, encoded once."""

    def __init__(self, responder: x509.Certificate, *, archive_cutoff: datetime) -> None:
        """``archive_cutoff`` (4.4.4): certificates that expired since then are still told of."""
        key = responder.public_key()
        self._responder = tlv(_EXPLICIT[2], tlv(OCTET_STRING, responder_hash(responder)))  # byKey
        self._cutoff = _extension(_ARCHIVE_CUTOFF, _time(archive_cutoff))
        self._algorithm = asn1.encode_der(signature_algorithm(key, fitting_hash(key).name))
        self._certificates = tlv(_EXPLICIT[0], tlv(SEQUENCE, responder.public_bytes(Encoding.DER)))
        self._frames: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._cutoff_only = tlv(_EXPLICIT[1], tlv(SEQUENCE, self._cutoff))

    def build_data(self, query: OcspQuery, statuses: Sequence[Status], *, this_update: datetime, next_update: datetime) -> bytes:
        """ResponseData (4.2.1), the bytes to be signed; one status for each certificate asked for, in whole seconds."""
        since, period = _period(this_update, next_update)
        good = _GOOD + period + self._cutoff_only
        responses = [
            tlv(SEQUENCE, wanted.der, good if status is GOOD else _status(status) + period + self._single_extensions(status))
            for wanted, status in zip(query.certificates, statuses, strict=True)
        ]
        nonce = b"" if query.nonce is None else _nonce_head(len(query.nonce)) + query.nonce
        return tlv(SEQUENCE, self._responder, since, tlv(SEQUENCE, *responses), nonce)

    def build_response(self, data: bytes, signature: bytes) -> bytes:
        """A successful OCSPResponse around signed ``data``, with the responder's certificate."""
        lengths = len(data), len(signature)
        frame = self._frames.get(lengths)
        if frame is None:
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
            frame = self._frames[lengths] = self._frame(*lengths)
        return b"".join((frame[0], data, frame[1], signature, self._certificates))

    def _frame(self, data: int, signature: int) -> tuple[bytes, bytes]:
        """What stands before ``data`` and before the signature in a response where these have so many octets."""
        between = self._algorithm + tlv(_BIT_STRING, bytes(1 + signature))[:-signature]
        basic = tlv(SEQUENCE, bytes(data), between, bytes(signature), self._certificates)
        whole = tlv(SEQUENCE, _SUCCESSFUL, tlv(_EXPLICIT[0], tlv(SEQUENCE, _BASIC, tlv(OCTET_STRING, basic))))
        return whole[: len(whole) - data - len(between) - signature - len(self._certificates)], between

    def _single_extensions(self, status: Status) -> bytes:
        """Archive cutoff, and the CRL entry extension invalidityDate, which OCSP takes over (RFC 6960, 4.4.5)."""
        if status.invalidity_date is None:
            return self._cutoff_only
        return tlv(_EXPLICIT[1], tlv(SEQUENCE, self._cutoff, _extension(_INVALIDITY_DATE, _time(status.invalidity_date))))


@lru_cache(maxsize=64)
def _period(this_update: datetime, next_update: datetime) -> tuple[bytes, bytes]:
    """thisUpdate alone (which is producedAt too), and with nextUpdate; the same for all of a second."""
    since = _time(this_update)
    return since, since + tlv(_EXPLICIT[0], _time(next_update))


@lru_cache(maxsize=64)
def _nonce_head(length: int) -> bytes:
    """responseExtensions with a nonce of so many octets, up to the nonce."""
    return tlv(_EXPLICIT[1], tlv(SEQUENCE, _extension(_NONCE, tlv(OCTET_STRING, bytes(length)))))[:-length]


def build_refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    """An OCSPResponse that says only why there is no answer; it is not signed."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


def _status(status: Status) -> bytes:
    if status.revoked_at is None:
        return _GOOD if status.name == "good" else _UNKNOWN
    reason = b""
    if status.reason not in (None, "unspecified"):
        reason = b"\xa0\x03\x0a\x01" + bytes([Reason[str(status.reason)]])
    return tlv(_EXPLICIT[1], _time(status.revoked_at), reason)


def _extension(name: bytes, value: bytes) -> bytes:
    """One that is not critical."""
    return tlv(SEQUENCE, name, tlv(OCTET_STRING, value))


def _time(at: datetime) -> bytes:
    """GeneralizedTime, in whole seconds."""
    return tlv(GENERALIZED_TIME, at.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode("ascii"))
