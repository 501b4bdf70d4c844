"""Asking for approval, giving it, and carrying out once what was approved (docs/adr/0018)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from approvals.models import Approval, ApprovalState, ApprovalVote
from approvals.views import ApprovalPage, ApprovalQuery, ApprovalView, VoteView
from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, Forbidden, NotFound, Rejected, Unavailable
from core.settings import ApprovalsConfig

Payload = dict[str, Any]
_log = logging.getLogger("condau.approvals")
_EVERY: Final = "*"
_TOO_LARGE: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Act:
    """One kind of act that may need approval.

    ``actions`` are the keys of ``[approvals]`` of which one is enough to need approval. ``perform`` carries the payload out and
    gives back JSON values; it is called again with the same ``Actor.origin`` when an earlier call was cut off, and then must
    not do it twice. ``describe`` is a Vietnamese sentence for whoever approves.
    """

    kind: str
    actions: tuple[str, ...]
    perform: Callable[[Payload, Actor], Payload]
    describe: Callable[[Payload], str]


def canonical(payload: Payload) -> str:
    """The one text a payload has: JSON with sorted keys and without blanks, letters as they are."""
    return json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    """SHA-256 of a canonical payload's UTF-8, in lower-case hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Approvals:
    """Keeps what waits for approval; :meth:`ask` comes first in every act that may need one."""

    def __init__(self, *, database: Database, now: Now, config: ApprovalsConfig, acts: Collection[Act]) -> None:
        self._database = database
        self._now = now
        self._config = config
        self._acts: Mapping[str, Act] = {act.kind: act for act in acts}

    @property
    def active(self) -> bool:
        """Whether anything at all needs approval here."""
        return any(getattr(self._config, action) for act in self._acts.values() for action in act.actions)

    def needs(self, kind: str, names: Collection[str]) -> bool:
        """Whether an act of this kind on these profiles (authorities, roles) needs approval."""
        listed = {name for action in self._acts[kind].actions for name in getattr(self._config, action)}
        return _EVERY in listed or not listed.isdisjoint(names)

    def ask(self, kind: str, names: Collection[str], payload: Payload, actor: Actor) -> ApprovalView | None:
        """Store the act for approval where it needs one; None: it needs none, go on and do it."""
        if not self.needs(kind, names):
            return None
        with self._database.read() as db:
            known = self._asked_for(db, actor)
        if known is not None:
            return known
        try:
            return self._store(kind, canonical(payload), actor)
        except IntegrityError:
            with self._database.read() as db:
                known = self._asked_for(db, actor)
            if known is None:  # it was not an earlier attempt of the same request that stood in the way
                raise
            return known

    def _asked_for(self, db: Session, actor: Actor) -> ApprovalView | None:
        """What an earlier attempt of the same request has asked for."""
        known = db.scalar(sa.select(Approval).where(Approval.origin == actor.origin)) if actor.origin else None
        return None if known is None else self._view(db, known)

    def _store(self, kind: str, text: str, actor: Actor) -> ApprovalView:
        at = self._now()
        with self._database.write() as db:
            row = Approval(
                kind=kind,
                payload=text,
                payload_sha256=digest(text),
                state=ApprovalState.PENDING,
                needed=self._config.needed,
                requested_by=actor.name,
                role=actor.role,
                origin=actor.origin or None,
                requested_at=at,
                expires_at=at + timedelta(hours=self._config.hours),
            )
            db.add(row)
            db.flush()
            self._note(db, row, actor, "requested")
            return self._view(db, row)

    def permit(self, kind: str, names: Collection[str], payload: Payload, actor: Actor) -> ApprovalView | None:
        """For an act that the asker carries out elsewhere: None when it needs no approval or has it, bound to this payload."""
        wanted = sa.select(Approval).where(
            Approval.kind == kind,
            Approval.payload_sha256 == digest(canonical(payload)),
            Approval.requested_by == actor.name,
            Approval.state.in_((ApprovalState.PENDING, ApprovalState.EXECUTED)),
        )
        if not self.needs(kind, names):
            return None
        with self._database.read() as db:
            known = db.scalar(wanted.order_by(Approval.id.desc()).limit(1))
            if known is not None:
                return None if known.state == ApprovalState.EXECUTED else self._view(db, known)
        return self.ask(kind, names, payload, actor)

    def find(self, identifier: int) -> ApprovalView:
        """One approval; raises NotFound."""
        with self._database.read() as db:
            return self._view(db, _with_id(db, identifier))

    def page(self, query: ApprovalQuery) -> ApprovalPage:
        """The newest first."""
        wanted = sa.select(Approval).order_by(Approval.id.desc()).limit(query.limit)
        if query.before is not None:
            wanted = wanted.where(Approval.id < query.before)
        if query.state is not None:
            wanted = wanted.where(Approval.state == query.state)
        with self._database.read() as db:
            rows = list(db.scalars(wanted))
            views = [self._view(db, row) for row in rows]
        return ApprovalPage(approvals=views, next=rows[-1].id if len(rows) == query.limit else None)

    def approve(self, identifier: int, *, payload_sha256: str, actor: Actor) -> ApprovalView:
        """Consent to exactly this payload; the last consent needed carries it out before this returns.

        Raises Forbidden (one's own), Rejected (another payload), Conflict (decided, expired, approved by the same person).
        """
        with self._database.write() as db:
            row = self._locked(db, identifier)
            voters = list(db.scalars(sa.select(ApprovalVote.name).where(ApprovalVote.approval_id == identifier)))
            if actor.name == row.requested_by:
                raise Forbidden("nobody approves what they asked for themselves: another admin has to")
            if digest(row.payload) != row.payload_sha256:
                raise Conflict(f"the payload of approval {identifier} is not the one that was asked for: withdraw it")
            if payload_sha256 != row.payload_sha256:
                raise Rejected("payload_sha256", f"this is not the hash of what approval {identifier} holds: look at it again")
            if actor.name in voters:
                raise Conflict(f"{actor.name} has approved this already: {row.needed} different people are needed")
            at = self._now()
            db.add(ApprovalVote(approval_id=identifier, name=actor.name, at=at))
            complete = len(voters) + 1 >= row.needed
            if complete:
                row.state, row.decided_at, row.executing_at = ApprovalState.EXECUTING, at, at
            self._note(db, row, actor, "approved", approvals=len(voters) + 1, needed=row.needed)
        if complete:
            self._execute(identifier)
        return self.find(identifier)

    def reject(self, identifier: int, *, reason: str, actor: Actor) -> ApprovalView:
        """Refuse it for good; not one's own (that is withdrawn)."""
        with self._database.write() as db:
            row = self._locked(db, identifier)
            if actor.name == row.requested_by:
                raise Forbidden("nobody rejects what they asked for themselves: withdraw it")
            self._decide(db, row, ApprovalState.REJECTED, actor, reason=reason)
        return self.find(identifier)

    def withdraw(self, identifier: int, *, reason: str, actor: Actor) -> ApprovalView:
        """Take back what one asked for oneself."""
        with self._database.write() as db:
            row = self._locked(db, identifier)
            if actor.name != row.requested_by:
                raise Forbidden(f"only {row.requested_by}, who asked for it, withdraws it; others reject it")
            self._decide(db, row, ApprovalState.WITHDRAWN, actor, reason=reason)
        return self.find(identifier)

    def reconcile(self, before: datetime) -> int:
        """Expire what nobody decided in time, and carry out again what was cut off before ``before``; returns how many."""
        at = self._now()
        pending = sa.select(Approval.id).where(Approval.state == ApprovalState.PENDING, Approval.expires_at <= at)
        cut_off = sa.select(Approval.id).where(Approval.state == ApprovalState.EXECUTING, Approval.executing_at < before)
        with self._database.read() as db:
            expired, undecided = list(db.scalars(pending)), list(db.scalars(cut_off))
        taken = [identifier for identifier in undecided if self._take_over(identifier, before)]
        for identifier in taken:
            self._execute(identifier)
        return sum(self._expire(identifier) for identifier in expired) + len(taken)

    def _expire(self, identifier: int) -> bool:
        with self._database.write() as db:
            row = _with_id(db, identifier, lock=True)
            if row.state != ApprovalState.PENDING:
                return False
            self._decide(db, row, ApprovalState.EXPIRED, SYSTEM, reason="nobody decided in time")
        return True

    def _take_over(self, identifier: int, before: datetime) -> bool:
        """Of several that find it cut off, one gets it."""
        mine = sa.update(Approval).where(
            Approval.id == identifier, Approval.state == ApprovalState.EXECUTING, Approval.executing_at < before
        )
        with self._database.write() as db:
            return db.execute(mine.values(executing_at=self._now()).returning(Approval.id)).first() is not None

    def _execute(self, identifier: int) -> None:
        """Carry out what is decided. A part that is away leaves it decided: reconcile tries again."""
        with self._database.read() as db:
            row = _with_id(db, identifier)
        actor = Actor(row.requested_by, row.role, f"approval-{identifier}", f"approval/{identifier}")
        try:
            result = self._acts[row.kind].perform(json.loads(row.payload), actor)
        except Unavailable as error:
            _log.warning(
                "approved, but to be carried out later", extra={"fields": {"approval": identifier, "detail": error.detail}}
            )
            return
        except CondauError as error:
            self._finish(identifier, actor, ApprovalState.FAILED, detail=error.detail)
            return
        self._finish(identifier, actor, ApprovalState.EXECUTED, result=result)

    def _finish(
        self, identifier: int, actor: Actor, state: ApprovalState, *, detail: str = "", result: Payload | None = None
    ) -> None:
        with self._database.write() as db:
            row = _with_id(db, identifier, lock=True)
            if row.state == ApprovalState.EXECUTING:
                row.state, row.detail, row.result = state, detail, result
                self._note(db, row, actor, state.value, detail=detail)

    def _decide(self, db: Session, row: Approval, state: ApprovalState, actor: Actor, *, reason: str) -> None:
        row.state, row.decided_at, row.detail = state, self._now(), reason
        self._note(db, row, actor, state.value, reason=reason)

    def _locked(self, db: Session, identifier: int) -> Approval:
        """The row, held until the transaction ends, if it can still be decided."""
        row = _with_id(db, identifier, lock=True)
        if row.state != ApprovalState.PENDING:
            raise Conflict(f"approval {identifier} is {row.state} already: nothing can be decided any more")
        if row.expires_at <= self._now():
            raise Conflict(f"approval {identifier} expired at {row.expires_at:%Y-%m-%dT%H:%M:%SZ}: ask again")
        return row

    def _note(self, db: Session, row: Approval, actor: Actor, what: str, **detail: Any) -> None:
        facts = {"kind": row.kind, "payload_sha256": row.payload_sha256, **detail}
        append(db, at=self._now(), actor=actor, action=f"approval.{what}", subject=f"approval/{row.id}", **facts)

    def _view(self, db: Session, row: Approval) -> ApprovalView:
        votes = db.scalars(
            sa.select(ApprovalVote).where(ApprovalVote.approval_id == row.id).order_by(ApprovalVote.at, ApprovalVote.name)
        )
        payload: Payload = json.loads(row.payload)
        fields = {column.key: getattr(row, column.key) for column in sa.inspect(Approval).columns}
        act = self._acts.get(row.kind)
        shown = {
            "payload": payload,
            "summary": act.describe(payload) if act else row.kind,
            "approvals": [VoteView(name=vote.name, at=vote.at) for vote in votes],
        }
        return ApprovalView.model_validate({**fields, **shown})


def _with_id(db: Session, identifier: int, *, lock: bool = False) -> Approval:
    if identifier >= _TOO_LARGE:
        raise NotFound("approval", "there is no such approval")
    query = sa.select(Approval).where(Approval.id == identifier).execution_options(populate_existing=True)
    row = db.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("approval", f"there is no approval {identifier}")
    return row
