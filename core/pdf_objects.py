"""Plainly written objects, read by one regular expression a token.

pyHanko reads byte by byte. What is here gives up (None) at everything out of the ordinary: comments, odd escapes and whitespace,
objects that do not end; pyHanko then reads them. So it never has to refuse anything, and where it answers it answers the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import (
    ArrayObject,
    BooleanObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NameObject,
    NullObject,
    NumberObject,
    PdfObject,
    Reference,
    StreamObject,
    pdf_string,
)

_DEEPEST: Final = 30
_MOST_TOKENS: Final = 200_000
_ENDS: Final = rb"(?=[\t\n\r /<>\[\]()])"
_TOKEN: Final = re.compile(
    rb"[\t\n\r ]*+(?:"
    rb"(?P<name>/[!\"$&'*-.0-;=?-Z\\^-z|~]++)" + _ENDS + rb"|(?P<open><<)|(?P<close>>>)|(?P<array>\[)|(?P<end>\])"
    rb"|(?P<number>[0-9]{1,10}+)[\t\n\r ]++(?P<generation>[0-9]{1,5}+)[\t\n\r ]++R"
    + _ENDS
    + rb"|(?P<integer>-?+[0-9]{1,15}+)(?!\s++[0-9]++\s++R)"
    + _ENDS
    + rb"|(?P<real>-?+[0-9]{1,10}+\.[0-9]{1,10}+)"
    + _ENDS
    + rb"|\((?P<text>(?:[^()\\\r]|\\[0-3][0-7][0-7]|\\[nrtbf()\\])*+)\)|<(?P<hex>(?:[0-9A-Fa-f]{2})*+)>"
    rb"|(?P<word>true|false|null)" + _ENDS + rb")"
)
_ESCAPE: Final = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPED: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def _unescape(match: re.Match[bytes]) -> bytes:
    found = match[1]
    return bytes([int(found, 8)]) if found.isdigit() else _ESCAPED.get(found, found)


_SIMPLE: Final[dict[str, Callable[[bytes], PdfObject]]] = {
    "name": lambda found: NameObject(found.decode("ascii")),
    "integer": NumberObject,
    "real": lambda found: FloatObject(found.decode("ascii")),
    "text": lambda found: pdf_string(_ESCAPE.sub(_unescape, found) if b"\\" in found else found),
    "hex": lambda found: pdf_string(bytes.fromhex(found.decode("ascii"))),
    "word": lambda found: NullObject() if found == b"null" else BooleanObject(found == b"true"),
}
_HEADER: Final = re.compile(rb"([0-9]{1,10}+) ([0-9]{1,5}+) obj(?=[\t\n\r <\[(/])")
_FINISHED: Final = re.compile(rb"[\t\n\r ]*+endobj")
_STREAM: Final = re.compile(rb"[\t\n\r ]*+stream(?:\r\n|\n)")
_STREAM_FINISHED: Final = re.compile(rb"(?:\r\n|\n)endstream[\t\n\r ]++endobj")


def parse_indirect(data: bytes, handler: Any) -> tuple[Reference, PdfObject] | None:
    """The indirect object that ``data`` begins with, whole and with its ``endobj``; ``handler`` is the reader it comes from."""
    header = _HEADER.match(data)
    if header is None:
        return None
    reference = Reference(int(header[1]), int(header[2]), handler)
    parser = _Parser(data, header.end(), reference)
    value = parser.value()
    if value is None or _FINISHED.match(data, parser.at):
        return None if value is None else (reference, value)
    stream = _parse_stream(data, parser.at, value)
    if stream is None:
        return None
    stream.container_ref = reference
    return reference, stream


def _parse_stream(data: bytes, at: int, value: PdfObject) -> StreamObject | None:
    start = _STREAM.match(data, at)
    length = value.raw_get("/Length") if isinstance(value, DictionaryObject) and "/Length" in value else None
    if start is None or not isinstance(value, DictionaryObject) or not isinstance(length, NumberObject) or length < 0:
        return None
    end = start.end() + length
    return StreamObject(value, encoded_data=data[start.end() : end]) if _STREAM_FINISHED.match(data, end) else None


def parse_stream_head(data: bytes, handler: Any) -> tuple[Reference, DictionaryObject, int] | None:
    """The dictionary of the stream object that ``data`` begins with, and where in ``data`` the bytes of the stream begin."""
    header = _HEADER.match(data)
    if header is None:
        return None
    reference = Reference(int(header[1]), int(header[2]), handler)
    parser = _Parser(data, header.end(), reference)
    value = parser.value()
    start = _STREAM.match(data, parser.at) if isinstance(value, DictionaryObject) else None
    return None if start is None or not isinstance(value, DictionaryObject) else (reference, value, start.end())


def parse_direct(data: bytes, at: int, reference: Reference) -> PdfObject | None:
    """The object at ``at``, which is (in) the one ``reference`` names."""
    return _Parser(data, at, reference).value()


class _Parser:
    def __init__(self, data: bytes, at: int, reference: Reference) -> None:
        self._data = data
        self.at = at
        self._reference = reference
        self._left = _MOST_TOKENS

    def value(self, depth: int = 0) -> PdfObject | None:
        """The object at the position, which goes behind it; None where this is not for us."""
        match = _TOKEN.match(self._data, self.at)
        self._left -= 1
        if match is None or depth > _DEEPEST or self._left < 0:
            return None
        self.at = match.end()
        kind = match.lastgroup or ""
        found: PdfObject | None
        if kind == "open":
            found = self._dictionary(depth)
        elif kind == "array":
            found = self._array(depth)
        elif kind == "generation":
            found = IndirectObject(int(match["number"]), int(match["generation"]), self._reference.get_pdf_handler())
        else:
            found = _SIMPLE[kind](match[kind]) if kind in _SIMPLE else None
        if found is not None:
            found.container_ref = self._reference
        return found

    def _dictionary(self, depth: int) -> DictionaryObject | None:
        entries: dict[NameObject, generic.PdfObject] = {}
        while (match := _TOKEN.match(self._data, self.at)) is not None:
            self.at = match.end()
            if match.lastgroup == "close":
                return DictionaryObject(entries)
            if match.lastgroup != "name":
                return None
            key = NameObject(match["name"].decode("ascii"))
            value = self.value(depth + 1)
            if value is None or key in entries:
                return None
            entries[key] = value
        return None

    def _array(self, depth: int) -> ArrayObject | None:
        items: list[PdfObject] = []
        while True:
            match = _TOKEN.match(self._data, self.at)
            if match is not None and match.lastgroup == "end":
                self.at = match.end()
                return ArrayObject(items)
            item = self.value(depth + 1)
            if item is None:
                return None
            items.append(item)
