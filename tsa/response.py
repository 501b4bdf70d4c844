"""Writing what RFC 3161 answers with: TSTInfo (2.4.2) and TimeStampResp, in DER."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from core.der import GENERALIZED_TIME, SEQUENCE, integer, tlv
from tsa.request import Query, Refusal

_GRANTED: Final = 0
_REJECTION: Final = 2


@asn1.sequence
class _Accuracy:
    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class _Extension:
    name: x509.ObjectIdentifier
    # critical: FALSE, the default, which DER leaves out (ETSI EN 319 422, 5.2.2: no extension is critical)
    value: bytes


@asn1.sequence
class _QcStatement:
    name: x509.ObjectIdentifier


@asn1.sequence
class _QcStatements:
    """A SEQUENCE OF with one statement is written like a sequence of one field."""

    qualified: _QcStatement


@asn1.sequence
class _Status:
    status: int
    text: list[str] | None
    failure: asn1.BitString | None


@asn1.sequence
class _Refused:
    status: _Status


_QC_STATEMENTS: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.3")
_QTST_STATEMENT_1: Final = x509.ObjectIdentifier("0.4.0.19422.1.1")
_QUALIFIED: Final = _Extension(
    name=_QC_STATEMENTS, value=asn1.encode_der(_QcStatements(qualified=_QcStatement(name=_QTST_STATEMENT_1)))
)
_VERSION_1: Final = integer(1)
_STATUS_GRANTED: Final = tlv(SEQUENCE, integer(_GRANTED))


class TstInfoBuilder:
    """TSTInfo for one unit: what it says every time is encoded once, the rest is put between (docs/adr/0020)."""

    def __init__(
        self, *, certificate: x509.Certificate, policy: x509.ObjectIdentifier, accuracy_milliseconds: int, qualified: bool = False
    ) -> None:
        """``certificate``: the unit's, whose subject becomes the ``tsa`` name; ``accuracy_milliseconds``: 1 to 1000;
        ``qualified``: with the statement esi4-qtstStatement-1 (ETSI EN 319 422, 9.1)."""
        self._head = _VERSION_1 + asn1.encode_der(policy)
        seconds, millis = divmod(accuracy_milliseconds, 1000)
        # 0 may stand in neither: a missing field is zero, and millis starts at 1
        self._accuracy = asn1.encode_der(_Accuracy(seconds=seconds or None, millis=millis or None, micros=None))
        # [0] EXPLICIT around the CHOICE GeneralName, in it directoryName [4], a CHOICE again and therefore EXPLICIT too
        self._tail = tlv(0xA0, tlv(0xA4, certificate.subject.public_bytes()))
        if qualified:
            self._tail += tlv(0xA1, asn1.encode_der(_QUALIFIED))

    def build(self, query: Query, *, serial: int, at: datetime) -> bytes:
        """The DER of TSTInfo: ``at`` is an aware datetime in UTC, whose microseconds are written without trailing zeros.

        ``ordering`` is FALSE, the default, which DER leaves out.
        """
        return tlv(
            SEQUENCE,
            self._head,
            query.imprint,
            integer(serial),
            tlv(GENERALIZED_TIME, _gen_time(at)),
            self._accuracy,
            b"" if query.nonce is None else integer(query.nonce),
            self._tail,
        )


def _gen_time(at: datetime) -> bytes:
    """YYYYMMDDhhmmss[.s...]Z (RFC 3161, 2.4.2); out of isoformat, which costs a tenth of strftime."""
    text = at.isoformat(timespec="microseconds")
    whole = text[:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]
    fraction = text[19:26].rstrip("0")
    return f"{whole}{fraction}Z".encode("ascii") if len(fraction) > 1 else f"{whole}Z".encode("ascii")


def build_granted(timestamp: bytes) -> bytes:
    """A TimeStampResp with status granted around a TimeStampToken (DER)."""
    return tlv(SEQUENCE, _STATUS_GRANTED, timestamp)


def build_refused(refusal: Refusal) -> bytes:
    """A TimeStampResp with status rejection, the reason as its text and exactly one failure bit, without a timestamp."""
    octets, bit = divmod(refusal.failure, 8)
    # a named bit list ends at its last one (X.690, 11.2.2)
    failure = asn1.BitString(bytes(octets) + bytes([0x80 >> bit]), 7 - bit)
    return asn1.encode_der(_Refused(status=_Status(status=_REJECTION, text=[refusal.reason], failure=failure)))
