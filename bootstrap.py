"""Wiring: the one place where configuration becomes objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

import sqlalchemy as sa

from approvals.service import Act, Approvals, Payload
from audit.log import Actor
from batches.passwords import PasswordSeal
from batches.service import Batches
from batches.spool import BatchSpool
from batches.work import BatchWorker
from core.clock import Now, system_now
from core.content import Content
from core.db import Database
from core.errors import Unavailable
from core.housekeeping import Task
from core.metrics import Metrics
from core.settings import Config
from hsm.token import Token
from jobs.kinds import EnrolmentKind, ReplacementKind
from jobs.service import Jobs
from migrations.schema import is_current
from notices.courier import Courier
from pki.acts import RevocationActs, build_acts
from pki.ca import CertificateAuthority
from pki.ceremony import Ceremony
from pki.crl import CrlPublisher
from pki.enrolment import Enrolments
from pki.external import ExternalCertificates
from pki.fetch import Fetcher
from pki.material import ValidationMaterial
from pki.ocsp import OcspResponder
from pki.profile_changes import ProfileChanges
from pki.reminders import Reminders
from pki.responders import Responders
from pki.revocation import Revocations
from pki.status import StatusHistory
from pki.summary import refresh_counts
from pki.watch import Watcher
from registry.clients import Clients
from signer.activation import Activations
from signer.activation_holders import ActivationHolders
from signer.authorisations import Authorisations
from signer.digests import DigestSigner
from signer.extend import Extender, FindBroken
from signer.gallery import Gallery
from signer.gates import FindSignatures, Gates
from signer.leaders import SignatureFound
from signer.levels import Levels
from signer.plan import ArchivePlan
from signer.register import Register
from signer.service import Signer
from signer.verification_pages import find_page
from tsa.authority import TimestampAuthority
from tsa.clock import TrustedClock, build_sources
from tsa.clock_events import ClockEvents
from tsa.limits import Limits
from tsa.reception import Reception
from tsa.succession import Succession
from verifier.pages import FindPage, SignatureOnPaper
from verifier.service import Verifier
from verifier.verdict import Indication, Severity, SignatureVerdict, SubIndication
from web.health import Check
from web.idempotency import StoredAnswers

UNDECIDED_AFTER: Final = timedelta(minutes=2)
"""An intent older than this belongs to a process that is gone: no request lives so long. Should one, its result is refused."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the API and the command line work with."""

    config: Config
    database: Database
    token: Token
    now: Now
    ca: CertificateAuthority
    crl: CrlPublisher
    ceremony: Ceremony
    externals: ExternalCertificates
    revocations: Revocations
    history: StatusHistory
    watcher: Watcher
    responders: Responders
    clients: Clients
    enrolments: Enrolments
    profile_changes: ProfileChanges
    revocation_acts: RevocationActs
    approvals: Approvals
    jobs: Jobs
    answers: StoredAnswers
    ocsp: OcspResponder
    clock: TrustedClock
    tsa: TimestampAuthority
    reception: Reception
    metrics: Metrics
    units: Succession
    signer: Signer
    extender: Extender
    plan: ArchivePlan
    gallery: Gallery
    register: Register
    activations: Activations
    holders: ActivationHolders
    authorisations: Authorisations
    digests: DigestSigner
    batches: Batches
    batch_worker: BatchWorker
    verifier: Verifier
    reminders: Reminders
    courier: Courier

    @property
    def checks(self) -> Mapping[str, Check]:
        """What must work for the service to be ready."""
        return {"database": self._check_database, "hsm": self.token.probe}

    @property
    def further_checks(self) -> Mapping[str, Check]:
        """What time-stamps need and nothing else."""
        return {"clock": self.clock.check}

    @property
    def housekeeping(self) -> Mapping[str, Task]:
        """What is done without being asked."""
        return {
            "reconcile": lambda: self.reconcile(self.now() - UNDECIDED_AFTER),
            "crl": self.crl.refresh,
            "units": self.units.refresh,
            "responders": self.responders.renew,
            "watch": self.watcher.look,
            "reminders": self.reminders.remind,
            "archive": self.plan.remind,
            "deliveries": self.courier.deliver,
            "old deliveries": self.courier.prune,
            "counts": lambda: refresh_counts(self.database, self.now()),
            "batches": self.batches.clean,
        }

    @property
    def background_work(self) -> Mapping[str, Task]:
        """What is worked on without pause while there is some; apart from the housekeeping, which must not wait for it."""
        return {"jobs": self.jobs.work}

    @property
    def signing_work(self) -> Mapping[str, Task]:
        """The same for batches, which do not wait for jobs."""
        return {"batches": self.batch_worker.work}

    def reconcile(self, before: datetime) -> int:
        """Settle every intent written before ``before`` that has no result; returns how many there were."""
        settled = self.ca.reconcile(before) + self.crl.reconcile(before) + self.signer.reconcile(before)
        return settled + self.approvals.reconcile(before) + self.answers.reconcile(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def render_metrics(self) -> bytes:
        """What Prometheus is told, the clock as it is at this moment."""
        state = self.clock.state()
        self.metrics.clock_trusted.set(state.trusted)
        self.metrics.clock_offset.set(math.nan if state.offset is None else state.offset)
        self.metrics.clock_bound.set(math.nan if state.bound is None else state.bound)
        return self.metrics.render()

    def close(self) -> None:
        """Give back the token and the database connections."""
        self.clock.close()
        self.watcher.stop()
        self.token.close()
        self.database.close()

    def _check_database(self) -> None:
        with self.database.read() as db:
            db.execute(sa.text("SELECT 1"))
        if not is_current(self.database):
            raise Unavailable("database", "the schema is not the one this version needs: run `condau init` again")


def build(config: Config, *, now: Now = system_now, metrics: Metrics | None = None) -> Services:
    """The services of one process. Nothing is opened yet but the configuration; call it after a fork, never before.

    ``metrics``: where it counts; by default in memory, for itself.
    """
    metrics = metrics or Metrics()
    database = Database(config.database_url, pool_size=config.server.threads + 2)
    token = Token(config.hsm)
    crl = CrlPublisher(database=database, keys=token, now=now, config=config)
    clock = TrustedClock(
        sources=build_sources(config.tsa.clock),
        config=config.tsa.clock,
        accuracy_milliseconds=config.tsa.accuracy_milliseconds,
        events=ClockEvents(database=database, now=now),
    )
    tsa = TimestampAuthority(
        database=database, keys=token, now=clock.now, config=config.tsa, at_once=config.hsm.sessions, metrics=metrics
    )
    limits = Limits(database=database, now=now, config=config.tsa.limits, workers=config.server.workers)
    database.committed = metrics.committed
    ca = CertificateAuthority(database=database, keys=token, now=now, config=config)
    watcher = Watcher(database=database, now=now, config=config)
    revocations = Revocations(database=database, crl=crl, now=now, changed=watcher.nudge)
    clients = Clients(database=database, now=now)
    enrolments = Enrolments(authority=ca, database=database, now=now, config=config)
    profile_changes = ProfileChanges(database=database, now=now, profiles=ca.profiles)
    revocation_acts = RevocationActs(database=database, revocations=revocations)

    def execute_job(payload: Payload, actor: Actor) -> Payload:
        return jobs.perform(payload, actor)

    acts = [
        *build_acts(enrolments, revocation_acts, profile_changes),
        Act("client.role", ("role",), clients.change_role, lambda payload: f"Đổi vai trò của {payload['client']}: {payload['to']}"),
        Act("job.enrolment", ("issue",), execute_job, _describe_job),
        Act("job.replacement", ("issue", "revoke"), execute_job, _describe_job),
    ]
    holders = ActivationHolders(database=database, now=now)
    acts += holders.acts()
    approvals = Approvals(database=database, now=now, config=config.approvals, acts=acts)
    jobs = Jobs(
        database=database,
        now=now,
        config=config.jobs,
        approvals=approvals,
        enrolment=EnrolmentKind(enrolments),
        replacement=ReplacementKind(
            enrolments,
            database=database,
            revoke=lambda serial, reason, actor: revocations.revoke(serial, reason=reason, actor=actor),
            now=now,
        ),
    )
    responder = OcspResponder(database=database, keys=token, now=now, config=config)
    fetch = Fetcher(config.pki.fetch) if config.pki.fetch.hosts else None
    material = ValidationMaterial(database=database, ocsp_responder=responder, crl=crl, now=now, fetch=fetch)
    plan = ArchivePlan(database=database, now=now, config=config)
    levels = Levels(now=now, stamper=tsa, material=material, plan=plan, when_away=config.signer.when_material_is_away)
    verifier = Verifier(database=database, now=now)
    gates = Gates(database=database, now=now, config=config.signer, find_signatures=build_signature_finder(verifier))
    gallery = Gallery(database=database, now=now, font=config.signer.font, public_url=config.public_url)
    signer = Signer(
        database=database,
        keys=token,
        now=now,
        stamp=tsa.stamp,
        levels=levels,
        gates=gates,
        gallery=gallery,
        font=config.signer.font,
    )
    digests = DigestSigner(database=database, keys=token, now=now, stamp=tsa.stamp, levels=levels, gates=gates)
    batch_spool, seal = BatchSpool(config.server.spool / "batches"), PasswordSeal(config.batches.key_file)
    return Services(
        config=config,
        database=database,
        token=token,
        now=now,
        ca=ca,
        crl=crl,
        revocations=revocations,
        clients=clients,
        enrolments=enrolments,
        profile_changes=profile_changes,
        revocation_acts=revocation_acts,
        approvals=approvals,
        jobs=jobs,
        answers=StoredAnswers(database=database, now=now),
        history=StatusHistory(database=database, now=now, config=config),
        watcher=watcher,
        ceremony=Ceremony(database=database, keys=token, now=now, config=config, ca=ca, crl=crl),
        externals=ExternalCertificates(database=database, keys=token, now=now),
        responders=Responders(database=database, ca=ca, now=now),
        ocsp=responder,
        clock=clock,
        tsa=tsa,
        reception=Reception(authority=tsa, limits=limits, metrics=metrics),
        metrics=metrics,
        units=Succession(database=database, ca=ca, now=now, units=tsa.units),
        signer=signer,
        gallery=gallery,
        digests=digests,
        batches=Batches(
            database=database,
            now=now,
            spool=batch_spool,
            seal=seal,
            digests=digests,
            activation=config.signer.activation,
            config=config.batches,
        ),
        batch_worker=BatchWorker(
            database=database,
            now=now,
            spool=batch_spool,
            seal=seal,
            signer=signer,
            digests=digests,
            threads=config.hsm.sessions + 1,
        ),
        extender=Extender(
            database=database,
            now=now,
            levels=levels,
            stamper=tsa,
            material=material,
            plan=plan,
            find_broken=build_broken_finder(verifier),
        ),
        plan=plan,
        verifier=verifier,
        register=Register(database=database, now=now),
        activations=Activations(database=database, now=now, config=config.signer.activation),
        holders=holders,
        authorisations=Authorisations(database=database, now=now),
        reminders=Reminders(database=database, config=config.notices, now=now),
        courier=Courier(database=database, config=config.notices, now=now),
    )


def build_signature_finder(verifier: Verifier) -> FindSignatures:
    """What the signer's gates ask the verifier: the signatures of a PDF and its word on each."""

    def find(document: Content, password: str | None) -> list[SignatureFound]:
        return [_as_found(verdict) for verdict in verifier.verify(document, password=password).signatures]

    return find


def build_page_finder(database: Database, now: Now) -> FindPage:
    """What the verification page asks the signer: the published signature that a code leads to."""

    def find(code: str) -> SignatureOnPaper | None:
        with database.read() as db:
            return find_page(db, code, now())

    return find


def build_broken_finder(verifier: Verifier) -> FindBroken:
    """What the extension of signatures asks the verifier: which are broken for good."""

    def find(document: Content, password: str | None) -> list[str]:
        verdicts = verifier.verify(document, password=password).signatures
        return [f"{one.name}: {one.message.en}" for one in verdicts if _is_past_help(one)]

    return find


def _is_past_help(verdict: SignatureVerdict) -> bool:
    """Broken; or of a certificate that is revoked by now, and without a timestamp that might prove it older."""
    late = verdict.sub_indication in {SubIndication.REVOKED_NO_POE, SubIndication.REVOKED_CA_NO_POE}
    return verdict.indication is Indication.TOTAL_FAILED or (late and not verdict.timestamps)


def _as_found(verdict: SignatureVerdict) -> SignatureFound:
    problems = [item for item in (*verdict.changes, *verdict.findings) if item.severity is Severity.ERROR]
    ranges = verdict.coverage.byte_range if verdict.coverage is not None else None
    return SignatureFound(
        name=verdict.name,
        valid=verdict.indication is Indication.TOTAL_PASSED,
        failed=verdict.indication is Indication.TOTAL_FAILED,
        why=problems[0].text.en if problems else verdict.message.en,
        domain=None if verdict.chain is None else verdict.chain.domain,
        issuer=None if verdict.signer is None else verdict.signer.issuer,
        serial=None if verdict.signer is None else verdict.signer.serial,
        at=verdict.proven_at or verdict.claimed_at,
        contents=(0, 0) if ranges is None else (ranges[1], ranges[2]),
    )


def _describe_job(payload: Payload) -> str:
    what = "Cấp hàng loạt" if "reason" not in payload["options"] else "Thay thế hàng loạt"
    return f"{what}: {payload['rows']} chứng thư ({', '.join(payload['profiles'])}), công việc số {payload['job']}"
