"""Signing digests over HTTP."""

from __future__ import annotations

import falcon

from audit.log import Actor
from core.errors import Conflict, Forbidden, Refused, Rejected, Unavailable
from registry.models import Role
from signer.activation import HEADER as ACTIVATION
from signer.digests import DigestRequest, DigestSignature, DigestSigner, Validation, ValidationRequest
from web.operation import operation, send_json


class DigestSignatures:
    """``/v1/signatures/digest``."""

    def __init__(self, *, signer: DigestSigner) -> None:
        self._signer = signer

    @operation(
        roles={Role.CLIENT},
        summary="Sign a digest",
        tag="signatures",
        description="The document stays with its system. The answer is what belongs into a PDF's signature dictionary "
        "(SubFilter `ETSI.CAdES.detached`), or beside a file of any kind as `.p7s`. The client library `condau-client` does the "
        "rest; `GET /v1/signers` says which hash goes with which key.",
        body=DigestRequest,
        returns=DigestSignature,
        problems=(Rejected, Refused, Forbidden, Conflict, Unavailable),
        idempotent=True,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, body: DigestRequest) -> None:
        """Answer with the signature."""
        send_json(resp, self._signer.sign(body, actor, activation=req.get_header(ACTIVATION)))


class ValidationMaterials:
    """``/v1/signatures/validation-material``."""

    def __init__(self, *, signer: DigestSigner) -> None:
        self._signer = signer

    @operation(
        roles={Role.CLIENT},
        summary="What judging a signature later will need",
        tag="signatures",
        description="Certificates and revocation answers for a signature made here or elsewhere, whose document stays with its "
        "system: to be put into the PDF's DSS dictionary before an archive timestamp is made over it.",
        body=ValidationRequest,
        returns=Validation,
        problems=(Rejected, Conflict, Unavailable),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: ValidationRequest) -> None:
        """Answer with the material."""
        send_json(resp, self._signer.collect(body, actor))
