"""The one way a subscriber's key is used, whatever the format: written down, used, checked, written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, cast

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor, append
from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import CondauError, NotFound, Unavailable
from core.signatures import fitting_hash, sign, verify
from hsm.keys import KeyStore
from pki.certificates import Identity
from signer.models import Signature, SignatureState
from signer.permits import Permit, Permits, conclude, give_back_number, release
from signer.register import release_cut_off, subject_of
from signer.verification_pages import PageDraft, open_page, publish_page

_TABLE: Final = cast("sa.Table", Signature.__table__)
_INTEND: Final = sa.insert(_TABLE).returning(_TABLE.c.id)
"""On the table and made once, as the next: through the mapper it costs several times what the row does."""
_SETTLE: Final = (
    sa.update(_TABLE)
    .where(_TABLE.c.id == sa.bindparam("record"), _TABLE.c.state == SignatureState.INTENDED)
    .values(state=sa.bindparam("settled"), value=sa.bindparam("found"))
    .returning(_TABLE.c.id)
)


@dataclass(frozen=True, slots=True)
class Intent:
    """What a key is about to be used for, and by whom."""

    identity: Identity
    actor: Actor
    format: Literal["pdf", "xml", "digest"]
    level: str
    digest: str
    """SHA-256 of the document as it was handed in, or the digest that was handed in instead of one; lower-case hex."""
    permit: Permit = field(default_factory=Permit)
    """What the gates let pass; used up with the intent."""
    page: PageDraft | None = None
    """The page that a QR code on the document leads to, if it has one."""


class RecordedKeys:
    """Subscribers' keys behind a record: no signature value leaves ``sign`` that the database does not hold."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, permits: Permits) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._permits = permits

    def sign(self, data: bytes, intent: Intent) -> bytes:
        """The signature value over ``data`` by the key of ``intent.identity``, hashed as :func:`core.signatures.fitting_hash` says.

        RSA is PKCS#1 v1.5, ECDSA the DER of (r, s), Ed25519 pure. Raises Unavailable when the token or the database is
        away, when the token answers something its certificate does not verify, or when the intent was given up meanwhile;
        Refused or Conflict when the key may not be used at this moment, or the permit is worth nothing any more.
        """
        record = self._intend(intent)
        try:
            value = self._use_key(intent.identity, data)
        except CondauError as error:
            self._give_up(record, intent, why=error.detail)
            raise
        self._record(record, intent, value)
        return value

    def note_lower(self, value: bytes, intent: Intent, *, reached: str, why: str) -> None:
        """Write down that the signature with this value came out at a lower level than was asked for."""
        with self._database.write() as db:
            mine = sa.update(Signature).where(Signature.digest == intent.digest, Signature.value == value)
            record = db.execute(mine.values(reached=reached, why_lower=why).returning(Signature.id)).scalar_one()
            self._audit(db, intent.actor, "signature.lower", intent.identity.serial, id=record, reached=reached, why=why)

    def hand_out(self, document: Content, intent: Intent, page: PageDraft | None) -> None:
        """Write down that ``document`` is complete and leaves: from now on its number is used, and the page that a QR code on it
        leads to is found; both in one transaction, or neither.

        Raises Conflict when the number was given back meanwhile, and then the document must not leave.
        """
        if intent.permit.claim is None and page is None:
            return
        sha256 = document.sha256() if page is not None else ""  # not while others wait to write
        with self._database.write() as db:
            row = conclude(db, intent.permit)
            if row is not None:
                facts = {"series": row.series, "signature": intent.permit.signature_id}
                append(db, at=self._now(), actor=intent.actor, action="number.use", subject=subject_of(db, row), **facts)
            if page is not None:
                record = publish_page(db, page, sha256=sha256, size=document.size)
                what = {"id": record, "page": page.code, "sha256": sha256}
                self._audit(db, intent.actor, "signature.publish", intent.identity.serial, **what)

    def not_delivered(self, permit: Permit) -> None:
        """Give back the number of a signature that was made and whose document did not come out."""
        give_back_number(self._database, permit, self._now())

    def reconcile(self, before: datetime) -> int:
        """Give up every intent written before ``before`` that no answer followed (a crash); returns how many."""
        undecided = sa.select(Signature).where(Signature.state == SignatureState.INTENDED, Signature.at < before)
        undecided = undecided.order_by(Signature.id)
        with self._database.write() as db:
            rows = [row for row in db.scalars(undecided) if _settle(db, row.id, SignatureState.ABANDONED, None)]
            for row in rows:
                release(db, row.id, self._now())
                self._audit(db, SYSTEM, "signature.abandon", row.serial, id=row.id, why="no answer was recorded")
            for number in release_cut_off(db, self._now()):
                facts = {"series": number.series, "why": "its document was never completed"}
                append(db, at=self._now(), actor=SYSTEM, action="number.release", subject=subject_of(db, number), **facts)
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
        what = {"format": intent.format, "level": intent.level, "digest": intent.digest}
        row = {
            "at": at,
            "client": actor.name,
            "request_id": actor.request_id,
            "serial": identity.serial,
            "key_label": identity.key_label,
            "state": SignatureState.INTENDED,
            "profile": intent.permit.profile,
            **what,
        }
        with self._database.write() as db:
            record: int = db.connection().execute(_INTEND, row).scalar_one()
            self._permits.use(db, intent.permit, identity, record, digest=intent.digest, at=at)
            if intent.page is not None:
                open_page(db, intent.page, record)
            self._audit(db, actor, "signature.intend", identity.serial, id=record, **what, **intent.permit.facts)
        return record

    def _record(self, record: int, intent: Intent, value: bytes) -> None:
        with self._database.write() as db:
            if not _settle(db, record, SignatureState.SIGNED, value):
                raise Unavailable("database", "this signature was given up while it was being made: send the request again")
            self._audit(db, intent.actor, "signature.sign", intent.identity.serial, id=record)

    def _give_up(self, record: int, intent: Intent, *, why: str) -> None:
        with self._database.write() as db:
            if _settle(db, record, SignatureState.ABANDONED, None):
                release(db, record, self._now())
                intent.permit.signature_id = None
                self._audit(db, intent.actor, "signature.abandon", intent.identity.serial, id=record, why=why)

    def _audit(self, db: Session, actor: Actor, action: str, serial: str, **detail: Any) -> None:
        append(db, at=self._now(), actor=actor, action=action, subject=serial, **detail)


def _settle(db: Session, record: int, state: SignatureState, value: bytes | None) -> bool:
    """Compare-and-swap from intended to ``state``: false when somebody else has settled it."""
    changed = db.connection().execute(_SETTLE, {"record": record, "settled": state, "found": value})
    return changed.scalar_one_or_none() is not None
