"""OCSP over HTTP (RFC 6960, appendix A; RFC 5019): by POST, also on the express lane, and by GET."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

import falcon
from cryptography import x509
from cryptography.x509 import ocsp

from audit.log import Actor
from core.clock import Now
from core.errors import CondauError, Unavailable
from pki.ocsp import Ask, OcspResponder
from web.express_shell import Call
from web.operation import PUBLIC, Document, operation

OCSP_REQUEST: Final = "application/ocsp-request"
OCSP_RESPONSE: Final = "application/ocsp-response"
_LIMIT: Final = 65_536


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


class ExpressOcsp:
    """``POST /ocsp`` on the express lane; implements :class:`web.express_shell.ExpressService`."""

    reply_type = OCSP_RESPONSE
    audience = PUBLIC

    def __init__(self, *, responder: OcspResponder) -> None:
        self._responder = responder

    def takes(self, path: str, kind: str) -> bool:
        """Every request of the right type."""
        return kind == OCSP_REQUEST and path == "/ocsp"

    def answer_calls(self, calls: Sequence[Call]) -> list[bytes | CondauError]:
        """The OCSPResponse to each."""
        return self._responder.respond_all([Ask(call.body, call.actor) for call in calls])


class OcspGet:
    """``/ocsp/{request}``: the request in base64, which may hold slashes, and percent-encoded or not."""

    def __init__(self, *, responder: OcspResponder, now: Now) -> None:
        self._responder = responder
        self._now = now

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
        # a DER SEQUENCE in base64 begins with M: what stands before it came from joining a URL that ends with a slash
        text = request.lstrip("/").replace("\n", "")
        try:
            der = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            der = b""  # which is no request either, and answered as such
        resp.content_type = OCSP_RESPONSE
        resp.data = self._responder.respond(der, actor)
        self._set_cache(resp, resp.data)

    def _set_cache(self, resp: falcon.Response, der: bytes) -> None:
        """RFC 5019, 6.2: cacheable until nextUpdate, unless it answers one client's nonce or is an error."""
        answer = ocsp.load_der_ocsp_response(der)
        if not _is_cacheable(answer) or answer.next_update_utc is None:
            resp.cache_control = ["no-store"]
            return
        life = answer.next_update_utc - self._now()
        resp.cache_control = [f"max-age={max(0, int(life.total_seconds()))}", "public", "no-transform", "must-revalidate"]
        resp.last_modified = answer.this_update_utc
        resp.expires = answer.next_update_utc
        resp.etag = hashlib.sha256(der).hexdigest()


def _is_cacheable(answer: ocsp.OCSPResponse) -> bool:
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return False
    return len(list(answer.responses)) == 1 and not any(isinstance(item.value, x509.OCSPNonce) for item in answer.extensions)
