"""Routes of enrolment: a new certificate, and the successors of one."""

from __future__ import annotations

from typing import Final

import falcon

from approvals.http import send_pending
from approvals.service import Approvals
from approvals.views import ApprovalView
from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound
from pki.acts import REKEY, RENEW
from pki.enrolment import Enrolments, build_payload
from pki.http import PEM_TYPE, send_certificate
from pki.profile_changes import CHANGE, ProfileChanges
from pki.views import CertificateDetail, ProfileInUse, RekeyRequest, RenewalRequest
from registry.models import Role
from web.operation import operation, send_json

_WAITS: Final = (
    f"Answers 202 with the approval where `approvals.issue` names the profile. With `Accept: {PEM_TYPE}` the answer is in PEM."
)


class Renewal:
    """``/v1/certificates/{serial}/renewal``."""

    def __init__(self, *, enrolments: Enrolments, approvals: Approvals, database: Database, now: Now) -> None:
        self._enrolments = enrolments
        self._approvals = approvals
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN},
        summary="Renew a certificate over the same key",
        description=f"For at most 3 years, and once for each key; the old one stays valid until it ends or is revoked. {_WAITS}",
        tag="certificates",
        body=RenewalRequest,
        returns=CertificateDetail,
        status=201,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str, body: RenewalRequest) -> None:
        """Renew, and answer with the successor."""
        if self._approvals.active:
            order, _ = self._enrolments.check_renewal(serial, body, actor)
            pending = self._approvals.ask(RENEW, {order.profile.name}, build_payload(order, body, serial), actor)
            if pending is not None:
                send_pending(resp, pending)
                return
        issued = self._enrolments.renew(serial, body, actor)
        resp.location = f"/v1/certificates/{issued.serial}"
        send_certificate(self._database, issued.serial, self._now(), req, resp)


class Rekey:
    """``/v1/certificates/{serial}/rekey``."""

    def __init__(self, *, enrolments: Enrolments, approvals: Approvals, database: Database, now: Now) -> None:
        self._enrolments = enrolments
        self._approvals = approvals
        self._database = database
        self._now = now

    @operation(
        roles={Role.ADMIN},
        summary="Give a certificate's holder a successor over a new key",
        description=f"For at most 3 years; the old one stays valid until it ends or is revoked. {_WAITS}",
        tag="certificates",
        body=RekeyRequest,
        returns=CertificateDetail,
        status=201,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str, body: RekeyRequest) -> None:
        """Rekey, and answer with the successor."""
        if self._approvals.active:
            order, _ = self._enrolments.check_rekey(serial, body, actor)
            pending = self._approvals.ask(REKEY, {order.profile.name}, build_payload(order, body, serial), actor)
            if pending is not None:
                send_pending(resp, pending)
                return
        issued = self._enrolments.rekey(serial, body, actor)
        resp.location = f"/v1/certificates/{issued.serial}"
        send_certificate(self._database, issued.serial, self._now(), req, resp)


class ProfileActivation:
    """``/v1/profiles/{name}/activation``."""

    def __init__(self, *, changes: ProfileChanges, approvals: Approvals) -> None:
        self._changes = changes
        self._approvals = approvals

    @operation(
        roles={Role.ADMIN},
        summary="Put a changed profile into use",
        description="Needed where `approvals.profile` names it, and then answered with 202 and the approval: nothing is issued "
        "under the new version before. Elsewhere its first use does the same.",
        tag="certificates",
        returns=ProfileInUse,
        problems=(NotFound, Conflict),
        idempotent=True,
        pending=ApprovalView,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, name: str) -> None:
        """Put it into use, or ask for approval."""
        payload = self._changes.describe(name)
        pending = self._approvals.ask(CHANGE, {name}, payload, actor)
        if pending is not None:
            send_pending(resp, pending)
            return
        send_json(resp, ProfileInUse.model_validate(self._changes.perform(payload, actor)))
