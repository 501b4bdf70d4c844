"""Suspending, resuming, revoking by key and by agency: what is known when, and what proves it."""

from __future__ import annotations

import base64
import hashlib
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus
from sqlalchemy.exc import DBAPIError

from core.errors import Conflict, NotFound, Rejected
from hsm.keys import KeySpec
from pki.ca import to_pem
from pki.grounds import MEANINGS, REASONS, Ground, choose_reason
from pki.models import Certificate, StatusEvent, SubjectKey
from pki.revocation import count_by_agency
from registry import agencies, registry
from tests.conftest import Clock
from tests.pki.house import ADMIN, House, make_csr, run
from tests.software_keys import make_key


def _shared_key(house: House) -> list[Any]:
    csr = make_csr(make_key(KeySpec.P_256))
    return [house.issue(csr=csr) for _ in range(2)]


def test_every_reason_has_a_legal_ground_and_every_ground_a_reason() -> None:
    assert {reason for meaning in MEANINGS.values() for reason in meaning.reasons} == set(REASONS)
    assert set(MEANINGS) == set(Ground)
    assert all(choose_reason(None, ground) == meaning.reasons[0] for ground, meaning in MEANINGS.items())


def test_a_ground_gives_the_reason_and_a_contradiction_is_refused(house: House) -> None:
    issued = house.issue()
    with pytest.raises(Rejected, match="cessationOfOperation"):
        house.revocations.revoke(issued.serial, reason="keyCompromise", ground=Ground.DIED, actor=ADMIN)
    receipt = house.revocations.revoke(issued.serial, ground=Ground.POST_CHANGED, actor=ADMIN)
    assert (receipt.reason, receipt.ground) == ("affiliationChanged", Ground.POST_CHANGED)


def test_a_suspension_ends_and_its_history_stays(house: House, clock: Clock) -> None:
    issued, start = house.issue(), clock()
    clock.move(minutes=1)
    held = house.revocations.suspend(issued.serial, ground=Ground.AGENCY_REQUEST, actor=ADMIN)
    assert (held.act, held.reason, issued.serial in house.crl_serials()) == ("suspend", "certificateHold", True)
    told = house.status(issued)
    assert told.revocation_reason is x509.ReasonFlags.certificate_hold
    clock.move(minutes=1)
    resumed = house.revocations.resume(issued.serial, actor=ADMIN)
    assert (resumed.revoked_at, issued.serial in house.crl_serials()) == (None, False)
    assert house.status(issued).certificate_status is OCSPCertStatus.GOOD
    clock.move(minutes=1)
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    steps = house.history.status(issued.serial).history
    assert [step.act for step in steps] == ["suspend", "resume", "revoke"]
    statuses = [house.history.status(issued.serial, start + timedelta(seconds=30 + 60 * minute)).status for minute in range(3)]
    assert statuses == ["good", "suspended", "good"]
    assert house.history.status(issued.serial).status == "revoked"


def test_a_revocation_after_a_suspension_counts_from_the_suspension(house: House, clock: Clock) -> None:
    issued = house.issue()
    since = house.revocations.suspend(issued.serial, actor=ADMIN).at
    clock.move(hours=1)
    receipt = house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    assert (receipt.revoked_at, receipt.at) == (since, clock())
    with pytest.raises(Conflict, match="revoked for good"):
        house.revocations.resume(issued.serial, actor=ADMIN)


def test_conflicts_say_what_they_are(house: House, clock: Clock) -> None:
    issued = house.issue()
    with pytest.raises(Conflict, match="is not suspended"):
        house.revocations.resume(issued.serial, actor=ADMIN)
    house.revocations.suspend(issued.serial, actor=ADMIN)
    with pytest.raises(Conflict, match="suspended already"):
        house.revocations.suspend(issued.serial, actor=ADMIN)
    (issuing,) = (row for row in house.rows("issued") if row.profile == "issuing-ca")
    with pytest.raises(Conflict, match="only revoked"):
        house.revocations.suspend(issuing.serial, actor=ADMIN)
    clock.move(days=2000)
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)  # after expiry too
    with pytest.raises(Conflict, match="revoked already"):
        house.revocations.suspend(issued.serial, actor=ADMIN)
    with pytest.raises(NotFound):
        house.revocations.receipt("none")


def test_the_invalidity_date_is_in_crl_and_ocsp(house: House, clock: Clock) -> None:
    issued, since = house.issue(), clock() - timedelta(days=3)
    with pytest.raises(Rejected, match="future"):
        house.revocations.revoke(issued.serial, invalidity_date=clock() + timedelta(hours=1), actor=ADMIN)
    house.revocations.revoke(issued.serial, reason="keyCompromise", invalidity_date=since, actor=ADMIN)
    crl = x509.load_der_x509_crl(house.crl.current("issuing").der)
    entry = crl.get_revoked_certificate_by_serial_number(int(issued.serial, 16))
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == since
    single = {item.oid.dotted_string: item.value for item in house.status(issued).single_extensions}
    assert set(single) == {"2.5.29.24", "1.3.6.1.5.5.7.48.1.6"}


def test_a_compromised_key_takes_everything_over_it_along_and_is_blocked(house: House) -> None:
    first, second = _shared_key(house)
    receipt = house.revocations.revoke(first.serial, reason="keyCompromise", actor=ADMIN)
    assert receipt.also == [second.serial]
    assert {first.serial, second.serial} <= house.crl_serials()
    with house.database.read() as db:
        assert db.get_one(SubjectKey, house.row(first.serial).spki_sha256).blocked_at is not None


def test_by_key_revokes_blocks_and_then_conflicts(house: House) -> None:
    first, second = _shared_key(house)
    key = house.row(first.serial).spki_sha256
    assert [one.serial for one in house.revocations.affected(key=key)] == [first.serial, second.serial]
    receipts = house.revocations.revoke_key(key.upper(), actor=ADMIN)
    assert [(item.serial, item.reason) for item in receipts] == [(first.serial, "keyCompromise"), (second.serial, "keyCompromise")]
    assert len({item.crl_number for item in receipts}) == 1
    with pytest.raises(Conflict, match="blocked already"):
        house.revocations.revoke_key(key, actor=ADMIN)
    with pytest.raises(NotFound):
        house.revocations.revoke_key("0" * 64, actor=ADMIN)


def test_by_agency_revokes_its_unexpired_certificates_only(house: House) -> None:
    issued = {house.issue("device").serial, house.issue("other").serial}
    assert {one.serial for one in house.revocations.affected(agency="H26.1")} == issued
    receipts = house.revocations.revoke_agency("H26.1", ground=Ground.ORGANISATION_ENDED, actor=ADMIN)
    assert {item.serial for item in receipts} == issued
    assert {item.reason for item in receipts} == {"cessationOfOperation"}
    with pytest.raises(Conflict, match="no certificate left"):
        house.revocations.revoke_agency("H26.1", actor=ADMIN)
    with pytest.raises(NotFound):
        house.revocations.revoke_agency("H00", actor=ADMIN)
    assert {row.serial for row in house.rows("issued") if row.revoked_at} == issued


def test_an_agency_is_revoked_with_those_below_it_only_where_that_is_asked_for(house: House) -> None:
    issued, at = {house.issue("device").serial, house.issue("other").serial}, house.clock()
    with house.database.write() as db:
        below = registry.agency_with_code(db, "H26.1")
        above = registry.add_agency(db, at=at, actor=ADMIN, code="H26", name="Ủy ban Thử nghiệm", locality="Hà Nội")
        agencies.move(db, below, agencies.Change(at=at, actor=ADMIN, effective=at + timedelta(days=1)), parent=above)
    with pytest.raises(Conflict, match="no certificate left"):  # it is below from tomorrow on
        house.revocations.revoke_agency("H26", subtree=True, actor=ADMIN)
    house.clock.move(days=1)
    assert house.revocations.affected(agency="H26") == []
    assert count_by_agency(house.revocations.affected(agency="H26", subtree=True)) == {"H26.1": 2}
    receipts = house.revocations.revoke_agency("H26", subtree=True, actor=ADMIN)
    assert {item.serial for item in receipts} == issued <= house.crl_serials()


def test_what_was_known_then_is_proved_by_a_crl(house: House, clock: Clock) -> None:
    issued, before = house.issue(), clock()
    clock.move(hours=1)
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    for at, status in ((before, "good"), (clock(), "revoked")):
        told = house.history.status(issued.serial, at)
        assert told.status == status
        assert told.evidence is not None
        crl = x509.load_der_x509_crl(base64.b64decode(told.evidence.crl))
        listed = crl.get_revoked_certificate_by_serial_number(int(issued.serial, 16)) is not None
        assert listed == (status == "revoked")
        assert crl.last_update_utc <= at
        assert house.crl.published_at("issuing", at=None, number=told.evidence.number).der == base64.b64decode(told.evidence.crl)
        assert house.crl.published_at("issuing", at=at).number == told.evidence.number


def test_what_was_known_then_is_proved_by_an_ocsp_response_too(house: House, clock: Clock, tmp_path: Path) -> None:
    """Also a suspension that was over before the next CRL; every proof is judged by openssl."""
    issued, moments, steps = house.issue(), list[datetime](), list[str]()
    for name, act in (("issued", None), ("held", house.revocations.suspend), ("resumed", house.revocations.resume)):
        clock.move(minutes=20)
        if act is not None:
            act(issued.serial, actor=ADMIN)
        moments.append(clock() + timedelta(seconds=30))
        steps.append(name)
        clock.move(minutes=1)
        house.status(issued)
        house.status(issued)
    clock.move(minutes=20)
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    told = [house.history.status(issued.serial, at) for at in [*moments, moments[0] + timedelta(minutes=5)]]
    assert [item.status for item in told] == ["good", "suspended", "good", "good"]
    for item, status in zip(told, ("good", "revoked", "good", "good"), strict=True):
        assert item.ocsp is not None
        assert item.ocsp.status == status
        response = base64.b64decode(item.ocsp.response)
        assert hashlib.sha256(response).hexdigest() == item.ocsp.sha256
        said = _judge_proof(tmp_path, issued, response, item.ocsp.this_update)
        assert "Response verify OK" in said
        assert f"cert.pem: {status}" in said
    assert told[0].ocsp == told[3].ocsp, "in force then"
    now = house.history.status(issued.serial)
    assert (now.status, now.ocsp) == ("revoked", None), "nobody has asked since"
    house.status(issued)
    assert house.history.status(issued.serial).ocsp is not None
    before = house.history.status(issued.serial, moments[0] - timedelta(minutes=10))
    assert before.ocsp == told[0].ocsp, "the first after it says that nothing had happened"


def _judge_proof(folder: Path, issued: Any, response: bytes, at: datetime) -> str:
    issuing, root = issued.chain
    (folder / "response").write_bytes(response)
    for name, text in (("cert", [issued.certificate]), ("issuing", [issuing]), ("chain", [issuing, root])):
        (folder / f"{name}.pem").write_text("".join(to_pem(item) for item in text))
    files = [folder / f"{name}.pem" for name in ("issuing", "cert", "chain")]
    asked: list[str | Path] = ["-issuer", files[0], "-cert", files[1], "-CAfile", files[2], "-attime", str(int(at.timestamp()) + 1)]
    return run("openssl", "ocsp", "-respin", folder / "response", *asked, "-no_nonce", "-validity_period", "1000000000")


@pytest.mark.parametrize(("days", "status"), [(-1, "unknown"), (0, "good"), (1999, "expired")])
def test_a_status_changes_with_time_alone(house: House, clock: Clock, days: int, status: str) -> None:
    issued, at = house.issue(), clock()
    clock.move(days=2000)
    told = house.history.status(issued.serial, at + timedelta(days=days))
    assert (told.status, told.evidence is None) == (status, status == "unknown")
    with pytest.raises(Rejected, match="future"):
        house.history.status(issued.serial, clock() + timedelta(seconds=1))


@pytest.mark.parametrize("statement", ["UPDATE status_event SET act = 'resume'", "DELETE FROM status_event"])
def test_the_history_takes_no_change(house: House, statement: str) -> None:
    house.revocations.suspend(house.issue().serial, actor=ADMIN)
    with pytest.raises(DBAPIError, match="append-only"), house.database.write() as db:
        db.execute(sa.text(statement))
    with house.database.read() as db:
        assert db.scalars(sa.select(StatusEvent.act)).all() == ["suspend"]


def test_a_partition_is_chosen_at_issuance_and_has_a_crl_of_its_own(house: House, clock: Clock) -> None:
    early = house.issue()
    divided = house.with_partitions(4)
    issued = [divided.issue() for _ in range(6)]
    parts = {item.serial: 1 + int(item.serial, 16) % 4 for item in issued}
    for item in issued:
        point = item.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
        assert point.full_name is not None
        assert point.full_name[0].value == f"http://127.0.0.1:8080/crl/issuing/{parts[item.serial]}.crl"
        divided.revocations.revoke(item.serial, reason="superseded", actor=ADMIN)
    divided.crl.refresh()
    assert {item.serial for item in issued} <= house.crl_serials(), "the complete CRL lists what every part does"
    seen: list[str] = []
    for part in range(1, 5):
        crl = x509.load_der_x509_crl(divided.crl.current("issuing", partition=part).der)
        scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert scope.critical
        listed = [format(entry.serial_number, "x") for entry in crl]
        assert all(parts[serial] == part for serial in listed)
        seen += listed
    assert sorted(seen) == sorted(parts)
    house.revocations.revoke(early.serial, reason="superseded", actor=ADMIN)
    assert house.row(early.serial).crl_partition == 0
    with pytest.raises(NotFound):
        divided.crl.current("issuing", partition=5)
    clock.move(hours=13)
    assert house.crl.current("issuing", partition=3).this_update == clock(), "parts of a former configuration go on"


def test_a_delta_tells_what_changed_since_a_crl_that_is_still_valid(house: House, clock: Clock) -> None:
    old, held, fresh = house.issue(), house.issue(), house.issue()
    house.revocations.revoke(old.serial, reason="superseded", actor=ADMIN)
    house.revocations.suspend(held.serial, actor=ADMIN)
    clock.move(hours=25)
    base = house.crl.publish("issuing", actor=ADMIN)
    clock.move(minutes=1)
    house.revocations.resume(held.serial, actor=ADMIN)
    number = house.revocations.revoke(fresh.serial, reason="keyCompromise", actor=ADMIN).crl_number
    delta = house.crl.current("issuing", delta=True)
    crl = x509.load_der_x509_crl(delta.der)
    indicator = crl.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert (indicator.critical, indicator.value.crl_number, delta.number) == (True, base.number, number)
    reasons = {
        format(entry.serial_number, "x"): entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
        for entry in crl
    }
    assert reasons == {held.serial: "removeFromCRL", fresh.serial: "keyCompromise"}
    full = x509.load_der_x509_crl(house.crl.current("issuing").der)
    freshest = full.extensions.get_extension_for_class(x509.FreshestCRL).value[0]
    assert freshest.full_name is not None
    assert freshest.full_name[0].value.endswith("/crl/issuing/delta.crl")
    before = {item.serial_number for item in x509.load_der_x509_crl(base.der)}
    changed = {int(serial, 16): reason for serial, reason in reasons.items()}
    combined = (before | set(changed)) - {serial for serial, reason in changed.items() if reason == "removeFromCRL"}
    assert combined == {item.serial_number for item in full}


def test_a_full_crl_of_100_000_and_its_delta_cost_little(house: House, clock: Clock) -> None:
    authority = house.authority_id()
    rows = [_revoked(authority, serial, clock()) for serial in range(1, 100_001)]
    with house.database.write() as db:
        db.execute(sa.insert(Certificate), rows)
    start = time.process_time()
    full = house.crl.publish("issuing", actor=ADMIN)
    spent = time.process_time() - start
    assert len(x509.load_der_x509_crl(full.der)) == 100_000
    issued = house.issue()
    start = time.process_time()
    receipt = house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    delta = house.crl.current("issuing", delta=True)
    spent_delta = time.process_time() - start
    assert delta.number == receipt.crl_number
    assert len(x509.load_der_x509_crl(delta.der)) == 1
    print(f"full {spent:.2f} s of CPU, revocation with delta {spent_delta:.3f} s")
    assert spent < 3
    assert spent_delta < 0.2
    assert issued.serial in house.crl_serials(), "the full one follows when it is asked for"


def _revoked(authority: int, serial: int, at: datetime) -> dict[str, Any]:
    return {
        "serial": format(serial * 2**100 + 2**158, "x"),
        "authority_id": authority,
        "profile": "device",
        "subject": "",
        "spki_sha256": "",
        "state": "issued",
        "tbs": b"",
        "not_before": at,
        "not_after": at + timedelta(days=1),
        "intended_at": at,
        "revoked_at": at,
        "revocation_reason": "superseded",
    }
