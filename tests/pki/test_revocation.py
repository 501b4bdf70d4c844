"""Revocation and the lists that tell of it: nothing revoked may ever get lost."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus

from core.errors import Conflict, NotFound, Unavailable
from hsm.keys import KeySpec
from pki.crl_der import Entry, check_crl
from pki.models import Authority, Certificate, Crl
from pki.trust import load_trust
from tests.conftest import Clock
from tests.pki.house import ADMIN, REFERENCE, BrokenKeys, House, make_csr
from tests.software_keys import SoftwareKeys, make_key


def test_a_revocation_is_on_the_crl_its_receipt_names(house: House, clock: Clock) -> None:
    issued = house.issue()
    receipt = house.revocations.revoke(issued.serial.upper(), reason="superseded", actor=ADMIN)
    crl = house.crl.current("issuing")
    assert (receipt.serial, receipt.revoked_at, receipt.crl_number) == (issued.serial, clock(), crl.number)
    entry = x509.load_der_x509_crl(crl.der).get_revoked_certificate_by_serial_number(int(issued.serial, 16))
    assert entry is not None
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded
    assert house.actions(issued.serial)[-1] == "certificate.revoke"


def test_revoking_twice_is_a_conflict_that_says_so(house: House) -> None:
    issued = house.issue()
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    with pytest.raises(Conflict, match=r"revoked already, at .* \(superseded\)"):
        house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    assert house.row(issued.serial).revocation_reason == "superseded"


@pytest.mark.parametrize("serial", ["abc", "", "not hexadecimal", "f" * 41, "-1"])
def test_what_was_never_issued_cannot_be_revoked(house: House, serial: str) -> None:
    with pytest.raises(NotFound):
        house.revocations.revoke(serial, reason="superseded", actor=ADMIN)


def test_a_root_does_not_revoke_itself(house: House) -> None:
    (root,) = (row for row in house.rows("issued") if row.profile == "root")
    with pytest.raises(Conflict):
        house.revocations.revoke(root.serial, reason="cACompromise", actor=ADMIN)


def test_a_revoked_authority_issues_no_more(house: House) -> None:
    (issuing,) = (row for row in house.rows("issued") if row.profile == "issuing-ca")
    receipt = house.revocations.revoke(issuing.serial, reason="cACompromise", actor=ADMIN)
    assert receipt.authority == "root"
    assert issuing.serial in house.crl_serials("root")
    with pytest.raises(Conflict, match="revoked"):
        house.issue()


def test_a_revocation_stands_when_its_crl_cannot_be_signed(house: House, keys: SoftwareKeys) -> None:
    """The receipt says that the CRL must follow; OCSP knows at once, and the next refresh publishes it."""
    issued = house.issue()
    broken = house.with_keys(BrokenKeys(keys, Unavailable("hsm", "gone")))
    receipt = broken.revocations.revoke(issued.serial, reason="unspecified", actor=ADMIN)
    assert receipt.crl_number is None
    assert house.status(issued).certificate_status is OCSPCertStatus.REVOKED
    assert issued.serial not in {serial for crl in _issued_crls(house) for serial in _serials(crl)}
    house.clock.move(seconds=31)  # until then the attempt that failed counts as under way
    house.crl.refresh()
    assert issued.serial in _serials(_issued_crls(house)[-1])


def test_the_last_crl_is_served_while_the_token_is_away(house: House, keys: SoftwareKeys, clock: Clock) -> None:
    class Away:
        def key(self, label: str) -> Any:
            raise Unavailable("hsm", f"no {label} now")

    before = house.crl.current("issuing")
    clock.move(hours=13)
    assert house.with_keys(Away()).crl.current("issuing") == before
    clock.move(hours=12)
    with pytest.raises(Unavailable):
        house.with_keys(Away()).crl.current("issuing")
    assert keys.key("ca-issuing")


def test_revoke_against_revoke_has_one_winner(house: House) -> None:
    issued = house.issue()

    def revoke(reason: Any) -> str:
        try:
            return house.revocations.revoke(issued.serial, reason=reason, actor=ADMIN).reason
        except Conflict:
            return "conflict"

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(revoke, ["superseded", "keyCompromise"]))
    assert answers.count("conflict") == 1
    assert house.row(issued.serial).revocation_reason in answers
    assert house.actions(issued.serial).count("certificate.revoke") == 1


def test_revoke_against_crl_build_loses_nothing(house: House) -> None:
    """Whoever comes first: after both, the current CRL lists every revoked certificate."""
    issued = [house.issue().serial for _ in range(6)]
    with ThreadPoolExecutor(4) as pool:
        revoked = [pool.submit(house.revocations.revoke, serial, reason="superseded", actor=ADMIN) for serial in issued]
        built = [pool.submit(house.crl.publish, "issuing", actor=ADMIN) for _ in range(6)]
        numbers = [future.result().crl_number for future in revoked] + [future.result().number for future in built]
    assert len(set(numbers)) == 12
    assert set(issued) <= house.crl_serials()
    _check_history(house)


def test_two_crl_builders_number_strictly_rising(house: House) -> None:
    publishers = [house.crl, house.crl]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(publishers[index % 2].publish, "issuing", actor=ADMIN) for index in range(10)]
        numbers = sorted(future.result().number for future in futures)
    assert numbers == list(range(2, 12))
    _check_history(house)


def test_a_due_crl_is_reissued_once_by_many_readers(house: House, clock: Clock) -> None:
    first = house.crl.current("issuing")
    clock.move(hours=11)
    assert house.crl.current("issuing").number == first.number
    clock.move(hours=1)
    with ThreadPoolExecutor(4) as pool:
        numbers = [crl.number for crl in pool.map(lambda _: house.crl.current("issuing"), range(8))]
    assert set(numbers) <= {first.number, first.number + 1}
    assert house.crl.current("issuing").number == first.number + 1


def test_an_expired_certificate_stays_on_the_crl(house: House, clock: Clock) -> None:
    issued = house.ca.issue_from_csr(make_csr(), profile="device", subscriber="device", days=1, reference=REFERENCE, actor=ADMIN)
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    clock.move(days=30)
    crl = x509.load_der_x509_crl(house.crl.current("issuing").der)
    assert crl.get_revoked_certificate_by_serial_number(int(issued.serial, 16)) is not None
    assert crl.extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.60")).critical is False


def test_an_abandoned_crl_leaves_a_gap_in_the_numbers(house: House, keys: SoftwareKeys, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt):
        house.with_keys(BrokenKeys(keys, KeyboardInterrupt())).crl.publish("issuing", actor=ADMIN)
    clock.move(minutes=5)
    assert house.crl.reconcile(clock()) == 1
    assert house.crl.reconcile(clock()) == 0
    assert house.crl.publish("issuing", actor=ADMIN).number == 3
    full_and_delta = ["crl.intend"] * 2
    assert house.actions("issuing")[-7:] == [*full_and_delta, "crl.abandon", *full_and_delta, "crl.publish", "crl.publish"]


def test_a_crl_signed_by_another_key_is_withheld(house: House, keys: SoftwareKeys) -> None:
    class Swapped:
        def key(self, label: str) -> Any:
            return make_key(KeySpec.P_256) if label == "ca-issuing" else keys.key(label)

    with pytest.raises(Unavailable, match="withheld"):
        house.with_keys(Swapped()).crl.publish("issuing", actor=ADMIN)
    assert len(_issued_crls(house)) == 1


def test_a_crl_from_which_something_vanished_is_withheld(house: House) -> None:
    issued = house.issue()
    house.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    with house.database.write() as db:
        db.execute(sa.update(Certificate).where(Certificate.serial == issued.serial).values(revoked_at=None))
    with pytest.raises(Unavailable, match="1 entries of its predecessor are missing"):
        house.crl.publish("issuing", actor=ADMIN)


def test_a_number_that_does_not_rise_is_withheld(house: House) -> None:
    der = house.crl.current("issuing").der
    key: Any = x509.load_der_x509_certificate(_authority(house).certificate_der or b"").public_key()
    with pytest.raises(Unavailable, match="not above"):
        check_crl(der, issuer_key=key, number=1, entries=[], predecessor=der)
    with pytest.raises(Unavailable, match="number"):
        check_crl(der, issuer_key=key, number=2, entries=[], predecessor=None)
    with pytest.raises(Unavailable, match="what was revoked"):
        check_crl(der, issuer_key=key, number=1, entries=[Entry("1", datetime.now(UTC), "superseded")], predecessor=None)


def test_ten_thousand_entries_take_no_time(house: House, clock: Clock) -> None:
    authority = _authority(house)
    rows = [_revoked_row(authority.id, serial, clock()) for serial in range(1, 10_001)]
    with house.database.write() as db:
        db.execute(sa.insert(Certificate), rows)
    start = time.process_time()
    crl = house.crl.publish("issuing", actor=ADMIN)
    spent = time.process_time() - start
    assert len(x509.load_der_x509_crl(crl.der)) == 10_000
    assert spent < 2, f"{spent:.2f} s of CPU"


def test_trust_material_is_what_was_published_last(house: House) -> None:
    house.crl.publish("root", actor=ADMIN)
    newest = house.crl.publish("issuing", actor=ADMIN)
    with house.database.read() as db:
        trust = load_trust(db)
    assert [len(part) for part in (trust.anchors, trust.intermediates, trust.crls)] == [1, 1, 2]
    assert newest.der in trust.crls
    trust.intermediates[0].verify_directly_issued_by(trust.anchors[0])


def _authority(house: House) -> Authority:
    with house.database.read() as db:
        return db.scalars(sa.select(Authority).where(Authority.name == "issuing")).one()


def _issued_crls(house: House) -> list[bytes]:
    with house.database.read() as db:
        query = (
            sa.select(Crl.der)
            .join(Authority)
            .where(Authority.name == "issuing", Crl.state == "issued", ~Crl.delta)
            .order_by(Crl.number)
        )
        return [der for der in db.scalars(query) if der is not None]


def _serials(crl: bytes) -> set[str]:
    return {format(item.serial_number, "x") for item in x509.load_der_x509_crl(crl)}


def _check_history(house: House) -> None:
    """Along the numbers, no CRL ever knows less or looks older than the one before."""
    history = [x509.load_der_x509_crl(der) for der in _issued_crls(house)]
    for before, after in itertools.pairwise(history):
        assert {item.serial_number for item in before} <= {item.serial_number for item in after}
        assert before.last_update_utc <= after.last_update_utc


def _revoked_row(authority_id: int, serial: int, at: datetime) -> dict[str, Any]:
    return {
        "serial": format(serial, "x"),
        "authority_id": authority_id,
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
