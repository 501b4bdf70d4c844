"""Routes of activations: a clerk activates a key, an admin says who may; and the look at a document before it is signed."""

from __future__ import annotations

import falcon

from approvals.http import send_pending
from approvals.service import Approvals
from approvals.views import ApprovalView
from audit.log import Actor
from core.content import Content
from core.errors import Conflict, Forbidden, Malformed, NotFound, Refused, Rejected, TooMany
from core.settings import HygieneConfig
from registry.models import Role
from signer.activation import Activations, Proof, Scope
from signer.activation_holders import GIVE, REMOVE, UNLOCK, ActivationHolders
from signer.gate_views import (
    ActivationView,
    HolderList,
    HolderRequest,
    HolderSecrets,
    HolderView,
    HygieneFinding,
    HygieneQuery,
    HygieneView,
    NewActivation,
    NewPin,
    SecrecyMark,
)
from signer.hygiene import scan
from web.operation import Document, operation, send_json

TAG = "activations"
_PROBLEMS = (Rejected, Refused, Forbidden, TooMany)


class ActivationCollection:
    """``/v1/activations``."""

    def __init__(self, *, activations: Activations) -> None:
        self._activations = activations

    @operation(
        roles={Role.CLIENT},
        summary="Activate a key for a short time",
        description="The clerk's PIN, one-time code or both, passed on by the system they work with. The token of the answer goes "
        "into the header `Condau-Activation` of what signs. Wrong tries lock: 30 seconds after the third, twice as long after "
        "each further one, and after the tenth until an admin unlocks.",
        tag=TAG,
        body=NewActivation,
        returns=ActivationView,
        status=201,
        problems=_PROBLEMS,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: NewActivation) -> None:
        """Activate it."""
        scope, proof = Scope(body.acts, tuple(body.digests)), Proof(body.pin, body.code)
        token, row = self._activations.activate(body.signer, body.person, proof, scope, minutes=body.minutes, actor=actor)
        resp.cache_control = ["no-store"]
        send_json(resp, ActivationView(token=token, person=body.person, acts=row.most, expires_at=row.expires_at))


class ActivationPin:
    """``/v1/activations/pin``."""

    def __init__(self, *, activations: Activations) -> None:
        self._activations = activations

    @operation(roles={Role.CLIENT}, summary="Change a PIN", tag=TAG, body=NewPin, status=204, problems=_PROBLEMS)
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: NewPin) -> None:  # noqa: ARG002 - there is nothing to answer
        """Change it."""
        self._activations.change_pin(body.signer, body.person, Proof(body.pin, body.code), new=body.new_pin, actor=actor)


class _Holding:
    """What every resource about holders is made of."""

    def __init__(self, *, holders: ActivationHolders, approvals: Approvals) -> None:
        self._holders = holders
        self._approvals = approvals


class HolderCollection(_Holding):
    """``/v1/subscribers/{handle}/activation-holders``."""

    @operation(
        roles={Role.ADMIN, Role.AUDITOR}, summary="List who may activate a key", tag=TAG, returns=HolderList, problems=(NotFound,)
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer them."""
        send_json(resp, HolderList(holders=[HolderView.model_validate(item) for item in self._holders.holders(handle)]))


class Holder(_Holding):
    """``/v1/subscribers/{handle}/activation-holders/{person}``."""

    @operation(
        roles={Role.ADMIN},
        summary="Let a person activate a key, with new secrets",
        description="What they had counts no more. With `approvals.activation` the first call asks and is answered with 202; sent "
        "again after approval, it is answered with the secrets, once.",
        tag=TAG,
        body=HolderRequest,
        returns=HolderSecrets,
        problems=(NotFound, Rejected, Conflict),
        pending=ApprovalView,
    )
    def on_put(
        self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str, person: str, body: HolderRequest
    ) -> None:
        """Give the secrets, or ask for approval."""
        payload = self._holders.give_payload(handle, person, body.method)
        pending = self._approvals.permit(GIVE, {handle}, payload, actor)
        if pending is not None:
            send_pending(resp, pending)
            return
        given = self._holders.give(payload, actor)
        resp.cache_control = ["no-store"]
        send_json(resp, HolderSecrets(pin=given.pin, code_uri=given.code_uri))

    @operation(
        roles={Role.ADMIN},
        summary="Take the right to activate a key away",
        tag=TAG,
        status=204,
        problems=(NotFound,),
        pending=ApprovalView,
    )
    def on_delete(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str, person: str) -> None:
        """Take it away, or ask for approval."""
        payload = {"key": handle, "person": person}
        pending = self._approvals.ask(REMOVE, {handle}, payload, actor)
        if pending is not None:
            send_pending(resp, pending)
            return
        self._holders.remove(payload, actor)


class HolderUnlocking(_Holding):
    """``/v1/subscribers/{handle}/activation-holders/{person}/unlocking``."""

    @operation(
        roles={Role.ADMIN},
        summary="Let a person try their PIN or code again",
        tag=TAG,
        status=204,
        problems=(NotFound,),
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str, person: str) -> None:
        """Unlock it, or ask for approval."""
        payload = {"key": handle, "person": person}
        pending = self._approvals.ask(UNLOCK, {handle}, payload, actor)
        if pending is not None:
            send_pending(resp, pending)
            return
        self._holders.unlock(payload, actor)


class Hygiene:
    """``/v1/documents/hygiene``."""

    def __init__(self, *, config: HygieneConfig) -> None:
        self._config = config

    @operation(
        roles={Role.CLIENT, Role.ADMIN, Role.AUDITOR},
        summary="Look at a PDF before it is signed",
        description="What could change its looks later (scripts, actions, XFA, hidden layers, content from outside, content that "
        "is in the file and not shown), and secrecy marks. Nothing is signed or kept.",
        tag="signatures",
        query=HygieneQuery,
        body=Document("application/pdf", spooled=True),
        returns=HygieneView,
        problems=(Malformed, Rejected),
    )
    def on_post(
        self,
        _: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,  # noqa: ARG002 - every responder is told who asks
        options: HygieneQuery,
        document: Content,
    ) -> None:
        """Answer what was found."""
        report = scan(document, password=options.password)
        refused = {finding.code for finding in report.refused(self._config)}
        findings = [
            HygieneFinding(
                code=finding.code,
                group=finding.group,
                severity=finding.severity,
                refused=finding.code in refused,
                vi=finding.text.vi,
                en=finding.text.en,
                objects=list(finding.objects),
            )
            for finding in report.findings
        ]
        marks = [SecrecyMark(mark=mark.text, where=mark.where) for mark in report.secrecy]
        view = HygieneView(pages=report.pages, text=report.text_seen, complete=report.complete, secrecy=marks, findings=findings)
        send_json(resp, view)
