"""The HTTP API: middleware, error mapping and the table of routes, grouped by who they are for."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import falcon

import web
from approvals import http as approvals
from batches import http as batches
from bootstrap import Services, build_page_finder
from jobs import http as jobs
from notices import http as notices
from pki import http as pki
from pki import http_domains as domains
from pki import http_enrolment as enrolment
from pki import http_inventory as inventory
from pki import http_ocsp as ocsp
from pki import http_profiles
from pki import http_status as status
from registry import http as registry
from registry import http_agencies, http_callers
from signer import http as signer
from signer import http_activation, http_archive, http_digests, http_looks, http_numbers
from tsa import http as tsa
from verifier import http as verifier
from verifier import http_pages
from verifier.pages import Site
from web import problems
from web.access import ApiKeys, Shell
from web.body import Spool
from web.express_shell import ExpressService, ExpressShell
from web.health import Liveness, Ready
from web.metrics import MetricsText, OpenMetricsText
from web.openapi import build_openapi, endpoints_of
from web.pages import Reference, ReferencePage

Routes = list[tuple[str, Any]]
App = falcon.App[falcon.Request, falcon.Response]


def route_table(services: Services) -> Routes:
    """Every path and the resource that serves it; each responder declares who may call it."""
    for_everybody: Routes = [
        ("/healthz", Liveness()),
        ("/readyz", Ready(services.checks, services.further_checks)),
        ("/metrics", (OpenMetricsText if services.config.metrics.open else MetricsText)(render=services.render_metrics)),
        ("/tsa", tsa.Timestamps(reception=services.reception)),
        ("/tsa/policy", tsa.PolicyPage(config=services.config)),
        ("/tsa/{unit}", tsa.UnitTimestamps(reception=services.reception)),
        ("/ocsp", ocsp.OcspPost(responder=services.ocsp)),
        ("/ocsp/{request:path}", ocsp.OcspGet(responder=services.ocsp, now=services.now)),
        ("/crl/{file}", status.CrlFile(publisher=services.crl)),
        ("/crl/{file}/{part}", status.CrlPartFile(publisher=services.crl)),
        ("/v1/crls/{authority}", status.CrlArchive(publisher=services.crl)),
        ("/v1/revocation-grounds", status.Grounds()),
        ("/ca/{file}", pki.AuthorityFile(database=services.database)),
        ("/v1/verifications", verifier.Verifications(verifier=services.verifier)),
        *_page_routes(services),
    ]
    for_client_systems: Routes = [
        ("/v1/signatures/pdf", signer.PdfSignatures(signer=services.signer)),
        ("/v1/signatures/pdf/extend", http_archive.Extensions(extender=services.extender)),
        ("/v1/archive/plan", http_archive.ArchivePlans(plan=services.plan)),
        ("/v1/signatures/xml", signer.XmlSignatures(signer=services.signer)),
        ("/v1/signatures/digest", http_digests.DigestSignatures(signer=services.digests)),
        ("/v1/signatures/validation-material", http_digests.ValidationMaterials(signer=services.digests)),
        *_batch_routes(services),
        *_gate_routes(services),
        ("/v1/signers", pki.Signers(database=services.database, now=services.now)),
    ]
    for_admins_and_auditors: Routes = [
        ("/v1/certificates", pki.Certificates(**_enrolling(services))),
        ("/v1/certificates/export", inventory.CertificateExport(database=services.database, now=services.now)),
        ("/v1/certificates/summary", inventory.CertificateSummaries(database=services.database, now=services.now)),
        ("/v1/certificates/{serial}", pki.CertificateView(database=services.database, now=services.now)),
        ("/v1/certificates/{serial}/revocation", status.Revocation(**_revoking(services))),
        ("/v1/certificates/{serial}/suspension", status.Suspension(revocations=services.revocations)),
        ("/v1/certificates/{serial}/resumption", status.Resumption(**_revoking(services))),
        ("/v1/certificates/{serial}/renewal", enrolment.Renewal(**_enrolling(services))),
        ("/v1/certificates/{serial}/rekey", enrolment.Rekey(**_enrolling(services))),
        ("/v1/certificates/{serial}/status", status.CertificateStatus(history=services.history)),
        ("/v1/ocsp-answers", ocsp.RecordedOcspAnswers(database=services.database)),
        ("/v1/revocations", status.RevocationCollection(**_revoking(services))),
        ("/v1/revocations/{receipt}", status.RevocationView(revocations=services.revocations)),
        ("/v1/deliveries", notices.Deliveries(database=services.database)),
        ("/v1/deliveries/{identifier:int}/redelivery", notices.Redelivery(database=services.database, now=services.now)),
        ("/v1/contacts/{kind}/{name}", notices.ContactResource(database=services.database, now=services.now)),
        *_registry_routes(services),
        *_look_routes(services),
        ("/v1/profiles", http_profiles.Profiles(profiles=services.ca.profiles)),
        *_approval_and_job_routes(services),
        ("/v1/trust-anchors", domains.Anchors(database=services.database, now=services.now)),
        ("/v1/trust-anchors/{sha256}", domains.AnchorView(database=services.database, now=services.now)),
        ("/v1/external-certificates", domains.Externals(externals=services.externals)),
        ("/v1/external-certificates/{number}/certificate", domains.ExternalImport(externals=services.externals)),
        ("/v1/external-certificates/{number}/withdrawal", domains.ExternalWithdrawal(externals=services.externals)),
        ("/v1/timestamps", tsa.RecordedTimestamps(database=services.database)),
        ("/v1/timestamps/{serial}", tsa.RecordedTimestamp(database=services.database)),
        ("/v1/audit-entries", registry.AuditEntries(database=services.database)),
    ]
    return for_client_systems + for_everybody + for_admins_and_auditors


def _page_routes(services: Services) -> Routes:
    """Verification for people."""
    config = services.config
    site = Site(config.public_url, config.tsa.operator, config.development, config.server.document_limit)
    find = build_page_finder(services.database, services.now)
    counter = http_pages.Counter(verifier=services.verifier, find=find, site=site, threads=config.server.threads)
    return [("/verify", http_pages.VerificationForm(counter)), ("/verify/{code}", http_pages.SignaturePage(counter))]


def _batch_routes(services: Services) -> Routes:
    """Many signatures in one call."""
    parts: dict[str, Any] = {"batches": services.batches, "worker": services.batch_worker}
    one = "/v1/signatures/batches/{identifier:int}"
    return [
        ("/v1/signatures/batches", batches.BatchCollection(**parts)),
        (one, batches.BatchDetail(**parts)),
        (f"{one}/items", batches.BatchItems(batches=services.batches)),
        (f"{one}/items/{{number:int}}/document", batches.BatchItemDocument(batches=services.batches)),
        (f"{one}/cancellation", batches.BatchCancellation(batches=services.batches)),
    ]


def _gate_routes(services: Services) -> Routes:
    """What an official signature takes beside the document: a number, an activated key, who may sign."""
    holding: dict[str, Any] = {"holders": services.holders, "approvals": services.approvals}
    holder = "/v1/subscribers/{handle}/activation-holders"
    numbers: dict[str, Any] = {"register": services.register, "database": services.database, "now": services.now}
    recorded = {"authorisations": services.authorisations}
    return [
        ("/v1/activations", http_activation.ActivationCollection(activations=services.activations)),
        ("/v1/activations/pin", http_activation.ActivationPin(activations=services.activations)),
        ("/v1/documents/hygiene", http_activation.Hygiene(config=services.config.signer.hygiene)),
        (holder, http_activation.HolderCollection(**holding)),
        (holder + "/{person}", http_activation.Holder(**holding)),
        (holder + "/{person}/unlocking", http_activation.HolderUnlocking(**holding)),
        ("/v1/agencies/{code}/numbers", http_numbers.Numbers(**numbers)),
        ("/v1/agencies/{code}/numbers/return", http_numbers.NumberReturn(register=services.register)),
        ("/v1/agencies/{code}/numbers/void", http_numbers.NumberVoid(register=services.register)),
        ("/v1/agencies/{code}/signing-rules", http_numbers.AgencyRule(**recorded)),
        ("/v1/agencies/{code}/authorisations", http_numbers.AgencyAuthorisations(**recorded)),
        ("/v1/authorisations/{identifier:int}/withdrawal", http_numbers.AuthorisationWithdrawal(**recorded)),
    ]


def _look_routes(services: Services) -> Routes:
    """What official signatures are drawn with."""
    kept = {"gallery": services.gallery}
    return [
        ("/v1/agencies/{code}/looks", http_looks.AgencyLooks(**kept)),
        ("/v1/agencies/{code}/looks/{name}", http_looks.AgencyLookResource(**kept)),
        ("/v1/agencies/{code}/seal", http_looks.AgencyPicture(source="seal", **kept)),
        ("/v1/agencies/{code}/logo", http_looks.AgencyPicture(source="logo", **kept)),
        ("/v1/subscribers/{handle}/signature-image", http_looks.SubscriberPicture(source="signature", **kept)),
        ("/v1/subscribers/{handle}/initials-image", http_looks.SubscriberPicture(source="initials", **kept)),
    ]


def _registry_routes(services: Services) -> Routes:
    """Agencies, subscribers and callers; each resource is made of the database and the clock."""

    def gated(role: str) -> bool:
        return services.approvals.needs("client.role", {role})

    resources: dict[str, Any] = {
        "/v1/agencies": http_agencies.Agencies,
        "/v1/agencies/{code}": http_agencies.AgencyResource,
        "/v1/agencies/{code}/names": http_agencies.AgencyNames,
        "/v1/agencies/{code}/parent": http_agencies.AgencyPlace,
        "/v1/agencies/{code}/merger": http_agencies.AgencyMergers,
        "/v1/agencies/{code}/closure": http_agencies.AgencyClosures,
        "/v1/subscribers": http_agencies.Subscribers,
        "/v1/subscribers/{handle}": http_agencies.SubscriberResource,
        "/v1/clients": functools.partial(http_callers.Callers, needs_approval=gated),
        "/v1/clients/{name}": http_callers.Caller,
        "/v1/clients/{name}/disablement": http_callers.CallerDisablement,
        "/v1/clients/{name}/grants/{subscriber}": http_callers.CallerGrant,
    }
    return [(path, kind(database=services.database, now=services.now)) for path, kind in resources.items()]


def _approval_and_job_routes(services: Services) -> Routes:
    """Four eyes, and work in bulk."""
    resources = {"approvals": services.approvals}
    return [
        ("/v1/approvals", approvals.ApprovalList(**resources)),
        ("/v1/approvals/{identifier:int}", approvals.ApprovalDetail(**resources)),
        ("/v1/approvals/{identifier:int}/approval", approvals.ApprovalConsent(**resources)),
        ("/v1/approvals/{identifier:int}/rejection", approvals.ApprovalRejection(**resources)),
        ("/v1/approvals/{identifier:int}/withdrawal", approvals.ApprovalWithdrawal(**resources)),
        ("/v1/clients/{name}/role", approvals.ClientRole(clients=services.clients, **resources)),
        (
            "/v1/profiles/{name}/activation",
            enrolment.ProfileActivation(changes=services.profile_changes, approvals=services.approvals),
        ),
        ("/v1/jobs", jobs.JobList(jobs=services.jobs)),
        ("/v1/jobs/enrolments", jobs.EnrolmentJobs(jobs=services.jobs)),
        ("/v1/jobs/replacements", jobs.ReplacementJobs(jobs=services.jobs)),
        ("/v1/jobs/{identifier:int}", jobs.JobDetail(jobs=services.jobs)),
        ("/v1/jobs/{identifier:int}/rows", jobs.JobRows(jobs=services.jobs)),
        ("/v1/jobs/{identifier:int}/execution", jobs.JobExecution(jobs=services.jobs)),
        ("/v1/jobs/{identifier:int}/cancellation", jobs.JobCancellation(jobs=services.jobs)),
    ]


def _enrolling(services: Services) -> dict[str, Any]:
    """What routes that issue are made of."""
    own = {"enrolments": services.enrolments, "approvals": services.approvals}
    return {**own, "database": services.database, "now": services.now}


def _revoking(services: Services) -> dict[str, Any]:
    """What routes that revoke are made of."""
    return {"revocations": services.revocations, "acts": services.revocation_acts, "approvals": services.approvals}


def create_app(services: Services) -> App:
    """The WSGI application over ``services``."""
    server = services.config.server
    spool = Spool(server.spool, server.document_limit)
    shell = Shell(access=ApiKeys(database=services.database), body_limit=server.body_limit, spool=spool)
    app: App = falcon.App(middleware=[shell], sink_before_static_route=False)
    problems.install(app)
    routes = route_table(services)
    endpoints = list(endpoints_of(routes))

    @functools.cache
    def document() -> dict[str, Any]:
        return build_openapi(endpoints, version=importlib.metadata.version("condau"), public_url=services.config.public_url)

    routes += [("/v1/openapi.json", Reference(document)), ("/docs", ReferencePage(document))]
    for path, resource in routes:
        app.add_route(path, resource)
    app.add_static_route("/static", Path(web.__file__).parent / "static")
    app.add_sink(problems.refuse_route)
    return app


def create_express(services: Services) -> ExpressShell:
    """What answers on the express lane: time-stamps and OCSP."""
    rooms: list[ExpressService] = [
        tsa.ExpressTimestamps(reception=services.reception),
        ocsp.ExpressOcsp(responder=services.ocsp),
    ]
    return ExpressShell(services=rooms, access=ApiKeys(database=services.database))
