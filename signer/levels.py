"""From B-T to B-LT and B-LTA (ETSI EN 319 142-1, clause 6): material into the file, and a document timestamp over it.

One revision holds both. What can be known to be away is found out before a key is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import Actor
from core.clock import Now
from core.content import Content
from core.errors import Conflict, Unavailable
from pki.certificates import Identity
from pki.material import Material, ValidationMaterial
from signer.archive import check_document_timestamp, stamp_document
from signer.carried import read_token
from signer.dss import add_material
from signer.options import PadesLevel
from signer.pdf import Prepared, Signed, fill
from signer.pdf import check as check_signature
from signer.pdf_check import read_byte_ranges
from signer.pdf_hole import HoleTooSmall
from signer.pdf_update import Update, open_update, reading
from signer.plan import ArchivePlan, holds_until

_Got = TypeVar("_Got")
_log = logging.getLogger("condau.signer")
ORDER: Final[tuple[PadesLevel, ...]] = ("B-B", "B-T", "B-LT", "B-LTA")
"""Each level is more than the one before it."""


class Stamper(Protocol):
    """The time-stamping authority, as far as levels need it."""

    def stamp_digest(self, digest: bytes, actor: Actor) -> bytes:
        """A TimeStampToken (DER) over data whose SHA-256 is ``digest``; raises Unavailable."""
        ...

    def signers(self) -> tuple[x509.Certificate, ...]:
        """The certificates one of which it would sign with now; raises Unavailable where it could not."""
        ...


def is_at_least(level: PadesLevel, wanted: PadesLevel) -> bool:
    """Whether ``level`` is ``wanted`` or more."""
    return ORDER.index(level) >= ORDER.index(wanted)


@dataclass(frozen=True, slots=True)
class Reached:
    """A level that is lower than the one asked for, and why."""

    level: PadesLevel
    why: str


class Levels:
    """Brings documents to levels. Safe to share among threads."""

    def __init__(
        self, *, now: Now, stamper: Stamper, material: ValidationMaterial, plan: ArchivePlan, when_away: str = "refuse"
    ) -> None:
        """``when_away``: ``refuse`` or ``lower`` a signature whose timestamp or material cannot be had."""
        self._now = now
        self._stamper = stamper
        self._material = material
        self._plan = plan
        self._when_away = when_away
        self._ends: dict[x509.Certificate, datetime] = {}
        self._seen: dict[tuple[x509.Certificate, ...], datetime] = {}
        self._room = _ROOM

    @property
    def lowers(self) -> bool:
        """Whether by policy a lower level is reached while a part is away."""
        return self._when_away == "lower"

    def check(self, identity: Identity, level: PadesLevel, actor: Actor) -> Reached | None:
        """Whether ``level`` can be had for a signature by ``identity``: None if so.

        Otherwise raises Unavailable or Conflict, or by policy says which level can.
        """
        if not is_at_least(level, "B-T"):
            return None
        stampers, fallen = self.attempt("B-B", self._stamper.signers)
        if stampers is None or not is_at_least(level, "B-LT"):
            return fallen
        return self.attempt("B-T", lambda: self._look(identity, stampers, actor))[1]

    def _look(self, identity: Identity, stampers: Sequence[x509.Certificate], actor: Actor) -> None:
        """Whether the material is to be had; what was so moments ago is taken to be so still, and found out for good afterwards."""
        key, at = (identity.certificate, *stampers), self._now()
        seen = self._seen.get(key)
        if seen is None or not timedelta() <= at - seen < _TRUSTED:
            self._collect(identity, stampers, actor, since=None)
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[key] = at

    def attempt(self, otherwise: PadesLevel, get: Callable[[], _Got]) -> tuple[_Got | None, Reached | None]:
        """What ``get`` returns; or, where policy allows it, that only the level ``otherwise`` is reached because it raised."""
        try:
            return get(), None
        except (Unavailable, Conflict) as error:
            if not self.lowers:
                raise
            _log.warning("the level is lowered", extra={"fields": {"level": otherwise, "why": error.detail}})
            return None, Reached(otherwise, error.detail)

    def complete(
        self, prepared: Prepared, signed: Signed, timestamp: bytes, *, level: PadesLevel, actor: Actor
    ) -> tuple[Content, Reached | None]:
        """The signed document with its ``timestamp``, at B-LT or B-LTA in one revision more, all of it read again and checked.

        Raises as :meth:`check`, or by policy says which level it was left at; TimestampTooBig as :func:`signer.pdf.finish`.
        """
        stamped = fill(prepared, signed, timestamp)
        completed, fallen = self.attempt("B-T", lambda: self._complete(prepared, stamped, signed.identity, level, actor))
        whole, until = (stamped, None) if completed is None else completed
        ranges = read_byte_ranges(whole, prepared.revision.original, prepared.password, prepared.update.prev)
        check_signature(prepared, signed, stamped, ranges)
        if until is not None:
            check_document_timestamp(whole, stamped, ranges)
            self._plan.note(whole.sha256(), until, actor)
        return whole, fallen

    def _complete(
        self, prepared: Prepared, signed: Content, identity: Identity, level: PadesLevel, actor: Actor
    ) -> tuple[Content, datetime | None]:
        stampers = self._stamper.signers()
        material = self._collect(identity, stampers, actor, since=self._now())
        prepared.update.commit(signed)
        contents = prepared.revision.contents(signed)
        return self.add(
            prepared.update,
            {contents: material},
            stampers=stampers if level == "B-LTA" else (),
            actor=actor,
            password=prepared.password,
        )

    def collect(self, leaves: Sequence[x509.Certificate], *, hints: Sequence[x509.Certificate], actor: Actor) -> Material:
        """The material of ``leaves``, and of whoever would stamp at this moment, for somebody who keeps the document to itself.

        ``hints``: further certificates to build paths with. Raises Conflict or Unavailable where some of it is not to be had.
        """
        wanted = (*leaves, *self._stamper.signers())
        material = self._material.collect(wanted, hints=hints, since=self._now(), actor=actor)
        require(material)
        return material

    def _collect(
        self, identity: Identity, stampers: Sequence[x509.Certificate], actor: Actor, *, since: datetime | None
    ) -> Material:
        leaves = (identity.certificate, *stampers)
        material = self._material.collect(leaves, hints=identity.chain, since=since, actor=actor)
        require(material)
        return material

    def add(
        self,
        update: Update,
        material: Mapping[bytes, Material],
        *,
        stampers: Sequence[x509.Certificate],
        actor: Actor,
        password: str | None,
    ) -> tuple[Content, datetime | None]:
        """The document of ``update`` with ``material`` in its store and, where there are ``stampers``, a document timestamp by one
        of them; then also until when that proves anything. The caller checks what came of it."""
        document = update.document
        with reading():
            changed = add_material(update, material)
            if not stampers:
                return (document.append(bytes(update.revision())) if changed else document), None
            stamping = _Stamping(self._stamper, stampers, actor)
            try:
                stamped = stamp_document(update, stamping, room=self._room)
            except HoleTooSmall as error:  # remembered: only the first document after a change is made twice
                self._room = error.needed + _SPARE
                again = open_update(document, password)
                add_material(again, material)
                stamped = stamp_document(again, stamping, room=self._room)
        return stamped, self._end(stamping)

    def _end(self, stamping: _Stamping) -> datetime:
        """Until when the timestamp proves anything: as long as all that are made under its certificate."""
        if stamping.signer not in self._ends:
            self._ends[stamping.signer] = holds_until(read_token(stamping.token))
        return self._ends[stamping.signer]


_ROOM: Final = 6144
"""Bytes kept for a timestamp while none has been seen."""
_SPARE: Final = 1024
_TRUSTED: Final = timedelta(seconds=30)
_MOST_SEEN: Final = 10_000


def require(material: Material) -> None:
    """Raise Conflict for a path that is not trusted here, Unavailable for a status that is not to be had."""
    if material.untrusted:
        raise Conflict(f"no trusted authority is above {material.untrusted[0]}: install its anchor (POST /v1/trust-anchors)")
    if material.missing:
        raise Unavailable("material", material.missing[0])


class _Stamping:
    """Stamps a digest, by one of those whose material is in the document, and keeps the token."""

    def __init__(self, stamper: Stamper, expected: Sequence[x509.Certificate], actor: Actor) -> None:
        self._stamper = stamper
        self._expected = expected
        self._actor = actor
        self.token = b""
        self.signer = expected[0]

    def __call__(self, digest: bytes) -> bytes:
        self.token = self._stamper.stamp_digest(digest, self._actor)
        found = [one for one in self._expected if one.public_bytes(Encoding.DER) in self.token]
        if not found:
            raise Unavailable("tsa", "its certificate changed while the document was being stamped: send the request again")
        self.signer = found[0]
        return self.token
