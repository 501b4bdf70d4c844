"""The time-stamping authority: a TimeStampReq in, a TimeStampResp out, and a record of every timestamp (RFC 3161)."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

import sqlalchemy as sa
from cryptography import x509

from audit.log import Actor, entry
from core.clock import Now
from core.cms import ID_TST_INFO
from core.db import Database, Row
from core.errors import ClockUntrusted, Unavailable
from core.metrics import Metrics
from core.settings import TsaConfig
from core.signatures import sign_all
from hsm.keys import KeyStore
from pki.certificates import format_serial
from tsa.models import Timestamp
from tsa.request import Failure, Query, Refusal, build_query, build_query_of, parse_query
from tsa.response import build_granted, build_refused
from tsa.units import TimestampUnits, UnitKey

_log = logging.getLogger("condau.tsa")
# On the table and not the class: the ORM's way of inserting costs more than everything else here but the signature.
_INSERT: Final = sa.insert(cast("sa.Table", Timestamp.__table__))


_TURN: Final = 10.0
"""Seconds a batch waits for its turn at the HSM."""
_LEAD: Final = 10
"""A genTime may lie this part of the stated accuracy before its signature is begun."""
_GROUP: Final = 8
"""Signatures asked of the HSM in one go: few enough that the last one's genTime is milliseconds old."""
_T = TypeVar("_T")


class Ask(NamedTuple):
    """One TimeStampReq (DER), who sent it, and the name of the unit it is addressed to, if any."""

    query: bytes
    actor: Actor
    unit: str | None = None


class _Draft(NamedTuple):
    """What the HSM shall sign: ``attributes``, over the TSTInfo ``info`` of the moment ``at``.

    ``until``: when (monotonic, in seconds) that moment is too long ago to be signed.
    """

    query: Query
    key: UnitKey
    serial: str
    at: datetime
    info: bytes
    attributes: bytes
    until: float


class _Unrecorded(NamedTuple):
    """A timestamp that nobody has seen yet: its record is to be committed before anybody does."""

    draft: _Draft
    timestamp: bytes


class TimestampAuthority:
    """Issues timestamps with the configured units (see :class:`tsa.units.TimestampUnits`)."""

    def __init__(
        self, *, database: Database, keys: KeyStore, now: Now, config: TsaConfig, at_once: int = 1, metrics: Metrics | None = None
    ) -> None:
        """``at_once``: batches signed at the same time, as many as the HSM bears calls; ``metrics``: where it is counted.

        Raises Rejected for a policy in the configuration that is no object identifier, and for an unknown kind of key.
        """
        self._database = database
        self._now = now
        # Two batches that take turns at one HSM, signature by signature, only wake each other up: the second one waits
        self._signing = threading.Semaphore(at_once)
        self._lead = config.accuracy_milliseconds / 1000 / _LEAD
        self._metrics = metrics or Metrics()
        self.units = TimestampUnits(database=database, keys=keys, config=config)

    def respond(self, query: bytes, actor: Actor, *, unit: str | None = None) -> bytes:
        """The TimeStampResp (DER) to a TimeStampReq: granted, or a rejection with its PKIFailureInfo.

        ``unit``: the name of the one it is addressed to; None leaves the choice to the policy asked for. Raises NotFound for
        an unknown unit, and nothing else: the HSM, the database or the certificate being away is systemFailure to the client,
        and so is a fault of our own, which is logged (RFC 3161, 2.4.2).
        """
        (answer,) = self.respond_all([Ask(query, actor, unit)])
        return answer

    def respond_all(self, asked: Sequence[Ask]) -> list[bytes]:
        """What :meth:`respond` says to each, in their order; the records of all timestamps are committed at once.

        All go through one step before any goes through the next: alternating between signing, checking and inserting costs a
        P-256 timestamp as much again as the signature, because each step drives the others out of the processor's caches.
        """
        parsed = [parse_query(ask.query, policies=self.units.policies(ask.unit)) for ask in asked]
        signed = self._sign_all(parsed, asked)
        made = [
            one if isinstance(one, Refusal) else _guarded(partial(_finish, *one), ask.actor)
            for one, ask in zip(signed, asked, strict=True)
        ]
        final = self._record_all(made, asked)
        self._count(final)
        return [_answer(one, ask.actor) for one, ask in zip(final, asked, strict=True)]

    def stamp(self, data: bytes, actor: Actor) -> bytes:
        """A TimeStampToken (DER) over the SHA-256 of ``data``, the unit's certificates inside; recorded like any other."""
        return self._stamp(build_query(data), actor)

    def stamp_digest(self, digest: bytes, actor: Actor) -> bytes:
        """The same over data whose SHA-256 is ``digest``."""
        return self._stamp(build_query_of(digest), actor)

    def signers(self) -> tuple[x509.Certificate, ...]:
        """The certificates one of which :meth:`stamp` would sign with at this moment; raises Unavailable where it could not."""
        return self.units.signers(self.units.choose(None, None), self._now())

    def _stamp(self, query: Query, actor: Actor) -> bytes:
        ((draft, signature),) = self._sign([self._draft(query, None)])
        made = _finish(draft, signature)
        self._database.insert(*_rows([made], [actor]))
        return made.timestamp

    def _sign_all(self, parsed: Sequence[Query | Refusal], asked: Sequence[Ask]) -> list[tuple[_Draft, bytes] | Refusal]:
        """The drafts with their signatures; while another batch is at the HSM this one waits."""
        if not self._signing.acquire(timeout=_TURN):
            busy = Unavailable("hsm", "the HSM is still busy with earlier requests")
            return [
                one if isinstance(one, Refusal) else refusal_of(busy, ask.actor) for one, ask in zip(parsed, asked, strict=True)
            ]
        try:
            drafts = [
                one if isinstance(one, Refusal) else _guarded(partial(self._draft, one, ask.unit), ask.actor)
                for one, ask in zip(parsed, asked, strict=True)
            ]
            return self._sign_groups(drafts, asked)
        finally:
            self._signing.release()

    def _sign_groups(self, drafts: Sequence[_Draft | Refusal], asked: Sequence[Ask]) -> list[tuple[_Draft, bytes] | Refusal]:
        """Each draft signed, in groups of one key: where the HSM fails, a group is refused whole."""
        by_key: dict[str, list[int]] = {}
        for number, draft in enumerate(drafts):
            if isinstance(draft, _Draft):
                by_key.setdefault(draft.key.identity.key_label, []).append(number)
        signed: list[tuple[_Draft, bytes] | Refusal] = [one if isinstance(one, Refusal) else (one, b"") for one in drafts]
        for numbers in by_key.values():
            for start in range(0, len(numbers), _GROUP):
                group = numbers[start : start + _GROUP]
                try:
                    made = self._sign([one for number in group if isinstance(one := drafts[number], _Draft)])
                except Exception as error:  # noqa: BLE001 - logged in full; the protocol has its own answer for a fault of the server
                    for number in group:
                        signed[number] = refusal_of(error, asked[number].actor)
                else:
                    for number, pair in zip(group, made, strict=True):
                        signed[number] = pair
        return signed

    def _draft(self, query: Query, unit: str | None, *, key: UnitKey | None = None) -> _Draft:
        """What is to be signed of this moment; by ``key`` where it is chosen already."""
        at = _to_milliseconds(self._now())
        key = key or self.units.key(self.units.choose(unit, query.policy), at)
        serial = x509.random_serial_number()  # 159 random bits
        info = key.info.build(query, serial=serial, at=at)
        attributes = key.signer.build_attributes(content_type=ID_TST_INFO, message_digest=key.signer.digest(info))
        return _Draft(query, key, format_serial(serial), at, info, attributes, time.monotonic() + self._lead)

    def _sign(self, drafts: Sequence[_Draft]) -> list[tuple[_Draft, bytes]]:
        """Drafts of one key with their signatures; another draft for each that has waited too long for the HSM."""
        began = time.monotonic()
        drafts = [self._draft(one.query, one.key.unit, key=one.key) if began > one.until else one for one in drafts]
        key = drafts[0].key
        try:
            signatures = sign_all(key.key, [one.attributes for one in drafts], key.signer.hash_algorithm, pss=key.signer.pss)
        except Unavailable:
            self.units.forget()
            raise
        finally:
            each = (time.monotonic() - began) / len(drafts)
            self._metrics.hsm_seconds.observe_many(each, len(drafts))
        return list(zip(drafts, signatures, strict=True))

    def _record_all(self, made: Sequence[_Unrecorded | Refusal], asked: Sequence[Ask]) -> list[_Unrecorded | Refusal]:
        """Commit the records of all; what could not be recorded becomes a refusal, with all of its caller's and key's."""
        final = list(made)
        groups: dict[tuple[str, str, str], list[tuple[int, _Unrecorded]]] = {}
        for number, one in enumerate(made):
            if isinstance(one, _Unrecorded):
                actor = asked[number].actor
                groups.setdefault((actor.name, actor.role, one.draft.key.identity.key_label), []).append((number, one))
        rows = [_rows([one for _, one in group], [asked[number].actor for number, _ in group]) for group in groups.values()]
        try:
            errors = self._database.insert_each(rows)
        except Unavailable as away:
            errors = [away] * len(rows)
        for group, error in zip(groups.values(), errors, strict=True):
            if error is not None:
                for number, _ in group:
                    final[number] = refusal_of(error, asked[number].actor)
        return final

    def _count(self, final: Sequence[_Unrecorded | Refusal]) -> None:
        for outcome, count in Counter(one.failure.name if isinstance(one, Refusal) else "GRANTED" for one in final).items():
            self._metrics.requests.labels(outcome).inc(count)


def _guarded(step: Callable[[], _T], actor: Actor) -> _T | Refusal:
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - logged in full; the protocol has its own answer for a fault of the server
        return refusal_of(error, actor)


def _finish(draft: _Draft, signature: bytes) -> _Unrecorded:
    """The TimeStampToken, checked with the public key; ValueError when the check fails."""
    key = draft.key
    timestamp = key.signer.build_signed_data(
        draft.attributes,
        signature,
        content_type=ID_TST_INFO,
        content=draft.info,
        certificates=key.certificates if draft.query.certificates_wanted else b"",
    )
    key.signer.check(timestamp, draft.attributes, signature, content=draft.info, content_type=ID_TST_INFO)
    return _Unrecorded(draft, timestamp)


def _rows(made: Sequence[_Unrecorded], actors: Sequence[Actor]) -> list[Row]:
    """The records of timestamps by one key for one caller (``actors``: with the request of each), and one audit entry that
    names them all: to be committed in one transaction before any of them leaves.
    """
    key, last, actor = made[0].draft.key, made[-1].draft, actors[0]
    requests = {one.draft.serial: asked.request_id for one, asked in zip(made, actors, strict=True)}
    told = entry(
        at=last.at,
        actor=actor if len(made) == 1 else replace(actor, request_id=""),
        action="timestamp.issue",
        subject=key.unit,
        key=key.identity.key_label,
        timestamps=requests,
    )
    return [*((_INSERT, _record(one, actor.name)) for one in made), told]


def _record(made: _Unrecorded, client: str) -> dict[str, Any]:
    draft = made.draft
    query, key, at = draft.query, draft.key, draft.at
    return {
        "serial": draft.serial,
        "month": at.isoformat()[:7],
        "gen_time": at,
        "hash_algorithm": query.hash_name,
        "imprint": query.hashed.hex(),
        "policy": key.policy,
        "unit": key.unit,
        "key_label": key.identity.key_label,
        "certificate_serial": key.identity.serial,
        "client": client,
        "der": made.timestamp,
    }


def _answer(draft: _Unrecorded | Refusal, actor: Actor) -> bytes:
    """The TimeStampResp around a timestamp whose record is committed, or around a refusal, which is logged."""
    if isinstance(draft, _Unrecorded):
        return build_granted(draft.timestamp)
    fields = {"request_id": actor.request_id, "failure": draft.failure.name, "reason": draft.reason}
    _log.info("timestamp refused", extra={"fields": fields})
    return build_refused(draft)


def refusal_of(error: Exception, actor: Actor) -> Refusal:
    """What the client is told of a part that is away, and of a fault of ours; both are logged."""
    if isinstance(error, ClockUntrusted):  # logged by the clock, once and not for each request
        return Refusal(Failure.TIME_NOT_AVAILABLE, "the clock is not known to be within the stated accuracy: try again later")
    if isinstance(error, Unavailable):
        fields = {"request_id": actor.request_id, "part": error.part, "detail": error.detail}
        _log.warning("timestamp not possible", extra={"fields": fields})
        return Refusal(Failure.SYSTEM_FAILURE, f"for the moment out of service, try again in {error.retry_after} s: {error.detail}")
    _log.error("timestamp failed", exc_info=error, extra={"fields": {"request_id": actor.request_id}})
    return Refusal(Failure.SYSTEM_FAILURE, "an internal error, which is in our log")


def _to_milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
