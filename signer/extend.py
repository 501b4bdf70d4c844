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
from core.errors import Conflict, Rejected
from pki.material import Material, ValidationMaterial
from signer.archive import check_document_timestamp
from signer.carried import Carried, Token, read_carried
from signer.dss import Held, read_held
from signer.levels import Levels, Stamper, require, sha256
from signer.pdf_check import read_byte_ranges
from signer.pdf_update import open_update, reading
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

    def extend(self, document: Content, options: ExtendOptions, actor: Actor) -> Content:
        """``document`` with all its signatures at ``options.level``, in one revision more (two where one bears no timestamp yet).

        What the file has already is not fetched again, but for the status of the newest timestamp's authority. Raises Malformed,
        Rejected for a file that carries no signature or one that cannot be read, Conflict for a signature that is broken or not
        trusted here, Unavailable while timestamps or a certificate's status are not to be had.
        """
        update = open_update(document, options.password)
        with reading():  # also a document certified against changes: these are none (ISO 32000-2, 12.8.2.2.2)
            carried = read_carried(update)
        if not carried:
            raise Rejected("document", "it carries no signature: there is nothing to extend")
        for sentence in self._find_broken(document, options.password):
            raise Conflict(f"a signature of it does not hold, and no timestamp mends that: {sentence}")
        stampers = self._stamper.signers()
        if not _all_stamped(carried):
            # the timestamp that makes them B-T must be older than the answers about their certificates
            stamped, _ = self._levels.add(update, {}, stampers=stampers, actor=actor, password=options.password)
            check_document_timestamp(stamped, document, read_byte_ranges(stamped, document, options.password))
            update = open_update(stamped, options.password)
            with reading():
                carried = read_carried(update)
        if options.level == "B-LT":
            stampers = ()
        with reading():  # the certificates of others may be broken in ways of their own
            material = self._collect(carried, read_held(update), stampers, actor)
        extended, until = self._levels.add(update, material, stampers=stampers, actor=actor, password=options.password)
        if until is not None:
            check_document_timestamp(extended, update.document, read_byte_ranges(extended, document, options.password))
        self._record(document, extended, until, actor)
        return extended

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

    def _record(self, document: Content, extended: Content, until: datetime | None, actor: Actor) -> None:
        before, after = sha256(document), sha256(extended)
        level = "B-LT" if until is None else "B-LTA"
        with self._database.write() as db:
            append(db, at=self._now(), actor=actor, action="document.extend", subject=before, level=level, result=after)
        if until is not None:
            self._plan.note(after, until, actor, predecessor=before)


def _all_stamped(carried: Sequence[Carried]) -> bool:
    """Whether every signature has a timestamp over it: its own, or a document timestamp behind it."""
    last_stamp = max((one.end for one in carried if one.document_timestamp is not None), default=0)
    return all(one.document_timestamp is not None or one.timestamps or one.end <= last_stamp for one in carried)
