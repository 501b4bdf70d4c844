"""What a signature or timestamp was made over: read in pieces, and not twice where several are over the same."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from core.content import Content
from core.errors import Malformed
from verifier.algorithms import new_digest

_HELD: Final = 32 << 20
"""Bytes that are taken into memory where an algorithm cannot do with their digest."""
_READ_AGAIN: Final = 6
"""How often the bytes of a document may be digested in all; a file with signatures by three algorithms needs three."""
_ALWAYS: Final = 256 << 20
"""Bytes that may be digested of any document, however small."""


class Digests:
    """Digests over parts of one document.

    The signatures of a file are each over all that was before it, but for a hole of its own: the digest of what they have in
    common is kept where a hole begins, so that fifty signatures on a file of 500 MB cost little more than one.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.excuse: Callable[[float], None] = lambda _: None
        """Is told of the processor time each reading took."""
        self._left = max(_ALWAYS, _READ_AGAIN * content.size)
        self._known: dict[tuple[str, tuple[tuple[int, int], ...]], bytes] = {}
        self._prefixes: dict[str, tuple[list[int], list[Any]]] = {}

    def digest(self, name: str, ranges: Sequence[tuple[int, int]]) -> bytes:
        """The digest called ``name`` over ``ranges`` (start, end) one after another.

        Raises ValueError for a name we do not know, Malformed when the document had to be read too often.
        """
        key = name, tuple(ranges)
        if key not in self._known:
            running = new_digest(name)
            rest = key[1]
            if rest and rest[0][0] == 0:
                running, rest = self._prefix(name, rest[0][1]), rest[1:]
            for start, end in rest:
                self._feed(running, start, end)
            self._known[key] = running.digest()
        return self._known[key]

    def _prefix(self, name: str, end: int) -> Any:
        """The running digest of all up to ``end``, from the nearest one that is known."""
        ends, states = self._prefixes.setdefault(name, ([0], [new_digest(name)]))
        at = bisect_right(ends, end)
        running = states[at - 1].copy()
        if ends[at - 1] < end:
            self._feed(running, ends[at - 1], end)
            ends.insert(at, end)
            states.insert(at, running.copy())
        return running

    def _feed(self, running: Any, start: int, end: int) -> None:
        self._left -= end - start
        if self._left < 0:
            raise Malformed("document", "its signatures are over too much of it to be looked at")
        began = time.thread_time()
        for chunk in self.content.chunks(start, end):
            running.update(chunk)
        self.excuse(time.thread_time() - began)


class Octets:
    """The bytes of a document that were signed or stamped."""

    def __init__(self, digests: Digests, ranges: Sequence[tuple[int, int]]) -> None:
        self._digests = digests
        self._ranges = tuple(ranges)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """What is in memory."""
        return cls.whole(Content.of(data))

    @classmethod
    def whole(cls, content: Content) -> Self:
        """All of a document."""
        return cls(Digests(content), ((0, content.size),))

    def digest(self, name: str) -> bytes:
        """Errors as for :meth:`Digests.digest`."""
        return self._digests.digest(name, self._ranges)

    def held(self) -> bytes:
        """The bytes themselves. Raises Malformed above 32 MiB."""
        if sum(end - start for start, end in self._ranges) > _HELD:
            raise Malformed("document", "a signature without signed attributes by an algorithm that needs all of 32 MiB and more")
        return b"".join(self._digests.content.read(start, end) for start, end in self._ranges)


def sha256(digests: Digests) -> str:
    """Of the whole document, in hexadecimal digits."""
    content = digests.content
    try:
        return digests.digest("sha256", ((0, content.size),)).hex()
    except Malformed:  # used up by signatures that mean no good; this one everybody gets
        return content.sha256()
