"""Certificate revocation lists: numbered by the database, checked before they are published, kept (docs/adr/0005, 0016)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.db import Database
from core.errors import CondauError, NotFound, Unavailable
from core.settings import Config
from hsm.keys import KeyStore
from pki.certificates import authority_certificate, authority_named
from pki.crl_der import REMOVED, CrlDraft, Entry, check_crl, sign_crl
from pki.issuer import Urls
from pki.lint_crl import check_crl_draft
from pki.models import Authority, Certificate, Crl, CrlState, StatusAct, StatusEvent
from pki.profile import PublicKey

_log = logging.getLogger("condau.pki")
_FRESH: Final = timedelta(seconds=30)
"""An intent younger than this is being built by somebody: nobody else begins the same."""
_LARGE: Final = 500_000
"""Bytes of a full CRL (some 10,000 entries) from which on a revocation issues the delta, and the full one follows by itself."""


@dataclass(frozen=True, slots=True)
class PublishedCrl:
    """A CRL that anybody may have."""

    authority: str
    number: int
    this_update: datetime
    next_update: datetime
    der: bytes
    partition: int = 0
    base_number: int | None = None
    """Set in a delta CRL."""


@dataclass(frozen=True, slots=True)
class _Intent:
    """CRLs about to be signed: a full one with its delta, or a delta alone."""

    key_label: str
    drafts: Sequence[tuple[int, CrlDraft]]
    """Each with the id of its row; the full one first."""
    predecessors: Sequence[bytes | None]
    resumed: frozenset[str]


class CrlPublisher:
    """Issues the CRLs of every authority: the complete one, its parts, and deltas to them. Any number of processes may do so."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, config: Config) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._life = timedelta(hours=config.pki.crl_hours)
        self._offline_life = timedelta(days=config.pki.offline_crl_days)
        self._hsm = config.hsm
        self._urls = Urls(config.public_url, config.pki.crl_partitions)

    def publish(self, authority: str, *, actor: Actor, partition: int = 0, delta: bool = False) -> PublishedCrl:
        """Issue a new full CRL with its delta now, or with ``delta`` that alone. Raises NotFound, Unavailable.

        A delta needs a full CRL to add to: without one, the first full CRL is issued instead.
        """
        intent = self._intend(authority, partition, actor, only_when_due=False, delta=delta)
        if intent is None:
            raise ValueError("a CRL that was asked for is always due")
        return self._finish(intent, actor)

    def publish_change(self, authority: str, *, actor: Actor, partition: int = 0) -> PublishedCrl:
        """Tell of a status that changed just now: by a full CRL and its delta, or by the delta alone where the full one is large.

        That full one then follows at the next refresh or when somebody asks for it. Raises NotFound, Unavailable.
        """
        with self._database.read() as db:
            query = _issued(authority_named(db, authority).id, partition, delta=False)
            size = db.scalar(query.with_only_columns(sa.func.length(Crl.der)).limit(1))
        return self.publish(authority, actor=actor, partition=partition, delta=size is not None and size > _LARGE)

    def current(self, authority: str, *, partition: int = 0, delta: bool = False) -> PublishedCrl:
        """The newest CRL, issued anew when half of its life has passed or a change of status is missing from it.

        While it cannot be issued anew, and while somebody else is at it, this is the last one as long as that is valid.
        Raises NotFound, Unavailable.
        """
        with self._database.read() as db:
            row = authority_named(db, authority)
            self._check_partition(db, row, partition)
            newest = _newest(db, row.id, partition, delta=delta)
            if newest is not None and not self._is_due(db, row, newest):
                return _published(authority, newest)
        try:
            intent = self._intend(authority, partition, SYSTEM, only_when_due=True, delta=delta)
            if intent is not None:
                published = self._finish(intent, SYSTEM)
                if delta == (published.base_number is not None):
                    return published
        except (Unavailable, NotFound) as error:  # NotFound: the key is not in this token, as an offline root's is not
            if newest is None or newest.next_update <= self._now():
                raise
            _log.warning("the CRL is due but cannot be issued", extra={"fields": {"authority": authority, "detail": error.detail}})
        return self._last(authority, partition, delta=delta)

    def published_at(
        self, authority: str, *, at: datetime | None, number: int | None = None, partition: int = 0, delta: bool = False
    ) -> PublishedCrl:
        """The CRL that was the newest one at the moment ``at``, or the one with that ``number``; raises NotFound."""
        with self._database.read() as db:
            query = _issued(authority_named(db, authority).id, partition, delta=delta)
            if at is not None:
                query = query.where(Crl.published_at <= at)
            if number is not None:
                query = query.where(Crl.number == number)
            row = db.scalar(query.limit(1))
        if row is None:
            raise NotFound("at" if number is None else "number", f"{authority} had published no such CRL")
        return _published(authority, row)

    def refresh(self) -> None:
        """Issue what is due, of every authority that is online; what fails is logged and tried again at the next call."""
        for name in self.authorities():
            with self._database.read() as db:
                authority = authority_named(db, name)
                partitions = self._partitions(db, authority)
            if self._hsm.is_offline(authority.key_label):
                continue  # its CRL is issued in a ceremony
            for partition in partitions:
                for delta in (False, True):  # the full one brings its delta along: then that is not due any more
                    self._try_current(name, partition, delta=delta)

    def _try_current(self, name: str, partition: int, *, delta: bool) -> None:
        try:
            self.current(name, partition=partition, delta=delta)
        except CondauError as error:
            told = {"authority": name, "partition": partition, "delta": delta, "detail": error.detail}
            _log.warning("no valid CRL", extra={"fields": told})

    def authorities(self) -> list[str]:
        """The names of all authorities that can issue a CRL, oldest first."""
        with self._database.read() as db:
            return list(db.scalars(sa.select(Authority.name).where(Authority.certificate_der.is_not(None)).order_by(Authority.id)))

    def reconcile(self, before: datetime) -> int:
        """Give up the CRLs intended before ``before`` that have no result; returns how many. Their numbers are not used again."""
        undecided = sa.update(Crl).where(Crl.state == CrlState.INTENDED, Crl.this_update < before)
        with self._database.write() as db:
            settled = set(db.execute(undecided.values(state=CrlState.ABANDONED).returning(Crl.authority_id, Crl.number)))
            for authority_id, number in settled:  # a full CRL and its delta share one
                name = db.get_one(Authority, authority_id).name
                append(db, at=self._now(), actor=SYSTEM, action="crl.abandon", subject=name, number=number)
        return len(settled)

    def _partitions(self, db: Session, authority: Authority) -> list[int]:
        """0 and every part that a certificate may name: those of now, and those of a former configuration."""
        issued = set(db.scalars(sa.select(Crl.partition).where(Crl.authority_id == authority.id).distinct()))
        parts = self._urls.crl_partitions if authority.parent_id is not None else 1
        return sorted({0, *issued, *(range(1, parts + 1) if parts > 1 else ())})

    def _check_partition(self, db: Session, authority: Authority, partition: int) -> None:
        if partition and partition not in self._partitions(db, authority):
            raise NotFound("file", f"the CRL of {authority.name} has no part {partition}")

    def _is_due(self, db: Session, authority: Authority, newest: Crl) -> bool:
        if self._now() >= newest.this_update + (newest.next_update - newest.this_update) / 2:
            return True
        if newest.partition == 0 or newest.status_version == authority.status_version:
            return newest.status_version < authority.status_version
        return db.scalar(_changed(authority.id, newest.status_version, newest.partition).limit(1)) is not None

    def _intend(self, name: str, partition: int, actor: Actor, *, only_when_due: bool, delta: bool) -> _Intent | None:
        """Transaction 1: take the next number under the authority's row lock and read the entries that belong to it.

        Because the entries are read under that lock, a CRL of a higher number never knows less. With ``only_when_due`` None
        means that there is nothing to do, or that another process is doing it.
        """
        with self._database.read() as db:
            key_label = authority_named(db, name).key_label
        self._keys.key(key_label)  # a token that is away is noticed before a number is spent
        with self._database.write() as db:
            # key_share: who only refers to the authority (an issuance, an OCSP record) need not wait meanwhile
            authority = db.scalar(sa.select(Authority).where(Authority.name == name).with_for_update(key_share=True))
            if authority is None:
                raise NotFound("authority", f"no certificate authority is named {name!r}")
            at = self._now()
            # in this order: one that is finished between the two questions is then seen by the second
            under_way = self._is_under_way(db, authority, partition, at, delta=delta)
            newest = _newest(db, authority.id, partition, delta=delta)
            if only_when_due and (under_way or (newest and not self._is_due(db, authority, newest))):
                return None
            authority.crl_number += 1
            return self._write_down(db, authority, partition, actor, at, delta=delta)

    def _write_down(self, db: Session, authority: Authority, partition: int, actor: Actor, at: datetime, *, delta: bool) -> _Intent:
        this_update = at.replace(microsecond=0)
        full = _newest(db, authority.id, partition, delta=False)
        last_delta = _newest(db, authority.id, partition, delta=True)
        earlier = [row.this_update for row in (full, last_delta) if row is not None]
        # clocks of two machines differ, and a CRL must not look older than one of a lower number
        this_update = max([this_update, *earlier, *_being_signed(db, authority.id, partition)])
        base = _base(db, authority.id, partition, this_update)
        wanted: list[tuple[int | None, int, Sequence[Entry], bytes | None]] = []
        if not delta or base is None:
            entries = _load_entries(db, authority.id, partition)
            wanted.append((None, authority.status_version, entries, None if full is None else full.der))
        base_number, base_version = (authority.crl_number, authority.status_version) if base is None else base
        changes = _load_changes(db, authority.id, partition, base_version)
        wanted.append((base_number, authority.status_version, changes, None if last_delta is None else last_delta.der))
        drafts = []
        for number_of_base, version, entries, _ in wanted:
            row = Crl(
                authority_id=authority.id,
                number=authority.crl_number,
                status_version=version,
                state=CrlState.INTENDED,
                partition=partition,
                delta=number_of_base is not None,
                base_number=number_of_base,
                this_update=this_update,
                next_update=this_update + (self._offline_life if self._hsm.is_offline(authority.key_label) else self._life),
            )
            db.add(row)
            db.flush()
            certificate = authority_certificate(authority)
            draft = CrlDraft(
                authority.name, certificate, partition, row.number, number_of_base, this_update, row.next_update, entries
            )
            drafts.append((row.id, draft))
            told = {"number": row.number, "partition": partition, "base": number_of_base, "entries": len(entries)}
            append(db, at=at, actor=actor, action="crl.intend", subject=authority.name, **told)
        since = None if full is None else full.status_version
        resumed = frozenset() if since is None else _load_resumed(db, authority.id, since)
        return _Intent(authority.key_label, drafts, [der for *_, der in wanted], resumed)

    def _is_under_way(self, db: Session, authority: Authority, partition: int, at: datetime, *, delta: bool) -> bool:
        query = sa.select(Crl.id).where(
            Crl.authority_id == authority.id,
            Crl.partition == partition,
            Crl.delta == delta,
            Crl.state == CrlState.INTENDED,
            Crl.status_version >= authority.status_version,
            Crl.this_update > at - _FRESH,
        )
        return db.scalar(query.limit(1)) is not None

    def _finish(self, intent: _Intent, actor: Actor) -> PublishedCrl:
        """Sign, check, and transaction 2: publish, if the intent still stands. The first of what was issued."""
        signed = [self._sign(intent, draft, before) for (_, draft), before in zip(intent.drafts, intent.predecessors, strict=True)]
        at = self._now()
        with self._database.write() as db:
            for (identifier, draft), der in zip(intent.drafts, signed, strict=True):
                stands = sa.update(Crl).where(Crl.id == identifier, Crl.state == CrlState.INTENDED)
                changed = db.execute(stands.values(state=CrlState.ISSUED, der=der, published_at=at).returning(Crl.id))
                if changed.first() is None:
                    raise Unavailable("pki", "the CRL took too long and was given up: try again")
                told = {"number": draft.number, "partition": draft.partition, "base": draft.base_number, "bytes": len(der)}
                append(db, at=at, actor=actor, action="crl.publish", subject=draft.authority, **told)
        first = intent.drafts[0][1]
        return PublishedCrl(
            first.authority, first.number, first.this_update, first.next_update, signed[0], first.partition, first.base_number
        )

    def _sign(self, intent: _Intent, draft: CrlDraft, predecessor: bytes | None) -> bytes:
        issuer_key: PublicKey = draft.certificate.public_key()  # type: ignore[assignment]  # KeySpec has only these kinds
        check_crl_draft(draft, self._urls)
        der = sign_crl(draft, self._keys.key(intent.key_label), self._urls)
        check_crl(
            der,
            issuer_key=issuer_key,
            number=draft.number,
            entries=draft.entries,
            predecessor=predecessor,
            resumed=intent.resumed,
            base_number=draft.base_number,
        )
        return der

    def _last(self, name: str, partition: int, *, delta: bool) -> PublishedCrl:
        with self._database.read() as db:
            newest = _newest(db, authority_named(db, name).id, partition, delta=delta)
        if newest is None or newest.next_update <= self._now():
            raise Unavailable("pki", f"the CRL of {name} is being issued: ask again")
        return _published(name, newest)


def _load_entries(db: Session, authority_id: int, partition: int) -> Sequence[Entry]:
    columns = sa.select(Certificate.serial, Certificate.revoked_at, Certificate.revocation_reason, Certificate.invalidity_date)
    revoked = columns.where(Certificate.authority_id == authority_id, Certificate.revoked_at.is_not(None)).order_by(Certificate.id)
    if partition:
        revoked = revoked.where(Certificate.crl_partition == partition)
    return [Entry(serial, at, reason or "unspecified", since) for serial, at, reason, since in db.execute(revoked) if at]


def _load_changes(db: Session, authority_id: int, partition: int, since: int) -> Sequence[Entry]:
    """The standing of every certificate that changed after the base: RFC 5280, 5.2.4 has the ended suspensions told as well."""
    changed = _changed(authority_id, since, partition)
    columns = sa.select(
        Certificate.serial,
        Certificate.revoked_at,
        Certificate.revocation_reason,
        Certificate.invalidity_date,
        sa.select(sa.func.max(StatusEvent.at)).where(StatusEvent.certificate_id == Certificate.id).scalar_subquery(),
    )
    rows = db.execute(columns.where(Certificate.id.in_(changed)).order_by(Certificate.id))
    return [
        Entry(serial, at, reason or "unspecified", invalid) if at else Entry(serial, changed_at, REMOVED)
        for serial, at, reason, invalid, changed_at in rows
    ]


def _changed(authority_id: int, since: int, partition: int) -> sa.Select[int]:
    """The certificates whose standing changed after the status version ``since``."""
    query = sa.select(StatusEvent.certificate_id).where(StatusEvent.authority_id == authority_id, StatusEvent.version > since)
    if partition:
        query = query.join(Certificate, Certificate.id == StatusEvent.certificate_id).where(Certificate.crl_partition == partition)
    return query


def _load_resumed(db: Session, authority_id: int, since: int) -> frozenset[str]:
    query = sa.select(Certificate.serial).join(StatusEvent, StatusEvent.certificate_id == Certificate.id)
    resumed = (StatusEvent.authority_id == authority_id, StatusEvent.version > since, StatusEvent.act == StatusAct.RESUME)
    return frozenset(db.scalars(query.where(*resumed)))


def _base(db: Session, authority_id: int, partition: int, at: datetime) -> tuple[int, int] | None:
    """Number and status version of the oldest full CRL that is still valid, so that whoever holds a valid one can use the delta."""
    query = _issued(authority_id, partition, delta=False).where(Crl.next_update > at).order_by(None).order_by(Crl.number)
    return db.execute(query.with_only_columns(Crl.number, Crl.status_version).limit(1)).first()


def _issued(authority_id: int, partition: int, *, delta: bool) -> sa.Select[Crl]:
    """The published ones of a scope, the newest first."""
    scope = (Crl.authority_id == authority_id, Crl.partition == partition, Crl.delta == delta, Crl.state == CrlState.ISSUED)
    return sa.select(Crl).where(*scope).order_by(Crl.number.desc())


def _being_signed(db: Session, authority_id: int, partition: int) -> Sequence[datetime]:
    """The thisUpdate of everything in a scope that has its number and is not published yet."""
    scope = (Crl.authority_id == authority_id, Crl.partition == partition, Crl.delta.in_((False, True)))
    return db.scalars(sa.select(Crl.this_update).where(*scope, Crl.state == CrlState.INTENDED)).all()


def _newest(db: Session, authority_id: int, partition: int, *, delta: bool) -> Crl | None:
    return db.scalar(_issued(authority_id, partition, delta=delta).limit(1))


def _published(authority: str, row: Crl) -> PublishedCrl:
    if row.der is None:
        raise ValueError(f"CRL {row.number} of {authority} is issued without its bytes")
    return PublishedCrl(authority, row.number, row.this_update, row.next_update, row.der, row.partition, row.base_number)
