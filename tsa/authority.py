"""The time-stamping authority: a TimeStampReq in, a TimeStampResp out, and a record of every timestamp (RFC 3161)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

import sqlalchemy as sa
from cryptography import x509

from audit.log import Actor, entry
from core.clock import Now
from core.cms import ID_TST_INFO, CmsSigner, check_signed_data
from core.config import TsaConfig
from core.db import Database
from core.errors import NotFound, Rejected, Unavailable
from core.signatures import sign
from hsm.keys import KeyStore, PrivateKey
from pki.certificates import Identity, format_serial, service_certificate
from tsa.models import Timestamp
from tsa.request import Failure, Query, Refusal, build_query, parse_query
from tsa.response import TstInfoBuilder, build_granted, build_refused

PROFILE: Final = "tsa"
"""The certificate profile of a time-stamping unit."""
IDENTITY_AGE: Final = timedelta(seconds=5)
"""How long a unit is used before the database is asked again whether its certificate still stands."""

_log = logging.getLogger("condau.tsa")
# On the table and not the class: the ORM's way of inserting costs more than everything else here but the signature.
_INSERT: Final = sa.insert(cast("sa.Table", Timestamp.__table__))


@dataclass(frozen=True, slots=True)
class _Unit:
    """A certificate and its key, with what both say in every timestamp encoded once; good from ``since`` to ``until``."""

    identity: Identity
    key: PrivateKey
    signer: CmsSigner
    info: TstInfoBuilder
    since: datetime
    until: datetime

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """What a client needs to reach its trust anchor, and not that anchor itself (RFC 5652, 5.1)."""
        return (self.identity.certificate, *self.identity.chain[:-1])


class TimestampAuthority:
    """Issues timestamps under one policy with the newest valid certificate of the profile ``tsa``."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, config: TsaConfig) -> None:
        """Raises Rejected for a policy in the configuration that is no object identifier."""
        self._database = database
        self._keys = keys
        self._now = now
        self._config = config
        self._loaded: _Unit | None = None
        try:
            self._policy = x509.ObjectIdentifier(config.policy)
        except ValueError as error:
            raise Rejected("tsa.policy", f"{config.policy!r} is not an object identifier") from error

    def respond(self, query: bytes, actor: Actor) -> bytes:
        """The TimeStampResp (DER) to a TimeStampReq: granted, or a rejection with its PKIFailureInfo.

        Raises Unavailable while the HSM, the database or the certificate is away, so that the client comes back later; a
        fault of our own is logged and answered as systemFailure (RFC 3161, 2.4.2).
        """
        parsed = parse_query(query, policies=(self._config.policy,))
        if isinstance(parsed, Refusal):
            fields = {"request_id": actor.request_id, "failure": parsed.failure.name, "reason": parsed.reason}
            _log.info("timestamp refused", extra={"fields": fields})
            return build_refused(parsed)
        try:
            return build_granted(self._issue(parsed, actor))
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - logged in full; the protocol has its own answer for a fault of the server
            _log.exception("timestamp failed", extra={"fields": {"request_id": actor.request_id}})
            return build_refused(Refusal(Failure.SYSTEM_FAILURE, "an internal error, which is in our log"))

    def stamp(self, data: bytes, actor: Actor) -> bytes:
        """A TimeStampToken (DER) over the SHA-256 of ``data``, the unit's certificates inside; recorded like any other."""
        return self._issue(build_query(data), actor)

    def _issue(self, query: Query, actor: Actor) -> bytes:
        at = _to_milliseconds(self._now())
        unit = self._unit(at)
        serial = x509.random_serial_number()  # 159 random bits
        info = unit.info.build(query, policy=self._policy, serial=serial, at=at)
        try:
            timestamp = _sign(unit, info, certificates=unit.certificates if query.certificates_wanted else ())
        except Unavailable:
            self._loaded = None  # the token may come back with other handles: look the key up again
            raise
        self._record(query, unit, actor, serial=format_serial(serial), at=at, timestamp=timestamp)
        return timestamp

    def _unit(self, at: datetime) -> _Unit:
        unit = self._loaded
        if unit is None or not unit.since <= at < unit.until:
            with self._database.read() as db:
                identity = service_certificate(db, PROFILE, at)
            certificate = identity.certificate
            unit = _Unit(
                identity=identity,
                key=self._key(identity.key_label),
                signer=CmsSigner(certificate),
                info=TstInfoBuilder(certificate=certificate, accuracy_milliseconds=self._config.accuracy_milliseconds),
                since=at,
                until=min(at + IDENTITY_AGE, certificate.not_valid_after_utc),
            )
            self._loaded = unit
        return unit

    def _key(self, label: str) -> PrivateKey:
        try:
            return self._keys.key(label)
        except NotFound as error:  # the caller named no key: to them the service is not there
            raise Unavailable("tsa", f"the unit's key {label} is not in the HSM") from error

    def _record(self, query: Query, unit: _Unit, actor: Actor, *, serial: str, at: datetime, timestamp: bytes) -> None:
        """Record and audit entry in one transaction, committed before the timestamp leaves."""
        row = {
            "serial": serial,
            "gen_time": at,
            "hash_algorithm": query.hash_name,
            "imprint": query.hashed.hex(),
            "policy": self._config.policy,
            "key_label": unit.identity.key_label,
            "certificate_serial": unit.identity.serial,
            "client": actor.name,
            "der": timestamp,
        }
        told = entry(at=at, actor=actor, action="timestamp.issue", subject=serial, key=unit.identity.key_label)
        self._database.insert((_INSERT, row), told)


def _sign(unit: _Unit, info: bytes, *, certificates: tuple[x509.Certificate, ...]) -> bytes:
    """The TimeStampToken around ``info``, its signature checked with the public key; ValueError if that fails."""
    signer = unit.signer
    digest = signer.digest(info)
    attributes = signer.build_attributes(content_type=ID_TST_INFO, message_digest=digest)
    signature = sign(unit.key, attributes, signer.hash_algorithm)
    timestamp = signer.build_signed_data(attributes, signature, content_type=ID_TST_INFO, content=info, certificates=certificates)
    check_signed_data(timestamp, certificate=signer.certificate, message_digest=digest)
    return timestamp


def _to_milliseconds(at: datetime) -> datetime:
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
