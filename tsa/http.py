"""RFC 3161, 3.4: time-stamping over HTTP."""

from __future__ import annotations

from typing import Final

import falcon

from audit.log import Actor
from core.errors import NotFound
from tsa.authority import TimestampAuthority
from web.operation import PUBLIC, Document, operation

QUERY_TYPE: Final = "application/timestamp-query"
REPLY_TYPE: Final = "application/timestamp-reply"
QUERY_LIMIT: Final = 65_536
_QUERY: Final = Document(QUERY_TYPE, limit=QUERY_LIMIT, multipart=False)


class Timestamps:
    """``/tsa``: open to everybody inside the network; the policy asked for chooses the unit."""

    def __init__(self, *, authority: TimestampAuthority) -> None:
        self._authority = authority

    @operation(
        roles=PUBLIC,
        summary="Time-stamp a digest (RFC 3161)",
        description="A TimeStampReq in, a TimeStampResp out, both DER. A refusal is a TimeStampResp too, with HTTP status 200.",
        tag="time-stamps",
        body=_QUERY,
        returns=REPLY_TYPE,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, document: bytes) -> None:
        """Answer one query."""
        resp.data = self._authority.respond(document, actor)
        resp.content_type = REPLY_TYPE


class UnitTimestamps:
    """``/tsa/{unit}``: the same of one unit."""

    def __init__(self, *, authority: TimestampAuthority) -> None:
        self._authority = authority

    @operation(
        roles=PUBLIC,
        summary="Time-stamp a digest with a certain unit (RFC 3161)",
        description="As `/tsa`, by the unit of this name; a request for another policy than the unit's is refused.",
        tag="time-stamps",
        body=_QUERY,
        returns=REPLY_TYPE,
        problems=(NotFound,),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, document: bytes, unit: str) -> None:
        """Answer one query."""
        resp.data = self._authority.respond(document, actor, unit=unit)
        resp.content_type = REPLY_TYPE
