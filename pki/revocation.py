"""Revoking, suspending and resuming certificates: by serial number, by key, by agency; every change is kept (docs/adr/0016)."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, NotFound, Rejected
from notices import outbox
from pki.certificates import parse_serial
from pki.crl import CrlPublisher
from pki.grounds import BLOCKING, HOLD, Ground, choose_reason
from pki.models import Authority, Certificate, CertificateState, StatusAct, StatusEvent, StatusReceipt, SubjectKey
from pki.status_views import RevocationReceipt, Visibility
from registry.agencies import agencies_with_code
from registry.models import Agency, Subscriber

_log = logging.getLogger("condau.pki")
WATCH_FOR: Final = timedelta(hours=1)
"""How long the service looks whether its own OCSP and CRL tell of a change."""
_ROOT: Final = "root"
_AUTHORITIES: Final = (_ROOT, "issuing-ca")
_CHUNK: Final = 10_000
"""Receipts asked for at once: databases take some ten thousand parameters."""
_KINDS: Final = {
    StatusAct.SUSPEND: "certificate.suspended",
    StatusAct.RESUME: "certificate.resumed",
    StatusAct.REVOKE: "certificate.revoked",
}
"""What the outbox calls a change."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of standing, the same for every certificate it is made to."""

    act: StatusAct
    at: datetime
    reason: str | None = None
    """A CRLReason; None for a resumption."""
    ground: Ground | None = None
    invalidity_date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Affected:
    """A certificate that would be revoked; ``agency`` is the code of its holder's agency."""

    serial: str
    profile: str
    agency: str | None


def count_by_agency(found: Sequence[Affected]) -> dict[str, int]:
    """How many there are of each agency, the most first; those of no agency under an empty code."""
    return dict(Counter(one.agency or "" for one in found).most_common())


class Revocations:
    """Changes the standing of certificates, then publishes the CRLs.

    A change is committed before a CRL is begun, and stands whatever becomes of that: where it cannot be issued at once the
    receipt's ``crl_number`` is None, and :meth:`pki.crl.CrlPublisher.refresh` follows up. ``changed`` is called afterwards.
    """

    def __init__(self, *, database: Database, crl: CrlPublisher, now: Now, changed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._crl = crl
        self._now = now
        self._changed = changed

    def revoke(
        self,
        serial: str,
        *,
        actor: Actor,
        reason: str | None = None,
        ground: Ground | None = None,
        invalidity_date: datetime | None = None,
    ) -> RevocationReceipt:
        """Revoke for good, also after expiry; what was suspended counts as revoked since then (X.509, certificateHold).

        A reason that says the key is compromised blocks the key and revokes everything certified over it: the receipt's
        ``also``. Raises NotFound, Rejected, Conflict (revoked already; a root), Unavailable (then nothing has happened).
        """
        change = self._revocation(reason, ground, invalidity_date)
        serial = parse_serial(serial)
        with self._database.write() as db:
            rows = _lock_rows(db, Certificate.serial == serial, with_key=change.reason in BLOCKING)
            asked = next((row for row in rows if row.serial == serial), None)
            if asked is None:
                raise NotFound("serial", f"no certificate has the serial number {serial}")
            _check_revocable(asked)
            rows = [asked, *(row for row in rows if row is not asked and _is_revocable(row))]
            if change.reason in BLOCKING:
                _block_keys(db, {asked.spki_sha256}, change.at, actor)
            receipts = _record_receipts(db, change_standing(db, rows, change, actor), self._now())
        return self._publish(receipts, actor)[0].model_copy(update={"also": [row.serial for row in rows[1:]]})

    def revoke_key(
        self,
        spki_sha256: str,
        *,
        actor: Actor,
        reason: str | None = None,
        ground: Ground | None = None,
        invalidity_date: datetime | None = None,
        only: Sequence[str] | None = None,
    ) -> list[RevocationReceipt]:
        """Block a key for ever and revoke every certificate over it, expired ones too. By default it is compromised.

        Raises NotFound (never certified here), Rejected, Conflict (blocked, and nothing left to revoke; or others than ``only``).
        """
        change = self._revocation(reason or (None if ground else "keyCompromise"), ground, invalidity_date)
        with self._database.write() as db:
            rows = _lock_rows(db, Certificate.spki_sha256 == spki_sha256.lower(), with_key=True)
            if not rows:
                raise NotFound("key", "no certificate was ever issued over a key with this SHA-256 of its SubjectPublicKeyInfo")
            for row in rows:
                _check_no_root(row)
            standing = [row for row in rows if _is_revocable(row)]
            _check_only(standing, only)
            blocked = _block_keys(db, {rows[0].spki_sha256}, change.at, actor)
            if not standing and not blocked:
                raise Conflict("this key is blocked already, and every certificate over it is revoked")
            receipts = _record_receipts(db, change_standing(db, standing, change, actor), self._now())
        return self._publish(receipts, actor)

    def revoke_agency(
        self,
        code: str,
        *,
        actor: Actor,
        subtree: bool = False,
        reason: str | None = None,
        ground: Ground | None = None,
        invalidity_date: datetime | None = None,
        only: Sequence[str] | None = None,
    ) -> list[RevocationReceipt]:
        """Revoke every unexpired certificate of the agency's subscribers, in one transaction.

        With ``subtree`` also those of every agency below it now, or merged into one of these.
        Raises NotFound, Rejected, Conflict (there is none, or others than ``only``), Unavailable.
        """
        change = self._revocation(reason, ground, invalidity_date)
        with self._database.write() as db:
            wanted = _of_agency(db, code, change.at, subtree=subtree)
            rows = [row for row in _lock_rows(db, wanted, with_key=change.reason in BLOCKING) if _is_revocable(row)]
            if not rows:
                raise Conflict(f"the agency {code} has no certificate left that could be revoked")
            _check_only(rows, only)
            if change.reason in BLOCKING:
                _block_keys(db, {row.spki_sha256 for row in rows}, change.at, actor)
            receipts = _record_receipts(db, change_standing(db, rows, change, actor), self._now())
        return self._publish(receipts, actor)

    def suspend(self, serial: str, *, actor: Actor, ground: Ground | None = None) -> RevocationReceipt:
        """Suspend (certificateHold) until it is resumed or revoked.

        Raises NotFound, Conflict (revoked, suspended, expired, an authority), Unavailable.
        """
        change = Change(StatusAct.SUSPEND, self._moment(), HOLD, ground)
        with self._database.write() as db:
            row = _lock_one(db, serial)
            _check_revocable(row)
            if row.profile in _AUTHORITIES:
                raise Conflict("an authority is not suspended, only revoked: what it issued meanwhile would be in doubt for ever")
            if row.revoked_at is not None:
                raise Conflict(f"the certificate {row.serial} is suspended already, since {_text(row.revoked_at)}")
            if row.state != CertificateState.ISSUED or row.not_after < change.at:
                raise Conflict(
                    f"the certificate {row.serial} is not valid any more (until {_text(row.not_after)}): nothing to suspend"
                )
            receipts = _record_receipts(db, change_standing(db, [row], change, actor), self._now())
        return self._publish(receipts, actor)[0]

    def resume(self, serial: str, *, actor: Actor, since: datetime | None = None) -> RevocationReceipt:
        """End a suspension, of that moment only where ``since`` is given. NotFound, Conflict (it is not suspended so)."""
        change = Change(StatusAct.RESUME, self._moment())
        with self._database.write() as db:
            row = _lock_one(db, serial)
            if row.revocation_reason != HOLD:
                state = "is not suspended" if row.revoked_at is None else f"was revoked for good, at {_text(row.revoked_at)}"
                raise Conflict(f"the certificate {row.serial} {state}: there is nothing to resume")
            if since is not None and row.revoked_at != since:
                raise Conflict("it was resumed and suspended again since this was asked for: ask again")
            receipts = _record_receipts(db, change_standing(db, [row], change, actor), self._now())
        return self._publish(receipts, actor)[0]

    def affected(self, *, key: str | None = None, agency: str | None = None, subtree: bool = False) -> list[Affected]:
        """What :meth:`revoke_key` or :meth:`revoke_agency` would revoke now."""
        revocable = sa.or_(Certificate.revoked_at.is_(None), Certificate.revocation_reason == HOLD)
        query = sa.select(Certificate.serial, Certificate.profile, Agency.code)
        query = query.outerjoin(Subscriber, Certificate.subscriber_id == Subscriber.id).outerjoin(
            Agency, Subscriber.agency_id == Agency.id
        )
        with self._database.read() as db:
            if agency is not None:
                wanted = _of_agency(db, agency, self._moment(), subtree=subtree)
            else:
                wanted = Certificate.spki_sha256 == (key or "").lower()
            rows = db.execute(query.where(wanted, revocable, Certificate.profile != _ROOT).order_by(Certificate.id))
            return [Affected(*row) for row in rows]

    def receipt(self, identifier: str) -> RevocationReceipt:
        """A receipt as it stands now, with what was seen since. Raises NotFound."""
        with self._database.read() as db:
            found = db.execute(_receipts().where(StatusReceipt.id == identifier)).first()
        if found is None:
            raise NotFound("id", "there is no receipt with this id")
        return _view(*found)

    def _revocation(self, reason: str | None, ground: Ground | None, invalidity_date: datetime | None) -> Change:
        at = self._moment()
        if invalidity_date is not None:
            invalidity_date = invalidity_date.replace(microsecond=0)
            if invalidity_date > at:
                raise Rejected("invalidity_date", f"must not lie in the future; it is {_text(at)} now")
        return Change(StatusAct.REVOKE, at, choose_reason(reason, ground), ground, invalidity_date)

    def _moment(self) -> datetime:
        return self._now().replace(microsecond=0)

    def _publish(self, receipts: Sequence[str], actor: Actor) -> list[RevocationReceipt]:
        """Issue the CRLs the certificates name and the complete one, note their numbers, and answer with the receipts."""
        chunks = [receipts[start : start + _CHUNK] for start in range(0, len(receipts), _CHUNK)]
        named: set[tuple[str, int]] = set()
        with self._database.read() as db:
            for chunk in chunks:
                scopes = _receipts().where(StatusReceipt.id.in_(chunk))
                named.update(db.execute(scopes.with_only_columns(Authority.name, Certificate.crl_partition).distinct()))
        numbers = {}
        for name, partition in sorted(named | {(name, 0) for name, _ in named}):
            numbers[name, partition] = self._try_publish(name, partition, actor)
        found: list[RevocationReceipt] = []
        with self._database.write() as db:
            for chunk in chunks:
                for row in db.execute(_receipts().where(StatusReceipt.id.in_(chunk)).order_by(StatusEvent.id)):
                    receipt, _, certificate, authority = row
                    receipt.crl_number = numbers[authority, certificate.crl_partition]
                    found.append(_view(*row))
        self._changed()
        return found

    def _try_publish(self, authority: str, partition: int, actor: Actor) -> int | None:
        try:
            return self._crl.publish_change(authority, actor=actor, partition=partition).number
        except CondauError as error:
            told = {"authority": authority, "partition": partition, "detail": error.detail}
            _log.warning("the status changed, but the CRL must follow", extra={"fields": told})
            return None


def change_standing(db: Session, rows: Sequence[Certificate], change: Change, actor: Actor) -> list[StatusEvent]:
    """Make a change to ``rows``, which the caller holds locked, with its history and audit entries; the events in their order.

    It takes the authorities' row locks, so that the change is either on a CRL being begun or makes that one outdated.
    """
    versions = {identifier: _bump_status(db, identifier) for identifier in sorted({row.authority_id for row in rows})}
    events = []
    for row in rows:
        since = None if change.act == StatusAct.RESUME else row.revoked_at or change.at
        row.revoked_at, row.revocation_reason, row.invalidity_date = since, change.reason, change.invalidity_date
        if row.state == CertificateState.INTENDED:
            row.state = CertificateState.ABANDONED  # its issuance then fails at the last step
        name, version = versions[row.authority_id]
        events.append(
            StatusEvent(
                certificate_id=row.id,
                authority_id=row.authority_id,
                version=version,
                act=change.act,
                at=change.at,
                since=since,
                reason=change.reason,
                ground=change.ground,
                invalidity_date=change.invalidity_date,
                actor=actor.name,
            )
        )
        told = {"reason": change.reason, "ground": change.ground, "authority": name}
        append(db, at=change.at, actor=actor, action=f"certificate.{change.act.value}", subject=row.serial, **told)
        outbox.record(db, at=change.at, kind=_KINDS[change.act], subject=row.serial, profile=row.profile, **told)
    db.add_all(events)
    db.flush()
    return events


def _bump_status(db: Session, authority_id: int) -> tuple[str, int]:
    change = sa.update(Authority).where(Authority.id == authority_id).values(status_version=Authority.status_version + 1)
    return db.execute(change.returning(Authority.name, Authority.status_version)).one()


def _record_receipts(db: Session, events: Sequence[StatusEvent], at: datetime) -> list[str]:
    until = at + WATCH_FOR
    receipts = [StatusReceipt(id=secrets.token_hex(16), event_id=event.id, made_at=at, watched_until=until) for event in events]
    db.add_all(receipts)
    return [receipt.id for receipt in receipts]


def _lock_rows(db: Session, wanted: sa.ColumnElement[bool], *, with_key: bool) -> list[Certificate]:
    """The certificates wanted (with ``with_key`` all over the same keys), held until the transaction ends.

    Always keys before certificates and each in one order, so that no two transactions wait for each other; and an issuance
    claims its key first, so none over a key that is being blocked is missed.
    """
    if with_key:
        keys = sorted(set(db.scalars(sa.select(Certificate.spki_sha256).where(wanted))))
        wanted = Certificate.spki_sha256.in_(keys)
        claims = sa.select(SubjectKey.spki_sha256).where(SubjectKey.spki_sha256.in_(keys))
        db.execute(claims.order_by(SubjectKey.spki_sha256).with_for_update()).all()
    locked = sa.select(Certificate).where(wanted).order_by(Certificate.id).with_for_update(of=Certificate)
    return list(db.scalars(locked, execution_options={"populate_existing": True}))


def _lock_one(db: Session, serial: str) -> Certificate:
    rows = _lock_rows(db, Certificate.serial == parse_serial(serial), with_key=False)
    if not rows:
        raise NotFound("serial", f"no certificate has the serial number {serial}")
    return rows[0]


def _of_agency(db: Session, code: str, at: datetime, *, subtree: bool) -> sa.ColumnElement[bool]:
    subscribers = sa.select(Subscriber.id).where(Subscriber.agency_id.in_(agencies_with_code(db, code, at, subtree=subtree)))
    return sa.and_(Certificate.subscriber_id.in_(subscribers), Certificate.not_after >= at)


def _check_revocable(row: Certificate) -> None:
    _check_no_root(row)
    if row.revoked_at is not None and row.revocation_reason != HOLD:
        since = f"{_text(row.revoked_at)} ({row.revocation_reason})"
        raise Conflict(f"the certificate {row.serial} was revoked already, at {since}")


def _is_revocable(row: Certificate) -> bool:
    return row.profile != _ROOT and (row.revoked_at is None or row.revocation_reason == HOLD)


def _check_only(rows: Sequence[Certificate], only: Sequence[str] | None) -> None:
    if only is not None and {row.serial for row in rows} != set(only):
        raise Conflict("by now this would revoke other certificates than those that were approved: ask again")


def _check_no_root(row: Certificate) -> None:
    if row.profile == _ROOT:
        raise Conflict("a root cannot revoke itself: nobody could believe it; remove it from the trust stores instead")


def _block_keys(db: Session, keys: set[str], at: datetime, actor: Actor) -> bool:
    """Block keys for ever; whether any of them was not blocked before."""
    free = sa.update(SubjectKey).where(SubjectKey.spki_sha256.in_(keys), SubjectKey.blocked_at.is_(None))
    blocked = list(db.scalars(free.values(blocked_at=at).returning(SubjectKey.spki_sha256)))
    for key in blocked:
        append(db, at=at, actor=actor, action="key.block", subject=key)
    return bool(blocked)


def _receipts() -> sa.Select[StatusReceipt, StatusEvent, Certificate, str]:
    query = sa.select(StatusReceipt, StatusEvent, Certificate, Authority.name).join(
        StatusEvent, StatusReceipt.event_id == StatusEvent.id
    )
    return query.join(Certificate, StatusEvent.certificate_id == Certificate.id).join(
        Authority, StatusEvent.authority_id == Authority.id
    )


def _view(receipt: StatusReceipt, event: StatusEvent, certificate: Certificate, authority: str) -> RevocationReceipt:
    seen = {"ocsp": receipt.ocsp_seen_at, "crl": receipt.crl_seen_at}
    seconds = {name: None if at is None else max(0.0, (at - receipt.made_at).total_seconds()) for name, at in seen.items()}
    return RevocationReceipt.model_validate(
        {
            "id": receipt.id,
            "act": event.act,
            "serial": certificate.serial,
            "authority": authority,
            "at": event.at,
            "revoked_at": event.since,
            "reason": event.reason,
            "ground": event.ground,
            "invalidity_date": event.invalidity_date,
            "crl_number": receipt.crl_number,
            "visible": Visibility(ocsp_seconds=seconds["ocsp"], crl_seconds=seconds["crl"], problem=receipt.problem),
        }
    )


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
