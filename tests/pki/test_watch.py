"""The service sees its own changes become visible, renews its responders, and repeats an OCSP answer only while it is true."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from core.errors import CondauError, Unavailable
from pki.models import OcspRecord, StatusReceipt
from pki.responders import Responders
from pki.revocation import WATCH_FOR, Revocations
from pki.watch import Watcher
from tests.conftest import Clock
from tests.pki.house import ADMIN, ANYBODY, BrokenKeys, House, ocsp_request
from tests.service import free_port
from tests.software_keys import SoftwareKeys


def _watcher(house: House) -> Watcher:
    return Watcher(database=house.database, now=house.clock, config=house.config)


def test_a_revocation_a_suspension_and_its_end_are_seen_over_http(served: House) -> None:
    issued, other = served.issue(), served.issue()
    receipts = [served.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)]
    receipts.append(served.revocations.suspend(other.serial, actor=ADMIN))
    assert receipts[0].visible.ocsp_seconds is None
    served.clock.move(seconds=2)
    assert _watcher(served).look() == 0
    receipts.append(served.revocations.resume(other.serial, actor=ADMIN))
    served.clock.move(seconds=3)
    assert _watcher(served).look() == 0
    told = [served.revocations.receipt(item.id).visible for item in receipts]
    assert [(item.ocsp_seconds, item.crl_seconds, item.problem) for item in told] == [(2, 2, None), (2, 2, None), (3, 3, None)]


def test_the_watcher_looks_by_itself_when_something_changed(served: House) -> None:
    watcher = _watcher(served)
    watcher.start()
    crl = served.crl
    revocations = Revocations(database=served.database, crl=crl, now=served.clock, changed=watcher.nudge)
    receipt = revocations.revoke(served.issue().serial, reason="superseded", actor=ADMIN)
    for _ in range(300):
        seen = revocations.receipt(receipt.id).visible
        if seen.crl_seconds is not None and seen.ocsp_seconds is not None:
            break
        watcher._stop.wait(0.1)
    watcher.stop()
    assert (seen.ocsp_seconds, seen.crl_seconds) == (0, 0), "this clock stands still"


def test_a_crl_that_cannot_follow_is_seen_later_than_ocsp(served: House, keys: SoftwareKeys) -> None:
    broken = served.with_keys(BrokenKeys(keys, Unavailable("hsm", "gone")))
    receipt = broken.revocations.revoke(served.issue().serial, reason="superseded", actor=ADMIN)
    assert receipt.crl_number is None
    assert _watcher(served).look() == 1
    served.clock.move(seconds=31)
    assert _watcher(served).look() == 0
    visible = served.revocations.receipt(receipt.id).visible
    assert (visible.ocsp_seconds, visible.crl_seconds) == (0, 31)


def test_watching_ends_and_says_what_was_in_the_way(house: House, clock: Clock) -> None:
    nobody = House(house.database, house.keys, clock, house.config.__class__(home=house.config.home, public_url=_nowhere()))
    receipt = nobody.revocations.revoke(house.issue().serial, reason="superseded", actor=ADMIN)
    watcher = _watcher(nobody)
    watcher._bases = (nobody.config.public_url, nobody.config.public_url)
    assert watcher.look() == 1
    assert "cannot be reached" in (nobody.revocations.receipt(receipt.id).visible.problem or "")
    clock.move(seconds=WATCH_FOR.total_seconds() + 1)
    assert watcher.look() == 0
    with house.database.read() as db:
        assert db.scalars(sa.select(StatusReceipt.ocsp_seen_at)).all() == [None]


def _nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def _records(house: House) -> int:
    with house.database.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(OcspRecord)) or 0


def test_an_answer_is_repeated_until_a_status_changes_in_any_process(house: House, clock: Clock) -> None:
    issued, responder = house.issue(), house.ocsp
    first = responder.respond(ocsp_request(issued), ANYBODY)
    clock.move(seconds=10)
    assert responder.respond(ocsp_request(issued), ANYBODY) == first
    assert _records(house) == 1
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)  # by another process's services
    told = load_der_ocsp_response(responder.respond(ocsp_request(issued), ANYBODY))
    assert told.certificate_status is OCSPCertStatus.REVOKED


def test_a_nonce_and_time_make_a_new_answer_and_unknown_is_never_kept(house: House, clock: Clock) -> None:
    issued, responder = house.issue(), house.ocsp
    first = responder.respond(ocsp_request(issued), ANYBODY)
    nonce = load_der_ocsp_response(responder.respond(ocsp_request(issued, nonce=b"n" * 32), ANYBODY))
    assert nonce.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    clock.move(seconds=house.config.pki.ocsp_cache_seconds)
    assert responder.respond(ocsp_request(issued), ANYBODY) != first
    with house.database.write() as db:
        db.execute(sa.text("UPDATE certificate SET state = 'intended' WHERE serial = :serial"), {"serial": issued.serial})
    other = house.ocsp
    assert load_der_ocsp_response(other.respond(ocsp_request(issued), ANYBODY)).certificate_status is OCSPCertStatus.UNKNOWN
    with house.database.write() as db:
        db.execute(sa.text("UPDATE certificate SET state = 'issued' WHERE serial = :serial"), {"serial": issued.serial})
    assert load_der_ocsp_response(other.respond(ocsp_request(issued), ANYBODY)).certificate_status is OCSPCertStatus.GOOD


def test_a_responder_gets_a_successor_once_and_a_failure_is_tried_again(
    house: House, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def responders(keys: Any = None) -> Responders:
        ca = (house if keys is None else house.with_keys(keys)).ca
        return Responders(database=house.database, ca=ca, now=clock)

    assert responders().renew() == 0
    before = house.status(house.issue()).responder_key_hash
    clock.move(days=250)
    assert responders(BrokenKeys(house.keys, Unavailable("hsm", "gone"))).renew() == 1, "the root's; the issuing key is away"
    assert responders().renew() == 0, "somebody tried a moment ago"
    clock.move(minutes=11)
    assert responders().renew() == 1
    assert responders().renew() == 0
    assert house.status(house.issue()).responder_key_hash != before
    clock.move(days=10 * 366)
    caplog.clear()
    assert responders().renew() == 1, "the root's; the issuing authority has expired, and nobody is told of that every ten minutes"
    assert not caplog.records


@pytest.mark.parametrize(
    ("table", "step"),
    [
        *((table, "intend") for table in ("subject_key", "certificate", "holder_agency", "holder_text", "audit_entry")),
        *((table, "complete") for table in ("certificate", "audit_entry", "outbox_event")),
    ],
)
def test_one_statement_of_an_issuance_that_fails_leaves_what_reconcile_finds(
    house: House, clock: Clock, table: str, step: str
) -> None:
    """A trigger makes exactly one statement fail; nothing is issued, and what was written down is revoked."""
    before = len(house.rows("issued"))
    _break(house, table, step)
    with pytest.raises((CondauError, sa.exc.DBAPIError)):
        house.issue()
    _mend(house, table)
    left = house.rows("intended")
    assert len(left) == (1 if step == "complete" else 0)
    clock.move(minutes=5)
    assert house.ca.reconcile(clock()) == len(left)
    assert len(house.rows("issued")) == before
    for row in left:
        assert house.row(row.serial).state == "abandoned"
        assert row.serial in house.crl_serials()
        assert house.revocations.revoke_key(row.spki_sha256, actor=ADMIN) == [], "revoked already; now its key is blocked"
    assert house.issue().serial


_WHEN = {
    ("subject_key", "intend"): ("INSERT", "1 = 1"),
    ("holder_agency", "intend"): ("INSERT", "1 = 1"),
    ("holder_text", "intend"): ("INSERT", "1 = 1"),
    ("outbox_event", "complete"): ("INSERT", "NEW.kind = 'certificate.issued'"),
    ("certificate", "intend"): ("INSERT", "1 = 1"),
    ("certificate", "complete"): ("UPDATE", "NEW.state = 'issued'"),
    ("audit_entry", "intend"): ("INSERT", "NEW.action = 'certificate.intend'"),
    ("audit_entry", "complete"): ("INSERT", "NEW.action = 'certificate.issue'"),
}


def _break(house: House, table: str, step: str) -> None:
    act, when = _WHEN[table, step]
    with house.database.write() as db:
        if house.database.is_sqlite:
            db.execute(sa.text(f"CREATE TRIGGER stop BEFORE {act} ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, 'no'); END"))
            return
        db.execute(sa.text("CREATE FUNCTION stop() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no'; END $$ LANGUAGE plpgsql"))
        each = f"FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION stop()"
        db.execute(sa.text(f"CREATE TRIGGER stop BEFORE {act} ON {table} {each}"))


def _mend(house: House, table: str) -> None:
    with house.database.write() as db:
        db.execute(sa.text("DROP TRIGGER stop" + ("" if house.database.is_sqlite else f" ON {table}")))
