"""Jobs over authorities with software keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import falcon

from approvals.service import Act, Approvals
from audit.log import Actor
from core.settings import JobsConfig
from jobs import http
from jobs.kinds import EnrolmentKind, ReplacementKind
from jobs.service import Jobs
from jobs.views import RowQuery, RowView
from registry import registry
from registry.models import SubscriberKind
from tests.pki.house import ADMIN, House
from web import problems
from web.access import ApiKeys, Shell

HEADER = "subscriber,profile,reference,key,csr,days"


@dataclass(frozen=True, slots=True)
class Office:
    """Jobs as one process has them; ``another`` is a second process's."""

    house: House
    jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", self.another())

    def another(self, *, lease: float = 60.0, revoke: Any = None) -> Jobs:
        """The service of one more process."""
        house = self.house

        def perform(payload: dict[str, Any], actor: Actor) -> dict[str, Any]:
            return jobs.perform(payload, actor)

        acts = [
            Act(f"job.{kind}", actions, perform, lambda payload: str(payload["rows"]))
            for kind, actions in (("enrolment", ("issue",)), ("replacement", ("issue", "revoke")))
        ]
        approvals = Approvals(database=house.database, now=house.clock, config=house.config.approvals, acts=acts)
        own = revoke or (lambda serial, reason, actor: house.revocations.revoke(serial, reason=reason, actor=actor))
        jobs = Jobs(
            database=house.database,
            now=house.clock,
            config=JobsConfig(rows_per_second=1000),
            approvals=approvals,
            enrolment=EnrolmentKind(house.enrolments),
            replacement=ReplacementKind(house.enrolments, database=house.database, revoke=own, now=house.clock),
            lease=timedelta(seconds=lease),
            sleep=lambda _: None,
        )
        return jobs

    def add_officers(self, count: int) -> list[str]:
        """Officers to be enrolled."""
        with self.house.database.write() as db:
            agency = registry.agency_with_code(db, "H26.1")
            handles = [f"can-bo-{number}" for number in range(count)]
            for handle in handles:
                registry.add_subscriber(
                    db,
                    at=self.house.clock(),
                    actor=ADMIN,
                    handle=handle,
                    kind=SubscriberKind.OFFICER,
                    common_name=f"Cán bộ {handle}",
                    agency=agency,
                )
        return handles

    def rows(self, job: int) -> list[RowView]:
        """Every row of a job."""
        return self.jobs.rows(job, RowQuery(limit=1000)).rows

    def issued_to(self, prefix: str) -> list[str]:
        """The handles of subscribers that have a certificate, one for each certificate."""
        with self.house.database.read():
            rows = self.house.rows("issued")
        return sorted(row.key_label.rpartition("-")[0] for row in rows if row.key_label and row.key_label.startswith(prefix))


def csv_of(*lines: str, header: str = HEADER) -> bytes:
    """A CSV file."""
    return "\r\n".join([header, *lines]).encode()


def make_app(office: Office) -> Any:
    """The routes of this room behind the HTTP shell."""
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=office.house.database), body_limit=10_000_000)])
    problems.install(app)
    app.add_route("/v1/jobs", http.JobList(jobs=office.jobs))
    app.add_route("/v1/jobs/enrolments", http.EnrolmentJobs(jobs=office.jobs))
    app.add_route("/v1/jobs/replacements", http.ReplacementJobs(jobs=office.jobs))
    app.add_route("/v1/jobs/{identifier:int}", http.JobDetail(jobs=office.jobs))
    app.add_route("/v1/jobs/{identifier:int}/rows", http.JobRows(jobs=office.jobs))
    app.add_route("/v1/jobs/{identifier:int}/execution", http.JobExecution(jobs=office.jobs))
    app.add_route("/v1/jobs/{identifier:int}/cancellation", http.JobCancellation(jobs=office.jobs))
    return app
