"""Signing digests over HTTP."""

from __future__ import annotations

import falcon

from audit.log import Actor
from core.errors import Conflict, Forbidden, Rejected, Unavailable
from registry.models import Role
from signer.digests import DigestRequest, DigestSignature, DigestSigner
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
        problems=(Rejected, Forbidden, Conflict, Unavailable),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: DigestRequest) -> None:
        """Answer with the signature."""
        send_json(resp, self._signer.sign(body, actor))
