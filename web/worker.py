"""gunicorn's threaded worker with the express lane (see :mod:`web.express`) beside its pool of threads."""

from __future__ import annotations

import errno
import logging
import socket
import struct
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final, Protocol, cast

from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

from web.balance import COURTESY, Balance
from web.body import PATIENCE, SLOWEST
from web.express import LONGEST, ExpressHandler, HeadReader
from web.lane import BATCH, LINGER, Kept, Lane, LaneRules

PUNCTUALITY: Final = 10.0
"""Seconds a connection has for the whole head of a request, and for the whole of one that is for a lane."""
HEAD_LIMIT: Final = 65_536
"""Bytes in which a head must end."""
_OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESPITE: Final = 0.1
"""Seconds no connection is taken after the system had no descriptor for one."""
_log = logging.getLogger("condau.worker")


class ExpressApplication(Protocol):
    """What the worker asks of gunicorn's application beside the WSGI one."""

    express: ExpressHandler
    express_threads: int
    """How many lanes there are: one more than the HSM bears calls, so that one waits for the disk while the others sign."""


class ExpressWorker(ThreadWorker):
    """Reads in the main thread what arrives on a connection; who sends plain small requests moves to a lane, all else goes to
    the pool. Whoever is slow, sending or closing, waits in the main thread's poller and keeps no thread (docs/adr/0014)."""

    balance: Balance
    slot: int | None = None
    """This worker's in ``balance``; both are set before the fork."""

    def run(self) -> None:
        """Serve until told to stop."""
        app = cast("ExpressApplication", self.app)
        self._reader = HeadReader(app.express)
        self._begun: dict[TConn, bytes] = {}
        """What the connections in ``pending_conns`` have sent so far."""
        self._closing: dict[TConn, float] = {}
        """Connections that were answered for the last time, and when they are closed unless their clients do it; oldest first."""
        rules = LaneRules(
            alive=lambda: self.alive,
            keep=lambda: self.alive and self.nr_conns <= self.max_keepalived,
            closed=lambda: self.method_queue.defer(self._count_closed),
            give_back=lambda conn, data: self.method_queue.defer(self._begin, conn, data),
            keepalive=float(self.cfg.keepalive),
        )
        self._lanes = [Lane(handler=app.express, reader=self._reader, rules=rules) for _ in range(app.express_threads)]
        # A full batch costs a request less than two halves that disturb each other, unless the HSM can sign both at once
        self._fill = max(1, BATCH // max(1, app.express_threads - 1))
        for number, lane in enumerate(self._lanes):
            lane.start(f"express-{number}")
        try:
            super().run()
        finally:
            for lane in self._lanes:
                lane.stop()

    def accept(self, listener: Any) -> None:
        """A connection waits: let a worker that holds fewer take it."""
        if self.slot is not None and self.nr_conns > self.balance.least():
            time.sleep(COURTESY)
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in _OUT_OF_DESCRIPTORS:
                raise
            _log.warning("no connection can be taken", extra={"fields": {"detail": str(error), "connections": self.nr_conns}})
            time.sleep(_RESPITE)

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """As gunicorn does it; then tell the other workers how many connections there are."""
        super().wait_for_and_dispatch_events(timeout)
        for conn in [conn for conn, until in self._closing.items() if until <= time.monotonic()]:
            self._end(conn)
        if self.slot is not None:
            self.balance.tell(self.slot, self.nr_conns)

    def enqueue_req(self, conn: TConn) -> None:
        """A connection is new, or has become readable, or more than one request was read from it at once."""
        if conn.is_http2:
            super().enqueue_req(conn)
        else:
            self._begin(conn, self._take_read_ahead(conn))

    def murder_pending(self) -> None:
        """Close the connections on which no request arrived in time."""
        while self.pending_conns and (self.pending_conns[0].timeout or 0) <= time.monotonic():
            conn = self.pending_conns[0]
            if self._stop_waiting(conn):
                self._refuse(conn, b"408 Request Timeout")
            else:
                self._drop(conn)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Afterwards in the main thread; a connection that ends there lingers until its client closes it too (RFC 9112, 9.6)."""
        if not fs.cancelled() and (fs.exception() is not None or fs.result()):
            super().finish_request(conn, fs)
        else:
            self._linger(conn)

    def _linger(self, conn: TConn) -> None:
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self._drop(conn)
            return
        self._closing[conn] = time.monotonic() + LINGER
        self.poller.register(conn.sock, EVENT_READ, partial(self._discard, conn))

    def _discard(self, conn: TConn, sock: socket.socket) -> None:
        try:
            if sock.recv(HEAD_LIMIT):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # closed by the client, if rudely
        self._end(conn)

    def _end(self, conn: TConn) -> None:
        del self._closing[conn]
        self.poller.unregister(conn.sock)
        self._drop(conn)

    def _begin(self, conn: TConn, held: bytes) -> None:
        """A request of which ``held`` has been read: hand it on, or wait until there is enough of it."""
        conn.sock.setblocking(False)
        held, enough = self._receive(conn, held)
        if enough:
            self._hand_on(conn, held)
            return
        conn.timeout = time.monotonic() + PUNCTUALITY
        self._begun[conn] = held
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self._continue, conn))

    def _continue(self, conn: TConn, _: socket.socket) -> None:
        self._begun[conn], enough = self._receive(conn, self._begun[conn])
        if enough:
            self._hand_on(conn, self._stop_waiting(conn))

    def _stop_waiting(self, conn: TConn) -> bytes:
        self.poller.unregister(conn.sock)
        self.pending_conns.remove(conn)
        return self._begun.pop(conn)

    def _receive(self, conn: TConn, held: bytes) -> tuple[bytes, bool]:
        """``held`` with what has arrived since, and whether nothing more is to be waited for."""
        while not self._is_enough(held):
            try:
                more = conn.sock.recv(LONGEST + 1)
            except BlockingIOError:
                return held, False
            except OSError:
                more = b""
            if not more:
                return held, True
            held += more
        return held, True

    def _is_enough(self, held: bytes) -> bool:
        return len(held) > HEAD_LIMIT or (_has_head(held) and not self._reader.is_begun(held))

    def _hand_on(self, conn: TConn, data: bytes) -> None:
        request = self._reader.read(data, _address(conn)) if len(data) <= LONGEST else None
        if request is not None:
            self._choose_lane().take(Kept(conn, conn.sock, _address(conn)), request)
        elif _has_head(data):
            self._go_general(conn, data)
        elif len(data) > HEAD_LIMIT:
            self._refuse(conn, b"431 Request Header Fields Too Large")
        else:
            self._drop(conn)

    def _choose_lane(self) -> Lane:
        """The first that is not filled yet, or else the emptiest."""
        room = (lane for lane in self._lanes if lane.connections < self._fill)
        return next(room, None) or min(self._lanes, key=lambda lane: lane.connections)

    def _go_general(self, conn: TConn, data: bytes) -> None:
        """To the pool, with what was read already: the head at least, so that only a body can keep a thread waiting."""
        if not conn.initialized:  # who does not read keeps it no longer either
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(PATIENCE), 0))
        conn.data_ready = True
        conn.init()
        parser: Any = conn.parser  # the one of HTTP/1.x
        parser.unreader = PacedUnreader(conn.sock)  # with a new account for each request
        parser.unreader.unread(data)
        super().enqueue_req(conn)

    @staticmethod
    def _take_read_ahead(conn: TConn) -> bytes:
        if conn.parser is None:
            return b""
        parser: Any = conn.parser  # the one of HTTP/1.x
        ahead: bytes = parser.unreader.take_buffered()
        return ahead

    def _refuse(self, conn: TConn, status: bytes) -> None:
        with suppress(OSError):  # gone, or not reading: there is nobody to tell
            conn.sock.send(b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self._linger(conn)

    def _drop(self, conn: TConn) -> None:
        self._count_closed()
        conn.close()

    def _count_closed(self) -> None:
        self.nr_conns -= 1


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


def _address(conn: TConn) -> str:
    """The peer's address without its port; empty on a Unix socket."""
    return str(conn.client[0]) if isinstance(conn.client, tuple) else ""


def _has_head(data: bytes) -> bool:
    """Whether gunicorn's parser has enough for an answer: a head ends in ``data``, an empty line before it not counted (RFC
    9112, 2.2), or a line ends in it that no head may have.
    """
    ended = data.find(b"\r\n\r\n", 2 if data.startswith(b"\r\n") else 0) >= 0
    return ended or data.count(b"\n") != data.count(b"\r\n")
