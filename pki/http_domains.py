"""Routes for other authorities: anchors of their trust domains, and our keys that they certify."""

from __future__ import annotations

from datetime import datetime

import falcon
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Malformed, NotFound, Rejected, Unavailable
from hsm.keys import KeySpec
from pki.anchors import install_anchor, installed_anchors, remove_anchor
from pki.external import ExternalCertificates
from pki.models import ExternalCertificate, TrustAnchor
from registry.models import Role
from web.operation import operation, send_json


class AnchorRequest(BaseModel):
    """Which authority to trust, and the hash it was announced with."""

    model_config = ConfigDict(extra="forbid")

    certificate: str = Field(max_length=65_536, description="The authority's certificate in PEM")
    domain: str = Field(max_length=32, description="The label of the trust domain: `cong-vu`, `public`, …; not `own`")
    sha256: str = Field(max_length=100, description="SHA-256 of the certificate in DER, in hex, as it was told by another way")


class Anchor(BaseModel):
    """One installed anchor."""

    sha256: str
    domain: str
    subject: str
    not_after: datetime
    installed_at: datetime


class AnchorList(BaseModel):
    """Every anchor of another domain that is trusted now."""

    anchors: list[Anchor]


class ExternalRequest(BaseModel):
    """Whose key, and which: exactly one of ``key`` and ``key_label``."""

    model_config = ConfigDict(extra="forbid")

    subscriber: str = Field(max_length=80, description="The subscriber's handle")
    key: KeySpec | None = Field(default=None, description="Make a new key of this kind in the HSM")
    key_label: str | None = Field(default=None, max_length=128, description="The label of a key this subscriber has already")


class ExternalAnswer(BaseModel):
    """What the other authority answered."""

    model_config = ConfigDict(extra="forbid")

    certificates: str = Field(max_length=262_144, description="Its certificate for the key, and its issuers, in PEM in any order")


class Withdrawal(BaseModel):
    """Why a certificate of another authority is used no more."""

    model_config = ConfigDict(extra="forbid")

    why: str = Field(min_length=1, max_length=400)


class External(BaseModel):
    """A key of ours and its certificate by another authority."""

    id: int
    subscriber: str
    key_label: str
    csr: str = Field(description="The PKCS #10 request in PEM; empty when the key never signed it")
    domain: str | None = Field(description="The trust domain of its anchor; null until the certificate is imported")
    serial: str | None
    certificate: str | None = Field(description="In PEM")
    not_after: datetime | None
    withdrawn_at: datetime | None
    status: str = Field(
        default="unknown here", description="Its revocation status: only its own issuer knows it, so that issuer is to be asked"
    )


class ExternalList(BaseModel):
    """All requests and certificates, newest first."""

    external_certificates: list[External]


class Anchors:
    """``/v1/trust-anchors``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN, Role.AUDITOR}, summary="List the anchors of other trust domains", tag="certificates", returns=AnchorList
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with all of them."""
        with self._database.read() as db:
            send_json(resp, AnchorList(anchors=[_anchor(row) for row in installed_anchors(db)]))

    @operation(
        roles={Role.ADMIN},
        summary="Trust an authority of another domain",
        description="Only if the certificate has the hash given, which must have come by another way than the certificate.",
        tag="certificates",
        body=AnchorRequest,
        returns=Anchor,
        status=201,
        problems=(Malformed, Rejected, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: AnchorRequest) -> None:
        """Install it, and answer with it."""
        data = body.certificate.encode()
        with self._database.write() as db:
            row = install_anchor(db, at=self._now(), actor=actor, data=data, domain=body.domain, sha256=body.sha256)
            answer = _anchor(row)
        send_json(resp, answer)


class AnchorView:
    """``/v1/trust-anchors/{sha256}``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(roles={Role.ADMIN}, summary="Trust an anchor no more", tag="certificates", status=204, problems=(NotFound,))
    def on_delete(self, _req: falcon.Request, _resp: falcon.Response, *, actor: Actor, sha256: str) -> None:
        """Remove it."""
        with self._database.write() as db:
            remove_anchor(db, at=self._now(), actor=actor, sha256=sha256)


class Externals:
    """``/v1/external-certificates``."""

    def __init__(self, *, externals: ExternalCertificates) -> None:
        self._externals = externals

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="List our keys that other authorities certify",
        tag="certificates",
        returns=ExternalList,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with all of them."""
        send_json(resp, ExternalList(external_certificates=[external_view(row) for row in self._externals.all()]))

    @operation(
        roles={Role.ADMIN},
        summary="Make a request (CSR) for another authority",
        description="For a new key in the HSM or one the subscriber has. Send it to the authority, then import its answer.",
        tag="certificates",
        body=ExternalRequest,
        returns=External,
        status=201,
        problems=(NotFound, Rejected, Unavailable),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: ExternalRequest) -> None:
        """Make it, and answer with it."""
        row = self._externals.request(subscriber=body.subscriber, spec=body.key, key_label=body.key_label, actor=actor)
        send_json(resp, external_view(row))


class ExternalImport:
    """``/v1/external-certificates/{number}/certificate``."""

    def __init__(self, *, externals: ExternalCertificates) -> None:
        self._externals = externals

    @operation(
        roles={Role.ADMIN},
        summary="Import what the other authority answered",
        description="Taken only if it is for the key in the HSM and its chain leads to an installed anchor.",
        tag="certificates",
        body=ExternalAnswer,
        returns=External,
        problems=(NotFound, Malformed, Conflict, Unavailable),
    )
    def on_put(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, number: str, body: ExternalAnswer) -> None:
        """Import, and answer with it."""
        send_json(resp, external_view(self._externals.accept(_identifier(number), body.certificates.encode(), actor)))


class ExternalWithdrawal:
    """``/v1/external-certificates/{number}/withdrawal``."""

    def __init__(self, *, externals: ExternalCertificates) -> None:
        self._externals = externals

    @operation(
        roles={Role.ADMIN},
        summary="Sign with another authority's certificate no more",
        tag="certificates",
        body=Withdrawal,
        returns=External,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, number: str, body: Withdrawal) -> None:
        """Withdraw, and answer with it."""
        send_json(resp, external_view(self._externals.withdraw(_identifier(number), why=body.why, actor=actor)))


def external_view(row: ExternalCertificate) -> External:
    """What is told of a request or certificate."""
    csr = "" if row.request_der is None else _pem(x509.load_der_x509_csr(row.request_der))
    return External(
        id=row.id,
        subscriber=row.subscriber.handle,
        key_label=row.key_label,
        csr=csr,
        domain=row.domain,
        serial=row.serial,
        certificate=None if row.der is None else _pem(x509.load_der_x509_certificate(row.der)),
        not_after=row.not_after,
        withdrawn_at=row.withdrawn_at,
    )


def _anchor(row: TrustAnchor) -> Anchor:
    return Anchor(
        sha256=row.sha256,
        domain=row.domain,
        subject=row.subject,
        not_after=x509.load_der_x509_certificate(row.der).not_valid_after_utc,
        installed_at=row.installed_at,
    )


def _pem(item: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return item.public_bytes(Encoding.PEM).decode("ascii")


def _identifier(number: str) -> int:
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise NotFound("id", f"no request to another authority has the id {number[:40]!r}")
    return int(number)
