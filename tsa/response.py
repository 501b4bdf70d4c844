"""Writing what RFC 3161 answers with: TSTInfo (2.4.2) and TimeStampResp, in DER."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from tsa.request import Query, Refusal

_GRANTED: Final = 0
_REJECTION: Final = 2


@asn1.sequence
class _Accuracy:
    seconds: int | None
    millis: Annotated[int | None, asn1.Implicit(0)]
    micros: Annotated[int | None, asn1.Implicit(1)]


@asn1.sequence
class _DirectoryName:
    name: Annotated[asn1.TLV, asn1.Explicit(4)]


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
class _TstInfo:
    version: int
    policy: x509.ObjectIdentifier
    imprint: asn1.TLV
    serial: int
    gen_time: asn1.GeneralizedTime
    accuracy: _Accuracy
    # ordering: FALSE, the default, which DER leaves out
    nonce: int | None
    # [0] EXPLICIT around a directoryName: a sequence of one field under an implicit tag has the same encoding
    tsa: Annotated[_DirectoryName, asn1.Implicit(0)]
    extensions: Annotated[list[_Extension] | None, asn1.Implicit(1)]


@asn1.sequence
class _Status:
    status: int
    text: list[str] | None
    failure: asn1.BitString | None


@asn1.sequence
class _Granted:
    status: _Status
    timestamp: asn1.TLV


@asn1.sequence
class _Refused:
    status: _Status


_QC_STATEMENTS: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.3")
_QTST_STATEMENT_1: Final = x509.ObjectIdentifier("0.4.0.19422.1.1")
_QUALIFIED: Final = _Extension(
    name=_QC_STATEMENTS, value=asn1.encode_der(_QcStatements(qualified=_QcStatement(name=_QTST_STATEMENT_1)))
)


class TstInfoBuilder:
    """TSTInfo for one unit: what it says every time is made once."""

    def __init__(self, *, certificate: x509.Certificate, accuracy_milliseconds: int, qualified: bool = False) -> None:
        """``certificate``: the unit's, whose subject becomes the ``tsa`` name; ``accuracy_milliseconds``: 1 to 1000;
        ``qualified``: with the statement esi4-qtstStatement-1 (ETSI EN 319 422, 9.1)."""
        seconds, millis = divmod(accuracy_milliseconds, 1000)
        # 0 may stand in neither: a missing field is zero, and millis starts at 1
        self._accuracy = _Accuracy(seconds=seconds or None, millis=millis or None, micros=None)
        self._extensions = [_QUALIFIED] if qualified else None
        self._tsa = _DirectoryName(name=asn1.decode_der(asn1.TLV, certificate.subject.public_bytes()))

    def build(self, query: Query, *, policy: x509.ObjectIdentifier, serial: int, at: datetime) -> bytes:
        """The DER of TSTInfo: ``at`` is an aware datetime in UTC, whose microseconds are written without trailing zeros."""
        info = _TstInfo(
            version=1,
            policy=policy,
            imprint=asn1.decode_der(asn1.TLV, query.imprint),
            serial=serial,
            gen_time=asn1.GeneralizedTime(at),
            accuracy=self._accuracy,
            nonce=query.nonce,
            tsa=self._tsa,
            extensions=self._extensions,
        )
        return asn1.encode_der(info)


def build_granted(timestamp: bytes) -> bytes:
    """A TimeStampResp with status granted around a TimeStampToken (DER)."""
    status = _Status(status=_GRANTED, text=None, failure=None)
    return asn1.encode_der(_Granted(status=status, timestamp=asn1.decode_der(asn1.TLV, timestamp)))


def build_refused(refusal: Refusal) -> bytes:
    """A TimeStampResp with status rejection, the reason as its text and exactly one failure bit, without a timestamp."""
    octets, bit = divmod(refusal.failure, 8)
    # a named bit list ends at its last one (X.690, 11.2.2)
    failure = asn1.BitString(bytes(octets) + bytes([0x80 >> bit]), 7 - bit)
    return asn1.encode_der(_Refused(status=_Status(status=_REJECTION, text=[refusal.reason], failure=failure)))
