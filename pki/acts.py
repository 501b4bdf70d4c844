"""The acts of this room that may need approval: what is stored for the approver to see, and how it is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from approvals.service import Act, Payload
from audit.log import Actor, AuditEntry
from core.db import Database
from core.errors import Conflict
from pki.certificates import certificate_with_serial
from pki.enrolment import Enrolments
from pki.grounds import HOLD
from pki.profile_changes import CHANGE, ProfileChanges
from pki.revocation import Revocations, count_by_agency
from pki.status_views import RevocationOrder, RevocationReceipt, RevocationRequest

ISSUE: Final = "certificate.issue"
RENEW: Final = "certificate.renew"
REKEY: Final = "certificate.rekey"
REVOKE: Final = "certificate.revoke"
RESUME: Final = "certificate.resume"
REVOKE_MANY: Final = "certificate.revoke-many"
CEREMONY: Final = "authority.ceremony"


class RevocationActs:
    """Revocations as payloads: of one certificate, or of all over one key or of one agency."""

    def __init__(self, *, database: Database, revocations: Revocations) -> None:
        self._database = database
        self._revocations = revocations

    def describe_one(self, serial: str, request: RevocationRequest) -> Payload:
        """What is approved before this certificate is revoked. Raises NotFound, Conflict (revoked for good already)."""
        with self._database.read() as db:
            row = certificate_with_serial(db, serial)
        if row.revoked_at is not None and row.revocation_reason != HOLD:
            raise Conflict(f"the certificate {row.serial} was revoked already, at {row.revoked_at:%Y-%m-%dT%H:%M:%SZ}")
        asked = request.model_dump(mode="json", exclude_none=True)
        return {"serial": row.serial, "subject": row.subject, "profiles": [row.profile], "request": asked}

    def describe_resumption(self, serial: str) -> Payload:
        """What is approved before this certificate is resumed. Raises NotFound, Conflict (it is not suspended)."""
        with self._database.read() as db:
            row = certificate_with_serial(db, serial)
        if row.revocation_reason != HOLD or row.revoked_at is None:
            raise Conflict(f"the certificate {row.serial} is not suspended: there is nothing to resume")
        return {"serial": row.serial, "subject": row.subject, "profiles": [row.profile], "suspended_at": row.revoked_at.isoformat()}

    def describe_many(self, order: RevocationOrder) -> Payload:
        """The same for everything over one key or of one agency, with every serial number."""
        found = self._revocations.affected(key=order.key, agency=order.agency, subtree=order.subtree)
        asked = order.model_dump(mode="json", exclude_none=True)
        profiles = sorted({one.profile for one in found})
        return {
            "serials": [one.serial for one in found],
            "profiles": profiles,
            "by_agency": count_by_agency(found),
            "request": asked,
        }

    def perform_one(self, payload: Payload, actor: Actor) -> Payload:
        """Revoke it, unless an earlier attempt under the same approval did."""
        if not self._did(actor, payload["serial"]):
            request = RevocationRequest.model_validate(payload["request"])
            self._revocations.revoke(payload["serial"], actor=actor, **_why(request))
        return {"serial": payload["serial"]}

    def perform_resumption(self, payload: Payload, actor: Actor) -> Payload:
        """Resume it, unless an earlier attempt under the same approval did; Conflict when it was suspended anew meanwhile."""
        if not self._did(actor, payload["serial"], "certificate.resume"):
            since = datetime.fromisoformat(payload["suspended_at"])
            self._revocations.resume(payload["serial"], actor=actor, since=since)
        return {"serial": payload["serial"]}

    def perform_many(self, payload: Payload, actor: Actor) -> Payload:
        """Revoke exactly those that were shown; Conflict when it would be others by now."""
        order = RevocationOrder.model_validate(payload["request"])
        serials: list[str] = payload["serials"]
        if serials and self._did(actor, serials[0]):
            return {"serials": serials}
        self.revoke_many(order, actor, only=serials)
        return {"serials": serials}

    def revoke_many(self, order: RevocationOrder, actor: Actor, *, only: Sequence[str] | None = None) -> list[RevocationReceipt]:
        """Revoke what the order says; raises as :meth:`pki.revocation.Revocations.revoke_key` and ``revoke_agency`` do."""
        if order.key is not None:
            return self._revocations.revoke_key(order.key, actor=actor, only=only, **_why(order))
        return self._revocations.revoke_agency(order.agency or "", actor=actor, subtree=order.subtree, only=only, **_why(order))

    def _did(self, actor: Actor, serial: str, action: str = "certificate.revoke") -> bool:
        done = (AuditEntry.request_id == actor.request_id, AuditEntry.subject == serial, AuditEntry.action == action)
        with self._database.read() as db:
            return db.scalar(sa.select(AuditEntry.id).where(*done)) is not None


def build_acts(enrolments: Enrolments, revocations: RevocationActs, profiles: ProfileChanges) -> list[Act]:
    """Every act of this room."""
    return [
        Act(ISSUE, ("issue",), enrolments.perform_issue, lambda payload: f"Cấp chứng thư {_named(payload)}"),
        Act(RENEW, ("issue",), enrolments.perform_renewal, lambda payload: f"Gia hạn chứng thư {_followed(payload)}"),
        Act(REKEY, ("issue",), enrolments.perform_rekey, lambda payload: f"Cấp lại chứng thư với khóa mới: {_followed(payload)}"),
        Act(
            REVOKE,
            ("revoke",),
            revocations.perform_one,
            lambda payload: f"Thu hồi chứng thư {payload['serial']} ({payload['subject']})",
        ),
        Act(
            RESUME,
            ("resume",),
            revocations.perform_resumption,
            lambda payload: (
                f"Khôi phục chứng thư {payload['serial']} ({payload['subject']}), tạm dừng từ {payload['suspended_at']}"
            ),
        ),
        Act(
            CHANGE,
            ("profile",),
            profiles.perform,
            lambda payload: f"Đổi hồ sơ chứng thư {payload['profile']}, bản {payload['version']}",
        ),
        Act(CEREMONY, ("authority",), _permit, lambda payload: f"Nghi lễ khóa của cơ quan chứng thực {payload['authority']}"),
        Act(REVOKE_MANY, ("revoke",), revocations.perform_many, _revoked_together),
    ]


def _permit(payload: Payload, _: Actor) -> Payload:
    """A ceremony is carried out where its tokens are, by whoever asked: approved, it is theirs to do."""
    return {"permitted": payload["authority"]}


def _named(payload: Payload) -> str:
    return f"{payload['profile']} cho {payload['subject']}, {payload['days']} ngày"


def _followed(payload: Payload) -> str:
    return f"{payload['serial']}, {_named(payload)}"


def _revoked_together(payload: Payload) -> str:
    order = payload["request"]
    whose = "của một khóa" if order.get("agency") is None else f"của cơ quan {order['agency']}"
    below = " và các đơn vị trực thuộc" if order.get("subtree") else ""
    return f"Thu hồi {len(payload['serials'])} chứng thư {whose}{below}"


def _why(request: RevocationRequest) -> dict[str, Any]:
    return {"reason": request.reason, "ground": request.ground, "invalidity_date": request.invalidity_date}
