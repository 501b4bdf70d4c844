"""How slowly a body may come: each request that is read has a thread of its own, and nobody is to keep one for nothing."""

from __future__ import annotations

import socket
import time
from typing import Final

from gunicorn.http.unreader import SocketUnreader

PATIENCE: Final = 20.0
"""Seconds a sender or reader may stall before its request is given up: it holds a thread meanwhile."""
SLOWEST: Final = 50_000
"""Bytes a second below which a sender that does not stall is given up as well, once its patience is used up."""


class PacedUnreader(SocketUnreader):
    """Reads one request's body as gunicorn does, but raises TimeoutError for who stalls or crawls.

    Here and not where bodies are read, because gunicorn goes on asking the socket until it has as much as it was asked for.
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._began: float | None = None
        self._size = 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """What has arrived, at most ``size_hint`` bytes or the usual 8 KiB; none at the end of the connection."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        left = self._began + PATIENCE + self._size / SLOWEST - now
        if left <= 0:
            raise TimeoutError("the body came too slowly")
        before = self.sock.gettimeout()
        self.sock.settimeout(min(left, PATIENCE, PATIENCE if before is None else before))
        try:
            data: bytes = super().chunk(size_hint)  # type: ignore[call-arg]  # the stubs are of an older gunicorn
        finally:
            self.sock.settimeout(before)
        self._size += len(data)
        return data
