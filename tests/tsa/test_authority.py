"""The authority: what a granted timestamp says, what is recorded of it, and what happens when a part is away."""

from __future__ import annotations

import hashlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from asn1crypto import cms, core, tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rfc3161_client import decode_timestamp_response

from audit.log import Actor, AuditEntry
from core.cms import check_signed_data
from core.db import Database
from core.errors import Rejected, Unavailable
from core.raw_insert import RawInsert
from core.settings import TsaUnitConfig
from core.signatures import sign_all
from hsm.keys import KeySpec, PrivateKey
from pki.models import Certificate
from tests.conftest import Clock
from tests.software_keys import SoftwareKeys
from tests.tsa.requests import CERT_REQ, HASHED, imprint, integer, query, tlv
from tests.tsa.test_request import FULL, NIST, POLICY_DER, REFUSED, algorithm
from tests.tsa.unit import ACTOR, POLICY, Pki, install_unit, make_authority, subject
from tsa import authority as module
from tsa.authority import Ask, TimestampAuthority
from tsa.models import Timestamp
from tsa.request import Failure
from tsa.units import IDENTITY_AGE


def read(reply: bytes) -> tuple[Any, Any]:
    """The SignedData and the TSTInfo of a granted reply, read by another program's decoder."""
    response = tsp.TimeStampResp.load(reply, strict=True)
    assert response["status"]["status"].native == "granted"
    assert response["status"]["fail_info"].native is None
    signed = response["time_stamp_token"]["content"]
    return signed, signed["encap_content_info"]["content"].parsed


class Response(core.Sequence):  # type: ignore[misc]  # asn1crypto is untyped
    """What asn1crypto's own class of the name leaves out: the timestamp is optional (RFC 3161, 2.4.2)."""

    _fields = [("status", tsp.PKIStatusInfo), ("time_stamp_token", cms.ContentInfo, {"optional": True})]  # noqa: RUF012


def failure_of(reply: bytes) -> tuple[str, set[str]]:
    response = Response.load(reply, strict=True)
    assert Response.load(reply).dump(force=True) == reply
    assert response["time_stamp_token"].native is None
    assert len(response["status"]["status_string"].native) == 1
    return response["status"]["status"].native, response["status"]["fail_info"].native


def outage(reply: bytes) -> str:
    """What a reply of systemFailure tells people (RFC 3161, 2.4.2)."""
    assert failure_of(reply) == ("rejection", {"system_failure"})
    (told,) = Response.load(reply)["status"]["status_string"].native
    return str(told)


def count(database: Database, table: type[Any]) -> int:
    with database.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_tst_info_says_what_was_asked_and_nothing_more(authority: TimestampAuthority, clock: Clock) -> None:
    """RFC 3161, 2.4.2; ETSI EN 319 422, 5.2."""
    reply = authority.respond(query(), ACTOR)
    assert tsp.TimeStampResp.load(reply).dump(force=True) == reply  # another encoder writes the same bytes
    _, info = read(reply)
    assert info["version"].native == "v1"
    assert info["policy"].native == POLICY
    assert info["message_imprint"].dump() == imprint()
    assert info["serial_number"].native.bit_length() <= 159
    assert info["gen_time"].native == clock()
    assert info["accuracy"].native == {"seconds": 1, "millis": None, "micros": None}
    assert [info[name].native for name in ("nonce", "extensions")] == [None, None]
    assert info["ordering"].native is False
    assert info["tsa"].name == "directory_name"
    assert info["tsa"].chosen.untag().dump() == subject("TSU thử nghiệm").public_bytes()


@pytest.mark.parametrize("nonce", [0, -1, 2**63, (1 << 511) - 1])
def test_policy_and_nonce_come_back_as_asked(authority: TimestampAuthority, nonce: int) -> None:
    _, info = read(authority.respond(query(POLICY_DER, integer(nonce)), ACTOR))
    assert info["policy"].native == POLICY
    assert info["nonce"].native == nonce


@pytest.mark.parametrize("parameters", [b"", b"\x05\x00"])
def test_the_imprint_comes_back_byte_for_byte(authority: TimestampAuthority, parameters: bytes) -> None:
    """RFC 3161, 2.4.2: the same value as in the request, absent or NULL parameters included."""
    message = imprint(algorithm(NIST + "20a", parameters), bytes(64))
    _, info = read(authority.respond(query(message=message), ACTOR))
    assert info["message_imprint"].dump() == message


@pytest.mark.parametrize(
    ("microseconds", "written"),
    [(0, b"Z"), (999, b"Z"), (1000, b".001Z"), (120_000, b".12Z"), (500_000, b".5Z"), (999_999, b".999Z")],
)
def test_gen_time_has_milliseconds_without_trailing_zeros(
    authority: TimestampAuthority, clock: Clock, microseconds: int, written: bytes
) -> None:
    """RFC 3161, 2.4.2, on GeneralizedTime in DER; cut, not rounded, so that it never lies ahead."""
    clock.at = clock.at.replace(microsecond=microseconds)
    reply = authority.respond(query(), ACTOR)
    assert tlv(0x18, clock.at.strftime("%Y%m%d%H%M%S").encode() + written) in reply


@pytest.mark.parametrize(("milliseconds", "expected"), [(1000, (1, None)), (999, (None, 999)), (1, (None, 1))])
def test_accuracy_is_the_configured_one(
    database: Database, keys: SoftwareKeys, clock: Clock, pki: Pki, milliseconds: int, expected: tuple[int | None, int | None]
) -> None:
    """ETSI EN 319 422, 5.2.2: present, one second or better; a zero is written in neither field."""
    assert pki
    authority = make_authority(database, keys, clock, accuracy_milliseconds=milliseconds)
    _, info = read(authority.respond(query(), ACTOR))
    assert (info["accuracy"]["seconds"].native, info["accuracy"]["millis"].native) == expected


def test_certificates_are_there_only_when_asked_for(authority: TimestampAuthority, pki: Pki) -> None:
    """RFC 3161, 2.4.1: certReq; the unit's certificate and its chain, without the root."""
    signed, _ = read(authority.respond(query(), ACTOR))
    assert signed["certificates"].native is None
    signed, _ = read(authority.respond(query(CERT_REQ), ACTOR))
    serials = {item.chosen.serial_number for item in signed["certificates"]}
    assert serials == {pki.unit.serial_number, pki.issuing.serial_number}


def test_the_signature_is_by_the_unit_with_ess_cert_id_v2(authority: TimestampAuthority, pki: Pki) -> None:
    """RFC 3161, 2.4.2 and RFC 5816, 2.2.1: one SignerInfo, the certificate named under the signature."""
    signed, _ = read(authority.respond(query(), ACTOR))
    (signer,) = signed["signer_infos"]
    assert signed["version"].native == "v3"
    assert signed["encap_content_info"]["content_type"].native == "tst_info"
    attributes = {item["type"].native: item["values"] for item in signer["signed_attrs"]}
    assert set(attributes) == {"content_type", "message_digest", "signing_certificate_v2"}
    assert attributes["signing_certificate_v2"][0]["certs"][0]["cert_hash"].native == pki.unit.fingerprint(hashes.SHA256())


def test_a_qualified_unit_says_so_in_every_timestamp(database: Database, keys: SoftwareKeys, clock: Clock, pki: Pki) -> None:
    """ETSI EN 319 422, 9.1: esi4-qtstStatement-1 in the extension qcStatements, which is not critical."""
    assert pki
    unit = TsaUnitConfig(name="qualified", qualified=True)
    reply = make_authority(database, keys, clock, units=(unit,)).respond(query(), ACTOR)
    assert tsp.TimeStampResp.load(reply).dump(force=True) == reply
    _, info = read(reply)
    (extension,) = info["extensions"]
    assert (extension["extn_id"].dotted, extension["critical"].native) == ("1.3.6.1.5.5.7.1.3", False)
    assert bytes(extension["extn_value"]) == bytes.fromhex("300b30090607040081975e0101")


@pytest.mark.parametrize("spec", [KeySpec.RSA_2048, KeySpec.P_384, KeySpec.P_521, KeySpec.ED25519])
def test_any_kind_of_key_serves_as_a_unit(database: Database, keys: SoftwareKeys, clock: Clock, spec: KeySpec) -> None:
    install_unit(database, keys, clock(), spec=spec)
    read(make_authority(database, keys, clock).respond(query(CERT_REQ), ACTOR))


@pytest.mark.parametrize(("der", "failure"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_is_a_response_with_one_failure_bit_and_a_reason(
    authority: TimestampAuthority, database: Database, der: bytes, failure: Failure
) -> None:
    """RFC 3161, 2.4.2: status rejection, no timestamp, one of the eight bits; nothing is signed or recorded."""
    names = {
        Failure.BAD_ALG: "bad_alg",
        Failure.BAD_REQUEST: "bad_request",
        Failure.BAD_DATA_FORMAT: "bad_data_format",
        Failure.UNACCEPTED_POLICY: "unaccepted_policy",
        Failure.UNACCEPTED_EXTENSION: "unaccepted_extensions",
    }
    assert failure_of(authority.respond(der, ACTOR)) == ("rejection", {names[failure]})
    assert count(database, Timestamp) == count(database, AuditEntry) == 0


def test_every_timestamp_is_recorded_with_its_audit_entry(
    authority: TimestampAuthority, database: Database, clock: Clock, pki: Pki
) -> None:
    reply = authority.respond(query(CERT_REQ), ACTOR)
    timestamp = tsp.TimeStampResp.load(reply)["time_stamp_token"]
    serial = format(timestamp["content"]["encap_content_info"]["content"].parsed["serial_number"].native, "x")
    with database.read() as db:
        (row,) = db.scalars(sa.select(Timestamp))
        (entry,) = db.scalars(sa.select(AuditEntry))
    assert (row.serial, row.gen_time, row.hash_algorithm, row.imprint) == (serial, clock(), "sha256", HASHED.hex())
    assert (row.policy, row.key_label, row.client) == (POLICY, "tsa-1", "anonymous")
    assert row.certificate_serial == format(pki.unit.serial_number, "x")
    assert row.der == timestamp.dump()
    assert (entry.action, entry.subject, entry.actor, entry.request_id) == (
        "timestamp.issue",
        "default",
        "anonymous",
        "request-0001",
    )
    assert entry.detail == {"key": "tsa-1", "timestamps": {serial: "request-0001"}}


def test_one_audit_entry_names_all_timestamps_made_together_for_a_caller(authority: TimestampAuthority, database: Database) -> None:
    asked = [("anonymous", "r-1"), ("portal", "r-2"), ("anonymous", "r-3")]
    replies = authority.respond_all([Ask(query(), Actor(name, "client", request)) for name, request in asked])
    serials = [format(decode_timestamp_response(reply).tst_info.serial_number, "x") for reply in replies]
    with database.read() as db:
        entries = [(entry.actor, entry.request_id, entry.detail["timestamps"]) for entry in db.scalars(sa.select(AuditEntry))]
    assert entries == [
        ("anonymous", "", {serials[0]: "r-1", serials[2]: "r-3"}),
        ("portal", "r-2", {serials[1]: "r-2"}),
    ]


def test_stamp_gives_the_bare_timestamp_with_certificates(authority: TimestampAuthority, database: Database, pki: Pki) -> None:
    timestamp = authority.stamp(b"a signature value", ACTOR)
    signed = cms.ContentInfo.load(timestamp, strict=True)["content"]
    info = signed["encap_content_info"]["content"].parsed
    assert info["message_imprint"]["hashed_message"].native == hashlib.sha256(b"a signature value").digest()
    assert len(signed["certificates"]) == 2
    digest = hashlib.sha256(info.dump()).digest()
    check_signed_data(timestamp, certificate=pki.unit, message_digest=digest)
    assert count(database, Timestamp) == 1


def test_serials_are_unique_among_threads(authority: TimestampAuthority, database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: authority.respond(query(integer(number)), ACTOR), range(80)))
    infos = [decode_timestamp_response(reply).tst_info for reply in replies]
    answered = {info.nonce: format(info.serial_number, "x") for info in infos}
    with database.read() as db:
        recorded = set(db.scalars(sa.select(Timestamp.serial)))
    assert len(answered) == len(recorded) == 80
    assert set(answered.values()) == recorded
    assert count(database, AuditEntry) == 80


def test_a_serial_that_was_used_before_never_leaves(
    authority: TimestampAuthority, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken source of randomness meets the UNIQUE constraint, and the client systemFailure."""
    monkeypatch.setattr("tsa.authority.x509.random_serial_number", lambda: 4711)
    read(authority.respond(query(), ACTOR))
    with caplog.at_level(logging.ERROR):
        assert failure_of(authority.respond(query(), ACTOR)) == ("rejection", {"system_failure"})
    assert "IntegrityError" in caplog.text
    assert count(database, Timestamp) == count(database, AuditEntry) == 1


class Stumbling:
    """A key store in front of another, which can be away, lack its keys or give the wrong one."""

    def __init__(self, keys: SoftwareKeys) -> None:
        self.keys = keys
        self.error: Exception | None = None

    def key(self, label: str) -> PrivateKey:
        if self.error is not None:
            raise self.error
        return self.keys.key(label)

    def generate(self, label: str, spec: KeySpec) -> PrivateKey:
        return self.keys.generate(label, spec)


def test_while_the_hsm_is_away_it_is_unavailable_and_then_heals(
    database: Database, keys: SoftwareKeys, clock: Clock, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pki
    store = Stumbling(keys)
    authority = make_authority(database, store, clock)
    read(authority.respond(query(), ACTOR))

    def away(*_: object, **__: object) -> list[bytes]:
        raise Unavailable("hsm", "the HSM is away")

    store.error = Unavailable("hsm", "the HSM is away")
    with monkeypatch.context() as patch:
        patch.setattr(module, "sign_all", away)
        assert outage(authority.respond(query(), ACTOR)).endswith("the HSM is away")  # the key in hand fails
    with pytest.raises(Unavailable, match="HSM is away"):  # and is looked up anew
        authority.stamp(b"", ACTOR)
    store.error = None
    read(authority.respond(query(), ACTOR))
    assert count(database, Timestamp) == count(database, AuditEntry) == 2


def test_a_signature_its_certificate_does_not_verify_never_leaves(
    database: Database, clock: Clock, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """The key under the unit's label is not the one its certificate names."""
    assert pki
    other = SoftwareKeys()
    other.generate("tsa-1", KeySpec.P_256)
    authority = make_authority(database, other, clock)
    with caplog.at_level(logging.ERROR):
        assert failure_of(authority.respond(query(), ACTOR)) == ("rejection", {"system_failure"})
    assert "does not verify" in caplog.text
    assert count(database, Timestamp) == count(database, AuditEntry) == 0


def test_a_moment_that_waited_too_long_for_the_hsm_is_not_signed(
    authority: TimestampAuthority, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3161, 2.4.2: genTime is when the timestamp was made. Of a batch, who comes late gets a later time."""

    def slowly(*arguments: Any, **options: Any) -> list[bytes]:
        clock.move(seconds=2)
        time.sleep(0.06)
        return sign_all(*arguments, **options)

    monkeypatch.setattr(module, "sign_all", slowly)
    monkeypatch.setattr(module, "_GROUP", 1)
    authority._lead = 0.05
    began = clock()
    replies = authority.respond_all([Ask(query(), ACTOR)] * 3)
    times = [read(reply)[1]["gen_time"].native for reply in replies]
    assert times == [began, began + timedelta(seconds=2), began + timedelta(seconds=4)]


def test_without_the_key_or_the_certificate_it_is_unavailable(
    database: Database, keys: SoftwareKeys, clock: Clock, pki: Pki
) -> None:
    assert pki
    assert "tsa-1 is not in the HSM" in outage(make_authority(database, SoftwareKeys(), clock).respond(query(), ACTOR))
    clock.move(days=2)
    assert "no valid tsa certificate" in outage(make_authority(database, keys, clock).respond(query(), ACTOR))


def test_a_unit_in_use_stops_at_the_end_of_its_certificate(authority: TimestampAuthority, clock: Clock, pki: Pki) -> None:
    clock.at = pki.unit.not_valid_after_utc - timedelta(seconds=1)
    read(authority.respond(query(), ACTOR))
    clock.move(seconds=1.5)
    outage(authority.respond(query(), ACTOR))


def test_a_revoked_unit_stops_within_the_age_of_an_identity(
    authority: TimestampAuthority, database: Database, clock: Clock, pki: Pki
) -> None:
    read(authority.respond(query(), ACTOR))
    with database.write() as db:
        db.execute(sa.update(Certificate).values(revoked_at=clock(), revocation_reason="keyCompromise"))
    clock.move(seconds=IDENTITY_AGE.total_seconds())
    outage(authority.respond(query(), ACTOR))
    assert isinstance(pki.unit, x509.Certificate)


def test_a_newer_unit_takes_over(authority: TimestampAuthority, database: Database, keys: SoftwareKeys, clock: Clock) -> None:
    clock.move(minutes=1)
    successor = install_unit(database, keys, clock(), label="tsa-2")
    signed, _ = read(authority.respond(query(CERT_REQ), ACTOR))
    assert successor.unit.serial_number in {item.chosen.serial_number for item in signed["certificates"]}


def test_a_full_disk_is_unavailable_and_no_timestamp_leaves(
    authority: TimestampAuthority, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(authority.respond(query(), ACTOR))
    encode = RawInsert.encode

    def full(self: RawInsert, rows: Any) -> Any:
        if self.sql.startswith("INSERT INTO audit_entry"):  # the record itself has been inserted by then
            raise sa.exc.OperationalError(self.sql, {}, Exception("database or disk is full"))
        return encode(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(RawInsert, "encode", full)
        outage(authority.respond(query(), ACTOR))
    assert count(database, Timestamp) == count(database, AuditEntry) == 1


def test_a_policy_that_is_no_oid_is_refused_at_start(database: Database, keys: SoftwareKeys) -> None:
    with pytest.raises(Rejected) as caught:
        make_authority(database, keys, lambda: datetime.now(UTC), policy="our policy")
    assert caught.value.violations[0].field == "tsa.policy"


def test_the_extension_request_of_all_fields_is_refused(authority: TimestampAuthority) -> None:
    assert failure_of(authority.respond(FULL, ACTOR)) == ("rejection", {"unaccepted_extensions"})
