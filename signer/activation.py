"""Activating a key: its clerk proves with a PIN, a one-time code or both that it is them, and gets a token for a short time.

What waits in the database cannot activate anything: of a PIN there is its Argon2id hash, of a token its SHA-256. A try is
counted before it is judged, so that many at once cannot guess more often than one after the other (docs/adr/0025).
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, TypeVar

import sqlalchemy as sa
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Forbidden, Refused, Rejected, TooMany
from core.settings import ActivationConfig
from registry.models import Subscriber
from registry.registry import granted_subscribers
from signer.gate_models import Activation, ActivationHolder, ActivationUse
from signer.models import Signature

HEADER: Final = "Condau-Activation"
"""The request header an activation's token travels in."""
MOST_FAILURES: Final = 10
"""After so many wrong tries in a row only an admin unlocks."""
_FREE_FAILURES: Final = 3
_FIRST_DELAY: Final = timedelta(seconds=30)
_STEP: Final = 30
T = TypeVar("T")
_WRONG: Final = "the person, their PIN or their code is not right for this key"


@dataclass(frozen=True, slots=True)
class Scope:
    """What an activation is for: as many acts as ``acts``, on these documents where ``digests`` (SHA-256, hex) are given."""

    acts: int = 1
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """What a person shows. Never printed."""

    pin: str | None
    code: str | None

    def __repr__(self) -> str:
        return "Proof(…)"


@dataclass(frozen=True, slots=True)
class KeptToken:
    """A token that was shown with a batch, for the items that are signed later: its SHA-256 (lower-case hex), never itself."""

    sha256: str
    act: str | None = None
    """A name no other item has: what was cut off and is signed anew under this name is the same act, counted once."""


@dataclass(frozen=True, slots=True)
class Held:
    """An activation that was found good for an act; it is used up with the signature's intent."""

    id: int
    person: str
    """The handle of who activated the key."""
    person_id: int
    act: str | None = None
    """As the :class:`KeptToken` has it."""


class Activations:
    """Gives activations for the keys of subscribers, to the client systems that may sign for them."""

    def __init__(self, *, database: Database, now: Now, config: ActivationConfig) -> None:
        self._database = database
        self._now = now
        self._config = config

    def activate(self, key: str, person: str, proof: Proof, scope: Scope, *, minutes: int, actor: Actor) -> tuple[str, Activation]:
        """The token and what is kept of it. ``key`` and ``person`` are handles.

        Raises Forbidden (the key is not granted to the caller, or the proof is wrong: which part is not said), Rejected (a scope
        or time out of range), TooMany while the holder is locked, Refused when the PIN is still the one an admin has seen.
        """
        at = self._now()
        self._check_scope(scope, minutes)
        with self._database.read() as db:
            if all(item.handle != key for item in granted_subscribers(db, actor.name)):
                raise Forbidden(f"the client {actor.name} may not sign for {key[:80]}: an admin grants that")
        token = secrets.token_urlsafe(32)

        def give(db: Session, holder: ActivationHolder) -> Activation | None:
            if holder.pin_initial:
                return None
            row = Activation(
                token_sha256=token_digest(token),
                key_id=holder.key_id,
                person_id=holder.person_id,
                client=actor.name,
                at=at,
                expires_at=at + timedelta(minutes=minutes),
                most=len(scope.digests) or scope.acts,
                used=0,
                digests=sorted(scope.digests) or None,
            )
            db.add(row)
            db.flush()
            what = {"id": row.id, "person": person, "acts": row.most, "listed": bool(scope.digests), "minutes": minutes}
            append(db, at=at, actor=actor, action="activation.give", subject=key, **what)
            return row

        given = self._prove(key, person, proof, actor, give)
        if given is None:
            raise Refused("pin", "is still the one an admin has seen: change it at /v1/activations/pin, then activate")
        return token, given

    def change_pin(self, key: str, person: str, proof: Proof, *, new: str, actor: Actor) -> None:
        """Give the holder another PIN, proven with the present one; raises as :meth:`activate` does, Rejected for a weak PIN."""
        check_pin("new_pin", new)
        if proof.pin is not None and secrets.compare_digest(proof.pin.encode(), new.encode()):
            raise Rejected("new_pin", "must be another than the present one")
        hashed = hash_pin(new)

        def change(db: Session, holder: ActivationHolder) -> bool:
            if holder.pin_hash is None:
                return False
            holder.pin_hash, holder.pin_initial = hashed, False
            append(db, at=self._now(), actor=actor, action="activation.change-pin", subject=key, person=person)
            return True

        if not self._prove(key, person, proof, actor, change):
            raise Rejected("new_pin", f"{person} proves it with codes alone: an admin gives a PIN")

    def _check_scope(self, scope: Scope, minutes: int) -> None:
        if not 1 <= minutes <= self._config.minutes:
            raise Rejected("minutes", f"must be from 1 to {self._config.minutes}")
        if not 1 <= (len(scope.digests) or scope.acts) <= self._config.batch:
            raise Rejected("acts", f"must be from 1 to {self._config.batch}")
        if scope.digests and scope.acts not in (1, len(scope.digests)):
            raise Rejected("acts", "is the number of the digests where there are any: leave it out")
        if len(set(scope.digests)) < len(scope.digests):
            raise Rejected("digests", "must each be there once")

    def _prove(self, key: str, person: str, proof: Proof, actor: Actor, then: Callable[[Session, ActivationHolder], T]) -> T:
        """What ``then`` does for the holder when the proof is right, in the transaction that finds it so.

        Counts the try first, in a transaction of its own. A proof is worth nothing when an admin has given other secrets, or taken
        the right away, while it was looked at.
        """
        at = self._now()
        with self._database.write() as db:
            known = _holder(db, key, person)
            if known is not None:
                _count_try(known, at)
        right = _check_proof(known, proof, at)
        with self._database.write() as db:
            holder = _holder(db, key, person)  # held: what is done now is done before any change of the secrets, and ended by it
            if holder is not None and right and _secrets(holder) == _secrets(known) and _take_code(db, holder, proof, at):
                holder.failures, holder.locked_until = 0, None
                return then(db, holder)
            append(db, at=at, actor=actor, action="activation.refuse", subject=key[:100], person=person[:100])
        raise Forbidden(_WRONG)


def token_digest(token: str) -> str:
    """What is kept of a token (256 random bits, so no salt is needed): its SHA-256, lower-case hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_pin(pin: str) -> str:
    """Argon2id of a PIN as a PHC string: 19 MiB, two passes (OWASP's first choice)."""
    kdf = Argon2id(salt=secrets.token_bytes(16), length=32, iterations=2, lanes=1, memory_cost=19_456)
    return kdf.derive_phc_encoded(pin.encode())


def check_pin(field: str, pin: str) -> None:
    """Raise Rejected for a PIN that is too short, unprintable, or among the first that anybody would try."""
    if not 6 <= len(pin) <= 64 or not pin.isprintable():
        raise Rejected(field, "must have 6 to 64 printable characters")
    steps = {ord(after) - ord(before) for before, after in pairwise(pin)}
    if steps in ({0}, {1}, {-1}):
        raise Rejected(field, "must not be one character again and again, nor characters that follow each other")


def new_code_secret() -> bytes:
    """A secret for one-time codes: 160 bits, as RFC 4226, 4 recommends."""
    return secrets.token_bytes(20)


def code_source(secret: bytes) -> TOTP:
    """RFC 6238 as every authenticator app does it: SHA-1, 6 digits, 30 seconds."""
    return TOTP(secret, 6, SHA1(), _STEP, enforce_key_length=True)  # noqa: S303 - HMAC-SHA-1, which the collisions do not touch


def needs_activation(db: Session, key: Subscriber, config: ActivationConfig) -> bool:
    """Whether this subscriber's key may be used only under an activation, whatever is signed."""
    if not {"*", key.kind, key.handle}.isdisjoint(config.required):
        return True
    return db.scalar(sa.select(ActivationHolder.id).where(ActivationHolder.key_id == key.id).limit(1)) is not None


def find_activation(db: Session, token: str | KeptToken, *, key: Subscriber, client: str, digest: str, at: datetime) -> Held:
    """The activation this token stands for, if it is good for an act with ``key`` on this document; raises Refused.

    The token is looked up by its digest, so that no comparison of ours takes longer the more of a guess is right.
    """
    digested, act = (token.sha256, token.act) if isinstance(token, KeptToken) else (token_digest(token), None)
    row = db.scalar(sa.select(Activation).where(Activation.token_sha256 == digested))
    if row is None or row.key_id != key.id or row.client != client:
        raise Refused("activation", f"is none for the key of {key.handle} and this client: ask for one at /v1/activations")
    if row.expires_at <= at:
        raise Refused("activation", f"ended at {row.expires_at.isoformat()}: ask for a new one at /v1/activations")
    if row.used >= row.most and _use_for(db, row.id, act) is None:
        raise Refused("activation", f"is used up: it was for {row.most} acts; ask for a new one at /v1/activations")
    if row.digests is not None and digest not in row.digests:
        raise Refused("activation", "was given for other documents, by their digests: ask for one for this document")
    return Held(row.id, row.person.handle, row.person_id, act)


def check_many(
    db: Session,
    token: str | None,
    *,
    key: Subscriber,
    client: str,
    digests: Sequence[str],
    config: ActivationConfig,
    at: datetime,
) -> KeptToken | None:
    """Whether acts with ``key`` on all these documents may begin: what is to be kept of the token they are done under, or None
    where none is needed and none was shown. Raises Refused."""
    if token is None:
        if needs_activation(db, key, config):
            raise Refused("activation", f"the key of {key.handle} is used only under an activation: ask at /v1/activations")
        return None
    for digest in digests:
        find_activation(db, token, key=key, client=client, digest=digest, at=at)
    kept = KeptToken(token_digest(token))
    left = db.scalar(sa.select(Activation.most - Activation.used).where(Activation.token_sha256 == kept.sha256)) or 0
    if left < len(digests):
        raise Refused("activation", f"has {left} acts left and this needs {len(digests)}: ask for one at /v1/activations")
    return kept


def use_activation(db: Session, held: Held, signature_id: int, *, digest: str, at: datetime) -> None:
    """Use one act up in the transaction of the signature's intent; raises Refused when none is left at this moment.

    An act of this name that was begun before uses up nothing more: its use is this signature's from now on.
    """
    query = sa.select(Activation).where(Activation.id == held.id).with_for_update(of=Activation)
    row = db.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    if row is not None and row.expires_at > at:
        begun = _use_for(db, row.id, held.act)
        if begun is not None:
            begun.signature_id = signature_id
            return
    if row is None or row.expires_at <= at or row.used >= row.most:
        raise Refused("activation", "was used up or ended at this moment: ask for a new one at /v1/activations")
    if row.digests is not None and digest in _used_digests(db, held.id):
        raise Refused("activation", "was used for this document already: ask for a new one at /v1/activations")
    row.used += 1
    db.add(ActivationUse(activation_id=held.id, signature_id=signature_id, act=held.act))


def _use_for(db: Session, activation: int, act: str | None) -> ActivationUse | None:
    """What the act of this name has used up already."""
    if act is None:
        return None
    return db.scalar(sa.select(ActivationUse).where(ActivationUse.activation_id == activation, ActivationUse.act == act))


def release_activations(db: Session, signature_id: int) -> None:
    """Give back the act of a signature that was given up: its key was not used."""
    gone = sa.delete(ActivationUse).where(ActivationUse.signature_id == signature_id).returning(ActivationUse.activation_id)
    for activation in db.scalars(gone).all():
        db.execute(sa.update(Activation).where(Activation.id == activation).values(used=Activation.used - 1))


def _used_digests(db: Session, activation: int) -> Sequence[str]:
    query = sa.select(Signature.digest).join(ActivationUse, ActivationUse.signature_id == Signature.id)
    return db.scalars(query.where(ActivationUse.activation_id == activation)).all()


def _holder(db: Session, key: str, person: str) -> ActivationHolder | None:
    of_key, of_person = sa.orm.aliased(Subscriber), sa.orm.aliased(Subscriber)
    query = sa.select(ActivationHolder).join(of_key, ActivationHolder.key_id == of_key.id)
    query = query.join(of_person, ActivationHolder.person_id == of_person.id)
    return db.scalar(query.where(of_key.handle == key, of_person.handle == person).with_for_update(of=ActivationHolder))


def _secrets(holder: ActivationHolder | None) -> tuple[int, str | None, bytes | None] | None:
    """What a proof is checked against."""
    return None if holder is None else (holder.id, holder.pin_hash, holder.otp_secret)


def _count_try(holder: ActivationHolder, at: datetime) -> None:
    """Count a try as wrong until it is found right; raises TooMany while there may be none."""
    if holder.failures >= MOST_FAILURES:
        raise TooMany("too many wrong tries: an admin unlocks it with `condau unlock-activation`", retry_after=3600)
    if holder.locked_until is not None and holder.locked_until > at:
        seconds = int((holder.locked_until - at).total_seconds()) + 1
        raise TooMany(f"too many wrong tries: the next one in {seconds} seconds", retry_after=seconds)
    holder.failures += 1
    if holder.failures >= _FREE_FAILURES:
        holder.locked_until = at + _FIRST_DELAY * 2 ** (holder.failures - _FREE_FAILURES)


def _check_proof(holder: ActivationHolder | None, proof: Proof, at: datetime) -> bool:
    """Whether PIN and code are right. As much work for a holder that is not there."""
    pin_hash = _nobody() if holder is None else holder.pin_hash
    right = holder is not None
    if pin_hash is not None:
        try:
            Argon2id.verify_phc_encoded((proof.pin or "").encode(errors="surrogatepass"), pin_hash)
        except InvalidKey:
            right = False
    if holder is not None and holder.otp_secret is not None:
        right = _code_step(holder.otp_secret, proof.code or "", at) is not None and right
    return right


def _code_step(secret: bytes, code: str, at: datetime) -> int | None:
    """The time step the code belongs to: this one or its neighbours (RFC 6238, 5.2); None for a wrong code."""
    if len(code) != 6 or not code.isascii() or not code.isdigit():
        return None
    source, now = code_source(secret), int(at.timestamp()) // _STEP
    found = None
    for step in (now - 1, now, now + 1):
        try:
            source.verify(code.encode(), step * _STEP)
            found = step
        except InvalidToken:
            continue
    return found


def _take_code(db: Session, holder: ActivationHolder, proof: Proof, at: datetime) -> bool:
    """Take the code's time step, so that no code is taken twice; true where no code is asked for."""
    if holder.otp_secret is None:
        return True
    step = _code_step(holder.otp_secret, proof.code or "", at)
    newer = sa.update(ActivationHolder).where(ActivationHolder.id == holder.id, ActivationHolder.otp_step < step)
    return db.execute(newer.values(otp_step=step).returning(ActivationHolder.id)).first() is not None


@functools.cache
def _nobody() -> str:
    """What a PIN is compared with where nobody is known, so that the answer comes no sooner."""
    return hash_pin(secrets.token_urlsafe(16))
