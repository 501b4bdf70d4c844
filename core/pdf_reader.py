"""Reading a PDF that may be large or hostile: what one document may take of time and memory ends here."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, cast

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.decode_limits import (
    DEFAULT_PURPOSE_LIMITS,
    DecodeContext,
    DecodeLimits,
    DecodePurpose,
    DocumentDecodeBudget,
    StreamDecodeLimits,
)
from pyhanko.pdf_utils.misc import PdfReadError, PdfStreamError
from pyhanko.pdf_utils.reader import _read_header_version
from pyhanko.pdf_utils.xref import XRefCache, XRefSection

from core.content import Content, ContentReader
from core.errors import Malformed
from core.pdf import Reader
from core.pdf_objects import parse_direct, parse_indirect, parse_stream_head
from core.pdf_streams import LARGE, LargeStream
from core.pdf_xref import Builder, Section

SECONDS: Final = 10.0
"""Of processor time that reading one document may take; a sound one takes milliseconds."""
_MIB: Final = 1 << 20
_LARGEST_READ: Final = 32 * _MIB
"""Bytes of one stream or table that are taken into memory; only pictures are larger, and those are not looked at."""
_LONGEST_TABLE: Final = 8 * _MIB
_LONGEST_OBJECT: Final = _MIB
"""Bytes that are read one by one; only what is built to keep us busy is longer."""
_LONG: Final = (1 << 17, 1 << 20, 33 << 20)
"""Bytes in which an object that is no stream is tried to be read at once; in the last only one that goes on with digits."""
_DIGITS: Final = re.compile(rb"[0-9A-Fa-f]*")
_STREAM_ENDS: Final = re.compile(rb"[\0\t\n\f\r ]*+endstream[\0\t\n\f\r ]++endobj")
_BUFFER: Final = 1 << 16
_SMALL: Final = 4096
"""Bytes in which an object is tried to be read at once."""
_LAST: Final = 1100
"""Bytes in which the end of a file is looked for; ISO 32000-1 lets readers look in 1024."""
_END: Final = re.compile(rb"startxref\s*+(\d{1,12}+)\s++%%EOF")
_STRUCTURE: Final = StreamDecodeLimits(max_ratio=1100, ratio_floor=4 * _MIB, max_output_size=_LARGEST_READ)
_LIMITS: Final = DecodeLimits(
    per_stream=_STRUCTURE,
    per_purpose={**DEFAULT_PURPOSE_LIMITS, DecodePurpose.OBJECT_STREAM: _STRUCTURE, DecodePurpose.XREF_STREAM: _STRUCTURE},
    document_budget=DocumentDecodeBudget(base_allowance=64 * _MIB, max_ratio=0),
)


class Allowance:
    """The processor time of this thread that is left for a document."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._end = time.thread_time() + seconds

    def excuse(self, seconds: float) -> None:
        """Time that went into something else, which has bounds of its own."""
        self._end += seconds

    def check(self) -> None:
        """Raises Malformed when it is used up."""
        if time.thread_time() > self._end:
            raise Malformed("document", "this PDF takes too long to read: it is broken, or made to be; get a sound copy")


class _Source(ContentReader):
    """A document as pyHanko reads it. It reads byte by byte, so whatever it does comes by here once every 64 KiB."""

    def __init__(self, content: Content, allowance: Allowance) -> None:
        super().__init__(content)
        self._allowance = allowance
        self._ended = 0
        self._in_a_row = 0
        self._most = _LONGEST_TABLE

    def restart(self) -> None:
        """What is read now is an object, and has nothing to do with what was read before."""
        self._in_a_row = 0
        self._most = _LONGEST_OBJECT

    def readinto(self, buffer: Any) -> int:
        self._allowance.check()
        size = memoryview(buffer).nbytes
        goes_on = abs(self.tell() - self._ended) <= _BUFFER
        self._in_a_row = (self._in_a_row if goes_on else 0) + (size if size <= _BUFFER else 0)
        if size > _LARGEST_READ or self._in_a_row > self._most:
            raise Malformed("document", "this PDF cannot be read: what should be small in it is too large")
        read = super().readinto(buffer)
        self._ended = self.tell()
        return read


class BoundedReader(Reader):
    """A lenient reader whose time and memory are bounded whatever the file says, and small whatever its size.

    ``earlier``: a reader of the same document before its last revisions came, whose cross-reference sections are not read again.
    ``in_place``: what is large is a :class:`~core.pdf_streams.LargeStream`; for those who look at everything in it.
    """

    def __init__(self, document: Content, earlier: BoundedReader | None = None, *, in_place: bool = False) -> None:
        # in place of pyHanko's own __init__, which would unpack the whole cross-reference table
        self.allowance = Allowance()
        self._content = document
        self._in_place = in_place
        self._source = _Source(document, self.allowance)
        self.stream = cast("BinaryIO", io.BufferedReader(self._source, _BUFFER))
        self.strict = False
        self.resolved_objects: dict[tuple[int, int], generic.PdfObject] = {}
        self._security_handler = None
        self._decode_context = DecodeContext(_LIMITS, input_size=document.size)
        self._input_version = None
        self._historical_resolver_cache = {}
        self._embedded_signatures = None
        self._object_streams: dict[int, tuple[bytes, dict[int, int]]] = {}
        self._plain = False
        self._header_version = _read_header_version(self.stream)
        self.last_startxref = _find_startxref(document)
        self.sections_from: int = self.last_startxref
        """Where the newest of ``sections`` is found."""
        known = () if earlier is None else earlier.sections
        builder = Builder(self, self.stream, self.sections_from, known, None if earlier is None else earlier.sections_from)
        self.sections: Sequence[XRefSection] = builder.read_xrefs()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        self.xrefs = XRefCache(self, list(self.sections))
        self.trailer = builder.trailer
        self.has_xref_stream = builder.has_xref_stream
        self._plain = "/Encrypt" not in self.trailer

    @property
    def highest_number(self) -> int:
        """The highest object number any section has room for."""
        return max((_highest(section) for section in self.sections), default=0)

    def _read_object(
        self, ref: generic.Reference, marker: Any, never_decrypt: bool = False, as_metadata_stream: bool = False
    ) -> Any:
        """As pyHanko's, faster for what is small and plainly written."""
        if isinstance(marker, int) and not as_metadata_stream:
            self._source.restart()
            self.stream.seek(marker)
            head = self.stream.read(_SMALL)
            found = (parse_indirect(head, self) if self._plain else None) or (
                self._read_in_place(head, marker) if self._in_place else None
            )
            if found is not None and (found[0].idnum, found[0].generation) == (ref.idnum, ref.generation):
                handler = None if self._plain or never_decrypt else self.security_handler
                return found[1] if handler is None else generic.proxy_encrypted_obj(found[1], handler)
        return super()._read_object(ref, marker, never_decrypt, as_metadata_stream)

    def _read_in_place(self, head: bytes, start: int) -> tuple[generic.Reference, generic.PdfObject] | None:
        """The object at ``start``, which begins with ``head``: a stream that ends where its length says, or one of some size."""
        found = parse_stream_head(head, self)
        if found is None:
            return None if b"endobj" in head else self._read_long(start)
        reference, entries, begins = found
        length = entries.raw_get("/Length").get_object() if "/Length" in entries else None
        if not isinstance(length, generic.NumberObject) or length < 0:
            return None
        place = start + begins, start + begins + length
        if _STREAM_ENDS.match(self._content.read(place[1], place[1] + 64)) is None:
            return None
        stream = (
            LargeStream(entries, self._content, place)
            if length >= LARGE
            else generic.StreamObject(entries, encoded_data=self._content.read(*place))
        )
        stream.container_ref = reference
        return reference, stream

    def _read_long(self, start: int) -> tuple[generic.Reference, generic.PdfObject] | None:
        """An object that is no stream: a signature with the certificates it needs, or with lists of revoked ones."""
        for size in _LONG:
            window = self._content.read(start, start + size)
            found = parse_indirect(window, self)
            if found is not None or b"endobj" in window or not (size == _LONG[0] or _DIGITS.fullmatch(window[-1000:])):
                return found
        return None

    def _get_object_from_stream(self, idnum: int, stmnum: int, idx: int) -> Any:  # noqa: ARG002 - pyHanko's signature
        """An object out of an object stream (ISO 32000-1, 7.5.7), whose index is read once and not for each object."""
        if stmnum not in self._object_streams:
            self._object_streams[stmnum] = self._read_object_stream(stmnum)
        data, offsets = self._object_streams[stmnum]
        if idnum not in offsets:
            return generic.NullObject()
        reference = generic.Reference(idnum, 0, self)
        found = parse_direct(data, offsets[idnum], reference)
        if found is not None:
            return found
        source = _Source(Content.of(data), self.allowance)
        source.restart()
        stream = io.BufferedReader(source, _BUFFER)
        stream.seek(offsets[idnum])
        try:
            return generic.read_object(stream, reference)
        except (PdfReadError, PdfStreamError):
            return generic.NullObject()  # an object that cannot be read is none: as all readers have it

    def _read_object_stream(self, number: int) -> tuple[bytes, dict[int, int]]:
        stream = generic.Reference(number, 0, self).get_object()
        if not isinstance(stream, generic.StreamObject) or stream.get("/Type") != "/ObjStm":
            raise PdfReadError(f"object {number} is no object stream")
        data = stream.read_data(DecodePurpose.OBJECT_STREAM)
        first, count = int(stream["/First"]), int(stream["/N"])
        numbers = data[: max(0, first)].split(maxsplit=2 * max(0, count))[: 2 * max(0, count)]
        offsets: dict[int, int] = {}
        for key, offset in zip(numbers[::2], numbers[1::2], strict=False):
            if key.isdigit() and offset.isdigit():
                offsets.setdefault(int(key), first + int(offset))
        self.allowance.check()
        return data, offsets


def _find_startxref(document: Content) -> int:
    """Where the file says that its newest cross-reference section is (ISO 32000-1, 7.5.5)."""
    found: list[bytes] = _END.findall(document.read(max(0, document.size - _LAST), document.size))
    if not found:
        raise PdfReadError("it does not end with startxref and %%EOF")
    return int(found[-1])


def _highest(section: XRefSection) -> int:
    data = section.xref_data
    return data.highest if isinstance(data, Section) else max((number for number, _ in data.explicit_refs_in_revision), default=0)
