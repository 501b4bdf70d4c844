"""Routes about the standing of certificates: revoke, suspend, resume, what was known when; and for everybody CRLs."""

from __future__ import annotations

import re
from typing import Final

import falcon

from approvals.http import send_pending
from approvals.service import Approvals
from approvals.views import ApprovalView
from audit.log import Actor
from core.errors import Conflict, NotFound
from pki.acts import RESUME, REVOKE, REVOKE_MANY, RevocationActs
from pki.crl import CrlPublisher, PublishedCrl
from pki.grounds import MEANINGS
from pki.revocation import Revocations, count_by_agency
from pki.status import StatusHistory
from pki.status_views import (
    CrlQuery,
    GroundList,
    GroundView,
    RevocationOrder,
    RevocationReceipt,
    RevocationReceipts,
    RevocationRequest,
    StatusAtMoment,
    StatusQuery,
    SuspensionRequest,
)
from registry.models import Role
from web.operation import PUBLIC, operation, send_json

CRL_TYPE: Final = "application/pkix-crl"
_CRL_SECONDS: Final = 60
"""For how long a proxy may keep a CRL: a revocation must not hide behind one."""
_PART: Final = re.compile(r"(?:(?P<partition>[1-9][0-9]{0,3})(?P<tail>-delta)?|delta)\.crl")
_READERS: Final = {Role.ADMIN, Role.AUDITOR, Role.CLIENT}


class Revocation:
    """``/v1/certificates/{serial}/revocation``."""

    def __init__(self, *, revocations: Revocations, acts: RevocationActs, approvals: Approvals) -> None:
        self._revocations = revocations
        self._acts = acts
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Revoke a certificate for good",
        description="In force when this answers: OCSP says so at once, and the receipt names the CRL that lists it. Also after "
        "expiry, and after a suspension. A reason that says its key is compromised blocks the key and revokes all over it.",
        tag="certificates",
        body=RevocationRequest,
        returns=RevocationReceipt,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str, body: RevocationRequest) -> None:
        """Revoke, and answer with the receipt."""
        if self._approvals.active:
            payload = self._acts.describe_one(serial, body)
            pending = self._approvals.ask(REVOKE, payload["profiles"], payload, actor)
            if pending is not None:
                send_pending(resp, pending)
                return
        receipt = self._revocations.revoke(
            serial, actor=actor, reason=body.reason, ground=body.ground, invalidity_date=body.invalidity_date
        )
        send_json(resp, receipt)


class Suspension:
    """``/v1/certificates/{serial}/suspension``."""

    def __init__(self, *, revocations: Revocations) -> None:
        self._revocations = revocations

    @operation(
        roles={Role.ADMIN},
        summary="Suspend a certificate (certificateHold)",
        tag="certificates",
        body=SuspensionRequest,
        returns=RevocationReceipt,
        problems=(NotFound, Conflict),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str, body: SuspensionRequest) -> None:
        """Suspend, and answer with the receipt."""
        send_json(resp, self._revocations.suspend(serial, actor=actor, ground=body.ground))


class Resumption:
    """``/v1/certificates/{serial}/resumption``."""

    def __init__(self, *, revocations: Revocations, acts: RevocationActs, approvals: Approvals) -> None:
        self._revocations = revocations
        self._acts = acts
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="End a certificate's suspension",
        tag="certificates",
        returns=RevocationReceipt,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str) -> None:
        """Resume, and answer with the receipt."""
        if self._approvals.active:
            payload = self._acts.describe_resumption(serial)
            pending = self._approvals.ask(RESUME, payload["profiles"], payload, actor)
            if pending is not None:
                send_pending(resp, pending)
                return
        send_json(resp, self._revocations.resume(serial, actor=actor))


class CertificateStatus:
    """``/v1/certificates/{serial}/status``."""

    def __init__(self, *, history: StatusHistory) -> None:
        self._history = history

    @operation(
        roles=_READERS,
        summary="What was known of a certificate at a moment",
        description="With the CRL and the OCSP response that prove it, and every suspension, resumption and revocation up to then.",
        tag="certificates",
        query=StatusQuery,
        returns=StatusAtMoment,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str, options: StatusQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the status of that moment."""
        send_json(resp, self._history.status(serial, options.at))


class RevocationCollection:
    """``/v1/revocations``."""

    def __init__(self, *, revocations: Revocations, acts: RevocationActs, approvals: Approvals) -> None:
        self._revocations = revocations
        self._acts = acts
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Revoke everything over one key, or everything of one agency, alone or with those below it",
        tag="certificates",
        body=RevocationOrder,
        returns=RevocationReceipts,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: RevocationOrder) -> None:
        """Revoke, and answer with a receipt for each."""
        if body.dry_run:
            found = self._revocations.affected(key=body.key, agency=body.agency, subtree=body.subtree)
            counts = count_by_agency(found)
            send_json(resp, RevocationReceipts(dry_run=True, serials=[one.serial for one in found], by_agency=counts, receipts=[]))
            return
        if self._approvals.active:
            payload = self._acts.describe_many(body)
            pending = self._approvals.ask(REVOKE_MANY, payload["profiles"], payload, actor)
            if pending is not None:
                send_pending(resp, pending)
                return
        receipts = self._acts.revoke_many(body, actor)
        serials = [item.serial for item in receipts]
        send_json(resp, RevocationReceipts(dry_run=False, serials=serials, by_agency={}, receipts=receipts))


class RevocationView:
    """``/v1/revocations/{receipt}``."""

    def __init__(self, *, revocations: Revocations) -> None:
        self._revocations = revocations

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="A receipt, and how long the change took to become visible",
        tag="certificates",
        returns=RevocationReceipt,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, receipt: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the receipt as it stands now."""
        send_json(resp, self._revocations.receipt(receipt))


class Grounds:
    """``/v1/revocation-grounds``."""

    @operation(roles=PUBLIC, summary="The legal grounds of revocation", tag="status", returns=GroundList)
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with all of them."""
        views = [
            GroundView(ground=ground, vietnamese=item.vietnamese, english=item.english, reasons=list(item.reasons))
            for ground, item in MEANINGS.items()
        ]
        send_json(resp, GroundList(grounds=views))


class CrlFile:
    """``/crl/{file}``: the complete CRL of an authority."""

    def __init__(self, *, publisher: CrlPublisher) -> None:
        self._publisher = publisher

    @operation(
        roles=PUBLIC,
        summary="Fetch an authority's CRL",
        description="The newest full CRL in DER at `{name}.crl`. Expired certificates stay on it.",
        tag="status",
        returns=CRL_TYPE,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, file: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the CRL."""
        name, _dot, kind = file.rpartition(".")
        if kind != "crl":
            raise NotFound("file", "an authority's CRL is at /crl/{name}.crl")
        _send_crl(resp, self._publisher.current(name))


class CrlPartFile:
    """``/crl/{file}/{part}``: deltas, and the parts of a divided CRL."""

    def __init__(self, *, publisher: CrlPublisher) -> None:
        self._publisher = publisher

    @operation(
        roles=PUBLIC,
        summary="Fetch a delta CRL, or a part of a divided CRL",
        description="`delta.crl` adds to the complete CRL of the authority `file`; `{n}.crl` is the part that certificates name, "
        "`{n}-delta.crl` the delta to it.",
        tag="status",
        returns=CRL_TYPE,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, file: str, part: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the CRL."""
        found = _PART.fullmatch(part)
        if found is None:
            raise NotFound("part", "it is delta.crl, or {n}.crl, or {n}-delta.crl")
        partition = found["partition"]
        delta = partition is None or found["tail"] is not None
        _send_crl(resp, self._publisher.current(file, partition=int(partition or 0), delta=delta))


class CrlArchive:
    """``/v1/crls/{authority}``."""

    def __init__(self, *, publisher: CrlPublisher) -> None:
        self._publisher = publisher

    @operation(
        roles=PUBLIC,
        summary="Fetch the CRL that was the newest one at a moment, or one by its number",
        tag="status",
        query=CrlQuery,
        returns=CRL_TYPE,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, authority: str, options: CrlQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the CRL."""
        crl = self._publisher.published_at(
            authority, at=options.at, number=options.number, partition=options.partition, delta=options.delta
        )
        _send_crl(resp, crl)


def _send_crl(resp: falcon.Response, crl: PublishedCrl) -> None:
    resp.content_type = CRL_TYPE
    resp.last_modified = crl.this_update
    resp.cache_control = ["public", f"max-age={_CRL_SECONDS}"]
    resp.data = crl.der
