"""OCSP: the answer for every status, several certificates at once, nonces, and whatever is no request."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from audit.log import AuditEntry
from core.errors import Unavailable
from pki.models import OcspRecord
from pki.ocsp_request import Refusal, parse_request
from tests.conftest import Clock
from tests.pki.house import ADMIN, ANYBODY, BrokenKeys, House, ocsp_request
from tests.software_keys import SoftwareKeys

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=["sha1", "sha256"])
def test_good_then_revoked_with_its_reason(house: House, clock: Clock, algorithm: hashes.HashAlgorithm) -> None:
    issued = house.issue()
    request = ocsp_request(issued, algorithm=algorithm)
    answer = ocsp.load_der_ocsp_response(house.ocsp.respond(request, ANYBODY))
    assert answer.certificate_status is GOOD
    assert (answer.this_update_utc, answer.produced_at_utc) == (clock(), clock())
    assert answer.hash_algorithm.name == algorithm.name
    house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    answer = ocsp.load_der_ocsp_response(house.ocsp.respond(request, ANYBODY))
    assert answer.certificate_status is REVOKED
    assert (answer.revocation_time_utc, answer.revocation_reason) == (clock(), x509.ReasonFlags.key_compromise)


@pytest.mark.parametrize(
    "reason", [flag.value for flag in x509.ReasonFlags if flag.value not in ("certificateHold", "removeFromCRL")]
)
def test_every_reason_is_told(house: House, reason: Any) -> None:
    issued = house.issue()
    house.revocations.revoke(issued.serial, reason=reason, actor=ADMIN)
    told = house.status(issued).revocation_reason
    assert told is None if reason == "unspecified" else told == x509.ReasonFlags(reason)


def test_what_was_never_issued_is_unknown(house: House, keys: SoftwareKeys) -> None:
    with pytest.raises(KeyboardInterrupt):
        house.with_keys(BrokenKeys(keys, KeyboardInterrupt())).issue()
    (intended,) = house.rows("intended")
    issued = house.issue()
    for serial in (1, int(intended.serial, 16), 2**200):
        assert _ask(house, issued, [serial])[0] == ["unknown"]


def test_an_abandoned_issuance_is_revoked(house: House, keys: SoftwareKeys, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt):
        house.with_keys(BrokenKeys(keys, KeyboardInterrupt())).issue()
    clock.move(minutes=5)
    house.ca.reconcile(clock())
    (left,) = house.rows("abandoned")
    assert _ask(house, house.issue(), [int(left.serial, 16)])[0] == ["revoked"]


def test_several_certificates_are_answered_in_one_signed_response(house: House) -> None:
    first, second = house.issue(), house.issue()
    house.revocations.revoke(second.serial, reason="superseded", actor=ADMIN)
    serials = [int(first.serial, 16), 7, int(second.serial, 16)]
    statuses, answered = _ask(house, first, serials)
    assert statuses == ["good", "unknown", "revoked"]
    assert answered == serials


def test_each_authority_has_a_responder_of_its_own(house: House) -> None:
    issued = house.issue()
    issuing, root = issued.chain
    request = ocsp.OCSPRequestBuilder().add_certificate(issuing, root, hashes.SHA256()).build().public_bytes(Encoding.DER)
    answer = ocsp.load_der_ocsp_response(house.ocsp.respond(request, ANYBODY))
    assert answer.certificate_status is GOOD
    answer.certificates[0].verify_directly_issued_by(root)


def test_the_nonce_is_echoed_up_to_32_octets(house: House) -> None:
    issued = house.issue()
    for length, echoed in ((1, True), (16, True), (32, True), (33, False), (128, False)):
        nonce = bytes(range(length))
        request = ocsp_request(issued, nonce=nonce)
        answer = ocsp.load_der_ocsp_response(house.ocsp.respond(request, ANYBODY))
        found = [item.value.nonce for item in answer.extensions if isinstance(item.value, x509.OCSPNonce)]
        assert found == ([nonce] if echoed else []), length


@pytest.mark.parametrize("length", [0, 129, 5000])
def test_a_nonce_of_a_forbidden_length_is_malformed(house: House, length: int) -> None:
    """RFC 9654, 2.1."""
    assert _error(house, ocsp_request(house.issue(), nonce=bytes(length))) is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_somebody_elses_certificate_is_unauthorized(house: House) -> None:
    request = ocsp.OCSPRequestBuilder().add_certificate_by_hash(bytes(20), bytes(20), 1, hashes.SHA1()).build()
    assert _error(house, request.public_bytes(Encoding.DER)) is ocsp.OCSPResponseStatus.UNAUTHORIZED


def test_certificates_of_two_authorities_in_one_request_are_unauthorized(house: House) -> None:
    """One responder cannot answer for both."""
    issued = house.issue()
    issuing, root = issued.chain
    request = _request([_cert_id(issuing, 1), _cert_id(root, 2)])
    assert _error(house, request) is ocsp.OCSPResponseStatus.UNAUTHORIZED


def test_an_unknown_hash_is_unauthorized(house: House) -> None:
    request = ocsp_request(house.issue(), algorithm=hashes.SHA512())
    assert _error(house, request) is ocsp.OCSPResponseStatus.UNAUTHORIZED


@pytest.mark.parametrize(
    "der", [b"", b"GET", b"0\x00", b"0\x03\x02\x01\x00", bytes(10_000)], ids=["empty", "text", "nothing", "integer", "zeros"]
)
def test_what_is_no_request_is_malformed(house: House, der: bytes) -> None:
    assert _error(house, der) is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_asking_for_nothing_or_for_too_much_is_malformed(house: House) -> None:
    issuing = house.issue().chain[0]
    for wanted in (0, 101):
        request = _request([_cert_id(issuing, 1)] * wanted)
        assert _error(house, request) is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_an_unknown_critical_extension_is_malformed(house: House) -> None:
    builder = ocsp.OCSPRequestBuilder().add_certificate(house.issue().certificate, house.issue().chain[0], hashes.SHA1())
    for critical, status in ((True, ocsp.OCSPResponseStatus.MALFORMED_REQUEST), (False, ocsp.OCSPResponseStatus.SUCCESSFUL)):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        der = builder.add_extension(extension, critical=critical).build().public_bytes(Encoding.DER)
        assert ocsp.load_der_ocsp_response(house.ocsp.respond(der, ANYBODY)).response_status is status


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    _parsed_or_refused(data)


def test_no_change_of_one_byte_breaks_the_parser(house: House) -> None:
    request = ocsp_request(house.issue(), nonce=b"0123456789abcdef")
    for index in range(len(request)):
        for value in (0x00, 0x7F, 0x80, 0xFF, request[index] ^ 1):
            changed = request[:index] + bytes([value]) + request[index + 1 :]
            _parsed_or_refused(changed)
            if index % 16 == 0:
                ocsp.load_der_ocsp_response(house.ocsp.respond(changed, ANYBODY))


def test_every_signed_answer_is_recorded_with_its_audit_entry(house: House) -> None:
    issued = house.issue()
    house.ocsp.respond(ocsp_request(issued), ANYBODY)
    house.ocsp.respond(b"no request", ANYBODY)
    with house.database.read() as db:
        (record,) = db.scalars(sa.select(OcspRecord))
        (entry,) = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "ocsp.respond"))
    assert (record.serial, record.status) == (issued.serial, "good")
    assert entry.detail["answers"] == {issued.serial: "good"}
    assert entry.request_id == ANYBODY.request_id


def test_without_the_token_there_is_no_answer_and_no_record(house: House, keys: SoftwareKeys) -> None:
    issued = house.issue()

    class Away:
        def key(self, label: str) -> Any:
            raise Unavailable("hsm", f"no {label} now")

    with pytest.raises(Unavailable):
        house.with_keys(Away()).ocsp.respond(ocsp_request(issued), ANYBODY)
    with house.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(OcspRecord)) == 0
    assert keys.key("ca-issuing")


def _error(house: House, der: bytes) -> ocsp.OCSPResponseStatus:
    return ocsp.load_der_ocsp_response(house.ocsp.respond(der, ANYBODY)).response_status


def _parsed_or_refused(der: bytes) -> None:
    with contextlib.suppress(Refusal):
        parse_request(der)


@asn1.sequence
class _Algorithm:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _CertId:
    algorithm: _Algorithm
    name_hash: bytes
    key_hash: bytes
    serial: int


@asn1.sequence
class _Single:
    certificate: _CertId


@asn1.sequence
class _Tbs:
    requests: list[_Single]


@asn1.sequence
class _Request:
    tbs: _Tbs


def _cert_id(issuer: x509.Certificate, serial: int) -> _CertId:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    algorithm = _Algorithm(algorithm=x509.ObjectIdentifier("1.3.14.3.2.26"), parameters=asn1.Null())
    name_hash = hashlib.sha1(issuer.subject.public_bytes()).digest()
    return _CertId(algorithm=algorithm, name_hash=name_hash, key_hash=identifier, serial=serial)


def _request(wanted: list[_CertId]) -> bytes:
    """cryptography's own builder makes requests about one certificate only."""
    return asn1.encode_der(_Request(tbs=_Tbs(requests=[_Single(certificate=item) for item in wanted])))


def _ask(house: House, issued: Any, serials: list[int]) -> tuple[list[str], list[int]]:
    """The statuses of certificates of the issuer of ``issued``, and the serial numbers answered for."""
    der = house.ocsp.respond(_request([_cert_id(issued.chain[0], serial) for serial in serials]), ANYBODY)
    answers = list(ocsp.load_der_ocsp_response(der).responses)
    return [item.certificate_status.name.lower() for item in answers], [item.serial_number for item in answers]
