"""New keys for the time-stamping units: the first ones by command, successors before the predecessor's time is up.

A key is written down with its label before the token makes it, so that what a crash cut off is gone on with under the same
label by whoever comes next (docs/adr/0013).
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict
from core.settings import TsaUnitConfig
from hsm.keys import KeySpec
from pki.authorities import ISSUING
from pki.ca import CertificateAuthority, IssuedCertificate
from pki.certificates import Identity, authority_certificate, newest_generation, usable_until
from pki.models import Authority, Certificate, CertificateState
from pki.profile import build_subject
from tsa.models import TimestampUnitKey
from tsa.units import PROFILE, TimestampUnits

AHEAD: Final = timedelta(days=30)
"""A successor is made when a key has less time than this, or than a third of its whole usage period, whichever is shorter."""
PATIENCE: Final = timedelta(minutes=2)
"""A key claimed longer ago than this and still without a certificate is nobody's work any more: another process goes on."""
_COMMON_NAME: Final = 64


class Succession:
    """Makes keys and certificates for the units."""

    def __init__(self, *, database: Database, ca: CertificateAuthority, now: Now, units: TimestampUnits) -> None:
        self._database = database
        self._ca = ca
        self._now = now
        self._units = units

    def refresh(self) -> int:
        """Give every key that nears its end a successor; returns how many were made. For each round of the housekeeping.

        Units that never had a key get none: those are made by :meth:`create`.
        """
        at = self._now()
        made = 0
        for unit in self._units.configured:
            held = self.held(unit, at)
            due = {slot for slot, identity in held.items() if nears_end(identity, at)}
            for slot in sorted(due | (self._begun(unit) - set(held))):
                made += self._succeed(unit, slot, held.get(slot), SYSTEM) is not None
        return made

    def create(self, unit: TsaUnitConfig, *, actor: Actor, successor: bool = False) -> list[IssuedCertificate]:
        """A certificate for every slot of ``unit`` that has none, or with ``successor`` for every slot; those that were made.

        Raises Conflict when another process is at it.
        """
        held = self.held(unit, self._now())
        made = []
        for slot in range(unit.keys):
            if successor or slot not in held:
                issued = self._succeed(unit, slot, held.get(slot), actor)
                if issued is None:
                    raise Conflict(f"another process is making a key for the unit {unit.name}: look again in a minute")
                made.append(issued)
        return made

    def held(self, unit: TsaUnitConfig, at: datetime) -> dict[int, Identity]:
        """By slot, what ``unit`` signs with at ``at``."""
        with self._database.read() as db:
            return self._units.identities(db, unit, at)

    def _begun(self, unit: TsaUnitConfig) -> set[int]:
        """The slots that ever had a key; slot 0 of the first unit had one from `condau init`."""
        slots = sa.select(TimestampUnitKey.slot).where(TimestampUnitKey.unit == unit.name, TimestampUnitKey.slot < unit.keys)
        with self._database.read() as db:
            begun = set(db.scalars(slots))
        return begun | {0} if unit == self._units.configured[0] else begun

    def _succeed(self, unit: TsaUnitConfig, slot: int, predecessor: Identity | None, actor: Actor) -> IssuedCertificate | None:
        """The next key of a slot with its certificate; None when another process is at it."""
        claimed = self._claim(unit, slot, predecessor, actor)
        if claimed is None:
            return None
        with self._database.read() as db:
            issuer = newest_generation(db, ISSUING)  # the first one expires before the units' successors end
        issued = self._ca.issue_service(
            profile=PROFILE,
            subject=self._subject(issuer, unit, slot, claimed.generation),
            issuer=issuer.name,
            spec=KeySpec(unit.key),
            actor=actor,
            key_label=claimed.key_label,
        )
        with self._database.write() as db:
            detail = {"unit": unit.name, "slot": slot, "key": claimed.key_label, "replaces": _serial(predecessor)}
            append(db, at=self._now(), actor=actor, action="timestamp-unit.succeed", subject=issued.serial, **detail)
        return issued

    def _claim(self, unit: TsaUnitConfig, slot: int, predecessor: Identity | None, actor: Actor) -> TimestampUnitKey | None:
        """Write the next key of a slot down, or take over one that was given up; None when another process has it."""
        keys = sa.select(TimestampUnitKey).where(TimestampUnitKey.unit == unit.name, TimestampUnitKey.slot == slot)
        try:
            with self._database.write() as db:
                last = db.scalar(keys.order_by(TimestampUnitKey.generation.desc()).limit(1).with_for_update())
                # Asked in this order, and the moment taken after it: another process may finish its certificate in between.
                certified = last is None or _certified(db, last.key_label)
                at = self._now()
                if _serial(self._units.identities(db, unit, at).get(slot)) != _serial(predecessor):
                    return None  # it was made since ``predecessor`` was looked up
                if last is not None and not certified:
                    if last.claimed_at > at - PATIENCE:
                        return None
                    last.claimed_at = at
                    return last
                generation = 1 if last is None else last.generation + 1
                label = f"{PROFILE}-{unit.name}-{slot}-{secrets.token_hex(6)}"
                row = TimestampUnitKey(unit=unit.name, slot=slot, generation=generation, key_label=label, claimed_at=at)
                db.add(row)
                db.flush()
                detail = {"unit": unit.name, "slot": slot, "generation": generation}
                append(db, at=at, actor=actor, action="timestamp-unit.intend", subject=label, **detail)
                return row
        except IntegrityError:  # the constraint: one key for each generation of a slot
            return None

    def _subject(self, issuer: Authority, unit: TsaUnitConfig, slot: int, generation: int) -> x509.Name:
        """Country, organisation and locality of the issuing authority; the common name is this key's alone (EN 319 422, 7)."""
        name = authority_certificate(issuer).subject
        organization, locality = (
            str(name.get_attributes_for_oid(oid)[0].value) for oid in (NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME)
        )
        own = f"TSU {unit.name} {slot + 1}.{generation}"
        full = f"{organization} {own}"
        common_name = full if len(full) <= _COMMON_NAME else own
        subject = build_subject(organization=organization, locality=locality, common_name=common_name)
        if not self._units.organization_identifier:
            return subject
        return x509.Name([*subject, x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, self._units.organization_identifier)])


def nears_end(identity: Identity, at: datetime) -> bool:
    """Whether it is time for a successor."""
    until = usable_until(identity.certificate)
    return until - at < min(AHEAD, (until - identity.certificate.not_valid_before_utc) / 3)


def _serial(identity: Identity | None) -> str | None:
    return None if identity is None else identity.serial


def _certified(db: Session, key_label: str) -> bool:
    issued = sa.select(Certificate.id).where(Certificate.key_label == key_label, Certificate.state == CertificateState.ISSUED)
    return db.scalar(issued.limit(1)) is not None
