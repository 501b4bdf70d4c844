"""A thread that reads, answers and keeps the connections whose clients send requests of the express lane.

A connection stays with its lane from request to request, registered with the lane's own epoll: no other thread is woken for
it, and nothing is registered anew. It leaves when it is closed, or when something arrives that the lane does not take; then
the bytes go with it to whoever started the lane.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from web.express import LONGEST, ExpressHandler, ExpressRequest, HeadReader

LINGER: Final = 2.0
"""Seconds a stopping worker keeps connections for a request that is under way (as gunicorn does)."""
BATCH: Final = 64
"""Requests answered together at most."""
_LOOK_ROUND: Final = 1.0
_log = logging.getLogger("condau.express")


@dataclass(slots=True)
class Kept:
    """A connection in a lane. ``owner`` is what it is given back as; ``until``: when it is closed unless something comes."""

    owner: Any
    sock: socket.socket
    peer: str
    until: float = 0.0
    busy: bool = True
    """A request of it waits or is being answered; meanwhile nothing more is read."""


@dataclass(frozen=True, slots=True)
class LaneRules:
    """What a lane asks of the worker. Called in the lane's thread."""

    alive: Callable[[], bool]
    keep: Callable[[], bool]
    """Whether connections may stay open for another request."""
    closed: Callable[[], None]
    """Told that a connection was closed."""
    give_back: Callable[[Any, bytes], None]
    """Given a connection that has sent something for the general way, with what was read of it."""
    keepalive: float


class Lane:
    """One thread, its connections and its epoll."""

    def __init__(self, *, handler: ExpressHandler, reader: HeadReader, rules: LaneRules) -> None:
        self._handler = handler
        self._reader = reader
        self._rules = rules
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._new: deque[tuple[Kept, ExpressRequest]] = deque()
        self._kept: dict[int, Kept] = {}
        """By file descriptor."""
        self._ready: deque[tuple[Kept, ExpressRequest]] = deque()
        self._stopped = False

    @property
    def connections(self) -> int:
        """How many it has."""
        return len(self._kept) + len(self._new)

    def start(self, name: str) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self) -> None:
        """End the thread after the batch it is at, and close its connections."""
        self._stopped = True
        os.eventfd_write(self._wake, 1)

    def take(self, kept: Kept, request: ExpressRequest) -> None:
        """Answer ``request`` and keep its connection; called by any thread, which must not use the connection any more."""
        self._new.append((kept, request))
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        looked = 0.0
        while not self._stopped:
            try:
                self._read(self._epoll.poll(0 if self._ready else _LOOK_ROUND))
                if self._ready:
                    self._answer([self._ready.popleft() for _ in range(min(BATCH, len(self._ready)))])
                if time.monotonic() - looked > _LOOK_ROUND or not self._rules.alive():
                    looked = time.monotonic()
                    self._close_silent(looked)
            except Exception:  # noqa: BLE001 - a bug must not end the thread: whom it hits is cut off
                _log.exception("bug")
                self._ready.clear()
                for kept in [kept for kept in self._kept.values() if kept.busy]:
                    self._close(kept)
        for kept in list(self._kept.values()):
            self._close(kept)
        self._epoll.close()
        os.close(self._wake)

    def _read(self, events: list[tuple[int, int]]) -> None:
        for descriptor, _ in events:
            if descriptor == self._wake:
                self._adopt()
                continue
            kept = self._kept[descriptor]
            if kept.busy:
                continue
            try:
                data = kept.sock.recv(LONGEST + 1)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self._close(kept)
                continue
            request = self._reader.read(data, kept.peer) if len(data) <= LONGEST else None
            if request is None:
                self._forget(kept)
                self._rules.give_back(kept.owner, data)
            else:
                kept.busy = True
                self._ready.append((kept, request))

    def _adopt(self) -> None:
        os.eventfd_read(self._wake)
        while self._new:
            kept, request = self._new.popleft()
            kept.sock.setblocking(False)
            kept.until = time.monotonic() + self._rules.keepalive
            self._kept[kept.sock.fileno()] = kept
            self._epoll.register(kept.sock, select.EPOLLIN)
            self._ready.append((kept, request))

    def _answer(self, batch: list[tuple[Kept, ExpressRequest]]) -> None:
        keep = self._rules.keep()
        answers = self._handler.answer([request for _, request in batch], keep=keep)
        until = time.monotonic() + self._rules.keepalive
        for (kept, _), answer in zip(batch, answers, strict=True):
            # An answer is far smaller than a socket's buffer: who leaves no room for it does not read, and is cut off
            try:
                sent = kept.sock.send(answer)
            except OSError:
                sent = 0
            if keep and sent == len(answer):
                kept.until, kept.busy = until, False
            else:
                self._close(kept)

    def _close_silent(self, now: float) -> None:
        stopping = not self._rules.alive()
        for kept in [kept for kept in self._kept.values() if not kept.busy]:
            if stopping:
                kept.until = min(kept.until, now + LINGER)
            if kept.until <= now:
                self._close(kept)

    def _forget(self, kept: Kept) -> None:
        descriptor = kept.sock.fileno()
        self._epoll.unregister(descriptor)
        del self._kept[descriptor]

    def _close(self, kept: Kept) -> None:
        self._forget(kept)
        kept.sock.close()
        self._rules.closed()
