"""``condau``'s commands for work in bulk, for what follows a certificate, and for what waits for approval."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from approvals.views import ApprovalQuery, ApprovalView
from audit.log import Actor
from bootstrap import Services
from cli_common import WAITS, Outcome, add_key_option, carry_out, describe_pending, open_services, operator, say
from core.errors import Rejected, Unavailable, Violation
from hsm.keys import KeySpec
from jobs.views import JobView, ReplacementRequest, RowQuery
from pki.acts import REKEY, RENEW
from pki.enrolment import build_payload
from pki.status_views import RevocationReason
from pki.views import RekeyRequest, RenewalRequest

Model = TypeVar("Model", bound=BaseModel)
_BAR = 30
_KEYS = [spec.value for spec in KeySpec]


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    command = commands.add_parser("enrol", help="check every row of a CSV file; with --execute issue the certificates")
    command.add_argument("file", type=Path, help="columns: subscriber, profile, reference and key, csr, days as needed")
    command.add_argument("--execute", action="store_true", help="issue (without it nothing is done)")
    command.set_defaults(run=_enrol)

    command = commands.add_parser("replace", help="show, or with --execute replace, the certificates of an agency, key or profile")
    scope = command.add_mutually_exclusive_group(required=True)
    scope.add_argument("--agency", metavar="CODE")
    command.add_argument("--subtree", action="store_true", help="with --agency: also of every agency below it")
    scope.add_argument("--key-sha256", metavar="SHA256", help="SHA-256 of the SubjectPublicKeyInfo in hex")
    scope.add_argument("--profile")
    command.add_argument("--reason", choices=get_args(RevocationReason), default="superseded", help="default: superseded")
    command.add_argument("--reference", required=True, help="number and date of the written request")
    command.add_argument("--key", choices=_KEYS, default=KeySpec.P_256.value, help="the kind of the new keys")
    command.add_argument("--execute", action="store_true", help="replace (without it nothing is done)")
    command.set_defaults(run=_replace)

    command = commands.add_parser("job", help="show a job; go on with it, stop it or write its rows to a file")
    command.add_argument("number", type=int)
    command.add_argument(
        "--execute", action="store_true", help="execute it if it was only checked, and work on it until it is done"
    )
    command.add_argument("--cancel", action="store_true", help="do no further row")
    command.add_argument("--export", type=Path, metavar="FILE", help="write every row with its result as CSV")
    command.set_defaults(run=_job)

    command = commands.add_parser("renew", help="a successor of a certificate over the same key")
    command.add_argument("serial")
    command.add_argument("--reference", required=True, help="number and date of the written request")
    command.add_argument("--days", type=int)
    add_key_option(command)
    command.set_defaults(run=_renew)

    command = commands.add_parser("rekey", help="a successor of a certificate over a new key")
    command.add_argument("serial")
    command.add_argument("--reference", required=True, help="number and date of the written request")
    command.add_argument("--days", type=int)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--csr", type=Path, help="a PKCS#10 file in PEM")
    source.add_argument("--key", choices=_KEYS, help="generate a key of this kind in the token")
    add_key_option(command)
    command.set_defaults(run=_rekey)

    command = commands.add_parser("list-approvals", help="list what waits for approval; people decide over the API")
    command.set_defaults(run=_list_approvals)


def say_pending(pending: ApprovalView) -> int:
    """Tell that an act waits for approval; the exit code of a command that did not do it."""
    return say((WAITS, describe_pending(pending)))


def _enrol(options: argparse.Namespace) -> int:
    services = open_services()
    return _go_on(services, services.jobs.check_enrolments(options.file.read_bytes(), actor=operator()), execute=options.execute)


def _replace(options: argparse.Namespace) -> int:
    services = open_services()
    wanted = {"agency": options.agency, "spki_sha256": options.key_sha256, "profile": options.profile}
    wanted |= {"subtree": options.subtree, "reason": options.reason, "reference": options.reference, "key": options.key}
    request = _parsed(ReplacementRequest, **wanted)
    return _go_on(services, services.jobs.check_replacement(request, actor=operator()), execute=options.execute)


def _job(options: argparse.Namespace) -> int:
    services = open_services()
    if options.cancel:
        services.jobs.cancel(options.number, actor=operator())
    if options.export is not None:
        options.export.write_bytes(services.jobs.export(options.number))
    return _go_on(services, services.jobs.find(options.number), execute=options.execute)


def _renew(options: argparse.Namespace) -> int:
    request = _parsed(RenewalRequest, reference=options.reference, days=options.days)

    def renew(actor: Actor) -> Outcome:
        order, _ = services.enrolments.check_renewal(options.serial, request, actor)
        pending = services.approvals.ask(RENEW, {order.profile.name}, build_payload(order, request, options.serial), actor)
        if pending is not None:
            return WAITS, describe_pending(pending)
        return 0, services.enrolments.renew(options.serial, request, actor).pem

    with open_services() as services:
        return say(carry_out(services, options, renew))


def _rekey(options: argparse.Namespace) -> int:
    csr = None if options.csr is None else options.csr.read_text(encoding="ascii", errors="replace")
    request = _parsed(RekeyRequest, reference=options.reference, days=options.days, csr=csr, key=options.key)

    def rekey(actor: Actor) -> Outcome:
        order, _ = services.enrolments.check_rekey(options.serial, request, actor)
        pending = services.approvals.ask(REKEY, {order.profile.name}, build_payload(order, request, options.serial), actor)
        if pending is not None:
            return WAITS, describe_pending(pending)
        return 0, services.enrolments.rekey(options.serial, request, actor).pem

    with open_services() as services:
        return say(carry_out(services, options, rekey))


def _list_approvals(_: argparse.Namespace) -> int:
    services = open_services()
    for item in services.approvals.page(ApprovalQuery(state="pending", limit=1000)).approvals:
        until = f"{item.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        votes = f"{len(item.approvals)}/{item.needed}"
        print(item.id, item.requested_by, f"until {until}", votes, item.summary, item.payload_sha256, sep="\t")
    services.close()
    return 0


def _parsed(model: type[Model], **values: object) -> Model:
    """What was typed as a request; raises Rejected."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)
        raise Rejected.all([Violation(".".join(map(str, item["loc"])) or "request", item["msg"]) for item in wrong]) from error


def _go_on(services: Services, job: JobView, *, execute: bool) -> int:
    """Show what the job would do or did; with ``execute`` do it. 1 when a row was refused or failed."""
    if execute and job.state == "checked":
        _print_rows(services, job, "refused")
        answer = services.jobs.execute(job.id, actor=operator())
        if isinstance(answer, ApprovalView):
            return say_pending(answer)
        job = answer
    if execute and job.state == "running":
        job = _work(services, job)
        _print_rows(services, job, "failed")
    elif not execute:
        _print_rows(services, job, None)
    done = job.progress
    results = f"{done.total} rows, {done.done} done, {done.failed} failed, {done.refused} refused"
    print(f"job {job.id} ({job.kind}) is {job.state}: {results}")
    if job.state == "checked":
        rate = "as measured" if job.estimate.measured else "the bound, nothing was measured yet"
        speed = f"{job.estimate.rows_per_second:g}/s, {rate}"
        print(f"Nothing was done. The {done.ready} rows that are ready take about {job.estimate.seconds:.0f} s ({speed}):")
        print(f"condau job {job.id} --execute")
    services.close()
    return 1 if done.failed or done.refused else 0


def _work(services: Services, job: JobView) -> JobView:
    """Work on the job until it has ended, beside the service's own workers, with a progress bar on a terminal."""
    while job.state == "running":
        try:
            services.jobs.work(seconds=1.0)
        except Unavailable as error:
            print(f"condau: {error.detail}; it goes on as soon as it can", file=sys.stderr)
        job = services.jobs.wait(job.id)
        if sys.stderr.isatty():
            ended = job.progress.total - job.progress.ready - job.progress.working
            bar = "#" * round(_BAR * ended / job.progress.total)
            told = f"{ended}/{job.progress.total}, {job.progress.failed} failed, {job.estimate.seconds:.0f} s left"
            print(f"\r[{bar:<{_BAR}}] {told}\x1b[K", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return job


def _print_rows(services: Services, job: JobView, state: str | None) -> None:
    query: RowQuery | None = RowQuery.model_validate({"state": state, "limit": 1000})
    while query is not None:
        page = services.jobs.rows(job.id, query)
        for row in page.rows:
            about = row.input.get("subscriber", "")
            print(f"{row.number}\t{row.state}\t{about}\t{row.serial or ''}\t{row.detail}")
        query = None if page.next is None else query.model_copy(update={"after": page.next})
