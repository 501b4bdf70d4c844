"""The time-stamping authority: a TimeStampReq in, a TimeStampResp out, and a record of every timestamp (RFC 3161)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import sqlalchemy as sa
from cryptography import x509
from prometheus_client import Histogram

from audit.log import Actor, entry
from core.clock import Now
from core.cms import ID_TST_INFO, check_signed_data
from core.db import Database, Row
from core.errors import ClockUntrusted, Unavailable
from core.metrics import Metrics
from core.settings import TsaConfig
from core.signatures import sign
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


@dataclass(frozen=True, slots=True)
class Ask:
    """One TimeStampReq (DER), who sent it, and the name of the unit it is addressed to, if any."""

    query: bytes
    actor: Actor
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class _Unrecorded:
    """A timestamp that nobody has seen yet, and the rows to commit before anybody does."""

    timestamp: bytes
    rows: tuple[Row, Row]


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
        self._drafting = threading.Semaphore(at_once)
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
        """What :meth:`respond` says to each, in their order; the records of all timestamps are committed at once."""
        drafts = self._draft_all(asked)
        made = [draft for draft in drafts if isinstance(draft, _Unrecorded)]
        try:
            errors = iter(self._database.insert_each([draft.rows for draft in made]))
        except Unavailable as away:
            errors = iter([away] * len(made))
        answers = []
        for draft, ask in zip(drafts, asked, strict=True):
            error = next(errors) if isinstance(draft, _Unrecorded) else None
            final = draft if error is None else _refusal(error, ask.actor)
            self._metrics.requests.labels(final.failure.name if isinstance(final, Refusal) else "GRANTED").inc()
            answers.append(_answer(final, ask.actor))
        return answers

    def _draft_all(self, asked: Sequence[Ask]) -> list[_Unrecorded | Refusal]:
        if not self._drafting.acquire(timeout=_TURN):
            busy = Unavailable("hsm", "the HSM is still busy with earlier requests")
            return [_refusal(busy, ask.actor) for ask in asked]
        try:
            return [self._draft(ask) for ask in asked]
        finally:
            self._drafting.release()

    def _draft(self, ask: Ask) -> _Unrecorded | Refusal:
        parsed = parse_query(ask.query, policies=self.units.policies(ask.unit))
        if isinstance(parsed, Refusal):
            return parsed
        try:
            return self._make(parsed, ask.actor, ask.unit)
        except Exception as error:  # noqa: BLE001 - logged in full; the protocol has its own answer for a fault of the server
            return _refusal(error, ask.actor)

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
        made = self._make(query, actor)
        self._database.insert(*made.rows)
        return made.timestamp

    def _make(self, query: Query, actor: Actor, unit: str | None = None) -> _Unrecorded:
        at = _to_milliseconds(self._now())
        chosen = self.units.key(self.units.choose(unit, query.policy), at)
        serial = x509.random_serial_number()  # 159 random bits
        info = chosen.info.build(query, policy=chosen.policy, serial=serial, at=at)
        try:
            certificates = chosen.certificates if query.certificates_wanted else ()
            timestamp = _sign(chosen, info, certificates=certificates, hsm_seconds=self._metrics.hsm_seconds)
        except Unavailable:
            self.units.forget()
            raise
        rows = _rows(query, chosen, actor, serial=format_serial(serial), at=at, timestamp=timestamp)
        return _Unrecorded(timestamp, rows)


def _rows(query: Query, key: UnitKey, actor: Actor, *, serial: str, at: datetime, timestamp: bytes) -> tuple[Row, Row]:
    """Record and audit entry, to be committed in one transaction before the timestamp leaves."""
    row = {
        "serial": serial,
        "month": f"{at:%Y-%m}",
        "gen_time": at,
        "hash_algorithm": query.hash_name,
        "imprint": query.hashed.hex(),
        "policy": key.policy.dotted_string,
        "unit": key.unit,
        "key_label": key.identity.key_label,
        "certificate_serial": key.identity.serial,
        "client": actor.name,
        "der": timestamp,
    }
    told = entry(at=at, actor=actor, action="timestamp.issue", subject=serial, key=key.identity.key_label)
    return (_INSERT, row), told


def _answer(draft: _Unrecorded | Refusal, actor: Actor) -> bytes:
    """The TimeStampResp around a timestamp whose record is committed, or around a refusal, which is logged."""
    if isinstance(draft, _Unrecorded):
        return build_granted(draft.timestamp)
    fields = {"request_id": actor.request_id, "failure": draft.failure.name, "reason": draft.reason}
    _log.info("timestamp refused", extra={"fields": fields})
    return build_refused(draft)


def _refusal(error: Exception, actor: Actor) -> Refusal:
    """What the client is told of a part that is away, and of a fault of ours; both are logged."""
    if isinstance(error, ClockUntrusted):  # logged by the clock, once and not for each request
        return Refusal(Failure.TIME_NOT_AVAILABLE, "the clock is not known to be within the stated accuracy: try again later")
    if isinstance(error, Unavailable):
        fields = {"request_id": actor.request_id, "part": error.part, "detail": error.detail}
        _log.warning("timestamp not possible", extra={"fields": fields})
        return Refusal(Failure.SYSTEM_FAILURE, f"for the moment out of service, try again in {error.retry_after} s: {error.detail}")
    _log.error("timestamp failed", exc_info=error, extra={"fields": {"request_id": actor.request_id}})
    return Refusal(Failure.SYSTEM_FAILURE, "an internal error, which is in our log")


def _sign(key: UnitKey, info: bytes, *, certificates: tuple[x509.Certificate, ...], hsm_seconds: Histogram) -> bytes:
    """The TimeStampToken around ``info``, its signature checked with the public key; ValueError if that fails."""
    signer = key.signer
    digest = signer.digest(info)
    attributes = signer.build_attributes(content_type=ID_TST_INFO, message_digest=digest)
    with hsm_seconds.time():
        signature = sign(key.key, attributes, signer.hash_algorithm, pss=signer.pss)
    timestamp = signer.build_signed_data(attributes, signature, content_type=ID_TST_INFO, content=info, certificates=certificates)
    check_signed_data(timestamp, certificate=signer.certificate, message_digest=digest)
    return timestamp


def _to_milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
