"""Opening a PDF that may be hostile and larger than memory: bounded in decoding, in objects visited and kept, and in time."""

from __future__ import annotations

import re
from array import array
from collections import OrderedDict
from functools import cached_property
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.crypt import AuthStatus

from core import pdf_reader
from core.content import Content
from core.errors import Malformed
from core.pdf_streams import LargeStream
from core.pdf_xref import rows_of
from verifier.pdf_revision import Revision, reference_to, references_in
from verifier.reading import reading

_MOST_VISITS: Final = 1_000_000
_KEPT: Final = 150_000
"""Parts of objects that are kept in memory, at some hundred bytes each."""
_LARGEST_OBJECT: Final = 100_000
"""Parts of one object: each revision has a copy of what is looked at."""
_MOST_REPLACED: Final = 100_000
_REVISIONS: Final = 3
"""Revisions whose objects are kept: of a step the two sides, and the newest."""
_TAIL: Final = 2048
_END_OF_FILE: Final = re.compile(rb"[\r\n][ \t]{0,64}startxref\s{1,64}\d{1,12}\s{1,64}%%EOF")
_NOWHERE: Final = array("q")

Place = int | tuple[int, int]
"""Where an object stands: its offset in the file, or an object stream's number and its own."""


class NeedsPassword(Malformed):
    """The document is encrypted and opens only with a password."""


class BoundedReader(pdf_reader.BoundedReader):
    """A lenient reader that gives up after so many visits to objects or so much time, and keeps only so much of them.

    Every step of the difference analysis, pyHanko's and ours, goes through here, so this is where they are counted: forty
    objects that each name the next one twice would keep it busy for ever. An object is kept by its place in the file, so that all
    revisions that have it share it; a large stream is left in the file.
    """

    def __init__(self, document: Content) -> None:
        self._visits = 0
        self._objects: dict[Place, Any] = {}
        self._edges: dict[Place, array[int]] = {}
        self._settled: dict[int, array[int]] = {}
        self._backwards: tuple[int, dict[int, array[int]]] | None = None
        self._digests: dict[tuple[int, int], bytes] = {}
        self._weight = 0
        self._revisions: OrderedDict[int, Revision] = OrderedDict()
        super().__init__(document, in_place=True)

    def count_visit(self) -> None:
        """Raises Malformed(``document``) when the budget is used up."""
        self._visits += 1
        if self._visits > _MOST_VISITS:
            raise Malformed("document", "looking at all of its objects takes too long")
        if not self._visits & 63:
            self.allowance.check()

    def get_object(  # type: ignore[override]  # pyHanko's own reader has further arguments as well
        self,
        ref: Any,
        revision: int | None = None,
        never_decrypt: bool = False,
        transparent_decrypt: bool = True,
        as_metadata_stream: bool = False,
    ) -> Any:
        """As pyHanko's, counted; an object of an earlier revision is kept as well."""
        self.count_visit()
        revision = self.xrefs.total_revisions - 1 if revision is None else revision
        found = self._object_at(ref, self.xrefs.get_historical_ref(ref, revision), never_decrypt, as_metadata_stream)
        return found.decrypted if transparent_decrypt and isinstance(found, generic.DecryptedObjectProxy) else found

    def _object_at(self, ref: Any, marker: Any, never_decrypt: bool, as_metadata_stream: bool) -> Any:
        never_decrypt = never_decrypt or ref in self.xrefs.xref_stream_refs
        if marker is None or as_metadata_stream:
            return self._read_object(ref, marker, never_decrypt, as_metadata_stream)
        place = place_of(ref, marker)
        found = self._objects.get(place)
        if found is None:
            found = self._read_object(ref, marker, never_decrypt)
            weight = _weigh(found)
            if weight > _LARGEST_OBJECT:
                raise Malformed("document", f"an object in it has more than {_LARGEST_OBJECT} parts")
            if self._weight + weight > _KEPT:
                self._objects, self._weight = {}, 0
            self._objects[place] = found
            self._weight += weight
        return found

    def check_revision(self, revision: int) -> None:
        """Raises Malformed(``document``) when it replaces more objects than can be looked at: their references are unpacked."""
        if rows_of(self.sections[revision]) > _MOST_REPLACED:
            raise Malformed("document", f"a later revision replaces more than {_MOST_REPLACED} objects")

    def leads_to(self, key: int, revision: int) -> array[int]:
        """What an object of a revision leads to, as :func:`references_in` tells it."""
        found = self._settled.get(key)
        if found is not None:
            return found
        ref = reference_to(key, self)
        marker = self.xrefs.get_historical_ref(ref, revision)
        place = None if marker is None else place_of(ref, marker)
        found = _NOWHERE if place is None else self._edges.get(place)
        if found is None:
            self.count_visit()
            found = references_in(self._object_at(ref, marker, never_decrypt=False, as_metadata_stream=False))
        if self._replaced is not None and ref.idnum not in self._replaced:
            self._settled[key] = found
        elif place is not None:
            self._edges[place] = found
        return found

    @cached_property
    def _replaced(self) -> set[int] | None:
        """The numbers of objects that came or went after the first revision: all others lead where they led. None: too many."""
        later = self.sections[1:]
        if any(rows_of(section) > _MOST_REPLACED for section in later):
            return None
        found: set[int] = set()
        for section in later:
            for part in (section, section.xref_data.hybrid):
                if part is not None:
                    found |= {number for number, _ in part.xref_data.explicit_refs_in_revision} | set(part.xref_data.freed)
        return found

    def backwards(self, revision: Revision) -> dict[int, array[int]]:
        """As :meth:`Revision.find_backwards`, kept until another revision is asked for."""
        if self._backwards is None or self._backwards[0] != revision.revision:
            self._backwards = None
            self._backwards = revision.revision, revision.find_backwards()
        return self._backwards[1]

    def digest_of(self, stream: LargeStream) -> bytes:
        """As :meth:`LargeStream.digest`, of each once."""
        if stream.place not in self._digests:
            self._digests[stream.place] = stream.digest(self.allowance.check)
        return self._digests[stream.place]

    def get_historical_resolver(self, revision: int) -> Revision:
        """As pyHanko's; what it has read is kept until some other revisions have been asked for."""
        found = self._revisions.pop(revision, None) or Revision(self, revision)
        self._revisions[revision] = found
        if len(self._revisions) > _REVISIONS:
            self._revisions.popitem(last=False)
        return found


def place_of(ref: Any, marker: Any) -> Place:
    """Of the object ``ref`` names, at the place a cross-reference table gives."""
    return marker if isinstance(marker, int) else (marker.obj_stream_id, ref.idnum)


def _weigh(value: Any) -> int:
    """How much memory an object takes, in parts of some hundred bytes."""
    weight, pending = 0, [value]
    while pending:
        part = pending.pop()
        weight += 1
        if isinstance(part, generic.DecryptedObjectProxy):
            part = part.raw_object
        if isinstance(part, dict):
            pending.extend(part.values())
            if isinstance(part, generic.StreamObject) and not isinstance(part, LargeStream):
                weight += len(part.encoded_data) >> 7
        elif isinstance(part, list):
            pending.extend(part)
        elif isinstance(part, str | bytes):
            weight += len(part) >> 7
    return weight


def open_pdf(document: Content, password: str | None = None) -> BoundedReader:
    """A reader of ``document``, decrypted by ``password`` or the empty one. Raises NeedsPassword, or Malformed(``document``)."""
    if _END_OF_FILE.search(document.read(max(0, document.size - _TAIL), document.size)) is None:
        raise Malformed("document", "no startxref and %%EOF at the end: it is cut off or no PDF")
    with reading("document"):
        reader = BoundedReader(document)
        if reader.encrypted and reader.decrypt(password or "").status is AuthStatus.FAILED:
            raise NeedsPassword("document", "the file is encrypted and needs a password")
        if not isinstance(reader.root, generic.DictionaryObject):
            raise Malformed("document", "the file has no catalog")
        return reader
