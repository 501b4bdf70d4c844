"""OCSP over HTTP (RFC 6960, appendix A; RFC 5019): by POST, also on the express lane, and by GET; and the record of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import falcon
from cryptography import x509
from cryptography.x509 import ocsp
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import CondauError, NotFound, Unavailable
from pki.ocsp import Ask, OcspResponder
from pki.ocsp_records import find_answers
from registry.models import Role
from web.express_shell import Call
from web.operation import PUBLIC, Document, operation, send_json

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


class OcspAnswerQuery(BaseModel):
    """Of which serial number."""

    model_config = ConfigDict(extra="forbid")

    serial: str = Field(max_length=80, description="In hex")
    before: int | None = Field(default=None, ge=1, description="The `next` of the last page")
    limit: int = Field(default=100, ge=1, le=1000)


class OcspAnswerView(BaseModel):
    """One status that was signed and sent."""

    at: datetime
    serial: str
    authority: str
    status: Literal["good", "revoked", "unknown"]


class OcspAnswerPage(BaseModel):
    """A page of them."""

    answers: list[OcspAnswerView]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class RecordedOcspAnswers:
    """``/v1/ocsp-answers``."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @operation(
        roles={Role.AUDITOR},
        summary="What OCSP answered about a serial number, newest first",
        description="Every answer that was signed; the audit entry `ocsp.respond` of the same moment names the requests.",
        tag="status",
        query=OcspAnswerQuery,
        returns=OcspAnswerPage,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: OcspAnswerQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        with self._database.read() as db:
            found = find_answers(db, options.serial, before=options.before, limit=options.limit)
        views = [
            OcspAnswerView.model_validate({"at": at, "serial": serial, "authority": authority, "status": status})
            for _id, at, serial, authority, status in found
        ]
        send_json(resp, OcspAnswerPage(answers=views, next=found[-1][0] if len(found) == options.limit else None))


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
