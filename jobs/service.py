"""Jobs: checked first, executed when asked to, and done row by row by whichever worker holds the lease (docs/adr/0018)."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from approvals.service import Approvals, Payload, canonical, digest
from approvals.views import ApprovalView
from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, NotFound, Rejected, Unavailable
from core.settings import JobsConfig
from jobs.csv_rows import parse_csv, write_csv
from jobs.kinds import OPTIONAL, REQUIRED, CheckedRow, EnrolmentKind, Kind, ReplacementKind, describe
from jobs.models import Job, JobRow, JobState, RowState
from jobs.views import Estimate, JobListQuery, JobPage, JobView, Progress, ReplacementRequest, RowPage, RowQuery, RowView

LEASE: Final = timedelta(seconds=20)
"""For how long a worker has a job to itself after its last sign of life. A row that takes longer is another worker's then, who
finds by its origin what was done of it."""
_INSERTED_AT_ONCE: Final = 1000
_MEASURED_ROWS: Final = 200
_A_MOMENT: Final = 0.2
_log = logging.getLogger("condau.jobs")


class Jobs:
    """Creates jobs, shows them, and works on those that run."""

    def __init__(
        self,
        *,
        database: Database,
        now: Now,
        config: JobsConfig,
        approvals: Approvals,
        enrolment: EnrolmentKind,
        replacement: ReplacementKind,
        lease: timedelta = LEASE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._now = now
        self._bound = float(config.rows_per_second)
        self._approvals = approvals
        self._enrolment = enrolment
        self._replacement = replacement
        self._kinds: Mapping[str, Kind] = {"enrolment": enrolment, "replacement": replacement}
        self._lease = lease
        self._sleep = sleep
        self._worker = uuid.uuid4().hex

    def check_enrolments(self, data: bytes, *, actor: Actor) -> JobView:
        """A job of the rows of a CSV file, each checked and none carried out. Raises Malformed, Rejected, TooLarge."""
        again = self._made_for(actor)
        if again is not None:
            return again
        rows = parse_csv(data, required=REQUIRED, optional=OPTIONAL)
        return self._create("enrolment", {}, self._enrolment.check(rows, actor), actor)

    def check_replacement(self, request: ReplacementRequest, *, actor: Actor) -> JobView:
        """A job of the certificates to be replaced. Raises NotFound (the agency), Rejected (there is nothing to replace)."""
        again = self._made_for(actor)
        if again is not None:
            return again
        rows = self._replacement.find(request, actor)
        if not rows:
            raise Rejected("agency", "no valid certificate is meant by this: there is nothing to replace")
        return self._create("replacement", request.model_dump(mode="json", exclude_none=True), rows, actor)

    def execute(self, identifier: int, *, actor: Actor) -> JobView | ApprovalView:
        """Let workers begin, or ask for approval where the rows' profiles need it. Raises NotFound, Conflict."""
        with self._database.read() as db:
            job = _with_id(db, identifier)
            _check_checked(job)
            inputs = db.scalars(sa.select(JobRow.input).where(JobRow.job_id == identifier, JobRow.state == RowState.READY))
            profiles = sorted({str(row["profile"]) for row in inputs})
        if not profiles:
            raise Conflict(f"no row of job {identifier} can be carried out: mend the file and send it again")
        payload = {"job": identifier, "rows_sha256": job.rows_sha256, "profiles": profiles, "options": job.options}
        pending = self._approvals.ask(f"job.{job.kind}", profiles, {**payload, "rows": self.find(identifier).progress.ready}, actor)
        if pending is not None:
            return pending
        self.perform(payload, actor)
        return self.find(identifier)

    def perform(self, payload: Payload, actor: Actor) -> Payload:
        """Let workers begin with what was checked and, where that was needed, approved; doing it again changes nothing."""
        identifier = int(payload["job"])
        with self._database.write() as db:
            job = _with_id(db, identifier, lock=True)
            if job.rows_sha256 != payload["rows_sha256"] or _digest_rows(db, identifier) != job.rows_sha256:
                raise Conflict(f"the rows of job {identifier} are not those that were checked")
            if job.state != JobState.RUNNING:
                _check_checked(job)
                job.state, job.started_at = JobState.RUNNING, self._now()
                self._note(db, job, actor, "execute")
        return {"job": identifier}

    def cancel(self, identifier: int, *, actor: Actor) -> JobView:
        """Do no further row. What is done stays done. Raises NotFound, Conflict (ended already)."""
        with self._database.write() as db:
            job = _with_id(db, identifier, lock=True)
            if job.state not in (JobState.CHECKED, JobState.RUNNING):
                raise Conflict(f"job {identifier} is {job.state} already")
            job.state, job.finished_at = JobState.CANCELLED, self._now()
            self._note(db, job, actor, "cancel")
        return self.find(identifier)

    def find(self, identifier: int) -> JobView:
        """A job and how far it came; raises NotFound."""
        with self._database.read() as db:
            return self._view(db, _with_id(db, identifier))

    def wait(self, identifier: int) -> JobView:
        """The same, after a moment: for who looks on while others work."""
        self._sleep(_A_MOMENT)
        return self.find(identifier)

    def page(self, query: JobListQuery) -> JobPage:
        """The newest first."""
        wanted = sa.select(Job).order_by(Job.id.desc()).limit(query.limit)
        if query.before is not None:
            wanted = wanted.where(Job.id < query.before)
        with self._database.read() as db:
            views = [self._view(db, job) for job in db.scalars(wanted)]
        return JobPage(jobs=views, next=views[-1].id if len(views) == query.limit else None)

    def rows(self, identifier: int, query: RowQuery) -> RowPage:
        """The rows in their order."""
        with self._database.read() as db:
            _with_id(db, identifier)
            wanted = sa.select(JobRow).where(JobRow.job_id == identifier, JobRow.number > query.after).order_by(JobRow.number)
            if query.state is not None:
                wanted = wanted.where(JobRow.state == query.state)
            views = [RowView.model_validate(row, from_attributes=True) for row in db.scalars(wanted.limit(query.limit))]
        return RowPage(rows=views, next=views[-1].number if len(views) == query.limit else None)

    def export(self, identifier: int) -> bytes:
        """Every row with its result as CSV."""
        with self._database.read() as db:
            _with_id(db, identifier)
            rows = list(db.scalars(sa.select(JobRow).where(JobRow.job_id == identifier).order_by(JobRow.number)))
        columns = ("line", "subscriber", "profile", "state", "serial", "replaced", "detail")
        values = [
            (
                row.number,
                row.input.get("subscriber"),
                row.input.get("profile"),
                row.state,
                row.serial,
                row.input.get("serial"),
                row.detail,
            )
            for row in rows
        ]
        return write_csv(columns, values)

    def work(self, seconds: float = 5.0) -> int:
        """Do rows of running jobs for about so many seconds, no faster than configured; returns how many.

        Several workers may do so at once: each job belongs to whoever holds its lease.
        """
        until = time.monotonic() + seconds
        done = 0
        while time.monotonic() < until:
            job = self._take()
            if job is None:
                break
            while time.monotonic() < until:
                began = time.monotonic()
                if not self._do_next(job):
                    break
                done += 1
                self._sleep(max(0.0, 1 / self._bound - (time.monotonic() - began)))
            else:
                self._release(job)
        return done

    def _take(self) -> Job | None:
        """A running job nobody has the lease of, now ours; what its last worker left undone is ready again."""
        at = self._now()
        free = sa.or_(Job.lease_until.is_(None), Job.lease_until < at, Job.lease_owner == self._worker)
        with self._database.read() as db:
            if db.scalar(sa.select(Job.id).where(Job.state == JobState.RUNNING, free).limit(1)) is None:
                return None
        with self._database.write() as db:
            query = (
                sa.select(Job).where(Job.state == JobState.RUNNING, free).order_by(Job.lease_until.nulls_first(), Job.id).limit(1)
            )
            job = db.scalar(query.with_for_update(skip_locked=True))
            if job is None:
                return None
            job.lease_owner, job.lease_until = self._worker, at + self._lease
            left = sa.update(JobRow).where(JobRow.job_id == job.id, JobRow.state == RowState.WORKING)
            db.execute(left.values(state=RowState.READY))
        return job

    def _release(self, job: Job) -> None:
        mine = sa.update(Job).where(Job.id == job.id, Job.lease_owner == self._worker)
        with self._database.write() as db:
            db.execute(mine.values(lease_until=self._now()))

    def _do_next(self, job: Job) -> bool:
        """Carry out one row, if the lease is still ours and there is one; the last row ends the job."""
        row = self._claim(job)
        if row is None:
            return False
        actor = Actor(job.created_by, job.role, f"job-{job.id}", f"job/{job.id}/{row.number}")
        began = time.monotonic()
        state, serial, detail = RowState.DONE, None, ""
        try:
            outcome = self._kinds[job.kind].perform(row.input, job.options, actor)
            serial, detail = outcome.serial, outcome.detail
        except Unavailable as error:
            _log.warning("a row must wait", extra={"fields": {"job": job.id, "row": row.number, "detail": error.detail}})
            self._set(job, row.number, state=RowState.READY)
            self._sleep(error.retry_after)
            return False
        except CondauError as error:
            state, detail = RowState.FAILED, describe(error)
        except Exception:  # noqa: BLE001 - a bug that one row brings out must not stop the others: it is logged with its traceback
            _log.exception("a row broke", extra={"fields": {"job": job.id, "row": row.number}})
            state, detail = RowState.FAILED, "a fault of ours; the log has it under the name of the job and the number of the row"
        spent = round((time.monotonic() - began) * 1000)
        at = self._now()
        self._set(job, row.number, state=state, serial=serial, detail=detail, milliseconds=spent, finished_at=at)
        return True

    def _claim(self, job: Job) -> JobRow | None:
        at = self._now()
        mine = sa.update(Job).where(Job.id == job.id, Job.state == JobState.RUNNING, Job.lease_owner == self._worker)
        with self._database.write() as db:
            if db.execute(mine.values(lease_until=at + self._lease).returning(Job.id)).first() is None:
                return None
            ready = sa.select(JobRow).where(JobRow.job_id == job.id, JobRow.state == RowState.READY)
            row = db.scalar(ready.order_by(JobRow.number).limit(1))
            if row is None:
                ended = _with_id(db, job.id)
                ended.state, ended.finished_at = JobState.DONE, at
                self._note(db, ended, Actor(job.created_by, job.role, f"job-{job.id}"), "finish")
                return None
            row.state = RowState.WORKING
        return row

    def _set(self, job: Job, number: int, **values: Any) -> None:
        """Note a row's result, unless the job went to another worker meanwhile, who finds the result by its origin."""
        with self._database.write() as db:
            mine = sa.select(Job.id).where(Job.id == job.id, Job.lease_owner == self._worker).with_for_update()
            if db.scalar(mine) is not None:
                db.execute(sa.update(JobRow).where(JobRow.job_id == job.id, JobRow.number == number).values(**values))

    def _made_for(self, actor: Actor) -> JobView | None:
        if not actor.origin:
            return None
        with self._database.read() as db:
            job = db.scalar(sa.select(Job).where(Job.origin == actor.origin))
            return None if job is None else self._view(db, job)

    def _create(self, kind: str, options: dict[str, Any], rows: Sequence[CheckedRow], actor: Actor) -> JobView:
        with self._database.write() as db:
            job = Job(
                kind=kind,
                state=JobState.CHECKED,
                created_by=actor.name,
                role=actor.role,
                origin=actor.origin or None,
                options=options,
                rows_sha256="",
                created_at=self._now(),
            )
            db.add(job)
            try:
                db.flush()
            except IntegrityError as error:
                raise Conflict("the same request is being checked at this moment: look at /v1/jobs") from error
            values = [
                {
                    "job_id": job.id,
                    "number": row.number,
                    "input": row.input,
                    "state": RowState.REFUSED if row.problem else RowState.READY,
                    "detail": row.problem,
                }
                for row in rows
            ]
            for start in range(0, len(values), _INSERTED_AT_ONCE):
                db.execute(sa.insert(JobRow), values[start : start + _INSERTED_AT_ONCE])
            job.rows_sha256 = _digest_rows(db, job.id)
            self._note(db, job, actor, "check", rows=len(rows))
            return self._view(db, job)

    def _note(self, db: Session, job: Job, actor: Actor, verb: str, **detail: Any) -> None:
        facts = {"kind": job.kind, "rows_sha256": job.rows_sha256, **detail}
        append(db, at=self._now(), actor=replace(actor, origin=""), action=f"job.{verb}", subject=f"job/{job.id}", **facts)

    def _view(self, db: Session, job: Job) -> JobView:
        counted = sa.select(JobRow.state, sa.func.count()).where(JobRow.job_id == job.id).group_by(JobRow.state)
        counts: dict[str, int] = dict(db.execute(counted).all())
        progress = Progress(total=sum(counts.values()), **{state.value: counts.get(state.value, 0) for state in RowState})
        fields = {column.key: getattr(job, column.key) for column in sa.inspect(Job).columns}
        left = progress.ready + progress.working
        return JobView.model_validate({**fields, "progress": progress, "estimate": self._estimate(db, left)})

    def _estimate(self, db: Session, rows: int) -> Estimate:
        """From the last rows that were done in any job; the configured bound, where none was."""
        spent = sa.select(JobRow.milliseconds).where(JobRow.finished_at.is_not(None), JobRow.state == RowState.DONE)
        measured = [value for value in db.scalars(spent.order_by(JobRow.finished_at.desc()).limit(_MEASURED_ROWS)) if value]
        rate = self._bound
        if measured:
            rate = min(rate, 1000 * len(measured) / sum(measured))
        return Estimate(seconds=round(rows / rate, 1), rows_per_second=round(rate, 2), measured=bool(measured))


def _digest_rows(db: Session, identifier: int) -> str:
    """SHA-256 over every row's number and input, in their order."""
    rows = db.execute(sa.select(JobRow.number, JobRow.input).where(JobRow.job_id == identifier).order_by(JobRow.number))
    return digest("\n".join(f"{number} {canonical(row)}" for number, row in rows))


def _check_checked(job: Job) -> None:
    if job.state != JobState.CHECKED:
        raise Conflict(f"job {job.id} is {job.state} already: a job is executed once")


def _with_id(db: Session, identifier: int, *, lock: bool = False) -> Job:
    query = sa.select(Job).where(Job.id == identifier).execution_options(populate_existing=True)
    job = None if identifier >= 1 << 63 else db.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise NotFound("job", f"there is no job {identifier}")
    return job
