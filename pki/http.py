"""Routes of the certificate authorities: issue, look up, revoke; and for everybody their certificates, CRLs and OCSP."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import falcon
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy.orm import joinedload

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Malformed, NotFound, Rejected, Unavailable
from pki.ca import CertificateAuthority, to_pem
from pki.certificates import (
    authority_certificate,
    authority_chain,
    authority_named,
    certificate_with_serial,
    signing_identities,
)
from pki.crl import CrlPublisher
from pki.models import Certificate
from pki.ocsp import OcspResponder
from pki.views import (
    CertificateDetail,
    CertificatePage,
    CertificateQuery,
    CertificateRequest,
    CertificateSummary,
    IssueOptions,
    RevocationReceipt,
    RevocationRequest,
    Signer,
    SignerList,
)
from registry.models import Role, Subscriber
from web.operation import PUBLIC, Document, operation, send_json

PEM_TYPE: Final = "application/x-pem-file"
CSR_TYPE: Final = "application/pkcs10"
OCSP_REQUEST: Final = "application/ocsp-request"
OCSP_RESPONSE: Final = "application/ocsp-response"
_LIMIT: Final = 65_536
_JSON: Final = falcon.MEDIA_JSON
_CRL_SECONDS: Final = 60
"""For how long a proxy may keep a CRL: a revocation must not hide behind one."""


class Certificates:
    """``/v1/certificates``."""

    def __init__(self, *, authority: CertificateAuthority, database: Database) -> None:
        self._authority = authority
        self._database = database

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="List certificates, newest first",
        tag="certificates",
        query=CertificateQuery,
        returns=CertificatePage,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: CertificateQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        query = _with_names().order_by(Certificate.id.desc()).limit(options.limit)
        if options.before is not None:
            query = query.where(Certificate.id < options.before)
        if options.subscriber is not None:
            query = query.join(Subscriber).where(Subscriber.handle == options.subscriber)
        if options.state is not None:
            query = query.where(Certificate.state == options.state)
        with self._database.read() as db:
            rows = list(db.scalars(query))
        last = rows[-1].id if len(rows) == options.limit else None
        send_json(resp, CertificatePage(certificates=[_summary(row) for row in rows], next=last))

    @operation(
        roles={Role.ADMIN},
        summary="Issue a certificate",
        description=(
            "From a bare PKCS #10 request (PEM or DER) with profile and subscriber as query parameters, or from JSON with the "
            f"request or the kind of key to make in the HSM. With `Accept: {PEM_TYPE}` the answer is the certificate in PEM. "
            "The certificate's name comes from the registry: the one in the request has no effect."
        ),
        tag="certificates",
        query=IssueOptions,
        body=Document(CSR_TYPE, limit=_LIMIT, multipart=False, also=CertificateRequest),
        returns=CertificateDetail,
        status=201,
        problems=(Malformed, Conflict, Unavailable),
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
        wanted = body or options
        if wanted is None:
            raise Rejected("profile", "say profile and subscriber")
        if body is not None and body.key is not None:
            issued = self._authority.issue_for_key(
                profile=body.profile, subscriber=body.subscriber, spec=body.key, days=body.days, actor=actor
            )
        else:
            csr = document if body is None else (body.csr or "").encode()
            issued = self._authority.issue_from_csr(
                csr or b"", profile=wanted.profile, subscriber=wanted.subscriber, days=wanted.days, actor=actor
            )
        resp.location = f"/v1/certificates/{issued.serial}"
        _send_certificate(self._database, issued.serial, req, resp)


class CertificateView:
    """``/v1/certificates/{serial}``."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

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
        _send_certificate(self._database, serial, req, resp)


class Revocation:
    """``/v1/certificates/{serial}/revocation``."""

    def __init__(self, *, authority: CertificateAuthority) -> None:
        self._authority = authority

    @operation(
        roles={Role.ADMIN},
        summary="Revoke a certificate for good",
        description="In force when this answers: OCSP says so at once, and the receipt names the CRL that lists it.",
        tag="certificates",
        body=RevocationRequest,
        returns=RevocationReceipt,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str, body: RevocationRequest) -> None:
        """Revoke, and answer with the receipt."""
        send_json(resp, self._authority.revoke(serial, reason=body.reason, actor=actor))


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


class CrlFile:
    """``/crl/{name}.crl``."""

    def __init__(self, *, publisher: CrlPublisher) -> None:
        self._publisher = publisher

    @operation(
        roles=PUBLIC,
        summary="Fetch an authority's CRL",
        description="The newest full CRL in DER at `{name}.crl`. Expired certificates stay on it.",
        tag="status",
        returns="application/pkix-crl",
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, file: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the CRL."""
        name, _dot, kind = file.rpartition(".")
        if kind != "crl":
            raise NotFound("file", "an authority's CRL is at /crl/{name}.crl")
        crl = self._publisher.current(name)
        resp.content_type = "application/pkix-crl"
        resp.last_modified = crl.this_update
        resp.cache_control = ["public", f"max-age={_CRL_SECONDS}"]
        resp.data = crl.der


class OcspPost:
    """``/ocsp``."""

    def __init__(self, *, responder: OcspResponder) -> None:
        self._responder = responder

    @operation(
        roles=PUBLIC,
        summary="Ask for the status of certificates (RFC 6960)",
        description="An OCSPRequest in, an OCSPResponse out, both DER. An error is an OCSPResponse too, with HTTP status 200.",
        tag="status",
        body=Document(OCSP_REQUEST, limit=_LIMIT, multipart=False),
        returns=OCSP_RESPONSE,
        problems=(Unavailable,),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, document: bytes) -> None:
        """Answer one request."""
        resp.content_type = OCSP_RESPONSE
        resp.data = self._responder.respond(document, actor)


class OcspGet:
    """``/ocsp/{request}``: the request in base64, which may hold slashes, and percent-encoded or not."""

    def __init__(self, *, responder: OcspResponder) -> None:
        self._responder = responder

    @operation(
        roles=PUBLIC,
        summary="Ask for the status of certificates by GET (RFC 6960, appendix A.1)",
        description="The DER OCSPRequest in base64 as the rest of the path. An answer without a nonce may be cached.",
        tag="status",
        returns=OCSP_RESPONSE,
        problems=(Unavailable,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, request: str) -> None:
        """Answer one request."""
        try:
            der = base64.b64decode(request.replace("\n", ""), validate=True)
        except (binascii.Error, ValueError):
            der = b""  # which is no request either, and answered as such
        resp.content_type = OCSP_RESPONSE
        resp.data = self._responder.respond(der, actor)
        _set_ocsp_cache(resp, resp.data)


def _set_ocsp_cache(resp: falcon.Response, der: bytes) -> None:
    """RFC 5019, 6.2: cacheable until nextUpdate, unless it answers one client's nonce or is an error."""
    answer = ocsp.load_der_ocsp_response(der)
    if not _is_cacheable(answer) or answer.next_update_utc is None:
        resp.cache_control = ["no-store"]
        return
    life = answer.next_update_utc - answer.this_update_utc  # it was made just now
    resp.cache_control = [f"max-age={int(life.total_seconds())}", "public", "no-transform", "must-revalidate"]
    resp.last_modified = answer.this_update_utc
    resp.expires = answer.next_update_utc
    resp.etag = hashlib.sha256(der).hexdigest()


def _is_cacheable(answer: ocsp.OCSPResponse) -> bool:
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return False
    return len(list(answer.responses)) == 1 and not any(isinstance(item.value, x509.OCSPNonce) for item in answer.extensions)


def _with_names() -> sa.Select[Certificate]:
    return sa.select(Certificate).options(joinedload(Certificate.subscriber), joinedload(Certificate.authority))


def _summary(row: Certificate) -> CertificateSummary:
    return CertificateSummary.model_validate(_fields(row))


def _fields(row: Certificate) -> dict[str, object]:
    return {
        "serial": row.serial,
        "profile": row.profile,
        "subscriber": row.subscriber.handle if row.subscriber else None,
        "subject": row.subject,
        "issuer": row.authority.name,
        "state": row.state,
        "key_in_hsm": row.key_label is not None,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "revoked_at": row.revoked_at,
        "revocation_reason": row.revocation_reason,
    }


def _send_certificate(database: Database, serial: str, req: falcon.Request, resp: falcon.Response) -> None:
    with database.read() as db:
        row = certificate_with_serial(db, serial)
        certificate = None if row.der is None else x509.load_der_x509_certificate(row.der)
        chain = [] if row.profile == "root" else authority_chain(db, row.authority_id)
        fields = _fields(row)
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
