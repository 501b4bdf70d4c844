"""Every refusal of a request, with the clause that asks for it."""

from __future__ import annotations

import timeit
from typing import Any

import pytest
from asn1crypto import tsp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tsa.requests import CERT_REQ, HASHED, SHA256, imprint, integer, query, tlv
from tests.tsa.unit import POLICY
from tsa.request import NONCE_OCTETS, Failure, Query, Refusal, parse_query

POLICY_DER = bytes.fromhex("060a2b06010401868d1f0101")
OTHER_POLICY = bytes.fromhex("06032a0304")
NIST = "608648016503040"


def parse(der: bytes) -> Query | Refusal:
    return parse_query(der, policies={POLICY})


def algorithm(oid: str, parameters: bytes = b"\x05\x00") -> bytes:
    return tlv(0x30, tlv(0x06, bytes.fromhex(oid)), parameters)


def extension(*, critical: bool) -> bytes:
    return tlv(0x30, OTHER_POLICY, *([tlv(0x01, b"\xff")] if critical else []), tlv(0x04, b"\x05\x00"))


REFUSED: dict[str, tuple[bytes, Failure]] = {
    # RFC 3161, 3.4: the body is one DER TimeStampReq
    "nothing": (b"", Failure.BAD_DATA_FORMAT),
    "text": (b"GET / HTTP/1.1\r\n\r\n", Failure.BAD_DATA_FORMAT),
    "truncated": (query()[:-1], Failure.BAD_DATA_FORMAT),
    "trailing byte": (query() + b"\x00", Failure.BAD_DATA_FORMAT),
    "sent twice": (query() + query(), Failure.BAD_DATA_FORMAT),
    "trailing field": (query(CERT_REQ, tlv(0x05)), Failure.BAD_DATA_FORMAT),
    "fields out of order": (query(CERT_REQ, integer(7)), Failure.BAD_DATA_FORMAT),
    "BER: indefinite length": (b"\x30\x80" + integer(1) + imprint() + b"\x00\x00", Failure.BAD_DATA_FORMAT),
    "BER: long form of a short length": (b"\x30\x81" + query()[1:], Failure.BAD_DATA_FORMAT),
    "BER: a padded integer": (query(version=b"\x02\x02\x00\x01"), Failure.BAD_DATA_FORMAT),
    "BER: TRUE as 01": (query(b"\x01\x01\x01"), Failure.BAD_DATA_FORMAT),
    "BER: the default FALSE written out": (query(b"\x01\x01\x00"), Failure.BAD_DATA_FORMAT),  # X.690, 11.5
    "BER: constructed hashedMessage": (query(message=tlv(0x30, SHA256, tlv(0x24, tlv(0x04, HASHED)))), Failure.BAD_DATA_FORMAT),
    "no imprint": (tlv(0x30, integer(1)), Failure.BAD_DATA_FORMAT),
    "imprint without a hash": (query(message=tlv(0x30, SHA256)), Failure.BAD_DATA_FORMAT),
    "algorithm that is no sequence": (query(message=tlv(0x30, integer(1), tlv(0x04, HASHED))), Failure.BAD_DATA_FORMAT),
    "algorithm that is broken inside": (query(message=imprint(b"\x30\x02\x06\x05")), Failure.BAD_DATA_FORMAT),
    "a whole CMS in its place": (tlv(0x30, bytes.fromhex("06092a864886f70d010702"), tlv(0xA0)), Failure.BAD_DATA_FORMAT),
    "an empty sequence": (b"\x30\x00", Failure.BAD_DATA_FORMAT),
    "a set in place of the sequence": (b"\x31" + query()[1:], Failure.BAD_DATA_FORMAT),
    "no version": (tlv(0x30, imprint()), Failure.BAD_DATA_FORMAT),
    "imprint before version": (tlv(0x30, imprint(), integer(1)), Failure.BAD_DATA_FORMAT),
    "hash before its algorithm": (query(message=tlv(0x30, tlv(0x04, HASHED), SHA256)), Failure.BAD_DATA_FORMAT),
    "hash as a bit string": (query(message=tlv(0x30, SHA256, tlv(0x03, b"\x00", HASHED))), Failure.BAD_DATA_FORMAT),
    "policy twice": (query(POLICY_DER, POLICY_DER), Failure.BAD_DATA_FORMAT),
    "nonce twice": (query(integer(1), integer(2)), Failure.BAD_DATA_FORMAT),
    "certReq twice": (query(CERT_REQ, CERT_REQ), Failure.BAD_DATA_FORMAT),
    "certReq of two octets": (query(tlv(0x01, b"\xff\xff")), Failure.BAD_DATA_FORMAT),
    "nonce as an octet string": (query(tlv(0x04, b"\x07")), Failure.BAD_DATA_FORMAT),
    "nonce without octets": (query(tlv(0x02)), Failure.BAD_DATA_FORMAT),
    "policy without octets": (query(tlv(0x06)), Failure.BAD_DATA_FORMAT),
    "policy that ends in the middle of an arc": (query(tlv(0x06, b"\x2a\x83")), Failure.BAD_DATA_FORMAT),
    "BER: policy with a padded arc": (query(tlv(0x06, b"\x2a\x80\x03")), Failure.BAD_DATA_FORMAT),
    "BER: a length with leading zeros": (b"\x30\x82\x00" + query()[1:], Failure.BAD_DATA_FORMAT),
    "BER: a nonce of sixteen octets that is 1": (query(b"\x02\x10" + bytes(15) + b"\x01"), Failure.BAD_DATA_FORMAT),
    "a length of 127 octets": (b"\x30\xff" + query()[1:], Failure.BAD_DATA_FORMAT),
    "a length beyond the end": (b"\x30\x84\xff\xff\xff\xff" + query()[2:], Failure.BAD_DATA_FORMAT),
    "a tag of many octets": (b"\x3f\x81\x10" + query()[1:], Failure.BAD_DATA_FORMAT),
    "64 KB of nothing": (bytes(65_536), Failure.BAD_DATA_FORMAT),
    # RFC 3161, 2.4.1: version v1(1)
    "version 0": (query(version=integer(0)), Failure.BAD_REQUEST),
    "version 2": (query(version=integer(2)), Failure.BAD_REQUEST),
    "version -1": (query(version=integer(-1)), Failure.BAD_REQUEST),
    "version 2^200": (query(version=integer(2**200)), Failure.BAD_REQUEST),
    # RFC 3161, 2.4.1: an unrecognized or weak algorithm SHOULD get bad_alg; ETSI TS 119 312: no MD5 or SHA-1 any more
    "MD5": (query(message=imprint(algorithm("2a864886f70d0205"), bytes(16))), Failure.BAD_ALG),
    "SHA-1": (query(message=imprint(algorithm("2b0e03021a"), bytes(20))), Failure.BAD_ALG),
    "SHA-1 without parameters": (query(message=imprint(algorithm("2b0e03021a", b""), bytes(20))), Failure.BAD_ALG),
    "SHA-224": (query(message=imprint(algorithm(NIST + "204"), bytes(28))), Failure.BAD_ALG),
    "SHA3-224": (query(message=imprint(algorithm(NIST + "207"), bytes(28))), Failure.BAD_ALG),
    "SHAKE256": (query(message=imprint(algorithm(NIST + "20c"), bytes(64))), Failure.BAD_ALG),
    "SHA-512/256": (query(message=imprint(algorithm(NIST + "206"), bytes(32))), Failure.BAD_ALG),
    "SM3": (query(message=imprint(algorithm("2a811ccf55018311"), bytes(32))), Failure.BAD_ALG),
    "RIPEMD-160": (query(message=imprint(algorithm("2b24030201"), bytes(20))), Failure.BAD_ALG),
    "a signature algorithm": (query(message=imprint(algorithm("2a864886f70d01010b"), bytes(32))), Failure.BAD_ALG),
    "an algorithm of nobody": (query(message=imprint(algorithm("2a0304"), bytes(32))), Failure.BAD_ALG),
    "SHA-256 with parameters": (query(message=imprint(algorithm(NIST + "201", integer(1)), bytes(32))), Failure.BAD_ALG),
    # RFC 3161, 2.4.1: the length MUST match the algorithm
    "31 octets of SHA-256": (query(message=imprint(hashed=bytes(31))), Failure.BAD_DATA_FORMAT),
    "33 octets of SHA-256": (query(message=imprint(hashed=bytes(33))), Failure.BAD_DATA_FORMAT),
    "64 octets of SHA-384": (query(message=imprint(algorithm(NIST + "202"), bytes(64))), Failure.BAD_DATA_FORMAT),
    "an empty hash": (query(message=imprint(hashed=b"")), Failure.BAD_DATA_FORMAT),
    "SHA-512 cut to 32": (query(message=imprint(algorithm(NIST + "203"), bytes(32))), Failure.BAD_DATA_FORMAT),
    "SHA3-384 cut to 32": (query(message=imprint(algorithm(NIST + "209"), bytes(32))), Failure.BAD_DATA_FORMAT),
    "a document in place of its hash": (query(message=imprint(hashed=bytes(60_000))), Failure.BAD_DATA_FORMAT),
    # RFC 3161, 2.4.1: a policy that is not supported gets unacceptedPolicy
    "another policy": (query(OTHER_POLICY), Failure.UNACCEPTED_POLICY),
    "the parent of our policy": (query(bytes.fromhex("06092b06010401868d1f01")), Failure.UNACCEPTED_POLICY),
    # RFC 3161, 2.4.1: an extension that is not recognized gets unacceptedExtension, critical or not
    "extension": (query(tlv(0xA0, extension(critical=False))), Failure.UNACCEPTED_EXTENSION),
    "critical extension": (query(tlv(0xA0, extension(critical=True))), Failure.UNACCEPTED_EXTENSION),
    "extension after all else": (
        query(POLICY_DER, integer(5), CERT_REQ, tlv(0xA0, extension(critical=False))),
        Failure.UNACCEPTED_EXTENSION,
    ),
    "an extension that PKIX knows": (
        query(tlv(0xA0, tlv(0x30, bytes.fromhex("0603551d25"), tlv(0x04, tlv(0x30))))),
        Failure.UNACCEPTED_EXTENSION,
    ),
    "the same extension twice": (query(tlv(0xA0, extension(critical=False) * 2)), Failure.UNACCEPTED_EXTENSION),
    "BER: not critical written out": (
        query(tlv(0xA0, tlv(0x30, OTHER_POLICY, tlv(0x01, b"\x00"), tlv(0x04)))),
        Failure.BAD_DATA_FORMAT,
    ),
    "extensions under the tag of another field": (query(tlv(0xA1, extension(critical=False))), Failure.BAD_DATA_FORMAT),
    "no extension in the list": (query(tlv(0xA0)), Failure.BAD_DATA_FORMAT),  # RFC 5280, 4.1: SIZE (1..MAX)
    "something else as extension": (query(tlv(0xA0, integer(1))), Failure.BAD_DATA_FORMAT),
    # RFC 3161 bounds no nonce; ours is in tsa/request.py
    "nonce one octet too long": (query(integer(1 << 8 * NONCE_OCTETS - 1)), Failure.BAD_DATA_FORMAT),
    "negative nonce one octet too long": (query(integer(-(1 << 8 * NONCE_OCTETS - 1) - 1)), Failure.BAD_DATA_FORMAT),
    "nonce of 60,000 octets": (query(integer(1 << 480_000)), Failure.BAD_DATA_FORMAT),
    # the order of the checks, RFC 3161, 2.4.2: the first failure is the one that is named
    "version before algorithm": (query(version=integer(2), message=imprint(algorithm("2b0e03021a"))), Failure.BAD_REQUEST),
    "algorithm before length": (query(message=imprint(algorithm("2b0e03021a"), b"")), Failure.BAD_ALG),
    "extension before nonce": (
        query(integer(1 << 600), tlv(0xA0, extension(critical=False))),
        Failure.UNACCEPTED_EXTENSION,
    ),
    "length before policy": (query(OTHER_POLICY, message=imprint(hashed=b"")), Failure.BAD_DATA_FORMAT),
    "policy before extension": (query(OTHER_POLICY, tlv(0xA0, extension(critical=True))), Failure.UNACCEPTED_POLICY),
}


@pytest.mark.parametrize(("der", "failure"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused_with_the_failure_of_the_standard(der: bytes, failure: Failure) -> None:
    refusal = parse(der)
    assert isinstance(refusal, Refusal)
    assert refusal.failure == failure
    assert refusal.reason


@pytest.mark.parametrize("null", [True, False], ids=["NULL", "absent"])
@pytest.mark.parametrize(
    ("oid", "name", "size"),
    [
        ("1", "sha256", 32),
        ("2", "sha384", 48),
        ("3", "sha512", 64),
        ("8", "sha3-256", 32),
        ("9", "sha3-384", 48),
        ("a", "sha3-512", 64),
    ],
)
def test_takes_sha2_and_sha3_with_parameters_null_or_absent(oid: str, name: str, size: int, null: bool) -> None:
    """RFC 5754, 2: both encodings are to be accepted; the imprint is kept as it came, to be repeated byte for byte."""
    message = imprint(algorithm(f"{NIST}20{oid}", b"\x05\x00" if null else b""), bytes(size))
    assert parse(query(message=message)) == Query(message, name, bytes(size), None, None, certificates_wanted=False)


@pytest.mark.parametrize("nonce", [0, 1, -1, 2**63, 2**64 - 1, (1 << 511) - 1, -(1 << 511)])
def test_reads_every_optional_field(nonce: int) -> None:
    """A request written by another program; nonces up to 64 octets and of either sign."""
    fields: dict[str, Any] = {
        "version": 1,
        "message_imprint": {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": HASHED},
        "req_policy": POLICY,
        "nonce": nonce,
        "cert_req": True,
    }
    request = tsp.TimeStampReq(fields)
    expected = Query(request["message_imprint"].dump(), "sha256", HASHED, POLICY, nonce, certificates_wanted=True)
    assert parse(request.dump()) == expected


FULL = query(POLICY_DER, integer(2**70), CERT_REQ, tlv(0xA0, extension(critical=True), extension(critical=False)))

SEEDS = [FULL, query(), query(integer(9), CERT_REQ), *(item[:2000] for item, _ in REFUSED.values())]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A request with a few bytes changed, cut out, doubled or put in."""
    der = bytearray(
        draw(st.sampled_from([FULL, query(), query(integer(9), CERT_REQ), *(item for item, _ in REFUSED.values())]))[:2000]
    )
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(der)))
        length = draw(st.integers(0, 6))
        der[at : at + length] = draw(st.binary(max_size=6))
    return bytes(der)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(der=st.one_of(mutated(), st.binary(max_size=200)))
def test_any_bytes_are_a_query_or_a_refusal(der: bytes) -> None:
    """And what is granted is DER: another program writes the same bytes from the values."""
    outcome = parse(der)
    assert isinstance(outcome, Query | Refusal)
    if isinstance(outcome, Query):
        assert tsp.TimeStampReq.load(der, strict=True).dump(force=True) == der
        assert abs(outcome.nonce or 0).bit_length() <= 8 * NONCE_OCTETS


@pytest.mark.parametrize(
    "der",
    [
        b"\x30\x80" * 32_000,
        b"\xa0\x82\xff\xff" * 16_000,
        query(tlv(0xA0, *(extension(critical=False) for _ in range(4000)))),
        query(integer(1 << 500_000)),
        query(tlv(0x06, b"\x81" * 60_000 + b"\x01")),
        query(message=imprint(tlv(0x30, tlv(0x06, b"\x2a" * 60_000)))),
    ],
    ids=["nested", "nested explicitly", "extensions", "nonce", "one long arc", "many arcs"],
)
def test_the_largest_requests_are_refused_at_once(der: bytes) -> None:
    assert isinstance(parse(der), Refusal)
    assert min(timeit.repeat(lambda: parse(der), number=1, repeat=3)) < 0.05  # the best of three: the machine has others to serve
