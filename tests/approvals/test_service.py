"""Four eyes: bound to the payload, not one's own, once, in time, and all of it in the audit log."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from approvals.models import Approval
from approvals.views import ApprovalView
from core.db import Database
from core.errors import Conflict, Forbidden, NotFound, Rejected, Unavailable
from core.settings import ApprovalsConfig
from tests.approvals.house import ASKER, OTHER, THIRD, Office
from tests.conftest import Clock
from tests.interleaving import before_write


@pytest.fixture
def office(database: Database, clock: Clock) -> Office:
    return Office(database, clock)


def test_what_needs_no_approval_is_not_stored(office: Office) -> None:
    assert office.approvals.ask("certificate.issue", {"officer"}, {"profile": "officer"}, ASKER) is None
    with pytest.raises(NotFound):
        office.approvals.find(1)


def test_the_default_configuration_asks_nobody(database: Database, clock: Clock) -> None:
    assert Office(database, clock, config=ApprovalsConfig()).ask() is None


def test_approved_by_another_it_is_done_once_with_the_payload_as_stored(office: Office) -> None:
    asked = office.ask()
    assert (asked.state, office.done) == ("pending", [])
    assert asked.payload_sha256 == hashlib.sha256('{"profile":"seal","tên":"Sở"}'.encode()).hexdigest()
    answer = office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert (answer.state, answer.result) == ("executed", {"serial": "abc"})
    [(payload, actor)] = office.done
    assert payload == {"profile": "seal", "tên": "Sở"}
    assert (actor.name, actor.origin) == ("an-admin", f"approval/{asked.id}")
    with pytest.raises(Conflict, match="executed already"):
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=THIRD)
    assert len(office.done) == 1


def test_nobody_approves_or_rejects_their_own(office: Office) -> None:
    asked = office.ask()
    with pytest.raises(Forbidden, match="themselves"):
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=ASKER)
    with pytest.raises(Forbidden, match="withdraw it"):
        office.approvals.reject(asked.id, reason="", actor=ASKER)
    with pytest.raises(Forbidden, match="others reject"):
        office.approvals.withdraw(asked.id, reason="", actor=OTHER)


def test_an_approval_of_another_payload_is_refused(office: Office) -> None:
    asked = office.ask()
    with pytest.raises(Rejected, match="not the hash"):
        office.approvals.approve(asked.id, payload_sha256="0" * 64, actor=OTHER)


def test_a_payload_changed_in_the_database_is_not_carried_out(office: Office) -> None:
    asked = office.ask()
    with office.database.write() as db:
        db.execute(sa.update(Approval).values(payload=json.dumps({"profile": "root"})))
    with pytest.raises(Conflict, match="not the one that was asked for"):
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert office.done == []


def test_two_approvals_are_two_people(office: Office, clock: Clock) -> None:
    office.config = ApprovalsConfig(issue=("*",), needed=2)
    asked = office.ask()
    first = office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert (first.state, office.done) == ("pending", [])
    with pytest.raises(Conflict, match="different people"):
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    clock.move(seconds=1)
    second = office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=THIRD)
    assert (second.state, [vote.name for vote in second.approvals]) == ("executed", ["another-admin", "a-third-admin"])


def test_it_expires(office: Office, clock: Clock) -> None:
    asked = office.ask()
    clock.move(hours=72)
    with pytest.raises(Conflict, match="expired"):
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert office.approvals.reconcile(clock()) == 1
    assert office.approvals.find(asked.id).state == "expired"
    assert office.approvals.reconcile(clock()) == 0


@pytest.mark.parametrize(("verb", "actor", "state"), [("reject", OTHER, "rejected"), ("withdraw", ASKER, "withdrawn")])
def test_refused_or_taken_back_it_stays_so(office: Office, verb: str, actor: object, state: str) -> None:
    asked = office.ask()
    assert getattr(office.approvals, verb)(asked.id, reason="sai tên", actor=actor).state == state
    with pytest.raises(Conflict, match=state):
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert office.done == []


def test_what_cannot_be_done_says_why_and_is_not_tried_again(office: Office, clock: Clock) -> None:
    asked = office.ask()
    office.error = Conflict("the authority has expired")
    answer = office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert (answer.state, answer.detail) == ("failed", "the authority has expired")
    office.error = None
    clock.move(hours=1)
    assert office.approvals.reconcile(clock()) == 0


@pytest.mark.parametrize("error", [Unavailable("hsm", "away"), KeyboardInterrupt()])
def test_what_was_approved_and_cut_off_is_carried_out_by_reconcile(office: Office, clock: Clock, error: BaseException) -> None:
    asked = office.ask()
    office.error = error  # type: ignore[assignment]  # a crash is no Exception
    with contextlib.suppress(KeyboardInterrupt):  # leaves what a killed process would leave
        office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert office.approvals.find(asked.id).state == "executing"
    office.error = None
    assert office.approvals.reconcile(clock() - timedelta(minutes=2)) == 0  # it may still be at work
    clock.move(minutes=3)
    assert office.approvals.reconcile(clock() - timedelta(minutes=2)) == 1
    assert office.approvals.find(asked.id).state == "executed"
    assert len(office.done) == 1


def test_every_step_is_in_the_audit_log_with_the_hash(office: Office) -> None:
    asked = office.ask()
    office.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert [(entry.action, entry.actor) for entry in office.log()] == [
        ("approval.requested", "an-admin"),
        ("approval.approved", "another-admin"),
        ("approval.executed", "an-admin"),
    ]
    assert {entry.detail["payload_sha256"] for entry in office.log()} == {asked.payload_sha256}


def test_the_same_origin_asks_once(office: Office) -> None:
    repeated = type(ASKER)(ASKER.name, ASKER.role, "request-9", "key/7")
    assert office.ask(actor=repeated).id == office.ask(actor=repeated).id


def test_the_same_origin_asks_once_also_at_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that was taken for dead stores its request after the next one has looked, and before that stores its own."""
    asker, earlier = replace(ASKER, origin="key/7"), list[ApprovalView]()
    before_write(monkeypatch, lambda: earlier.append(office.ask(actor=asker)))
    assert office.ask(actor=asker) == earlier[0]
