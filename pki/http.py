"""Routes of the certificate authorities: issue, look up; and for everybody their certificates."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import falcon
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from approvals.http import send_pending
from approvals.service import Approvals
from approvals.views import ApprovalView
from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Malformed, NotFound, Unavailable
from core.signatures import fitting_hash
from pki.acts import ISSUE
from pki.ca import to_pem
from pki.certificates import (
    authority_certificate,
    authority_chain,
    authority_named,
    certificate_with_serial,
    signing_identities,
)
from pki.enrolment import Enrolments, build_payload, build_request
from pki.export import parse_search, summarise, summary_fields
from pki.inventory import find_page
from pki.views import (
    CertificateDetail,
    CertificatePage,
    CertificateQuery,
    CertificateRequest,
    IssueOptions,
    Signer,
    SignerList,
)
from registry.models import Role
from web.operation import PUBLIC, Document, operation, send_json

PEM_TYPE: Final = "application/x-pem-file"
CSR_TYPE: Final = "application/pkcs10"
_LIMIT: Final = 65_536
_JSON: Final = falcon.MEDIA_JSON


class Certificates:
    """``/v1/certificates``."""

    def __init__(self, *, enrolments: Enrolments, approvals: Approvals, database: Database, now: Now) -> None:
        self._enrolments = enrolments
        self._approvals = approvals
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="Search the certificates",
        tag="certificates",
        query=CertificateQuery,
        returns=CertificatePage,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: CertificateQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        at = self._now()
        with self._database.read() as db:
            page = find_page(db, parse_search(options, at), at)
        send_json(resp, CertificatePage(certificates=[summarise(row, at) for row in page.certificates], next=page.next))

    @operation(
        roles={Role.ADMIN},
        summary="Issue a certificate",
        description=(
            "From a bare PKCS #10 request (PEM or DER) with profile and subscriber as query parameters, or from JSON with the "
            f"request or the kind of key to make in the HSM. With `Accept: {PEM_TYPE}` the answer is the certificate in PEM. "
            "The certificate's name comes from the registry: the one in the request has no effect. Where `approvals.issue` names "
            "the profile the answer is 202 and the approval it waits for."
        ),
        tag="certificates",
        query=IssueOptions,
        body=Document(CSR_TYPE, limit=_LIMIT, multipart=False, also=CertificateRequest),
        returns=CertificateDetail,
        status=201,
        problems=(Malformed, Conflict, Unavailable),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,
        options: IssueOptions | None,
        document: bytes | None,
        body: CertificateRequest | None,
    ) -> None:
        """Issue, and answer with the certificate."""
        wanted = body or build_request(options, document)
        if self._approvals.active:
            order = self._enrolments.check(wanted, actor)
            pending = self._approvals.ask(ISSUE, {order.profile.name}, build_payload(order, wanted), actor)
            if pending is not None:
                send_pending(resp, pending)
                return
        issued = self._enrolments.issue(wanted, actor)
        resp.location = f"/v1/certificates/{issued.serial}"
        send_certificate(self._database, issued.serial, self._now(), req, resp)


class CertificateView:
    """``/v1/certificates/{serial}``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN, Role.AUDITOR, Role.CLIENT},
        summary="Look up one certificate",
        description=f"With `Accept: {PEM_TYPE}` the answer is the certificate in PEM.",
        tag="certificates",
        returns=CertificateDetail,
        problems=(NotFound,),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the certificate and its standing."""
        send_certificate(self._database, serial, self._now(), req, resp)


class Signers:
    """``/v1/signers``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(roles={Role.CLIENT}, summary="List what the caller may sign with", tag="signatures", returns=SignerList)
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:
        """Answer with one valid certificate for each subscriber granted to the caller."""
        with self._database.read() as db:
            identities = signing_identities(db, client=actor.name, at=self._now())
        signers = [
            Signer(
                signer=identity.subscriber or identity.serial,
                serial=identity.serial,
                profile=identity.profile,
                subject=identity.certificate.subject.rfc4514_string(),
                not_after=identity.certificate.not_valid_after_utc,
                pem=to_pem(identity.certificate),
                digest_algorithm=fitting_hash(identity.certificate.public_key()).name,
                chain=[to_pem(issuer) for issuer in identity.chain],
            )
            for identity in identities
        ]
        send_json(resp, SignerList(signers=signers))


class AuthorityFile:
    """``/ca/{name}.cer`` and ``/ca/{name}.pem``."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @operation(
        roles=PUBLIC,
        summary="Fetch an authority's certificate",
        description="`{name}.cer` in DER (where certificates point to), `{name}.pem` in PEM.",
        tag="status",
        returns="application/pkix-cert",
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, file: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the file."""
        name, _dot, kind = file.rpartition(".")
        if kind not in ("cer", "pem"):
            raise NotFound("file", "an authority's certificate is at /ca/{name}.cer (DER) or /ca/{name}.pem")
        with self._database.read() as db:
            certificate = authority_certificate(authority_named(db, name))
        if kind == "pem":
            _send_pem(resp, certificate)
        else:
            resp.content_type = "application/pkix-cert"
            resp.data = certificate.public_bytes(Encoding.DER)


def send_certificate(database: Database, serial: str, at: datetime, req: falcon.Request, resp: falcon.Response) -> None:
    with database.read() as db:
        row = certificate_with_serial(db, serial)
        certificate = None if row.der is None else x509.load_der_x509_certificate(row.der)
        chain = [] if row.profile == "root" else authority_chain(db, row.authority_id)
        fields = summary_fields(row, at)
        rules = ("request_reference", "profile_version", "profile_sha256", "lints")
        fields |= {name: getattr(row, name) for name in rules}
    if req.client_prefers((_JSON, PEM_TYPE)) == PEM_TYPE:
        if certificate is None:
            raise NotFound("serial", f"the issuance of {row.serial} was never completed: there is no such certificate")
        _send_pem(resp, certificate)
        return
    pem = "" if certificate is None else to_pem(certificate)
    send_json(resp, CertificateDetail.model_validate({**fields, "pem": pem, "chain": [to_pem(issuer) for issuer in chain]}))


def _send_pem(resp: falcon.Response, certificate: x509.Certificate) -> None:
    resp.content_type = PEM_TYPE
    resp.data = to_pem(certificate).encode()
