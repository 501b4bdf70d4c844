"""What another process does between what this one asked the database and what it writes: each at the worst moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509

from core.db import Database
from core.errors import Conflict, Unavailable
from core.settings import ApprovalsConfig
from pki.acts import REVOKE_MANY, RevocationActs
from pki.certificates import format_serial
from pki.crl import CrlPublisher
from pki.inventory import Search, find_page
from pki.models import Crl
from pki.revocation import Revocations
from pki.status_views import RevocationOrder
from registry import agencies, registry
from tests.conftest import Clock
from tests.interleaving import before_statement, before_write
from tests.pki.house import ADMIN, House, make_csr

OTHER_ADMIN = replace(ADMIN, name="another-admin")


def test_nothing_is_issued_within_an_agency_that_was_closed_this_second(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed when the issuance has looked at the clock, and before it is written down."""

    def close() -> None:
        house.clock.move(seconds=1)
        change = agencies.Change(at=house.clock(), actor=ADMIN, effective=house.clock())
        with house.database.write() as db:
            agencies.close(db, registry.subscriber_named(db, "device").agency, change)

    before_write(monkeypatch, close)
    with pytest.raises(Conflict, match="closed"):
        house.issue()
    assert not house.rows("intended")


def test_no_certificate_names_an_agency_its_holder_has_left(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder leaves it and it is closed, both when the certificate was drawn up and before it is written down."""

    def leave_and_close() -> None:
        with house.database.write() as db:
            known: dict[str, Any] = {"at": house.clock(), "actor": ADMIN}
            holder = registry.subscriber_named(db, "device")
            left, other = holder.agency, registry.add_agency(db, code="H99", name="Sở Khác", locality="Hà Nội", **known)
            registry.change_subscriber(db, holder, agency=other, **known)
            house.clock.move(seconds=1)
            agencies.close(db, left, agencies.Change(at=house.clock(), actor=ADMIN, effective=house.clock()))

    before_write(monkeypatch, leave_and_close)
    with pytest.raises(Conflict, match="another agency"):
        house.issue()
    house.issue()


def test_an_authority_is_not_revoked_between_the_look_at_it_and_the_intent(house: House, database_kind: str) -> None:
    if database_kind != "postgresql":
        pytest.skip("in SQLite nobody writes while an intent is being stored")
    hasty = Database(house.database.url.render_as_string(hide_password=False), busy_seconds=0.2)
    crl = CrlPublisher(database=hasty, keys=house.keys, now=house.clock, config=house.config)
    revocations = Revocations(database=hasty, crl=crl, now=house.clock)
    serial = format_serial(house.issue().chain[0].serial_number)

    def revoke() -> None:
        with pytest.raises(Unavailable):  # it waits for the intent
            revocations.revoke(serial, actor=ADMIN)

    with before_statement(house.database, "INSERT INTO certificate ", revoke):
        house.issue()
    revocations.revoke(serial, actor=ADMIN)
    with pytest.raises(Conflict, match="revoked"):
        house.issue()
    hasty.close()


def test_of_two_names_certified_at_once_both_are_found(house: House, database_kind: str) -> None:
    if database_kind != "postgresql":
        pytest.skip("in SQLite nobody writes while an intent is being stored")
    other = replace(house, database=Database(house.database.url.render_as_string(hide_password=False)))

    def issue_as(of: House, name: str) -> None:
        with of.database.write() as db:
            registry.change_subscriber(
                db, registry.subscriber_named(db, "device"), at=house.clock(), actor=ADMIN, common_name=f"Tên {name}"
            )
        of.issue()

    house.issue()
    with before_statement(house.database, "INSERT INTO holder_text", lambda: issue_as(other, "Hai")):
        issue_as(house, "Một")
    for text in ("mot", "hai"):
        with house.database.read() as db:
            assert find_page(db, Search(text=text), house.clock()).certificates
    other.database.close()


def test_a_crl_does_not_look_older_than_one_still_being_signed_where_the_clock_is_ahead(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine ahead has its number, and is overtaken before it publishes; the numbers tell the order, and so must the times."""
    ahead = Clock(house.clock() + timedelta(seconds=2))
    before_write(monkeypatch, lambda: house.crl.publish("issuing", actor=ADMIN), nth=2)
    CrlPublisher(database=house.database, keys=house.keys, now=ahead, config=house.config).publish("issuing", actor=ADMIN)
    with house.database.read() as db:
        query = sa.select(Crl.this_update).where(Crl.authority_id == house.authority_id(), ~Crl.delta).order_by(Crl.number)
        times = list(db.scalars(query))
    assert times == sorted(times)
    assert x509.load_der_x509_crl(house.crl.current("issuing").der).last_update_utc == times[-1] == ahead()


@pytest.mark.parametrize("by", ["key", "agency"])
def test_no_other_certificates_are_revoked_than_those_that_were_approved(
    house: House, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """One more is issued when those to be revoked were looked at, and before they are held."""
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(revoke=("*",))))
    csr = make_csr()
    issued = house.issue(csr=csr)
    wanted: dict[str, Any] = {"key": house.row(issued.serial).spki_sha256} if by == "key" else {"agency": _agency_of(house)}
    acts = RevocationActs(database=house.database, revocations=house.revocations)
    payload = acts.describe_many(RevocationOrder(reason="superseded", **wanted))
    assert issued.serial in payload["serials"]
    asked = house.approvals.ask(REVOKE_MANY, payload["profiles"], payload, ADMIN)
    assert asked is not None
    before_write(monkeypatch, lambda: house.issue(csr=csr), nth=2)  # the first is the approval itself
    done = house.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER_ADMIN)
    assert (done.state, "other certificates" in done.detail) == ("failed", True)
    assert house.row(issued.serial).revoked_at is None


def test_leave_to_end_a_suspension_ends_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and the certificate suspended anew, right before the approved end of the first suspension."""
    issued = house.issue()
    house.revocations.suspend(issued.serial, actor=ADMIN)
    acts = RevocationActs(database=house.database, revocations=house.revocations)
    payload = acts.describe_resumption(issued.serial)

    def suspend_anew() -> None:
        house.revocations.resume(issued.serial, actor=ADMIN)
        house.clock.move(seconds=1)
        house.revocations.suspend(issued.serial, actor=ADMIN)

    before_write(monkeypatch, suspend_anew)
    with pytest.raises(Conflict, match="suspended again"):
        acts.perform_resumption(payload, replace(ADMIN, request_id="approval-1"))
    assert house.row(issued.serial).revoked_at == house.clock()


def _agency_of(house: House) -> str:
    with house.database.read() as db:
        return registry.subscriber_named(db, "device").agency.code
