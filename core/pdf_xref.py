"""Cross-reference sections that are looked up where they stand (ISO 32000-1, 7.5.4 and 7.5.8).

pyHanko makes several Python objects of each entry, which costs 250 bytes and 5 µs: a compressed cross-reference stream of a few
megabytes would fill memory. A signature needs a handful of objects, so an entry is taken apart when it is asked for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.decode_limits import DecodePurpose
from pyhanko.pdf_utils.generic import DictionaryObject, NumberObject
from pyhanko.pdf_utils.xref import (
    ObjStreamRef,
    XRefBuilder,
    XRefEntry,
    XRefSection,
    XRefSectionData,
    XRefSectionMetaInfo,
    XRefSectionType,
    XRefType,
    parse_xref_table,
)

from core.errors import Malformed
from core.pdf_objects import parse_indirect, parse_stream_head

_ROW: Final = 20
_ROWS: Final = re.compile(rb"(?:\d{10} \d{5} [nf][ \r\n]{2})*+")
_SUBSECTION: Final = re.compile(rb"\s*+(\d{1,10})[ \t]++(\d{1,10})[ \t]*+(?:\r\n|\n|\r)")
_HEADER: Final = 64
_MOST_IRREGULAR: Final = 200_000
"""Entries of tables that do not keep to the form, which pyHanko unpacks."""
_HIGHEST_GENERATION: Final = 0xFFFF
_SMALL: Final = 4096
_STREAM_ENDS: Final = b"endstream"
_WIDEST: Final = 24
"""Bytes of a row in a cross-reference stream: three fields of at most eight."""


class Section(XRefSectionData):
    """One section; everything beyond :meth:`try_resolve` is unpacked when it is first asked for."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        """``ranges``: (first number, how many) of each subsection, in the order of their rows; none overlaps another."""
        self.hybrid: XRefSection | None = None
        starts = accumulate((count for _, count in ranges), initial=0)
        ordered = sorted((first, count, start) for (first, count), start in zip(ranges, starts, strict=False) if count)
        self._firsts = [first for first, _, _ in ordered]
        self._counts = [count for _, count, _ in ordered]
        self._starts = [start for _, _, start in ordered]

    def _row(self, position: int) -> tuple[int, int, int] | None:
        """(type, second, third field) as a cross-reference stream states them, or None for a row that says nothing."""
        raise NotImplementedError

    @property
    def rows(self) -> int:
        """How many entries it has."""
        return sum(self._counts) + (0 if self.hybrid is None else rows_of(self.hybrid))

    @property
    def highest(self) -> int:
        """The highest object number there is room for."""
        mine = max((first + count - 1 for first, count in zip(self._firsts, self._counts, strict=True)), default=0)
        hybrid = self.hybrid.xref_data if self.hybrid is not None else None
        return max(mine, hybrid.highest) if isinstance(hybrid, Section) else mine

    def try_resolve(self, ref: Any) -> int | ObjStreamRef | None:
        """As pyHanko's: where the object is, None when it is free; raises KeyError when this section does not say."""
        kind, second, third = self._find(ref.idnum) or (-1, 0, 0)
        if kind == 2 and ref.generation == 0:
            return ObjStreamRef(second, third)
        if kind == 1:
            if third != ref.generation:
                raise KeyError(ref)
            return second
        if kind == 0 and ref.generation == third - 1:
            return None
        if self.hybrid is not None:
            return self.hybrid.xref_data.try_resolve(ref)
        raise KeyError(ref)

    def _find(self, number: int) -> tuple[int, int, int] | None:
        at = bisect_right(self._firsts, number) - 1
        if number == 0 or at < 0 or number >= self._firsts[at] + self._counts[at]:
            return None
        row = self._row(self._starts[at] + number - self._firsts[at])
        return None if row is None or (row[0] in (0, 1) and row[2] > _HIGHEST_GENERATION) else row

    def _entries(self) -> Iterator[XRefEntry]:
        for first, count in zip(self._firsts, self._counts, strict=True):
            for number in range(first, first + count):
                row = self._find(number)
                if row is None:
                    continue
                kind, second, third = row
                if kind == 1:
                    yield XRefEntry(XRefType.STANDARD, second, number, third)
                elif kind == 2:
                    yield XRefEntry(XRefType.IN_OBJ_STREAM, ObjStreamRef(second, third), number)
                elif kind == 0:
                    yield XRefEntry(XRefType.FREE, None, number, third)

    @cached_property
    def _unpacked(self) -> XRefSectionData:
        data = XRefSectionData()
        data.process_entries(self._entries(), strict=False)
        return data

    freed = property(lambda self: self._unpacked.freed)
    standard_xrefs = property(lambda self: self._unpacked.standard_xrefs)
    xrefs_in_objstm = property(lambda self: self._unpacked.xrefs_in_objstm)
    explicit_refs_in_revision = property(lambda self: self._unpacked.explicit_refs_in_revision)
    obj_streams_used = property(lambda self: self._unpacked.obj_streams_used)


def rows_of(section: XRefSection) -> int:
    """How many entries a section has; of one that is unpacked already no more are known than were allowed for."""
    return section.xref_data.rows if isinstance(section.xref_data, Section) else 0


class _TableSection(Section):
    """Rows of 20 bytes."""

    def __init__(self, ranges: Sequence[tuple[int, int]], rows: bytes) -> None:
        super().__init__(ranges)
        self._rows = rows

    def _row(self, position: int) -> tuple[int, int, int]:
        row = self._rows[position * _ROW : (position + 1) * _ROW]
        return int(row[17:18] == b"n"), int(row[:10]), int(row[11:16])


class _StreamSection(Section):
    """Rows of three binary fields."""

    def __init__(self, ranges: Sequence[tuple[int, int]], rows: bytes, widths: tuple[int, int, int]) -> None:
        super().__init__(ranges)
        self._rows = rows
        self._widths = widths

    def _row(self, position: int) -> tuple[int, int, int] | None:
        size = sum(self._widths)
        row = self._rows[position * size : (position + 1) * size]
        if len(row) < size:
            return None
        one, two, _ = self._widths
        kind = int.from_bytes(row[:one], "big") if one else 1
        return kind, int.from_bytes(row[one : one + two], "big"), int.from_bytes(row[one + two :], "big")


class Builder(XRefBuilder):
    """Reads the sections of a file from its end.

    ``known``: the sections of its earlier revisions (the oldest first) where they have been read before, and ``known_from``
    the startxref that leads to the newest of them.
    """

    def __init__(self, handler: Any, stream: Any, startxref: int, known: Sequence[XRefSection], known_from: int | None) -> None:
        super().__init__(handler, stream, strict=False, last_startxref=startxref)
        self._known = known
        self._known_from = known_from

    def _read_xref_stream(self, declared_startxref: int) -> int | None:
        start = self.stream.tell()
        reference, found = self._read_xref_stream_object()
        meta = XRefSectionMetaInfo(
            XRefSectionType.STREAM, int(found.raw_get("/Size")), declared_startxref, start, self.stream.tell(), reference
        )
        return self._add(XRefSection(meta, _read_stream(found)), found)

    def _read_xref_stream_object(self) -> tuple[generic.Reference, generic.StreamObject]:
        """As pyHanko's, faster for what is small and plainly written."""
        start = self.stream.tell()
        data = self.stream.read(_SMALL)
        found = parse_indirect(data, self.handler)
        if found is not None and isinstance(found[1], generic.StreamObject) and found[1].get("/Type") == "/XRef":
            head = parse_stream_head(data, self.handler)
            ends = data.index(_STREAM_ENDS, 0 if head is None else head[2] + len(found[1].encoded_data))
            self.stream.seek(start + ends + len(_STREAM_ENDS))
            return found[0], found[1]
        self.stream.seek(start)
        reference, stream = super()._read_xref_stream_object()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        return reference, stream

    def _read_xref_table(self, declared_startxref: int) -> int | None:
        stream, start = self.stream, self.stream.tell()
        data: XRefSectionData | None = _read_table(stream)
        if data is None:
            stream.seek(start)
            data = XRefSectionData()
            data.process_entries(_bounded(parse_xref_table(stream, strict=False)), strict=False)
        trailer = DictionaryObject.read_from_stream(stream, generic.TrailerReference(self.handler))
        end, hybrid = stream.tell(), trailer.get("/XRefStm")
        if isinstance(hybrid, NumberObject):
            data.hybrid = self._read_hybrid(int(hybrid))
        kind = XRefSectionType.STANDARD if data.hybrid is None else XRefSectionType.HYBRID_MAIN
        meta = XRefSectionMetaInfo(kind, int(trailer.raw_get("/Size")), declared_startxref, start, end, None)
        return self._add(XRefSection(meta, data), trailer)

    def _read_hybrid(self, at: int) -> XRefSection:
        self.stream.seek(at)
        reference, found = self._read_xref_stream_object()
        size = int(found.raw_get("/Size"))
        meta = XRefSectionMetaInfo(XRefSectionType.HYBRID_STREAM, size, at, at, self.stream.tell(), reference)
        return XRefSection(meta, _read_stream(found))

    def _add(self, section: XRefSection, trailer: DictionaryObject) -> int | None:
        """Where the section before this one is."""
        self.sections.append(section)
        self.trailer.add_trailer_revision(trailer)
        return self._previous(trailer)

    def _previous(self, trailer: DictionaryObject) -> int | None:
        previous = trailer.get("/Prev")
        if previous is not None and not isinstance(previous, NumberObject):
            raise Malformed("document", "this PDF cannot be read: /Prev is no number; get a sound copy")
        if previous is not None and previous == self._known_from:
            self.sections += reversed(self._known)
            return None
        return None if previous is None else int(previous)


def _read_table(stream: Any) -> Section | None:
    """The section at the stream's position, which is left at its trailer dictionary; None when it does not keep to the form."""
    ranges: list[tuple[int, int]] = []
    rows: list[bytes] = []
    while True:
        at = stream.tell()
        head = stream.read(_HEADER)
        match = _SUBSECTION.match(head)
        if match is None:
            break
        first, count = int(match[1]), int(match[2])
        stream.seek(at + match.end())
        data = stream.read(count * _ROW)
        if len(data) != count * _ROW or not _ROWS.fullmatch(data) or (ranges and first < sum(ranges[-1])):
            return None
        ranges.append((first, count))
        rows.append(data)
    keyword = re.match(rb"\s*trailer\s*", head)
    if keyword is None:
        return None
    stream.seek(at + keyword.end())
    return _TableSection(ranges, b"".join(rows))


def _read_stream(found: generic.StreamObject) -> Section:
    widths = [int(width) for width in found["/W"]]
    pairs = [int(item) for item in found.get("/Index", [0, found["/Size"]])]
    ranges = list(zip(pairs[::2], pairs[1::2], strict=True))
    if len(widths) != 3 or min(widths) < 0 or not 0 < sum(widths) <= _WIDEST or any(min(one) < 0 for one in ranges):
        raise Malformed("document", "this PDF cannot be read: its cross-reference stream is broken; get a sound copy")
    if any(sum(before) > after[0] for before, after in pairwise(sorted(ranges))):
        raise Malformed("document", "this PDF cannot be read: its cross-reference stream says things twice; get a sound copy")
    rows = found.read_data(DecodePurpose.XREF_STREAM)
    return _StreamSection(ranges, rows, (widths[0], widths[1], widths[2]))


def _bounded(entries: Iterator[XRefEntry]) -> Iterator[XRefEntry]:
    for number, item in enumerate(entries):
        if number > _MOST_IRREGULAR:
            raise Malformed(
                "document", "this PDF cannot be read: its cross-reference table is broken and too long; get a sound copy"
            )
        yield item
