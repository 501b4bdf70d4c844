"""Routes of approvals: what waits, and approving, rejecting or withdrawing it; and changing a caller's role."""

from __future__ import annotations

import falcon

from approvals.service import Approvals
from approvals.views import ApprovalPage, ApprovalQuery, ApprovalView, Consent, Refusal, RoleChange, RoleView
from audit.log import Actor
from core.errors import Conflict, NotFound
from registry.clients import Clients
from registry.models import Role
from web.operation import operation, send_json

TAG = "approvals"


def send_pending(resp: falcon.Response, pending: ApprovalView) -> None:
    """Answer 202: the act was not done, it waits for approval."""
    resp.status = falcon.HTTP_202
    resp.location = f"/v1/approvals/{pending.id}"
    send_json(resp, pending)


class ApprovalList:
    """``/v1/approvals``."""

    def __init__(self, *, approvals: Approvals) -> None:
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="List what waits for approval, newest first",
        tag=TAG,
        query=ApprovalQuery,
        returns=ApprovalPage,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: ApprovalQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        send_json(resp, self._approvals.page(options))


class ApprovalDetail:
    """``/v1/approvals/{identifier}``."""

    def __init__(self, *, approvals: Approvals) -> None:
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN, Role.AUDITOR}, summary="Look at one approval", tag=TAG, returns=ApprovalView, problems=(NotFound,)
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with all of it."""
        send_json(resp, self._approvals.find(identifier))


class ApprovalConsent:
    """``/v1/approvals/{identifier}/approval``."""

    def __init__(self, *, approvals: Approvals) -> None:
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Approve what somebody else asked for",
        description="Say the hash of what was looked at. The last approval needed carries it out, exactly as it was asked for.",
        tag=TAG,
        body=Consent,
        returns=ApprovalView,
        problems=(NotFound, Conflict),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int, body: Consent) -> None:
        """Approve, and answer with what it led to."""
        send_json(resp, self._approvals.approve(identifier, payload_sha256=body.payload_sha256, actor=actor))


class ApprovalRejection:
    """``/v1/approvals/{identifier}/rejection``."""

    def __init__(self, *, approvals: Approvals) -> None:
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Reject what somebody else asked for",
        tag=TAG,
        body=Refusal,
        returns=ApprovalView,
        problems=(NotFound, Conflict),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int, body: Refusal) -> None:
        """Reject it."""
        send_json(resp, self._approvals.reject(identifier, reason=body.reason, actor=actor))


class ApprovalWithdrawal:
    """``/v1/approvals/{identifier}/withdrawal``."""

    def __init__(self, *, approvals: Approvals) -> None:
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Withdraw what the caller asked for",
        tag=TAG,
        body=Refusal,
        returns=ApprovalView,
        problems=(NotFound, Conflict),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int, body: Refusal) -> None:
        """Withdraw it."""
        send_json(resp, self._approvals.withdraw(identifier, reason=body.reason, actor=actor))


class ClientRole:
    """``/v1/clients/{name}/role``."""

    def __init__(self, *, clients: Clients, approvals: Approvals) -> None:
        self._clients = clients
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Give a caller another role",
        description="202 with the approval when `approvals.role` names the old or the new role. A role of one's own never changes.",
        tag=TAG,
        body=RoleChange,
        returns=RoleView,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, name: str, body: RoleChange) -> None:
        """Change it, or ask for approval."""
        held = self._clients.check_role_change(name, actor)
        payload = {"client": name, "from": held, "to": body.role}
        pending = self._approvals.ask("client.role", {held, body.role}, payload, actor)
        if pending is not None:
            send_pending(resp, pending)
            return
        self._clients.change_role(payload, actor)
        send_json(resp, RoleView(name=name, role=body.role))
