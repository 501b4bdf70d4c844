"""Jobs: checked without effect, one bad row stops nothing, cut off they go on, and nothing is done twice."""

from __future__ import annotations

import base64
import resource
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import Actor
from core.errors import Conflict, NotFound, Rejected, Unavailable
from core.settings import ApprovalsConfig
from hsm.keys import KeySpec
from jobs.kinds import EnrolmentKind
from jobs.views import JobView, ReplacementRequest, RowQuery
from pki.views import CertificateRequest
from registry import agencies, registry
from registry.models import Subscriber
from tests.jobs.house import Office, csv_of
from tests.pki.house import ADMIN, BrokenKeys, make_csr

OTHER = Actor("another-admin", "admin", "request-7")


class Killed(BaseException):
    """As good as kill -9: nothing after it runs."""


def _officers(office: Office, count: int) -> bytes:
    return csv_of(*(f"{handle},officer,12/PYC,,," for handle in office.add_officers(count)))


@pytest.mark.slow
def test_the_officers_of_a_province_are_checked_in_seconds(office: Office) -> None:
    count, began = 20_000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with office.house.database.write() as db:
        agency = registry.agency_with_code(db, "H26.1").id
        known = {"kind": "officer", "common_name": "Nguyễn Văn An", "agency_id": agency, "dns_names": []}
        db.execute(sa.insert(Subscriber), [{**known, "handle": f"can-bo-{number}"} for number in range(count)])
    lines = [f"can-bo-{number},officer,12/PYC,,," for number in range(count)]
    lines[7], lines[15_000] = "nobody,officer,12/PYC,,,", lines[3]
    cpu = time.process_time()
    job = office.jobs.check_enrolments(csv_of(*lines), actor=ADMIN)
    assert time.process_time() - cpu < 20
    assert (job.progress.ready, job.progress.refused) == (count - 2, 2)
    refused = office.jobs.rows(job.id, RowQuery(state="refused")).rows
    assert [(row.number, row.detail[:11]) for row in refused] == [(9, "subscriber:"), (15_002, "line 5 asks")]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 300_000, "kilobytes"


def test_a_dry_run_checks_every_row_and_does_nothing(office: Office) -> None:
    before = len(office.house.rows("issued"))
    csr = base64.b64encode(make_csr(encoding=Encoding.DER)).decode()
    pem = make_csr().decode().replace("\n", "\\n")
    job = office.jobs.check_enrolments(
        csv_of(
            f"device,device,1,,{csr},",
            f"other,device,1,,{pem},365",
            "seal,agency-seal,1,rsa-2048,,",
            "nobody,officer,1,,,",
            "officer,agency-seal,1,,,",
            "officer,officer,1,dsa,,",
            "officer,officer,1,,bm8=,",
            "officer,officer,,,,",
            "officer,officer,1,,,9999",
            "seal,agency-seal,2,,,",
            '"open,officer,1,,,',
            "officer,officer,1,,,",
        ),
        actor=ADMIN,
    )
    assert (job.state, job.progress.ready, job.progress.refused) == ("checked", 4, 8)
    states = {row.number: (row.state, row.detail) for row in office.rows(job.id)}
    assert [number for number, (state, _) in states.items() if state == "ready"] == [2, 3, 4, 13]
    for number, word in {
        5: "nobody",
        6: "not for",
        7: "key",
        8: "base64",
        9: "reference",
        10: "9999",
        11: "line 4",
        12: "CSV",
    }.items():
        assert word in states[number][1], states[number]
    assert office.jobs.work(1) == 0
    assert len(office.house.rows("issued")) == before


def test_the_last_line_of_the_same_holder_counts_only_against_a_good_one(office: Office) -> None:
    job = office.jobs.check_enrolments(csv_of("officer,officer,,,,", "officer,officer,1,,,"), actor=ADMIN)
    assert [row.state for row in office.rows(job.id)] == ["refused", "ready"]


def test_executed_it_issues_each_row_once(office: Office) -> None:
    job = office.jobs.check_enrolments(_officers(office, 5), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)
    assert office.jobs.work(60) == 5
    view = office.jobs.find(job.id)
    assert (view.state, view.progress.done, view.progress.failed) == ("done", 5, 0)
    assert office.issued_to("can-bo") == [f"can-bo-{number}" for number in range(5)]
    assert all(office.house.row(row.serial or "").request_reference == "12/PYC" for row in office.rows(job.id))
    assert office.jobs.work(1) == 0
    with pytest.raises(Conflict, match="executed once"):
        office.jobs.execute(job.id, actor=ADMIN)


def test_a_row_that_fails_or_breaks_stops_no_other(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    job = office.jobs.check_enrolments(_officers(office, 4), actor=ADMIN)
    perform = EnrolmentKind.perform

    def failing(self: EnrolmentKind, row: dict[str, Any], options: dict[str, Any], actor: Actor) -> Any:
        if row["subscriber"] == "can-bo-1":
            raise Conflict("the agency is closed")
        if row["subscriber"] == "can-bo-2":
            raise RuntimeError("a bug")
        return perform(self, row, options, actor)

    monkeypatch.setattr(EnrolmentKind, "perform", failing)
    office.jobs.execute(job.id, actor=ADMIN)
    office.jobs.work(60)
    assert [row.state for row in office.rows(job.id)] == ["done", "failed", "failed", "done"]
    assert office.jobs.find(job.id).state == "done"


@pytest.mark.parametrize("broken", ["can-bo-1", "ca-issuing"])
def test_killed_in_the_middle_it_goes_on_elsewhere_without_doing_a_row_twice(office: Office, broken: str) -> None:
    job = office.jobs.check_enrolments(_officers(office, 3), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)
    if broken == "ca-issuing":  # dies in the middle of a signature: an intent is left
        dying = Office(office.house.with_keys(BrokenKeys(office.house.keys, Killed())))
        with pytest.raises(Killed):
            dying.jobs.work(60)
    else:  # dies after the certificate is stored, before the row is
        dying = Office(office.house)
        perform = dying.jobs._kinds["enrolment"].perform

        def then_die(*arguments: Any) -> Any:
            perform(*arguments)
            raise Killed

        dying.jobs._kinds["enrolment"].perform = then_die  # type: ignore[method-assign, assignment]  # a death, not a method
        with pytest.raises(Killed):
            dying.jobs.work(60)
    assert office.jobs.work(1) == 0  # the lease of the dead one still stands
    office.house.clock.move(seconds=61)
    assert office.jobs.work(60) == 3
    assert office.jobs.find(job.id).state == "done"
    assert office.issued_to("can-bo") == [f"can-bo-{number}" for number in range(3)]


def test_a_worker_that_lost_its_lease_does_no_further_row(office: Office) -> None:
    job = office.jobs.check_enrolments(_officers(office, 2), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)
    slow = office.another()
    taken = slow._take()
    assert taken is not None
    office.house.clock.move(seconds=61)
    assert office.jobs.work(60) == 2
    assert slow._do_next(taken) is False


def test_while_the_token_is_away_rows_wait(office: Office) -> None:
    job = office.jobs.check_enrolments(_officers(office, 2), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)
    away = Office(office.house.with_keys(BrokenKeys(office.house.keys, Unavailable("hsm", "away"))))
    assert away.jobs.work(0.2) == 0
    assert {row.state for row in office.rows(job.id)} == {"ready"}
    office.house.clock.move(seconds=61)
    assert office.jobs.work(60) == 2


def test_a_cancelled_job_stops(office: Office) -> None:
    job = office.jobs.check_enrolments(_officers(office, 2), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)
    assert office.jobs.cancel(job.id, actor=ADMIN).state == "cancelled"
    assert office.jobs.work(1) == 0
    with pytest.raises(Conflict, match="cancelled already"):
        office.jobs.cancel(job.id, actor=ADMIN)


def test_a_job_needs_the_approval_its_profiles_need_and_is_bound_to_its_rows(office: Office) -> None:
    config = replace(office.house.config, approvals=ApprovalsConfig(issue=("officer",)))
    office = Office(replace(office.house, config=config))
    job = office.jobs.check_enrolments(_officers(office, 2), actor=ADMIN)
    pending: Any = office.jobs.execute(job.id, actor=ADMIN)
    assert (pending.kind, pending.payload["rows_sha256"]) == ("job.enrolment", job.rows_sha256)
    assert office.jobs.work(1) == 0
    office.jobs._approvals.approve(pending.id, payload_sha256=pending.payload_sha256, actor=OTHER)
    assert office.jobs.work(60) == 2


def test_nothing_to_do_is_said(office: Office) -> None:
    job = office.jobs.check_enrolments(csv_of("nobody,officer,1,,,"), actor=ADMIN)
    with pytest.raises(Conflict, match="no row"):
        office.jobs.execute(job.id, actor=ADMIN)
    with pytest.raises(NotFound):
        office.jobs.find(99)
    with pytest.raises(Rejected, match="nothing to replace"):
        office.jobs.check_replacement(ReplacementRequest(profile="officer", reference="1"), actor=ADMIN)


def _seals(office: Office) -> list[str]:
    order = CertificateRequest(profile="agency-seal", subscriber="seal", reference="1", key=KeySpec.P_256)
    return [office.house.enrolments.issue(order, ADMIN).serial for _ in range(2)]


def test_an_agency_is_replaced_and_what_brought_its_own_key_is_only_revoked(office: Office) -> None:
    seals, device = _seals(office), office.house.issue().serial
    job = office.jobs.check_replacement(ReplacementRequest(agency="H26.1", reference="9", reason="keyCompromise"), actor=ADMIN)
    assert (job.progress.ready, job.estimate.measured) == (3, False)
    assert office.house.row(device).revoked_at is None
    office.jobs.execute(job.id, actor=ADMIN)
    assert office.jobs.work(60) == 3
    first, second, third = office.rows(job.id)
    assert [row.state for row in (first, second, third)] == ["done"] * 3
    for row, old in zip((first, second), seals, strict=True):
        after = office.house.row(row.serial or "")
        assert (after.predecessor_id, after.revoked_at) == (office.house.row(old).id, None)
    assert (third.serial, "not in the HSM" in third.detail) == (None, True)
    assert {office.house.row(serial).revocation_reason for serial in (*seals, device)} == {"keyCompromise"}
    with office.house.database.write() as db:
        at, below = office.house.clock(), registry.agency_with_code(db, "H26.1")
        above = registry.add_agency(db, at=at, actor=ADMIN, code="H26", name="Ủy ban Thử nghiệm", locality="Hà Nội")
        agencies.move(db, below, agencies.Change(at=at, actor=ADMIN, effective=at + timedelta(days=1)), parent=above)
    office.house.clock.move(days=1)
    all_below = office.jobs.check_replacement(ReplacementRequest(agency="H26", subtree=True, reference="9"), actor=ADMIN)
    assert all_below.progress.ready == 2
    with pytest.raises(Rejected, match="nothing to replace"):
        office.jobs.check_replacement(ReplacementRequest(agency="H26", reference="9"), actor=ADMIN)
    later = office.jobs.check_replacement(ReplacementRequest(profile="agency-seal", reference="9"), actor=ADMIN)
    assert later.estimate.measured


def test_a_replacement_killed_between_successor_and_revocation_is_finished(office: Office) -> None:
    [old, _] = _seals(office)
    spki = office.house.row(old).spki_sha256
    job: JobView = office.jobs.check_replacement(ReplacementRequest(spki_sha256=spki, reference="9"), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)

    def die(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        office.another(revoke=die).work(60)
    assert office.house.row(old).revoked_at is None
    before = len(office.house.rows("issued"))
    office.house.clock.move(seconds=61)
    assert office.jobs.work(60) == 1
    assert office.house.row(old).revocation_reason == "superseded"
    assert len(office.house.rows("issued")) == before


def test_what_is_suspended_or_revoked_meanwhile_is_revoked_in_the_end(office: Office) -> None:
    """A suspension is no revocation; and what somebody else revokes right before the job does is done as well."""
    suspended, (seal, _) = office.house.issue().serial, _seals(office)
    job = office.jobs.check_replacement(ReplacementRequest(agency="H26.1", reference="9"), actor=ADMIN)
    office.jobs.execute(job.id, actor=ADMIN)
    office.house.revocations.suspend(suspended, actor=ADMIN)

    def revoke_too_late(serial: str, reason: str, actor: Actor) -> None:
        if serial == seal:
            office.house.revocations.revoke(serial, reason="superseded", actor=OTHER)
        office.house.revocations.revoke(serial, reason=reason, actor=actor)

    assert office.another(revoke=revoke_too_late).work(60) == 3
    assert [row.state for row in office.rows(job.id)] == ["done"] * 3
    assert {office.house.row(serial).revocation_reason for serial in (suspended, seal)} == {"superseded"}
