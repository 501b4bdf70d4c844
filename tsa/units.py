"""The time-stamping units: which one answers a request, and with which of its keys."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from core.cms import CmsSigner, encode_certificates
from core.db import Database
from core.errors import NotFound, Rejected, Unavailable
from core.settings import TsaConfig, TsaUnitConfig
from hsm.keys import KeySpec, KeyStore, PrivateKey
from pki.certificates import Identity, service_certificates, usable_until
from tsa.models import TimestampUnitKey
from tsa.response import TstInfoBuilder

PROFILE: Final = "tsa"
"""The certificate profile of a time-stamping unit."""
IDENTITY_AGE: Final = timedelta(seconds=5)
"""How long a unit's keys are used before the database is asked again which certificates still stand."""

_log = logging.getLogger("condau.tsa")


@dataclass(frozen=True, slots=True)
class UnitKey:
    """A key of a unit with its certificate, and what both say in every timestamp, encoded once."""

    unit: str
    policy: str
    identity: Identity
    key: PrivateKey
    signer: CmsSigner
    info: TstInfoBuilder
    certificates: bytes
    """For SignedData: what a client needs to reach its trust anchor, and not that anchor itself (RFC 5652, 5.1)."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The keys of a unit, good from ``since`` to ``until``; ``turn`` counts the timestamps made with them."""

    keys: tuple[UnitKey, ...]
    since: datetime
    until: datetime
    turn: itertools.count[int] = field(default_factory=itertools.count)


class TimestampUnits:
    """The configured units. Safe to share among threads."""

    def __init__(self, *, database: Database, keys: KeyStore, config: TsaConfig) -> None:
        """Raises Rejected for a policy in the configuration that is no object identifier, and for an unknown kind of key."""
        self._database = database
        self._keys = keys
        self._accuracy_milliseconds = config.accuracy_milliseconds
        self.organization_identifier = config.organization_identifier
        self.configured = config.all_units
        self._by_name = {unit.name: unit for unit in self.configured}
        self._oids = {unit.name: _policy(unit) for unit in self.configured}
        for unit in self.configured:
            if unit.key not in set(KeySpec):
                kinds = ", ".join(KeySpec)
                raise Rejected("tsa.units.key", f"{unit.key!r} of the unit {unit.name} is no kind of key: one of {kinds}")
        self._loaded: dict[str, _Loaded] = {}
        self._policies = frozenset(unit.policy for unit in self.configured)

    def policies(self, name: str | None) -> frozenset[str]:
        """The policies a request may ask for: all, or the one of the unit it is addressed to. NotFound: there is no such unit."""
        return self._policies if name is None else frozenset({self._named(name).policy})

    def choose(self, name: str | None, policy: str | None) -> TsaUnitConfig:
        """The unit asked for by name, else the first one of the policy asked for, else the first of all."""
        if name is not None:
            return self._named(name)
        return next((unit for unit in self.configured if policy in (None, unit.policy)), self.configured[0])

    def key(self, unit: TsaUnitConfig, at: datetime) -> UnitKey:
        """The key of ``unit`` whose turn it is; in each slot that is the one of the newest certificate usable at ``at``.

        Raises Unavailable while the database or the token is away, or when the unit has no usable certificate.
        """
        loaded = self._current(unit, at)
        return loaded.keys[next(loaded.turn) % len(loaded.keys)]

    def signers(self, unit: TsaUnitConfig, at: datetime) -> tuple[x509.Certificate, ...]:
        """The certificates of all of its keys; raises as :meth:`key`."""
        return tuple(key.identity.certificate for key in self._current(unit, at).keys)

    def _current(self, unit: TsaUnitConfig, at: datetime) -> _Loaded:
        loaded = self._loaded.get(unit.name)
        if loaded is None or not loaded.since <= at < loaded.until:
            loaded = self._load(unit, at)
            self._loaded[unit.name] = loaded
        return loaded

    def forget(self) -> None:
        """Look every key up again: the token may come back with other handles."""
        self._loaded.clear()

    def identities(self, db: Session, unit: TsaUnitConfig, at: datetime) -> dict[int, Identity]:
        """By slot, the newest certificate of ``unit`` usable at ``at``.

        A time-stamping certificate whose key was made for no unit in particular is the first unit's (slot 0): the one of
        ``condau init``.
        """
        owners = {row.key_label: (row.unit, row.slot) for row in db.scalars(sa.select(TimestampUnitKey))}
        nobody = (self.configured[0].name, 0)
        found: dict[int, Identity] = {}
        for identity in service_certificates(db, PROFILE, at):
            owner, slot = owners.get(identity.key_label, nobody)
            if owner == unit.name and slot < unit.keys:
                found.setdefault(slot, identity)
        return dict(sorted(found.items()))

    def _named(self, name: str) -> TsaUnitConfig:
        unit = self._by_name.get(name)
        if unit is None:
            raise NotFound("unit", f"no time-stamping unit is named {name[:80]!r}: there is {', '.join(self._by_name)}")
        return unit

    def _load(self, unit: TsaUnitConfig, at: datetime) -> _Loaded:
        with self._database.read() as db:
            identities = list(self.identities(db, unit, at).values())
        if not identities:
            raise Unavailable("pki", f"the time-stamping unit {unit.name} has no valid tsa certificate: `condau timestamp-units`")
        keys = self._available(unit, identities)
        ends = (usable_until(key.identity.certificate) for key in keys)
        return _Loaded(keys, since=at, until=min(at + IDENTITY_AGE, *ends))

    def _available(self, unit: TsaUnitConfig, identities: Sequence[Identity]) -> tuple[UnitKey, ...]:
        """Those whose key is in the token; a unit works with fewer keys than it should, but not with none."""
        found = []
        for identity in identities:
            try:
                found.append(self._prepare(unit, identity, self._keys.key(identity.key_label)))
            except NotFound:
                _log.warning("key not in the HSM", extra={"fields": {"unit": unit.name, "key": identity.key_label}})
        if not found:  # the caller named no key: to them the service is not there
            labels = ", ".join(identity.key_label for identity in identities)
            raise Unavailable("tsa", f"the unit's key {labels} is not in the HSM")
        return tuple(found)

    def _prepare(self, unit: TsaUnitConfig, identity: Identity, key: PrivateKey) -> UnitKey:
        certificate = identity.certificate
        info = TstInfoBuilder(
            certificate=certificate,
            policy=self._oids[unit.name],
            accuracy_milliseconds=self._accuracy_milliseconds,
            qualified=unit.qualified,
        )
        chain = encode_certificates((certificate, *identity.chain[:-1]))
        return UnitKey(unit.name, unit.policy, identity, key, CmsSigner(certificate, pss=unit.pss), info, chain)


def _policy(unit: TsaUnitConfig) -> x509.ObjectIdentifier:
    try:
        return x509.ObjectIdentifier(unit.policy)
    except ValueError as error:
        raise Rejected("tsa.policy", f"{unit.policy!r} of the unit {unit.name} is not an object identifier") from error
