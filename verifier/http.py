"""``POST /v1/verifications``: anyone may ask whether a file's signatures hold."""

from __future__ import annotations

import falcon

from audit.log import Actor
from verifier.service import Verifier
from verifier.timestamp_query import parse_timestamp_query
from verifier.verdict import Report
from web.operation import PUBLIC, Document, operation, send_json


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
            "the TimeStampReq as the part `query`. Whatever the bytes are, the answer is a report: "
            "`conclusion` is valid only if every signature is TOTAL-PASSED (EN 319 102-1) and nothing was changed since."
        ),
        tag="verification",
        # every type is taken: curl --data-binary says application/x-www-form-urlencoded of any file
        body=Document("*/*", parts=("data", "query")),
        returns=Report,
    )
    def on_post(
        self,
        _req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,  # noqa: ARG002 - the shell hands it to every responder
        document: bytes,
        parts: dict[str, bytes],
    ) -> None:
        """Answer with the report."""
        query = parse_timestamp_query(parts["query"]) if "query" in parts else None
        send_json(resp, self._verifier.verify(document, data=parts.get("data"), query=query))
