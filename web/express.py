"""The express lane: small complete POSTs to a few paths, read with one look and answered many at a time.

The general way of a request (a thread of the pool, gunicorn's parser, WSGI, Falcon) costs several times what a time-stamp
does. A request takes this lane only when it lies complete in the socket, is small, and is written in the plainest form of
HTTP/1.1; whatever else arrives is handed, byte for byte, to the general way, which answers the same path by the same code.
So this reader never has to refuse anything, and nothing depends on a request taking it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

LONGEST: Final = 8192
"""Bytes of a request with its head; a longer one goes the general way."""
_HEADS: Final = 500
"""Heads remembered: a client sends the same one every time, and only the body differs."""
_HEAD: Final = re.compile(rb"POST (/[A-Za-z0-9/_-]{1,99}) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: ?[!-~](?:[ -~]*[!-~])?\r\n)+)\r\n")
_LENGTH: Final = re.compile(r"[1-9][0-9]{0,3}")
_ELSEWHERE: Final = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer", "content-encoding"})
"""Header fields that change how a request is to be read or answered: the general way knows them."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request up to its body. ``headers`` by lower-case name; ``length``: bytes of the body; ``route``: who answers it."""

    path: str
    headers: Mapping[str, str]
    length: int
    route: int


class ExpressRequest(NamedTuple):
    """A POST that was read whole; ``peer`` is the address it came from."""

    head: Head
    body: bytes
    peer: str


class ExpressHandler(Protocol):
    """Who answers on the express lane."""

    def route(self, path: str, kind: str) -> int | None:
        """Who answers a request to ``path`` with a body of media type ``kind`` (as sent), always the same; None: nobody here."""
        ...

    def answer(self, requests: Sequence[ExpressRequest], *, keep: bool) -> Sequence[bytes]:
        """The answer to each on the wire, in their order; ``keep``: their connections stay open for another request.

        Called from several threads; never raises.
        """
        ...


class HeadReader:
    """Reads requests for one handler; safe to share among threads."""

    def __init__(self, handler: ExpressHandler) -> None:
        self._route = handler.route
        self._heads: dict[bytes, Head] = {}

    def read(self, data: bytes, peer: str) -> ExpressRequest | None:
        """The request that ``data`` is, whole and nothing after it; None when it has to go the general way."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._head(data[:end])
        return ExpressRequest(head, data[end:], peer) if head is not None and len(data) == end + head.length else None

    def is_begun(self, data: bytes) -> bool:
        """Whether ``data`` is a head of the lane's and less than the body it announces, small enough for the lane."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._head(data[:end])
        return head is not None and len(data) < end + head.length <= LONGEST

    def _head(self, written: bytes) -> Head | None:
        head = self._heads.get(written)
        if head is None:
            head = self._parse(written)
            if head is None:
                return None
            if "x-request-id" not in head.headers:  # which is another one each time
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[written] = head
        return head

    def _parse(self, written: bytes) -> Head | None:
        match = _HEAD.fullmatch(written)
        if match is None:
            return None
        headers: dict[str, str] = {}
        for line in match[2].decode("ascii").splitlines():
            name, _, value = line.partition(":")
            name = name.lower()
            if name in headers or name in _ELSEWHERE:
                return None
            headers[name] = value.strip()
        length = headers.get("content-length", "")
        if "host" not in headers or not _LENGTH.fullmatch(length):
            return None
        if headers.get("connection", "keep-alive").lower() != "keep-alive":
            return None
        path = match[1].decode("ascii")
        route = self._route(path, headers.get("content-type", ""))
        return None if route is None else Head(path, headers, int(length), route)


def encode_answer(status: int, headers: Mapping[str, str], body: bytes, *, keep: bool) -> bytes:
    """An HTTP answer on the wire: ``headers`` beside the length, the date and whether the connection is kept."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return b"".join(
        (answer_start(status, keep=keep), "".join(lines).encode("latin-1"), b"Content-Length: %d\r\n\r\n" % len(body), body)
    )


def answer_start(status: int, *, keep: bool) -> bytes:
    """The lines of an answer that depend on nothing but its status, the second and whether the connection is kept."""
    connection = "keep-alive" if keep else "close"
    date = formatdate(time.time(), usegmt=True)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nDate: {date}\r\nConnection: {connection}\r\n".encode("ascii")
