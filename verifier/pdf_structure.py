"""Where the signatures of a PDF are, and whether each one's ByteRange is what ISO 32000-2 clause 12.8.1 says it must be."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.fields import enumerate_sig_fields

from core.content import Content
from core.errors import Malformed
from verifier.reading import reading

MOST_SIGNATURES: Final = 50
_LARGEST_HOLE: Final = 32 << 20
_KEY: Final = b"/ByteRange"
_PIECE: Final = 4 << 20
_BLANK: Final = 1 << 16
_LONGEST_LITERAL: Final = 4096
"""Bytes of a ByteRange with all the white space in it."""
_NUMBER: Final = rb"\s++(\d{1,10}+)"
_BYTE_RANGE: Final = re.compile(rb"/ByteRange\s*+\[\s*+(\d{1,10}+)" + 3 * _NUMBER + rb"\s*+\]")
"""Possessive throughout: what does not match is given up at once, so a hostile file costs no more than its length."""
_MOST_LITERALS: Final = 10_000
_MOST_KEYS: Final = 1_000_000
_HEX_STRING: Final = re.compile(rb"<[0-9A-Fa-f\0\t\n\f\r ]*>")
_END: Final = re.compile(rb"startxref\s+(\d{1,10})\s+%%EOF\s*\Z")
_OBJECT: Final = re.compile(rb"\d\s+\d+\s+obj\b")
_SPACE: Final = b"\0\t\n\f\r "


@dataclass(frozen=True, slots=True)
class ByteRange:
    """``[0 b c d]``: the bytes before the hole, ``b`` of them, and ``d`` bytes from ``c``."""

    numbers: tuple[int, ...]

    @property
    def hole(self) -> slice:
        """The bytes between the two ranges."""
        return slice(self.numbers[1], self.numbers[2])

    @property
    def end(self) -> int:
        """The offset after the last byte signed."""
        return self.numbers[2] + self.numbers[3]


@dataclass(frozen=True, slots=True)
class FoundSignature:
    """A signature dictionary as it stands in the file. ``dictionary`` is None for one that no field reaches."""

    name: str
    dictionary: Any
    byte_range: ByteRange | None
    contents: bytes
    """The value of /Contents; empty when there is none."""
    problem: str | None
    """What is wrong with ByteRange and hole; then nothing about it can be believed."""

    @property
    def placeholder(self) -> bool:
        """Room was made for a signature that was never put in."""
        return self.problem is None and not self.contents.strip(b"\0")

    @property
    def orphaned(self) -> bool:
        """No field of the form leads to it."""
        return self.dictionary is None

    @property
    def signed_ranges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Where what it was computed over starts and ends; only for one without a ``problem``."""
        if self.byte_range is None:
            raise Malformed("ByteRange", "missing")
        hole = self.byte_range.hole
        return (0, hole.start), (hole.stop, self.byte_range.end)


def find_signatures(reader: PdfFileReader, document: Content) -> list[FoundSignature]:
    """Every filled signature field, and every signature dictionary in the bytes that no field leads to, in signing order.

    A signature must lie in the file unpacked, since ByteRange is about bytes of the file; so looking for ByteRange in the
    bytes finds those that someone took out of reach by dropping the form. Raises Malformed.
    """
    found = []
    values: set[generic.Reference] = set()
    with reading("AcroForm"):
        for name, value, field in enumerate_sig_fields(reader, filled_status=True):
            reference = _value_reference(field)
            if reference is not None and reference in values:
                continue  # one signature shown in several fields; that none of them came later, the rules see to
            values |= set() if reference is None else {reference}
            found.append(_read(name, value, document))
            if len(found) > MOST_SIGNATURES:
                raise Malformed("document", f"more than {MOST_SIGNATURES} signatures")
    reached = {one.byte_range.hole.start for one in found if one.byte_range is not None}
    found += [one for one in find_orphans(document) if one.byte_range is not None and one.byte_range.hole.start not in reached]
    found = _mark_shared(found)
    return sorted(found, key=lambda one: one.byte_range.end if one.byte_range is not None else document.size)


def _value_reference(field: Any) -> generic.Reference | None:
    dictionary = field.get_object()
    value = dictionary.raw_get("/V") if "/V" in dictionary else None
    return value.reference if isinstance(value, generic.IndirectObject) else None


def find_orphans(document: Content) -> list[FoundSignature]:
    """Signature dictionaries in the bytes, whether or not a field leads to them; raises Malformed when there are too many."""
    found = list(itertools.islice(_orphans(document), MOST_SIGNATURES + 1))
    if len(found) > MOST_SIGNATURES:
        raise Malformed("document", f"more than {MOST_SIGNATURES} signatures")
    return found


def _read(name: str, value: Any, document: Content) -> FoundSignature:
    dictionary = generic.DictionaryObject()
    try:
        with reading("signature"):
            dictionary = value.get_object()
            numbers = tuple(int(number) for number in dictionary["/ByteRange"])
            contents = dictionary.raw_get("/Contents", decrypt=generic.EncryptedObjAccess.RAW)
            octets: bytes = contents.get_object().original_bytes
    except Malformed as problem:
        kept = dictionary if isinstance(dictionary, generic.DictionaryObject) else generic.DictionaryObject()
        return FoundSignature(name, kept, None, b"", f"the signature dictionary cannot be read ({problem.detail})")
    problem_found = check_byte_range(numbers, document, octets)
    return FoundSignature(name, dictionary, ByteRange(numbers) if len(numbers) == 4 else None, octets, problem_found)


def check_byte_range(numbers: tuple[int, ...], document: Content, contents: bytes) -> str | None:
    """What is wrong with it, or None: four numbers, from 0, inside the file, the hole exactly the hex string of /Contents."""
    if len(numbers) != 4 or min(numbers) < 0:
        return "ByteRange is not four natural numbers"
    start, before, after, length = numbers
    if start != 0:
        return "ByteRange does not begin at the start of the file"
    if not before < after or length == 0:
        return "the ranges of ByteRange overlap or are empty"
    if after + length > document.size:
        return "ByteRange reaches past the end of the file"
    return _check_hole(document, before, after, contents)


def _check_hole(document: Content, before: int, after: int, contents: bytes) -> str | None:
    if after - before > _LARGEST_HOLE:
        return "the hole in ByteRange is larger than any signature"
    hole = document.read(before, after)
    if _HEX_STRING.fullmatch(hole) is None:
        return "the hole in ByteRange is not exactly the hex string of /Contents"
    return None if _unhex(hole) == contents else "the hole in ByteRange holds something else than /Contents"


def _orphans(document: Content) -> Iterator[FoundSignature]:
    """ByteRange literals whose hole really is a hex string here (one inside an attachment's own bytes points elsewhere)."""
    beyond = 0  # each byte is looked at in one hole only: a thousand overlapping ones cost no more than one
    literals = list(itertools.islice(_byte_ranges(document), _MOST_LITERALS))
    if len(literals) == _MOST_LITERALS:
        raise Malformed("document", "more ByteRange entries than any document has")
    for at, numbers in sorted(literals, key=lambda one: one[1][1]):
        start, stop = numbers[1], min(numbers[2], document.size)
        if numbers[0] != 0 or start < beyond or not 2 < stop - start <= _LARGEST_HOLE or document.read(start, start + 1) != b"<":
            continue
        if not document.read(max(0, start - 64), start).rstrip(_SPACE).endswith(b"/Contents"):
            continue  # a MAC (ISO/TS 32004) has a ByteRange as well, and is no signature
        beyond = stop
        hole = document.read(start, stop)
        if _HEX_STRING.fullmatch(hole) is not None:
            contents = _unhex(hole)
            yield FoundSignature(
                f"(offset {at})", None, ByteRange(numbers), contents, check_byte_range(numbers, document, contents)
            )


def _byte_ranges(document: Content) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Where each ByteRange literal of four numbers begins, and the numbers."""
    looked_at = 0
    for at in range(0, document.size, _PIECE):
        piece = document.read(at, at + _PIECE + _LONGEST_LITERAL)
        found = piece.find(_KEY)
        while 0 <= found < _PIECE:
            looked_at += 1
            if looked_at > _MOST_KEYS:
                raise Malformed("document", "it says ByteRange more often than any document does")
            match = _BYTE_RANGE.match(piece, found)
            if match is not None:
                yield at + found, tuple(int(group) for group in match.groups())
            found = piece.find(_KEY, found + len(_KEY))


def _unhex(literal: bytes) -> bytes:
    """The value of a PDF hex string with its angle brackets (ISO 32000-2 clause 7.3.4.3)."""
    digits = literal[1:-1].translate(None, _SPACE)
    return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii"))


def _mark_shared(found: list[FoundSignature]) -> list[FoundSignature]:
    """Of two sound signatures over one range, or with holes inside each other, at least one is forged: neither is believed."""
    sound = [one for one in found if one.problem is None]
    shared = [one for one in sound if any(_collide(one.byte_range, other.byte_range) for other in sound if other is not one)]
    return [dataclasses.replace(one, problem="another signature shares its ByteRange") if one in shared else one for one in found]


def _collide(one: ByteRange | None, other: ByteRange | None) -> bool:
    if one is None or other is None:
        return False
    return one.end == other.end or (one.hole.start < other.hole.stop and other.hole.start < one.hole.stop)


def signed_revision(reader: PdfFileReader, document: Content, end: int) -> int | None:
    """The revision (0 is the first) that the bytes up to ``end`` are the whole of, or None when they end elsewhere."""
    with reading("xref"):
        match = _END.search(document.read(max(0, end - 1024), end))
        if match is None:
            return None
        for revision in reversed(range(reader.xrefs.total_revisions)):
            if reader.xrefs.get_startxref_for_revision(revision) == int(match.group(1)):
                inside = all(reader.xrefs.get_xref_container_info(one).end_location <= end for one in range(revision + 1))
                return revision if inside else None
        return None


def bytes_left_over(reader: PdfFileReader, document: Content, end: int, revision: int) -> str | None:
    """What stands after ``end`` and belongs to no revision (what a lenient viewer might read all the same), or None."""
    if all(not chunk.strip(_SPACE) for chunk in document.chunks(end)):
        return None
    with reading("xref"):
        last = reader.xrefs.total_revisions - 1
        if revision == last:
            return f"{_length_without_space(document, end)} bytes were appended that form no revision"
        after_last = reader.xrefs.get_xref_container_info(last).end_location
        after = document.read(after_last, after_last + _PIECE)
        if after_last + len(after) < document.size or _OBJECT.search(after) or _END.search(after) is None:
            return "objects were appended after the last cross-reference section"
        return None


def _length_without_space(document: Content, start: int) -> int:
    """Of what follows ``start``, less the white space at both of its ends (as far as that is looked for)."""
    before, behind = document.read(start, start + _BLANK), document.read(max(start, document.size - _BLANK), document.size)
    return document.size - start - (len(before) - len(before.lstrip(_SPACE))) - (len(behind) - len(behind.rstrip(_SPACE)))
