"""Walking a PDF's objects in one revision: pages, fields, and a fingerprint that is equal exactly when the contents are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pyhanko.pdf_utils import generic

from core.errors import Malformed
from core.pdf_streams import LargeStream
from verifier.pdf_revision import Revision

_MOST_OBJECTS: Final = 200_000
_DEEPEST: Final = 200
_RAW, _TRANSPARENT = generic.EncryptedObjAccess.RAW, generic.EncryptedObjAccess.TRANSPARENT
_UPWARDS: Final = {"/Parent", "/P"}
"""Keys that lead back up, out of what is being compared. Other pages, which links lead to, are not descended into either."""


@dataclass(frozen=True, slots=True)
class Field:
    """A form field with a name of its own; ``reference`` is None for one written in place."""

    reference: generic.Reference | None
    dictionary: Any
    widgets: tuple[Any, ...]
    """The dictionaries that are drawn: the field itself, or its kids without a name."""


def entry(holder: Any, key: str) -> Any:
    """The value under ``key`` with the reference to it followed; None when it is missing, or ``holder`` is no dictionary."""
    found = holder.raw_get(key) if isinstance(holder, generic.DictionaryObject) and key in holder else None
    found = found.get_object() if isinstance(found, generic.IndirectObject) else found
    return None if isinstance(found, generic.NullObject) else found


def items(array: Any) -> list[Any]:
    """The raw entries of an array; none for what is no array."""
    if not isinstance(array, generic.ArrayObject):
        return []
    return [array.raw_get(position) for position in range(len(array))]


def page_references(resolver: Revision) -> list[generic.Reference]:
    """The pages in their order. Raises Malformed for a page tree that runs in circles or holds too much."""
    found: list[generic.Reference] = []
    seen: set[tuple[int, int]] = set()
    pending = [resolver.root.raw_get("/Pages")]
    while pending:
        node = pending.pop()
        if not isinstance(node, generic.IndirectObject):
            raise Malformed("Pages", "a node of the page tree is written in place")
        if (node.idnum, node.generation) in seen or len(seen) > _MOST_OBJECTS:
            raise Malformed("Pages", "the page tree runs in circles")
        seen.add((node.idnum, node.generation))
        value = resolver(node.reference)
        kids = entry(value, "/Kids")
        if kids is not None:
            pending.extend(reversed(items(kids)))
        else:
            found.append(node.reference)
    return found


def fields(resolver: Revision) -> dict[str, Field]:
    """The form's fields by full name; empty when there is no form."""
    found: dict[str, Field] = {}
    pending = [("", one, 0) for one in items(entry(entry(resolver.root, "/AcroForm"), "/Fields"))]
    while pending:
        parent, raw, depth = pending.pop()
        if len(found) > _MOST_OBJECTS or depth > _DEEPEST:
            raise Malformed("AcroForm", "the form's fields run in circles")
        value = raw.get_object()
        own = entry(value, "/T")
        name = parent if own is None else f"{parent}.{own}" if parent else str(own)
        kids = items(entry(value, "/Kids"))
        named = [kid for kid in kids if entry(kid.get_object(), "/T") is not None]
        pending += [(name, kid, depth + 1) for kid in named]
        widgets = tuple(kid.get_object() for kid in kids if kid not in named) or (value,)
        found[name] = Field(raw.reference if isinstance(raw, generic.IndirectObject) else None, value, widgets)
    return found


def fingerprint(resolver: Revision, value: Any, *, without: frozenset[str] = frozenset()) -> bytes:
    """A digest of ``value`` and all it leads to in this revision, but for ``without`` at the top and what leads upwards.

    Object numbers do not enter it, so the same content under other numbers is the same. Raises Malformed when it is too much.
    """
    return _Fingerprint(resolver).of(value, without)


class _Fingerprint:
    def __init__(self, resolver: Revision) -> None:
        self._resolver = resolver
        self._places: dict[tuple[int, int], int] = {}

    def of(self, value: Any, without: frozenset[str]) -> bytes:
        running = hashlib.sha256()
        for part in self._parts(value, without, 0):
            running.update(part)
            running.update(b"\0")
        return running.digest()

    def _parts(self, value: Any, without: frozenset[str], depth: int) -> Iterator[bytes]:
        if depth > _DEEPEST:
            raise Malformed("document", "objects are nested too deeply")
        if isinstance(value, generic.IndirectObject):
            yield from self._referenced(value, without, depth)
        elif isinstance(value, generic.DictionaryObject):
            yield b"<<"
            for name in sorted(value):
                if name == "/Data" and "/TransformMethod" in value:
                    yield _catalog(value.raw_get(name))
                elif name not in _UPWARDS and name not in without:
                    yield name.encode("utf-8", "surrogateescape")
                    # the value of a signature is not encrypted in a file that is (ISO 32000-2 clause 7.6.2)
                    raw = _RAW if name == "/Contents" and "/ByteRange" in value else _TRANSPARENT
                    yield from self._parts(value.raw_get(name, raw), frozenset(), depth + 1)
            yield b">>"
            if isinstance(value, generic.StreamObject):
                yield self._stream(value)
        elif isinstance(value, generic.ArrayObject):
            yield b"["
            for item in items(value):
                yield from self._parts(item, frozenset(), depth + 1)
            yield b"]"
        else:
            yield _scalar(value)

    def _stream(self, value: generic.StreamObject) -> bytes:
        if isinstance(value, LargeStream):
            return self._resolver.reader.digest_of(value)
        return hashlib.sha256(value.encoded_data).digest()

    def _referenced(self, reference: generic.IndirectObject, without: frozenset[str], depth: int) -> Iterator[bytes]:
        key = (reference.idnum, reference.generation)
        if key in self._places:  # seen: its place in the walk stands for it
            yield b"seen %d" % self._places[key]
            return
        if len(self._places) >= _MOST_OBJECTS:
            raise Malformed("document", "too many objects")
        self._places[key] = len(self._places)
        value = self._resolver(reference.reference)
        if depth and entry(value, "/Type") == "/Page":
            yield b"page %d %d" % key
        else:
            yield from self._parts(value, without, depth + 1)


def _catalog(value: Any) -> bytes:
    """What a signature locks fields of: always the catalog (ISO 32000-2, table 255), which changes with every revision."""
    return b"/Data %d %d" % (value.idnum, value.generation) if isinstance(value, generic.IndirectObject) else b"/Data"


def _scalar(value: Any) -> bytes:
    if isinstance(value, generic.TextStringObject | generic.ByteStringObject):
        return b"(" + bytes(value.original_bytes)
    return b"null" if isinstance(value, generic.NullObject) else f"{type(value).__name__} {value!r}".encode()
