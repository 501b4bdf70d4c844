"""RFC 3161, 3.4: time-stamping over HTTP."""

from __future__ import annotations

from typing import Final

import falcon

from audit.log import Actor
from core.errors import Unavailable
from tsa.authority import TimestampAuthority
from web.operation import PUBLIC, Document, operation

QUERY_TYPE: Final = "application/timestamp-query"
REPLY_TYPE: Final = "application/timestamp-reply"
QUERY_LIMIT: Final = 65_536


class Timestamps:
    """``/tsa``: open to everybody inside the network."""

    def __init__(self, *, authority: TimestampAuthority) -> None:
        self._authority = authority

    @operation(
        roles=PUBLIC,
        summary="Time-stamp a digest (RFC 3161)",
        description="A TimeStampReq in, a TimeStampResp out, both DER. A refusal is a TimeStampResp too, with HTTP status 200.",
        tag="time-stamps",
        body=Document(QUERY_TYPE, limit=QUERY_LIMIT, multipart=False),
        returns=REPLY_TYPE,
        problems=(Unavailable,),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, document: bytes) -> None:
        """Answer one query."""
        resp.data = self._authority.respond(document, actor)
        resp.content_type = REPLY_TYPE
