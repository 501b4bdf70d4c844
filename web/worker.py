"""gunicorn's threaded worker with the express lane (see :mod:`web.express`) beside its pool of threads."""

from __future__ import annotations

import time
from functools import partial
from selectors import EVENT_READ
from typing import Any, Final, Protocol, cast

from gunicorn.workers.gthread import TConn, ThreadWorker

from web.balance import COURTESY, Balance
from web.express import LONGEST, ExpressHandler, HeadReader
from web.lane import BATCH, Kept, Lane, LaneRules

FIRST_BYTES: Final = 10.0
"""Seconds a new connection may stay silent."""


class ExpressApplication(Protocol):
    """What the worker asks of gunicorn's application beside the WSGI one."""

    express: ExpressHandler
    express_threads: int
    """How many lanes there are: one more than the HSM bears calls, so that one waits for the disk while the others sign."""


class ExpressWorker(ThreadWorker):
    """Reads what has arrived on a connection in the main thread; who sends plain small requests moves to a lane, all else goes
    to the pool."""

    balance: Balance
    slot: int | None = None
    """This worker's in ``balance``; both are set before the fork."""

    def run(self) -> None:
        """Serve until told to stop."""
        app = cast("ExpressApplication", self.app)
        self._reader = HeadReader(app.express)
        rules = LaneRules(
            alive=lambda: self.alive,
            keep=lambda: self.alive and self.nr_conns <= self.max_keepalived,
            closed=lambda: self.method_queue.defer(self._count_closed),
            give_back=lambda conn, data: self.method_queue.defer(self._go_general, conn, data),
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
        super().accept(listener)

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """As gunicorn does it; then tell the other workers how many connections there are."""
        super().wait_for_and_dispatch_events(timeout)
        if self.slot is not None:
            self.balance.tell(self.slot, self.nr_conns)

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
        request = self._reader.read(data, _address(conn)) if len(data) <= LONGEST else None
        if request is None:
            self._go_general(conn, data)
        else:
            self._choose_lane().take(Kept(conn, conn.sock, _address(conn)), request)

    def _choose_lane(self) -> Lane:
        """The first that is not filled yet, or else the emptiest."""
        room = (lane for lane in self._lanes if lane.connections < self._fill)
        return next(room, None) or min(self._lanes, key=lambda lane: lane.connections)

    def _go_general(self, conn: TConn, data: bytes) -> None:
        """To the pool, with what was read already."""
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
        self._count_closed()
        conn.close()

    def _count_closed(self) -> None:
        self.nr_conns -= 1


def _address(conn: TConn) -> str:
    """The peer's address without its port; empty on a Unix socket."""
    return str(conn.client[0]) if isinstance(conn.client, tuple) else ""
