"""The one way a subscriber's key is used, whatever the format: written down, used, checked, written down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.db import Database
from core.errors import CondauError, NotFound, Unavailable
from core.signatures import fitting_hash, sign, verify
from hsm.keys import KeyStore
from pki.certificates import Identity
from signer.models import Signature, SignatureState


@dataclass(frozen=True, slots=True)
class Intent:
    """What a key is about to be used for, and by whom."""

    identity: Identity
    actor: Actor
    format: Literal["pdf", "xml", "digest"]
    level: str
    digest: str
    """SHA-256 of the document as it was handed in, or the digest that was handed in instead of one; lower-case hex."""


class RecordedKeys:
    """Subscribers' keys behind a record: no signature value leaves ``sign`` that the database does not hold."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now) -> None:
        self._database = database
        self._keys = keys
        self._now = now

    def sign(self, data: bytes, intent: Intent) -> bytes:
        """The signature value over ``data`` by the key of ``intent.identity``, hashed as :func:`core.signatures.fitting_hash` says.

        RSA is PKCS#1 v1.5, ECDSA the DER of (r, s), Ed25519 pure. Raises Unavailable when the token or the database is
        away, when the token answers something its certificate does not verify, or when the intent was given up meanwhile.
        """
        record = self._intend(intent)
        try:
            value = self._use_key(intent.identity, data)
        except CondauError as error:
            self._give_up(record, intent, why=error.detail)
            raise
        self._record(record, intent, value)
        return value

    def reconcile(self, before: datetime) -> int:
        """Give up every intent written before ``before`` that no answer followed (a crash); returns how many."""
        undecided = sa.select(Signature).where(Signature.state == SignatureState.INTENDED, Signature.at < before)
        undecided = undecided.order_by(Signature.id)
        with self._database.write() as db:
            rows = [row for row in db.scalars(undecided) if _settle(db, row.id, SignatureState.ABANDONED, None)]
            for row in rows:
                self._audit(db, SYSTEM, "signature.abandon", row.serial, id=row.id, why="no answer was recorded")
        return len(rows)

    def _use_key(self, identity: Identity, data: bytes) -> bytes:
        public_key = identity.certificate.public_key()
        algorithm = fitting_hash(public_key)
        try:
            key = self._keys.key(identity.key_label)
            value = sign(key, data, algorithm)
            verify(public_key, value, data, algorithm)
        except NotFound as error:
            raise Unavailable("hsm", f"the key of the certificate {identity.serial} is not in the token") from error
        except InvalidSignature as error:
            raise Unavailable("hsm", "the token's signature does not verify with the certificate of its key") from error
        return value

    def _intend(self, intent: Intent) -> int:
        at, identity, actor = self._now(), intent.identity, intent.actor
        row = Signature(
            at=at,
            client=actor.name,
            request_id=actor.request_id,
            serial=identity.serial,
            key_label=identity.key_label,
            format=intent.format,
            level=intent.level,
            digest=intent.digest,
            state=SignatureState.INTENDED,
        )
        with self._database.write() as db:
            db.add(row)
            db.flush()
            what = {"format": intent.format, "level": intent.level, "digest": intent.digest}
            self._audit(db, actor, "signature.intend", identity.serial, id=row.id, **what)
        return row.id

    def _record(self, record: int, intent: Intent, value: bytes) -> None:
        with self._database.write() as db:
            if not _settle(db, record, SignatureState.SIGNED, value):
                raise Unavailable("database", "this signature was given up while it was being made: send the request again")
            self._audit(db, intent.actor, "signature.sign", intent.identity.serial, id=record)

    def _give_up(self, record: int, intent: Intent, *, why: str) -> None:
        with self._database.write() as db:
            if _settle(db, record, SignatureState.ABANDONED, None):
                self._audit(db, intent.actor, "signature.abandon", intent.identity.serial, id=record, why=why)

    def _audit(self, db: Session, actor: Actor, action: str, serial: str, **detail: str | int) -> None:
        append(db, at=self._now(), actor=actor, action=action, subject=serial, **detail)


def _settle(db: Session, record: int, state: SignatureState, value: bytes | None) -> bool:
    """Compare-and-swap from intended to ``state``: false when somebody else has settled it."""
    intended = sa.update(Signature).where(Signature.id == record, Signature.state == SignatureState.INTENDED)
    changed = db.execute(intended.values(state=state, value=value).returning(Signature.id))
    return changed.scalar_one_or_none() is not None
