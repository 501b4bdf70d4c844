"""Routes of jobs: enrolments from CSV, replacements, and how far each came."""

from __future__ import annotations

from typing import Final

import falcon

from approvals.http import send_pending
from approvals.views import ApprovalView
from audit.log import Actor
from core.errors import Conflict, Malformed, NotFound
from jobs.csv_rows import MAX_BYTES
from jobs.kinds import OPTIONAL, REQUIRED
from jobs.service import Jobs
from jobs.views import JobListQuery, JobPage, JobQuery, JobView, ReplacementRequest, RowPage, RowQuery
from registry.models import Role
from web.operation import Document, operation, send_json

TAG: Final = "jobs"
CSV: Final = "text/csv"
_READERS: Final = {Role.ADMIN, Role.AUDITOR}


class EnrolmentJobs:
    """``/v1/jobs/enrolments``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(
        roles={Role.ADMIN},
        summary="Check, and if asked to issue, certificates in bulk from a CSV file",
        description=(
            f"In UTF-8, a header line with the columns {', '.join(REQUIRED)} and, as needed, {', '.join(OPTIONAL)}; `csr` is a "
            "PKCS #10 request in base64 on one line, without it a key is made in the HSM (`key`, by default p-256). Every row is "
            "checked; nothing is issued until the job is executed. One bad row never stops the others."
        ),
        tag=TAG,
        query=JobQuery,
        body=Document(CSV, limit=MAX_BYTES, multipart=False),
        returns=JobView,
        status=201,
        problems=(Malformed, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: JobQuery, document: bytes) -> None:
        """Check every row, and execute if that was asked for."""
        _answer(self._jobs, resp, self._jobs.check_enrolments(document, actor=actor), options, actor)


class ReplacementJobs:
    """``/v1/jobs/replacements``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(
        roles={Role.ADMIN},
        summary="Replace every certificate of an agency, a key or a profile",
        description=(
            "Each gets a successor over a new key in the HSM and is then revoked; one whose key is not in the HSM is only revoked. "
            "Nothing is done until the job is executed: the answer says which certificates it would be and how long it would take."
        ),
        tag=TAG,
        query=JobQuery,
        body=ReplacementRequest,
        returns=JobView,
        status=201,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(
        self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: JobQuery, body: ReplacementRequest
    ) -> None:
        """Find and check them, and execute if that was asked for."""
        _answer(self._jobs, resp, self._jobs.check_replacement(body, actor=actor), options, actor)


class JobList:
    """``/v1/jobs``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(roles=_READERS, summary="List jobs, newest first", tag=TAG, query=JobListQuery, returns=JobPage)
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: JobListQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        send_json(resp, self._jobs.page(options))


class JobDetail:
    """``/v1/jobs/{identifier}``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(roles=_READERS, summary="How far a job came", tag=TAG, returns=JobView, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with its progress and an estimate of the rest."""
        send_json(resp, self._jobs.find(identifier))


class JobRows:
    """``/v1/jobs/{identifier}/rows``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(
        roles=_READERS,
        summary="The rows of a job and what became of each",
        description=f"With `Accept: {CSV}` every row as CSV, whatever the page.",
        tag=TAG,
        query=RowQuery,
        returns=RowPage,
        problems=(NotFound,),
    )
    def on_get(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,  # noqa: ARG002 - every responder is told who asks
        identifier: int,
        options: RowQuery,
    ) -> None:
        """Answer one page, or the whole as CSV."""
        if req.client_prefers((falcon.MEDIA_JSON, CSV)) == CSV:
            resp.content_type = f"{CSV}; charset=utf-8"
            resp.set_header("Content-Disposition", f'attachment; filename="job-{identifier}.csv"')
            resp.data = self._jobs.export(identifier)
            return
        send_json(resp, self._jobs.rows(identifier, options))


class JobExecution:
    """``/v1/jobs/{identifier}/execution``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(
        roles={Role.ADMIN},
        summary="Execute a job that was checked",
        description="Answers 202 with the approval where `approvals` names a profile of its rows.",
        tag=TAG,
        returns=JobView,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:
        """Let it begin; the workers do it from now on."""
        _send(resp, self._jobs.execute(identifier, actor=actor))


class JobCancellation:
    """``/v1/jobs/{identifier}/cancellation``."""

    def __init__(self, *, jobs: Jobs) -> None:
        self._jobs = jobs

    @operation(
        roles={Role.ADMIN},
        summary="Stop a job; what is done stays done",
        tag=TAG,
        returns=JobView,
        problems=(NotFound, Conflict),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:
        """Stop it."""
        send_json(resp, self._jobs.cancel(identifier, actor=actor))


def _answer(jobs: Jobs, resp: falcon.Response, job: JobView, options: JobQuery, actor: Actor) -> None:
    resp.location = f"/v1/jobs/{job.id}"
    if not options.execute or job.state != "checked":
        send_json(resp, job)
    else:
        _send(resp, jobs.execute(job.id, actor=actor))


def _send(resp: falcon.Response, answer: JobView | ApprovalView) -> None:
    if isinstance(answer, ApprovalView):
        send_pending(resp, answer)
    else:
        send_json(resp, answer)
