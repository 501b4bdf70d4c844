"""Batches over HTTP."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import falcon

from audit.log import Actor
from batches.service import Batches, SentFile
from batches.views import MOST_ITEMS, BatchQuery, BatchView, DigestBatch, ItemPage, ItemQuery, WaitQuery
from batches.work import BatchWorker
from core.errors import Conflict, Forbidden, Malformed, NotFound, Refused, Rejected, TooLarge
from registry.models import Role
from signer.activation import HEADER as ACTIVATION
from web.body import Spool, send_content
from web.files import read_files
from web.idempotency import HEADER, check_key
from web.operation import Files, operation, send_json

TAG: Final = "signatures"
_PDF: Final = "application/pdf"
_CLIENT: Final = {Role.CLIENT}


class BatchCollection:
    """``/v1/signatures/batches``."""

    def __init__(self, *, batches: Batches, worker: BatchWorker) -> None:
        self._batches = batches
        self._worker = worker

    @operation(
        roles=_CLIENT,
        summary="Sign many documents or digests",
        description=f"Send multipart/form-data with a part `file` for each PDF (its file name is the item's name; {MOST_ITEMS} at "
        "most), or JSON with digests. A part `options` before a file is JSON with what is different for that file. The answer "
        "is the batch, which is worked on until every item is signed or has failed, whatever happens to the service meanwhile; "
        "one bad item stops no other. With an `Idempotency-Key` the same batch sent again is the same batch, and is answered "
        "with it. The token of an activation for all of it goes into the header `Condau-Activation`.",
        tag=TAG,
        query=BatchQuery,
        body=Files(also=DigestBatch, json_limit=4_000_000),
        returns=BatchView,
        status=201,
        problems=(Malformed, Rejected, Refused, TooLarge, Forbidden, Conflict),
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, options: BatchQuery, body: DigestBatch | None
    ) -> None:
        """Take it in, and answer with how far it came."""
        key = req.get_header(HEADER)
        if key is not None:
            check_key(key)
        shared: dict[str, Any] = {"key": key, "actor": actor, "activation": req.get_header(ACTIVATION)}
        if body is not None:
            batch = self._batches.take_digests(body, options, **shared)
        else:
            spool: Spool = req.context.spool
            received = read_files(req, limit=self._batches.config.bytes, most=MOST_ITEMS, file_limit=spool.limit)
            files = (SentFile(file.name, file.options, file.chunks) for file in received)
            batch = self._batches.take_files(files, options, **shared)
        resp.location = f"/v1/signatures/batches/{batch.id}"
        self._worker.work_on(batch.id, options.wait)
        send_json(resp, self._batches.find(batch.id, actor))


class BatchDetail:
    """``/v1/signatures/batches/{identifier}``."""

    def __init__(self, *, batches: Batches, worker: BatchWorker) -> None:
        self._batches = batches
        self._worker = worker

    @operation(roles=_CLIENT, summary="How far a batch came", tag=TAG, query=WaitQuery, returns=BatchView, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int, options: WaitQuery) -> None:
        """Answer with its progress."""
        self._batches.find(identifier, actor)
        self._worker.work_on(identifier, options.wait)
        send_json(resp, self._batches.find(identifier, actor))

    @operation(
        roles=_CLIENT,
        summary="Delete a batch's results, once they are fetched",
        tag=TAG,
        returns=BatchView,
        problems=(NotFound, Conflict),
    )
    def on_delete(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:
        """Delete them; what is known of the batch stays."""
        send_json(resp, self._batches.discard(identifier, actor))


class BatchItems:
    """``/v1/signatures/batches/{identifier}/items``."""

    def __init__(self, *, batches: Batches) -> None:
        self._batches = batches

    @operation(
        roles=_CLIENT,
        summary="The items of a batch, and the signatures of digests",
        tag=TAG,
        query=ItemQuery,
        returns=ItemPage,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int, options: ItemQuery) -> None:
        """Answer one page."""
        send_json(resp, self._batches.items(identifier, options, actor))


class BatchItemDocument:
    """``/v1/signatures/batches/{identifier}/items/{number}/document``."""

    def __init__(self, *, batches: Batches) -> None:
        self._batches = batches

    @operation(roles=_CLIENT, summary="Fetch a signed document of a batch", tag=TAG, returns=_PDF, problems=(NotFound, Conflict))
    def on_get(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int, number: int) -> None:
        """Answer with the signed PDF; of a digest with its signature as JSON."""
        kind, name, content = self._batches.result(identifier, number, actor)
        resp.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}")
        send_content(req, resp, content, _PDF if kind == "pdf" else falcon.MEDIA_JSON)


class BatchCancellation:
    """``/v1/signatures/batches/{identifier}/cancellation``."""

    def __init__(self, *, batches: Batches) -> None:
        self._batches = batches

    @operation(
        roles=_CLIENT,
        summary="Sign no further item of a batch; what is signed stays signed",
        tag=TAG,
        returns=BatchView,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:
        """Stop it."""
        send_json(resp, self._batches.cancel(identifier, actor))
