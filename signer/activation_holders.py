"""Who may activate a key: registered by an admin, locked by wrong tries, unlocked by an admin, with four eyes where configured."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from approvals.service import Act, Payload
from audit.log import Actor, AuditEntry, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound, Rejected
from registry.models import Subscriber, SubscriberKind
from registry.registry import subscriber_named
from signer.activation import MOST_FAILURES, code_source, hash_pin, new_code_secret
from signer.gate_models import Activation, ActivationHolder
from signer.register import check_person

Method = Literal["pin", "code", "pin+code"]
GIVE: Final = "activation.give"
UNLOCK: Final = "activation.unlock"
REMOVE: Final = "activation.remove"
_GIVEN: Final = GIVE + "-secrets"
_ISSUER: Final = "Condau"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a holder is given, shown this once."""

    pin: str | None
    """To be changed before the first activation."""
    code_uri: str | None
    """``otpauth://…`` for an authenticator app."""

    def __repr__(self) -> str:
        return "Secrets(…)"


class ActivationHolders:
    """Keeps who may activate which key."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    def acts(self) -> list[Act]:
        """The acts that may need approval. Giving secrets is carried out by whoever asked, for they are shown once."""
        return [
            Act(GIVE, ("activation",), lambda _payload, _actor: {}, lambda payload: _describe("Cấp mã kích hoạt", payload)),
            Act(UNLOCK, ("activation",), self.unlock, lambda payload: _describe("Mở khóa mã kích hoạt", payload)),
            Act(REMOVE, ("activation",), self.remove, lambda payload: _describe("Bỏ quyền kích hoạt", payload)),
        ]

    def give_payload(self, key: str, person: str, method: Method) -> Payload:
        """What an admin asks approval for; it is for these secrets only, not for those after them. Raises NotFound, Rejected."""
        with self._database.read() as db:
            holder, subscriber, _ = _find(db, key, person)
            if subscriber.kind == SubscriberKind.DEVICE:
                raise Rejected("key", f"{key} is a device, whose key nobody activates")
            return {"key": key, "person": person, "method": method, "changes": _changes(db, holder, key, person)}

    def give(self, payload: Payload, actor: Actor) -> Secrets:
        """Let a person activate a key, with new secrets; those they had count no more. ``payload`` is :meth:`give_payload`'s.

        Raises NotFound, Rejected, Conflict when they were given others since.
        """
        key, person, method = payload["key"], payload["person"], payload["method"]
        pin = f"{secrets.randbelow(10**8):08d}" if "pin" in method else None
        code = new_code_secret() if "code" in method else None
        hashed = None if pin is None else hash_pin(pin)
        with self._database.write() as db:
            holder, subscriber, clerk = _find(db, key, person)
            changes = _changes(db, holder, key, person)
            if changes != payload["changes"]:
                raise _given_meanwhile(payload)
            if holder is None:
                holder = ActivationHolder(key_id=subscriber.id, person_id=clerk.id)
                db.add(holder)
            holder.pin_hash, holder.pin_initial, holder.otp_secret, holder.otp_step = hashed, pin is not None, code, 0
            holder.failures, holder.locked_until, holder.changes = 0, None, changes + 1
            try:
                db.flush()
            except IntegrityError as error:
                raise _given_meanwhile(payload) from error
            _end_activations(db, subscriber, clerk, self._now())
            append(db, at=self._now(), actor=actor, action=_GIVEN, subject=key, person=person, method=method)
        uri = None if code is None else code_source(code).get_provisioning_uri(f"{person} ({key})", _ISSUER)
        return Secrets(pin, uri)

    def unlock(self, payload: Payload, actor: Actor) -> Payload:
        """Let a holder try again; raises NotFound."""
        with self._database.write() as db:
            holder = _known(db, payload)
            holder.failures, holder.locked_until = 0, None
            append(db, at=self._now(), actor=actor, action=UNLOCK, subject=payload["key"], person=payload["person"])
        return {}

    def remove(self, payload: Payload, actor: Actor) -> Payload:
        """Take the right away, and what is activated under it; raises NotFound. A key without holders needs no activation any
        more, unless the configuration or the profile asks for one."""
        with self._database.write() as db:
            holder = _known(db, payload)
            _end_activations(db, holder.key, holder.person, self._now())
            db.delete(holder)
            append(db, at=self._now(), actor=actor, action=REMOVE, subject=payload["key"], person=payload["person"])
        return {}

    def holders(self, key: str) -> list[dict[str, Any]]:
        """Who may activate the key, by handle, and how it stands with them."""
        now = self._now()
        with self._database.read() as db:
            subscriber = subscriber_named(db, key)
            rows = db.scalars(sa.select(ActivationHolder).where(ActivationHolder.key_id == subscriber.id))
            return sorted((_tell(row) | {"locked": _is_locked(row, now)} for row in rows), key=lambda row: str(row["person"]))


def _is_locked(row: ActivationHolder, now: datetime) -> bool:
    return row.failures >= MOST_FAILURES or (row.locked_until is not None and row.locked_until > now)


def _tell(row: ActivationHolder) -> dict[str, Any]:
    method = "+".join(name for name, held in (("pin", row.pin_hash), ("code", row.otp_secret)) if held is not None)
    return {"person": row.person.handle, "method": method, "failures": row.failures, "pin_initial": row.pin_initial}


def _describe(what: str, payload: Payload) -> str:
    return f"{what}: khóa {payload['key']}, người giữ {payload['person']}"


def _find(db: Session, key: str, person: str) -> tuple[ActivationHolder | None, Subscriber, Subscriber]:
    subscriber = subscriber_named(db, key)
    clerk = check_person(db, person, field="person")
    mine = (ActivationHolder.key_id == subscriber.id, ActivationHolder.person_id == clerk.id)
    return db.scalar(sa.select(ActivationHolder).where(*mine).with_for_update(of=ActivationHolder)), subscriber, clerk


def _known(db: Session, payload: Payload) -> ActivationHolder:
    holder, _, _ = _find(db, payload["key"], payload["person"])
    if holder is None:
        raise NotFound("person", f"{payload['person']} does not activate the key of {payload['key']}")
    return holder


def _changes(db: Session, holder: ActivationHolder | None, key: str, person: str) -> int:
    """How often this person was given secrets for this key; the log also tells of those whose right was taken away since, so
    that no approval is for secrets a second time."""
    if holder is not None:
        return holder.changes
    given = sa.select(AuditEntry.detail).where(AuditEntry.subject == key, AuditEntry.action == _GIVEN)
    return sum(detail["person"] == person for detail in db.scalars(given))


def _given_meanwhile(payload: Payload) -> Conflict:
    return Conflict(f"{payload['person']} was given other secrets for the key of {payload['key']} meanwhile: look, and ask again")


def _end_activations(db: Session, key: Subscriber, person: Subscriber, at: datetime) -> None:
    """They have ended when they began: an act that took its moment before ``at``, or from a clock that is behind, uses none."""
    mine = (Activation.key_id == key.id, Activation.person_id == person.id, Activation.expires_at > at)
    db.execute(sa.update(Activation).where(*mine).values(expires_at=Activation.at))
