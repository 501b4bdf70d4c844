"""The express lane: small complete POSTs to a few paths, read with one look and answered many at a time.

The general way of a request (a thread of the pool, gunicorn's parser, WSGI, Falcon) costs several times what a time-stamp
does. A request takes this lane only when it lies complete in the socket, is small, and is written in the plainest form of
HTTP/1.1; whatever else arrives is handed, byte for byte, to the general way, which answers the same path by the same code.
So this reader never has to refuse anything, and nothing depends on a request taking it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol

LONGEST: Final = 8192
"""Bytes of a request with its head; a longer one goes the general way."""
_HEAD: Final = re.compile(rb"POST (/[A-Za-z0-9/_-]{1,99}) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: ?[!-~](?:[ -~]*[!-~])?\r\n)+)\r\n")
_LENGTH: Final = re.compile(r"[1-9][0-9]{0,3}")
_ELSEWHERE: Final = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer", "content-encoding"})
"""Header fields that change how a request is to be read or answered: the general way knows them."""


@dataclass(frozen=True, slots=True)
class ExpressRequest:
    """A POST that was read whole. ``headers`` by lower-case name; ``peer`` is the address it came from."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


@dataclass(frozen=True, slots=True)
class ExpressAnswer:
    """An HTTP answer; ``headers`` beside the length and the date, which are added."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def encode(self, *, keep: bool) -> bytes:
        """The answer on the wire; ``keep``: the connection stays open for another request."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", f"Connection: {'keep-alive' if keep else 'close'}", "\r\n"]
        return "\r\n".join(lines).encode("latin-1") + self.body


class ExpressHandler(Protocol):
    """Who answers on the express lane."""

    def takes(self, path: str, kind: str) -> bool:
        """Whether a request to ``path`` with a body of media type ``kind`` (as sent) may take the lane."""
        ...

    def answer(self, requests: Sequence[ExpressRequest]) -> Sequence[ExpressAnswer]:
        """The answer to each, in their order. Called from several threads; never raises."""
        ...


def parse_express(data: bytes, peer: str, handler: ExpressHandler) -> ExpressRequest | None:
    """The request that ``data`` is, whole and nothing after it; None when it has to go the general way."""
    match = _HEAD.match(data)
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
    if "host" not in headers or not _LENGTH.fullmatch(length) or len(data) != match.end() + int(length):
        return None
    path = match[1].decode("ascii")
    if headers.get("connection", "keep-alive").lower() != "keep-alive" or not handler.takes(path, headers.get("content-type", "")):
        return None
    return ExpressRequest(path, headers, data[match.end() :], peer)
