"""The HTTP API: middleware, error mapping and the table of routes, grouped by who they are for."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import falcon

import web
from bootstrap import Services
from pki import http as pki
from registry import http as registry
from signer import http as signer
from tsa import http as tsa
from verifier import http as verifier
from web import problems
from web.access import ApiKeys, Shell
from web.express_shell import ExpressShell
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
        ("/readyz", Ready(services.checks)),
        ("/metrics", (OpenMetricsText if services.config.metrics.open else MetricsText)(render=services.render_metrics)),
        ("/tsa", tsa.Timestamps(reception=services.reception)),
        ("/tsa/policy", tsa.PolicyPage(config=services.config)),
        ("/tsa/{unit}", tsa.UnitTimestamps(reception=services.reception)),
        ("/ocsp", pki.OcspPost(responder=services.ocsp)),
        ("/ocsp/{request:path}", pki.OcspGet(responder=services.ocsp)),
        ("/crl/{file}", pki.CrlFile(publisher=services.crl)),
        ("/ca/{file}", pki.AuthorityFile(database=services.database)),
        ("/v1/verifications", verifier.Verifications(verifier=services.verifier)),
    ]
    for_client_systems: Routes = [
        ("/v1/signatures/pdf", signer.PdfSignatures(signer=services.signer)),
        ("/v1/signatures/xml", signer.XmlSignatures(signer=services.signer)),
        ("/v1/signers", pki.Signers(database=services.database, now=services.now)),
    ]
    for_admins_and_auditors: Routes = [
        ("/v1/certificates", pki.Certificates(authority=services.ca, database=services.database)),
        ("/v1/certificates/{serial}", pki.CertificateView(database=services.database)),
        ("/v1/certificates/{serial}/revocation", pki.Revocation(authority=services.ca)),
        ("/v1/timestamps", tsa.RecordedTimestamps(database=services.database)),
        ("/v1/timestamps/{serial}", tsa.RecordedTimestamp(database=services.database)),
        ("/v1/audit-entries", registry.AuditEntries(database=services.database)),
    ]
    return for_client_systems + for_everybody + for_admins_and_auditors


def create_app(services: Services) -> App:
    """The WSGI application over ``services``."""
    shell = Shell(access=ApiKeys(database=services.database), body_limit=services.config.server.body_limit)
    app: App = falcon.App(middleware=[shell], sink_before_static_route=False)
    problems.install(app)
    routes = route_table(services)
    version = importlib.metadata.version("condau")
    document = build_openapi(endpoints_of(routes), version=version, public_url=services.config.public_url)
    routes += [("/v1/openapi.json", Reference(document)), ("/docs", ReferencePage(document))]
    for path, resource in routes:
        app.add_route(path, resource)
    app.add_static_route("/static", Path(web.__file__).parent / "static")
    app.add_sink(problems.refuse_route)
    return app


def create_express(services: Services) -> ExpressShell:
    """What answers on the express lane: time-stamps."""
    return ExpressShell(service=tsa.ExpressTimestamps(reception=services.reception), access=ApiKeys(database=services.database))
