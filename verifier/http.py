"""``POST /v1/verifications``: anyone may ask whether a file's signatures hold."""

from __future__ import annotations

import falcon
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor
from core.content import Content
from core.errors import Malformed, TooLarge, Unavailable
from verifier.service import Verifier
from verifier.timestamp_query import parse_timestamp_query
from verifier.verdict import Report
from web.operation import PUBLIC, Document, operation, send_json


class VerificationOptions(BaseModel):
    """What a file may need to be looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    password: str | None = Field(default=None, max_length=127, repr=False, description="Password that opens an encrypted PDF.")


class Verifications:
    """A file in, a verdict out; nothing is kept."""

    def __init__(self, *, verifier: Verifier) -> None:
        self._verifier = verifier

    @operation(
        roles=PUBLIC,
        summary="Verify the signatures of a file",
        description=(
            "Send a signed PDF or XML document, or an RFC 3161 timestamp (response or token), as the bare body or as the part "
            "`document` of multipart/form-data. What it is, its first bytes say; the Content-Type is not asked. To check a "
            "timestamp against what it stamps, send that as the part `data`; against its request (nonce, policy, imprint), send "
            "the TimeStampReq as the part `query`. A PDF, or what a timestamp stamps, may be as large as a document to be signed; "
            "XML may have 100 MB and a timestamp 10 MB. Whatever the bytes are, the answer is a report: "
            "`conclusion` is valid only if every signature is TOTAL-PASSED (EN 319 102-1) and nothing was changed since."
        ),
        tag="verification",
        # every type is taken: curl --data-binary says application/x-www-form-urlencoded of any file
        query=VerificationOptions,
        body=Document("*/*", parts=("query",), large=("data",), spooled=True),
        returns=Report,
        problems=(Malformed, TooLarge, Unavailable),
    )
    def on_post(
        self,
        _req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,  # noqa: ARG002 - the shell hands it to every responder
        options: VerificationOptions,
        document: Content,
        parts: dict[str, bytes],
        contents: dict[str, Content],
    ) -> None:
        """Answer with the report."""
        query = parse_timestamp_query(parts["query"]) if "query" in parts else None
        send_json(resp, self._verifier.verify(document, data=contents.get("data"), query=query, password=options.password))
