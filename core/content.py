"""A document that may be larger than memory: parts, each in memory or in a file, read as one."""

from __future__ import annotations

import hashlib
import io
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO, Final, Self, cast

_CHUNK: Final = 1 << 20


class _FilePart:
    """The first ``size`` bytes of a file, which nobody else writes; its descriptor is closed with the last who uses it."""

    __slots__ = ("_descriptor", "size")

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, start: int, end: int) -> bytes:
        data = os.pread(self._descriptor, end - start, start)
        if len(data) < end - start:
            raise OSError("the file became shorter while it was read")
        return data


@dataclass(frozen=True, slots=True)
class _MemoryPart:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        return self.data[start:end]


class Content:
    """Immutable bytes. Several threads may read one at the same time."""

    __slots__ = ("_ends", "_parts", "size")

    def __init__(self, parts: tuple[_FilePart | _MemoryPart, ...]) -> None:
        """Use :meth:`of`, :meth:`of_file` and :meth:`append`."""
        self._parts = parts
        self._ends = list(accumulate(part.size for part in parts))
        self.size = self._ends[-1] if parts else 0
        """Bytes in all."""

    @classmethod
    def of(cls, data: bytes) -> Self:
        """What is in memory already."""
        return cls((_MemoryPart(data),) if data else ())

    @classmethod
    def of_file(cls, file: BinaryIO) -> Self:
        """All that an open file holds now. The caller writes no more to it, and may close it."""
        file.flush()
        size = os.fstat(file.fileno()).st_size
        return cls((_FilePart(os.dup(file.fileno()), size),) if size else ())

    def append(self, data: bytes) -> Content:
        """This with ``data`` behind it; nothing of this is copied."""
        return Content((*self._parts, _MemoryPart(data))) if data else self

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``, as far as there are any."""
        return b"".join(self.chunks(start, end))

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The same in pieces of at most 1 MiB."""
        end = self.size if end is None else min(end, self.size)
        number = bisect_right(self._ends, start)
        while start < end:
            begins = self._ends[number - 1] if number else 0
            stop = min(end, self._ends[number], start + _CHUNK)
            yield self._parts[number].read(start - begins, stop - begins)
            start = stop
            number += start == self._ends[number]

    def sha256(self, end: int | None = None) -> str:
        """The SHA-256 of the bytes up to ``end`` (by default all), in lower-case hex; read in pieces."""
        digest = hashlib.sha256()
        for chunk in self.chunks(0, end):
            digest.update(chunk)
        return digest.hexdigest()

    def stream(self) -> BinaryIO:
        """A new reader over it, seekable, at its beginning."""
        return cast("BinaryIO", io.BufferedReader(ContentReader(self), 1 << 16))

    def startswith(self, other: Content) -> bool:
        """Whether ``other`` is a prefix of this, read whole (that this was made by appending to it is not taken as proof)."""
        if other.size > self.size:
            return False
        return all(ours == theirs for ours, theirs in zip(_pieces(self, other.size), _pieces(other, other.size), strict=True))


def _pieces(content: Content, end: int) -> Iterator[bytes]:
    return (content.read(at, min(at + _CHUNK, end)) for at in range(0, end, _CHUNK))


class ContentReader(io.RawIOBase):
    """A content as a raw, seekable stream."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.size}[whence]
        if start + offset < 0:
            raise ValueError("before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = next(self._content.chunks(self._at, self._at + len(view)), b"")
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
