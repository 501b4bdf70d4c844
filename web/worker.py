"""gunicorn's threaded worker with the express lane (see :mod:`web.express`) beside its pool of threads."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final, Protocol, cast

from gunicorn.workers.gthread import TConn, ThreadWorker

from web.express import LONGEST, ExpressAnswer, ExpressHandler, ExpressRequest, parse_express

FIRST_BYTES: Final = 10.0
"""Seconds a new connection may stay silent."""
_BATCH: Final = 32
_WAITING: Final = 256
"""Requests that wait for the lane at most; who comes then goes the general way, which has its own queue."""
_LINGER: Final = 2.0
"""Seconds a stopping worker keeps connections for a request that is under way (as gunicorn does)."""
_log = logging.getLogger("condau.express")
_Ready = tuple[TConn, ExpressRequest]


class ExpressApplication(Protocol):
    """What the worker asks of gunicorn's application beside the WSGI one."""

    express: ExpressHandler
    express_threads: int
    """At least two, so that one signs while another waits for the disk."""


class ExpressWorker(ThreadWorker):
    """Reads what has arrived on a connection in the main thread; plain small requests go to the lane, all else to the pool."""

    def run(self) -> None:
        """Serve until told to stop."""
        app = cast("ExpressApplication", self.app)
        self._handler = app.express
        self._threads = app.express_threads
        self._ready: deque[_Ready] = deque()
        self._arrived = threading.Condition()
        self._done = False
        threads = [threading.Thread(target=self._drive, name=f"express-{n}", daemon=True) for n in range(self._threads)]
        for thread in threads:
            thread.start()
        try:
            super().run()
        finally:
            with self._arrived:
                self._done = True
                self._arrived.notify_all()

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """Look at every connection that has something to say, and only then wake the lane: it takes them together."""
        super().wait_for_and_dispatch_events(timeout)
        if self._ready:
            with self._arrived:
                self._arrived.notify()

    def enqueue_req(self, conn: TConn) -> None:
        """A connection is new or has become readable: take what is there, or wait until there is something."""
        if conn.is_http2 or self._read_ahead(conn):
            super().enqueue_req(conn)
            return
        try:
            data = conn.sock.recv(LONGEST + 1)
        except BlockingIOError:
            self._await(conn)
            return
        except OSError:
            data = b""
        if not data:
            self._drop(conn)
            return
        request = parse_express(data, _address(conn), self._handler) if len(data) <= LONGEST else None
        if request is not None and len(self._ready) < _WAITING:
            self._ready.append((conn, request))
            return
        conn.data_ready = True
        conn.init()
        parser: Any = conn.parser  # the one of HTTP/1.x
        parser.unreader.unread(data)
        super().enqueue_req(conn)

    @staticmethod
    def _read_ahead(conn: TConn) -> bool:
        parser: Any = conn.parser  # the one of HTTP/1.x
        return parser is not None and bool(parser.unreader.buf.getvalue())

    def _await(self, conn: TConn) -> None:
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + FIRST_BYTES
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    def _drive(self) -> None:
        """One thread of the lane: takes its share of what waits, answers it, and gives the connections back."""
        while batch := self._take():
            kept = [(conn, self._send(conn, answer)) for (conn, _), answer in zip(batch, self._answer(batch), strict=True)]
            self.method_queue.defer(self._finish, kept)

    def _take(self) -> list[_Ready]:
        with self._arrived:
            while not self._ready:
                if self._done:
                    return []
                self._arrived.wait()
            share = min(_BATCH, -(-len(self._ready) // (self._threads - 1)))  # one of them is at the disk
            batch = [self._ready.popleft() for _ in range(share)]
            if self._ready:
                self._arrived.notify()
            return batch

    def _answer(self, batch: list[_Ready]) -> list[ExpressAnswer]:
        try:
            return list(self._handler.answer([request for _, request in batch]))
        except Exception:  # noqa: BLE001 - a bug must not end the thread: it is logged with its traceback
            _log.exception("bug")
            return [ExpressAnswer(500, {}, b"")] * len(batch)

    def _send(self, conn: TConn, answer: ExpressAnswer) -> bool:
        """Whether the connection can be used again. An answer is far smaller than a socket's buffer: who leaves no room for
        it does not read, and is cut off."""
        keep = self.alive and len(self.keepalived_conns) < self.max_keepalived
        data = answer.encode(keep=keep)
        try:
            return bool(conn.sock.send(data) == len(data) and keep)
        except OSError:
            return False

    def _finish(self, kept: list[tuple[TConn, bool]]) -> None:
        """In the main thread: wait for the next request on the connections that stay open."""
        for conn, keep in kept:
            if not keep:
                self._drop(conn)
                continue
            conn.timeout = time.monotonic() + (self.cfg.keepalive if self.alive else _LINGER)
            self.keepalived_conns.append(conn)
            self.poller.register(conn.sock, EVENT_READ, partial(self.on_client_socket_readable, conn))


def _address(conn: TConn) -> str:
    """The peer's address without its port; empty on a Unix socket."""
    return str(conn.client[0]) if isinstance(conn.client, tuple) else ""
