"""Signatures made here or elsewhere, brought to B-LT or B-LTA; and archive timestamps renewed (docs/adr/0023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor, append
from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import Conflict, Rejected, Unavailable
from pki.material import Material, ValidationMaterial
from signer.archive import check_document_timestamp
from signer.carried import Carried, Token, read_carried
from signer.dss import Held, read_held
from signer.levels import Levels, Reached, Stamper, require
from signer.pdf_check import read_byte_ranges
from signer.pdf_update import Update, open_update, reading
from signer.plan import ArchivePlan, newest_timestamp

FindBroken = Callable[[Content, str | None], Sequence[str]]
"""What the verifier says is certainly wrong with the signatures of a PDF (and its password): a sentence for each. Handed in: this
room does not know it."""
ExtensionLevel = Literal["B-LT", "B-LTA"]


class ExtendOptions(BaseModel):
    """How far a PDF's signatures are to be extended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: ExtensionLevel = Field(
        default="B-LTA",
        description="B-LT: everything needed to judge the signatures later; B-LTA: with an archive timestamp over it.",
    )
    password: str | None = Field(default=None, max_length=127, repr=False, description="Password that opens an encrypted document.")


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a file says of itself: its newest archive timestamp, or None where it does not end with one."""

    newest: Token | None
    signatures: int


class Extender:
    """Extends signatures and renews archive timestamps."""

    def __init__(
        self,
        *,
        database: Database,
        now: Now,
        levels: Levels,
        stamper: Stamper,
        material: ValidationMaterial,
        plan: ArchivePlan,
        find_broken: FindBroken,
    ) -> None:
        self._database = database
        self._now = now
        self._levels = levels
        self._stamper = stamper
        self._material = material
        self._plan = plan
        self._find_broken = find_broken

    def inspect(self, document: Content, password: str | None) -> Inspected:
        """What of ``document`` says when it needs its next archive timestamp. Raises Malformed or Rejected."""
        with reading():
            carried = read_carried(open_update(document, password))
        return Inspected(newest_timestamp(carried), sum(one.document_timestamp is None for one in carried))

    def extend(
        self, document: Content, options: ExtendOptions, actor: Actor, *, lowered: Callable[[Reached], None] | None = None
    ) -> Content:
        """``document`` with all its signatures at ``options.level``, in one revision more (two where one bears no timestamp yet).

        What the file has already is not fetched again, but for the status of the newest timestamp's authority. ``lowered`` is told
        of a level below the one asked for, where policy allows that and it is more than the document had. Raises Malformed,
        Rejected for a file that carries no signature or one that cannot be read, Conflict for a signature that is broken or not
        trusted here, Unavailable while timestamps or a certificate's status are not to be had.
        """
        update, carried = _read(document, options.password)
        if not carried:
            raise Rejected("document", "it carries no signature: there is nothing to extend")
        for sentence in self._find_broken(document, options.password):
            raise Conflict(f"a signature of it does not hold, and no timestamp mends that: {sentence}")
        renewed, stamped = newest_timestamp(carried) is not None, document
        if not _all_stamped(carried):
            stamped = self._stamp(update, options, actor)
            update, carried = _read(stamped, options.password)
        until, reached = None, Reached(options.level, "")
        try:
            extended, until = self._complete(update, carried, options, actor)
        except Unavailable as error:
            if not self._levels.lowers or renewed:
                raise
            extended, reached = self._as_far_as_possible(document, stamped, options, actor, error)
        if until is not None:
            check_document_timestamp(extended, stamped, read_byte_ranges(extended, document, options.password))
        self._record(document, extended, until, actor, asked=options.level, reached=reached)
        if reached.level != options.level and lowered is not None:
            lowered(reached)
        return extended

    def _stamp(self, update: Update, options: ExtendOptions, actor: Actor) -> Content:
        """At B-T, by a document timestamp: it must be older than the answers about the signers' certificates."""
        document, stampers = update.document, self._stamper.signers()
        stamped, _ = self._levels.add(update, {}, stampers=stampers, actor=actor, password=options.password)
        check_document_timestamp(stamped, document, read_byte_ranges(stamped, document, options.password))
        return stamped

    def _complete(
        self, update: Update, carried: Sequence[Carried], options: ExtendOptions, actor: Actor
    ) -> tuple[Content, datetime | None]:
        """At the level asked for, and until when its archive timestamp proves anything."""
        stampers = self._stamper.signers() if options.level == "B-LTA" else ()
        with reading():  # the certificates of others may be broken in ways of their own
            material = self._collect(carried, read_held(update), stampers, actor)
        return self._levels.add(update, material, stampers=stampers, actor=actor, password=options.password)

    def _as_far_as_possible(
        self, document: Content, stamped: Content, options: ExtendOptions, actor: Actor, error: Unavailable
    ) -> tuple[Content, Reached]:
        """Without what is away: at B-LT while no archive timestamp is to be had, at B-T where the document had not that much.

        Raises ``error`` where nothing is gained: a document that comes back as it was has not been extended.
        """
        if options.level == "B-LTA":
            update, carried = _read(stamped, options.password)
            held = read_held(update)
            try:
                if not all(held.covers(leaf, one.certificates) for one in carried for leaf in one.leaves):
                    extended, _ = self._complete(update, carried, options.model_copy(update={"level": "B-LT"}), actor)
                    return extended, Reached("B-LT", error.detail)
            except Unavailable:
                pass  # what is away is the material: the timestamp is what is left to be had
        if stamped.size > document.size:
            return stamped, Reached("B-T", error.detail)
        raise error

    def _collect(
        self, carried: Sequence[Carried], held: Held, stampers: Sequence[x509.Certificate], actor: Actor
    ) -> dict[bytes, Material]:
        """For each signature and timestamp what the file lacks; the last one's also covers the timestamp that is about to come."""
        found: dict[bytes, Material] = {}
        for one in carried:
            last = one is carried[-1]
            leaves = [leaf for leaf in one.leaves if last or not held.covers(leaf, one.certificates)]
            if last:
                leaves += stampers
            if leaves:
                hints = (*one.certificates, *held.certificates)
                found[one.contents] = self._material.collect(leaves, hints=hints, since=self._now(), actor=actor)
                require(found[one.contents])
        return found

    def _record(
        self, document: Content, extended: Content, until: datetime | None, actor: Actor, *, asked: ExtensionLevel, reached: Reached
    ) -> None:
        """What became of the document, and when it needs its next timestamp, in one transaction."""
        before, after = document.sha256(), extended.sha256()
        lower = {"asked": asked, "why": reached.why} if reached.level != asked else {}
        facts = {"level": reached.level, "result": after, **lower}
        with self._database.write() as db:
            append(db, at=self._now(), actor=actor, action="document.extend", subject=before, **facts)
            if until is not None:
                self._plan.follow(db, after, until, actor, predecessor=before)


def _read(document: Content, password: str | None) -> tuple[Update, list[Carried]]:
    """The document opened for one more revision, and what it carries; also one that is certified against changes, for a
    timestamp and material are none (ISO 32000-2, 12.8.2.2.2)."""
    update = open_update(document, password)
    with reading():
        return update, read_carried(update)


def _all_stamped(carried: Sequence[Carried]) -> bool:
    """Whether every signature has a timestamp over it: its own, or a document timestamp behind it."""
    last_stamp = max((one.end for one in carried if one.document_timestamp is not None), default=0)
    return all(one.document_timestamp is not None or one.timestamps or one.end <= last_stamp for one in carried)
