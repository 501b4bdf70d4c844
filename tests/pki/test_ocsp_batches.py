"""Many OCSP requests answered at once: none spoils another, nothing leaves unrecorded, and nothing is stale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from audit.log import AuditEntry
from core.db import Database
from core.errors import CondauError, Unavailable
from pki.ca import IssuedCertificate
from pki.http_ocsp import OCSP_REQUEST, ExpressOcsp
from pki.models import OcspEvidence, OcspRecord
from pki.ocsp import Ask, OcspResponder
from tests.conftest import Clock
from tests.pki.house import ADMIN, ANYBODY, BrokenKeys, House, ocsp_request
from tests.software_keys import SoftwareKeys
from web.express_shell import Call


def test_one_bad_request_never_spoils_the_others(house: House) -> None:
    issued, revoked = house.issue(), house.issue()
    house.revocations.revoke(revoked.serial, reason="superseded", actor=ADMIN)
    of_root = _about_issuing(issued)
    stranger = ocsp.OCSPRequestBuilder().add_certificate_by_hash(bytes(20), bytes(20), 1, hashes.SHA1()).build()
    good = ocsp_request(issued, nonce=b"one")
    requests = [
        good,
        b"",
        good + b"\x00",
        stranger.public_bytes(Encoding.DER),
        ocsp_request(revoked, nonce=b"two"),
        ocsp_request(issued, nonce=bytes(1000)),
        b"0" * 9000,
        of_root,
        good,
    ]
    told = _tell(_ask(house.ocsp, requests))
    assert told == [
        "GOOD one",
        "MALFORMED_REQUEST",
        "MALFORMED_REQUEST",
        "UNAUTHORIZED",
        "REVOKED two",
        "MALFORMED_REQUEST",
        "MALFORMED_REQUEST",
        "GOOD ",
        "GOOD one",
    ]


def test_strangers_do_not_make_us_look_for_authorities_again_and_again(house: House) -> None:
    stranger = ocsp.OCSPRequestBuilder().add_certificate_by_hash(bytes(20), bytes(20), 1, hashes.SHA1()).build()
    counted = BrokenDatabase(house.database)
    responder = OcspResponder(database=counted, keys=house.keys, now=house.clock, config=house.config)  # type: ignore[arg-type]
    assert _tell(_ask(responder, [stranger.public_bytes(Encoding.DER)] * 50)) == ["UNAUTHORIZED"] * 50
    assert counted.asked == 1


def test_a_batch_says_what_each_request_is_told_alone(house: House) -> None:
    issued, other = house.issue(), house.issue("other")
    house.revocations.revoke(other.serial, reason="keyCompromise", actor=ADMIN)
    requests = [
        ocsp_request(item, algorithm=algorithm, nonce=nonce)
        for item in (issued, other)
        for algorithm in (hashes.SHA1(), hashes.SHA256())
        for nonce in (None, b"1", bytes(32), bytes(33))
    ]
    alone = [house.ocsp.respond(request, ANYBODY) for request in requests]
    together = _ask(house.ocsp, requests)
    assert [_data(item) for item in together] == [_data(item) for item in alone]
    issuing = issued.chain[0]
    for answer in together:
        assert isinstance(answer, bytes)
        loaded = ocsp.load_der_ocsp_response(answer)
        responder = loaded.certificates[0]
        responder.verify_directly_issued_by(issuing)
        key: Any = responder.public_key()
        key.verify(loaded.signature, loaded.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


def test_every_answer_of_a_batch_is_found_by_its_serial_number(house: House) -> None:
    items = [house.issue(), house.issue(), house.issue()]
    asks = [
        Ask(ocsp_request(item, nonce=b"n"), replace(ANYBODY, request_id=f"request-{number}"))
        for number, item in enumerate([*items, items[0]])
    ]
    house.ocsp.respond_all(asks)
    with house.database.read() as db:
        records = list(db.scalars(sa.select(OcspRecord).order_by(OcspRecord.id)))
        (entry,) = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "ocsp.respond"))
    assert [(row.serial, row.status) for row in records] == [(item.serial, "good") for item in [*items, items[0]]]
    assert entry.detail["answers"] == {item.serial: "good" for item in items}
    assert entry.detail["requests"] == [f"request-{number}" for number in range(4)]
    assert {row.at for row in records} == {entry.at}


def test_a_revocation_between_two_requests_is_seen_by_every_process(house: House) -> None:
    """The second responder stands for another process: it shares nothing with the first but the database."""
    issued = house.issue()
    responders = [house.ocsp, house.ocsp]
    plain, fresh = ocsp_request(issued), ocsp_request(issued, nonce=b"n")
    for responder in responders:
        assert _tell(_ask(responder, [plain, fresh])) == ["GOOD ", "GOOD n"]
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    for responder in responders:
        assert _tell(_ask(responder, [fresh, plain])) == ["REVOKED n", "REVOKED "]


def test_a_token_that_goes_in_the_middle_of_a_batch_costs_only_what_it_was_to_sign(house: House, keys: SoftwareKeys) -> None:
    """And those are told to come again: the next batch is answered by the same responder."""
    issued = house.issue()
    flaky = FlakyKeys(keys, after=1)
    responder = house.with_keys(flaky).ocsp
    request, of_root = ocsp_request(issued, nonce=b"n"), _about_issuing(issued)
    first = _ask(responder, [request, b"", of_root, request, of_root])
    assert _tell(first) == ["GOOD n", "MALFORMED_REQUEST", "Unavailable hsm", "GOOD n", "Unavailable hsm"]
    assert _records(house) == 2
    flaky.after = 100
    assert _tell(_ask(responder, [of_root, request])) == ["GOOD ", "GOOD n"]


def test_without_the_database_nobody_of_the_batch_gets_an_answer_and_then_everybody(house: House) -> None:
    issued = house.issue()
    broken = BrokenDatabase(house.database)
    responder = OcspResponder(database=broken, keys=house.keys, now=house.clock, config=house.config)  # type: ignore[arg-type]
    requests = [ocsp_request(issued), b"no request", ocsp_request(issued, nonce=b"n")]
    away = ["Unavailable database", "MALFORMED_REQUEST", "Unavailable database"]
    assert _tell(_ask(responder, requests)) == ["GOOD ", "MALFORMED_REQUEST", "GOOD n"]
    for broken.reads, broken.inserts in ((False, True), (False, False)):
        assert _tell(_ask(responder, requests)) == away
    broken.reads = True
    records = _records(house)
    assert _tell(_ask(responder, requests)) == ["GOOD ", *away[1:]]  # what is repeated is recorded already
    assert _records(house) == records
    broken.inserts = True
    assert _tell(_ask(responder, requests)) == ["GOOD ", "MALFORMED_REQUEST", "GOOD n"]


def test_a_wrong_signature_withholds_the_batch_and_nothing_is_recorded(house: House, keys: SoftwareKeys) -> None:
    issued = house.issue()
    responder = house.with_keys(OtherKeys(keys)).ocsp
    assert _tell(_ask(responder, [ocsp_request(issued)] * 3)) == ["Unavailable hsm"] * 3
    assert _records(house) == 0


def test_a_fault_of_ours_is_an_internal_error_to_that_one_alone(house: House, keys: SoftwareKeys) -> None:
    issued = house.issue()
    of_root = _about_issuing(issued)
    label = _responder_label(house, "root")
    responder = house.with_keys(BrokenKeys(keys, RuntimeError("a bug"), label)).ocsp
    assert _tell(_ask(responder, [of_root, ocsp_request(issued)])) == ["INTERNAL_ERROR", "GOOD "]


def test_the_first_answer_after_each_change_is_kept_and_then_one_in_a_while(house: House, clock: Clock) -> None:
    issued = house.issue()
    responders = [house.ocsp, house.ocsp]
    request = ocsp_request(issued, nonce=b"n")

    def ask() -> list[str]:
        for responder in responders:
            _ask(responder, [request] * 2)
        with house.database.read() as db:
            kept = db.scalars(sa.select(OcspEvidence.der).order_by(OcspEvidence.id))
            return _tell(list(kept))

    assert ask() == ["GOOD n"]
    clock.move(hours=167)
    assert ask() == ["GOOD n"]
    clock.move(hours=1)
    assert ask() == ["GOOD n"] * 2
    house.revocations.suspend(issued.serial, actor=ADMIN)
    assert ask() == ["GOOD n"] * 2 + ["REVOKED n"]
    house.revocations.resume(issued.serial, actor=ADMIN)
    assert ask() == ["GOOD n"] * 2 + ["REVOKED n", "GOOD n"]
    assert ask() == ["GOOD n"] * 2 + ["REVOKED n", "GOOD n"]


def test_nothing_is_kept_about_what_was_never_issued(house: House) -> None:
    like = ocsp.load_der_ocsp_request(ocsp_request(house.issue()))
    stranger = ocsp.OCSPRequestBuilder().add_certificate_by_hash(like.issuer_name_hash, like.issuer_key_hash, 4711, hashes.SHA1())
    assert _tell(_ask(house.ocsp, [stranger.build().public_bytes(Encoding.DER)])) == ["UNKNOWN "]
    with house.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(OcspEvidence)) == 0


def test_the_express_lane_answers_by_the_same_code(house: House) -> None:
    service = ExpressOcsp(responder=house.ocsp)
    assert service.takes("/ocsp", OCSP_REQUEST)
    assert not service.takes("/ocsp", "application/timestamp-query")
    assert not service.takes("/ocsp/", OCSP_REQUEST)
    calls = [Call("/ocsp", body, ANYBODY, "10.0.0.1") for body in (ocsp_request(house.issue(), nonce=b"n"), b"nothing")]
    assert _tell(service.answer_calls(calls)) == ["GOOD n", "MALFORMED_REQUEST"]


class FlakyKeys:
    """A key store whose token is away after so many questions for a key."""

    def __init__(self, keys: SoftwareKeys, *, after: int) -> None:
        self._keys = keys
        self.after = after

    def key(self, label: str) -> Any:
        self.after -= 1
        if self.after < 0:
            raise Unavailable("hsm", "gone")
        return self._keys.key(label)

    def generate(self, label: str, spec: Any) -> Any:
        return self._keys.generate(label, spec)


class OtherKeys:
    """A key store that signs with another key than the certificate's."""

    def __init__(self, keys: SoftwareKeys) -> None:
        self._keys = keys

    def key(self, label: str) -> Any:  # noqa: ARG002 - the interface
        return self._keys.key("ca-issuing")

    def generate(self, label: str, spec: Any) -> Any:
        return self._keys.generate(label, spec)


class BrokenDatabase:
    """The house's database, with reading or inserting out of order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.engine = database.engine
        self.reads = self.inserts = True
        self.asked = 0

    def read(self) -> Any:
        self.asked += 1
        if not self.reads:
            raise Unavailable("database", "away")
        return self._database.read()

    def look(self) -> Any:
        if not self.reads:
            raise Unavailable("database", "away")
        return self._database.look()

    def insert(self, *rows: Any) -> None:
        if not self.inserts:
            raise Unavailable("database", "away")
        self._database.insert(*rows)


def _ask(responder: OcspResponder, requests: Sequence[bytes]) -> list[bytes | CondauError]:
    return responder.respond_all([Ask(request, ANYBODY) for request in requests])


def _tell(outcomes: Sequence[bytes | CondauError]) -> list[str]:
    """Each outcome in a word: the error, the response's status, or the certificate's status and the nonce."""
    told = []
    for outcome in outcomes:
        if isinstance(outcome, Unavailable):
            told.append(f"Unavailable {outcome.part}")
            continue
        assert isinstance(outcome, bytes)
        answer = ocsp.load_der_ocsp_response(outcome)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            told.append(answer.response_status.name)
            continue
        nonces = [item.value.nonce.decode() for item in answer.extensions if isinstance(item.value, x509.OCSPNonce)]
        told.append(f"{answer.certificate_status.name} {''.join(nonces)}")
    return told


def _data(outcome: bytes | CondauError) -> bytes:
    assert isinstance(outcome, bytes)
    return ocsp.load_der_ocsp_response(outcome).tbs_response_bytes


def _about_issuing(issued: IssuedCertificate) -> bytes:
    """A request to the root's responder."""
    issuing, root = issued.chain
    return ocsp.OCSPRequestBuilder().add_certificate(issuing, root, hashes.SHA256()).build().public_bytes(Encoding.DER)


def _records(house: House) -> int:
    with house.database.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(OcspRecord)) or 0


def _responder_label(house: House, authority: str) -> str:
    rows = [
        row for row in house.rows("issued") if row.profile == "ocsp-responder" and row.authority_id == house.authority_id(authority)
    ]
    return str(rows[-1].key_label)
