"""A revision that signs: everything but a hole in it is digested, and what is made of the digest goes into the hole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import DictionaryObject

from core.content import Content
from signer.pdf_update import Update

_LONGEST_RANGE: Final = 44
"""Characters kept for the ByteRange until its numbers are known."""


class HoleTooSmall(Exception):
    """What was to go in has ``needed`` bytes, more than were reserved."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"no room for {needed} bytes")
        self.needed = needed


class Hole:
    """/Contents and /ByteRange of one signature dictionary or document timestamp, until the revision is written."""

    def __init__(self, size: int) -> None:
        """``size``: bytes of DER there is to be room for."""
        self._contents = _Verbatim(b"<" + b"0" * (2 * size) + b">")
        self._range = _Verbatim(_byte_range(0, 0, 0))

    def put_into(self, dictionary: DictionaryObject) -> None:
        """Make it the hole of ``dictionary``."""
        dictionary["/Contents"] = self._contents
        dictionary["/ByteRange"] = self._range

    def write(self, update: Update) -> Revision:
        """The revision with everything that ``update`` adds, its ByteRange filled in."""
        tail, size = update.revision(), update.document.size
        gap = self._contents.position, self._contents.position + len(self._contents.data)
        filled = _byte_range(gap[0], gap[1], size + len(tail) - gap[1])
        start = self._range.position - size
        tail[start : start + len(filled)] = filled
        return Revision(update.document, bytes(tail), (gap[0] - size + 1, gap[1] - size - 1))


@dataclass(frozen=True, slots=True)
class Revision:
    """A document and the revision that goes behind it, still with its hole."""

    original: Content
    tail: bytes
    """The new revision, the hole still zeros."""
    hole: tuple[int, int]
    """Where the hexadecimal digits go: from, to, counted in ``tail``."""

    def digest(self, algorithm: hashes.HashAlgorithm) -> bytes:
        """Over everything but the hole and its angle brackets."""
        digest = hashes.Hash(algorithm)
        for part in self.original.chunks():
            digest.update(part)
        tail = memoryview(self.tail)
        digest.update(tail[: self.hole[0] - 1])
        digest.update(tail[self.hole[1] + 1 :])
        return digest.finalize()

    def contents(self, document: Content) -> bytes:
        """What stands in the hole in ``document``, which :meth:`fill` returned: the DER and the zeros behind it."""
        start, end = (self.original.size + position for position in self.hole)
        return bytes.fromhex(document.read(start, end).decode("ascii"))

    def fill(self, der: bytes) -> Content:
        """The whole document with ``der`` in the hole, the rest of it zeros. Raises HoleTooSmall."""
        start, end = self.hole
        if 2 * len(der) > end - start:
            raise HoleTooSmall(len(der))
        digits = der.hex().encode().ljust(end - start, b"0")
        return self.original.append(b"".join((self.tail[:start], digits, self.tail[end:])))


class _Verbatim(generic.PdfObject):
    """Bytes written as they are, and the position where they went."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = -1

    def write_to_stream(self, stream: Any, handler: object = None, container_ref: object = None) -> None:  # noqa: ARG002 - pyHanko's signature
        self.position = stream.tell()
        stream.write(self.data)


def _byte_range(before: int, after: int, rest: int) -> bytes:
    return (b"[0 %d %d %d]" % (before, after, rest)).ljust(_LONGEST_RANGE)
