"""The two ways OCSP messages are read and written: what is written by hand against what is declared."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ObjectIdentifier, ocsp
from hypothesis import given
from hypothesis import strategies as st

from core.cms import AlgorithmIdentifier, signature_algorithm
from core.signatures import fitting_hash
from hsm.keys import KeySpec
from pki.ocsp_der import Reason, ResponseForm, Status
from pki.ocsp_request import OcspQuery, Refusal, parse_any, parse_plain, parse_request, responder_hash
from tests.software_keys import make_key

AT = datetime(2026, 3, 1, 8, 30, 15, tzinfo=UTC)
UNTIL = AT + timedelta(minutes=10)
CUTOFF = datetime(2020, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])
@pytest.mark.parametrize("length", [None, 1, 16, 32])
@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xA2A2, 2**159 - 1, 2**158 + 0xA230])
def test_the_plain_form_is_read_at_once_and_means_the_same(algorithm: Any, length: int | None, serial: int) -> None:
    der = _plain_request(algorithm, serial, None if length is None else bytes(length))
    query = parse_plain(der)
    assert query == parse_any(der)
    assert query is not None
    assert (int(query.certificates[0].serial, 16), query.nonce) == (serial, None if length is None else bytes(length))


def test_no_change_of_one_byte_is_read_in_two_ways() -> None:
    """Every byte of both forms, every value; and every byte left out, doubled, or followed by one more."""
    for algorithm, nonce in ((hashes.SHA1(), b"0123456789abcdef"), (hashes.SHA256(), None)):
        der = _plain_request(algorithm, 2**150 + 12345, nonce)
        for changed in _mutations(der):
            _check_alike(changed)


@given(st.binary(max_size=120))
def test_no_bytes_are_read_in_two_ways(tail: bytes) -> None:
    der = _plain_request(hashes.SHA1(), 77, tail[:32] or b"n")
    for cut in range(0, len(der), 7):
        _check_alike(der[:cut] + tail)
        _check_alike(der[:cut] + tail + der[cut:])


def test_lengths_that_are_not_the_shortest_or_lie_are_not_plain() -> None:
    der = _plain_request(hashes.SHA1(), 5, b"nonce")
    assert der[1] < 0x80
    for changed in (
        der[:1] + b"\x81" + der[1:],  # BER: a longer form of the same length
        b"\x30\x80" + der[2:] + b"\x00\x00",  # BER: an indefinite length
        der[:1] + bytes([der[1] + 1]) + der[2:],
        der + b"\x00",
    ):
        assert parse_plain(changed) is None
        _check_alike(changed)


STATUSES = [
    Status("good"),
    Status("unknown"),
    Status("revoked", CUTOFF, None),
    Status("revoked", CUTOFF, "unspecified", AT),
    *(Status("revoked", AT, reason.name, CUTOFF) for reason in Reason),
]


@pytest.mark.parametrize("spec", [KeySpec.P_256, KeySpec.P_384, KeySpec.RSA_2048])
def test_answers_are_what_their_declared_structure_would_be(spec: KeySpec) -> None:
    certificate = _certificate(spec)
    form = ResponseForm(certificate, archive_cutoff=CUTOFF)
    one = parse_request(_plain_request(hashes.SHA256(), 2**150, bytes(range(32))))
    for statuses in ([status] for status in STATUSES):
        _compare(form, certificate, one, statuses)
    many = OcspQuery(one.certificates * 100, None)
    _compare(form, certificate, many, [random.Random(7).choice(STATUSES) for _ in range(100)])


def _compare(form: ResponseForm, certificate: x509.Certificate, query: OcspQuery, statuses: Sequence[Status]) -> None:
    data = form.build_data(query, statuses, this_update=AT, next_update=UNTIL)
    assert data == _declared_data(certificate, query, statuses)
    response = form.build_response(data, b"s" * 71)
    assert response == _declared_response(certificate, data, b"s" * 71)
    assert ocsp.load_der_ocsp_response(response).tbs_response_bytes == data


def _plain_request(algorithm: Any, serial: int, nonce: bytes | None) -> bytes:
    size = algorithm.digest_size
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(b"\x30" * size, b"\xa2" * size, serial, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _mutations(der: bytes) -> Iterator[bytes]:
    for index in range(len(der)):
        head, tail = der[:index], der[index + 1 :]
        yield from (head + bytes([value]) + tail for value in range(0, 256, 3 if index % 2 else 1))
        yield head + tail
        yield head + der[index : index + 1] * 2 + tail


def _check_alike(der: bytes) -> None:
    """What the pattern takes, the declared structure reads the same."""
    plain = parse_plain(der)
    if plain is not None:
        try:
            assert plain == parse_any(der)
        except Refusal:
            pytest.fail(f"taken by the pattern alone: {der.hex()}")


def _certificate(spec: KeySpec) -> x509.Certificate:
    key: Any = make_key(spec)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "responder")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    return builder.not_valid_before(CUTOFF).not_valid_after(UNTIL).sign(key, hashes.SHA256())


@asn1.sequence
class _Extension:
    id: ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


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


def _declared_data(certificate: x509.Certificate, query: OcspQuery, statuses: Sequence[Status]) -> bytes:
    since, until = asn1.GeneralizedTime(AT), asn1.GeneralizedTime(UNTIL)
    responses = [
        _Single(
            certificate=_tlv(wanted.der),
            status=_status(status),
            this_update=since,
            next_update=until,
            extensions=_extensions({"1.3.6.1.5.5.7.48.1.6": CUTOFF, "2.5.29.24": status.invalidity_date}),
        )
        for wanted, status in zip(query.certificates, statuses, strict=True)
    ]
    nonce = None
    if query.nonce is not None:
        oid = ObjectIdentifier("1.3.6.1.5.5.7.48.1.2")
        nonce = [_Extension(id=oid, critical=False, value=asn1.encode_der(query.nonce))]
    responder = responder_hash(certificate)
    return asn1.encode_der(_ResponseData(responder=responder, produced_at=since, responses=responses, extensions=nonce))


def _declared_response(certificate: x509.Certificate, data: bytes, signature: bytes) -> bytes:
    key = certificate.public_key()
    basic = _BasicResponse(
        data=_tlv(data),
        algorithm=signature_algorithm(key, fitting_hash(key).name),
        signature=asn1.BitString(signature, 0),
        certificates=[certificate],
    )
    inner = _ResponseBytes(type=ObjectIdentifier("1.3.6.1.5.5.7.48.1.1"), response=asn1.encode_der(basic))
    return asn1.encode_der(_OcspResponse(status=_tlv(b"\x0a\x01\x00"), bytes=inner))


def _status(status: Status) -> asn1.TLV:
    if status.revoked_at is None:
        return _tlv(b"\x80\x00" if status.name == "good" else b"\x82\x00")
    reason = None if status.reason in (None, "unspecified") else [_tlv(bytes([0x0A, 0x01, Reason[str(status.reason)]]))]
    revoked = asn1.encode_der(_Revoked(at=asn1.GeneralizedTime(status.revoked_at), reason=reason))
    return _tlv(b"\xa1" + revoked[1:])  # [1] IMPLICIT in place of SEQUENCE


def _extensions(dates: dict[str, datetime | None]) -> list[_Extension]:
    return [
        _Extension(id=ObjectIdentifier(name), critical=False, value=asn1.encode_der(asn1.GeneralizedTime(at)))
        for name, at in dates.items()
        if at is not None
    ]


def _tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)
