"""A lane: what it does with connections, on socket pairs and with a handler that answers what it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from web.express import ExpressRequest, HeadReader
from web.lane import BATCH, Kept, Lane, LaneRules

HEAD = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"


class Handler:
    """Answers the body in capitals; waits for ``gate``."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def route(self, path: str, kind: str) -> int | None:
        return 0 if (path, kind) == ("/x", "") else None

    def answer(self, requests: Sequence[ExpressRequest], *, keep: bool) -> list[bytes]:
        self.begun.set()
        self.gate.wait(60)
        self.batches.append(len(requests))
        if any(request.body == b"bug" for request in requests):
            raise ZeroDivisionError
        return [request.body.upper() + (b"+" if keep else b"-") for request in requests]


class World:
    """A lane and its worker."""

    def __init__(self, keepalive: float = 5) -> None:
        self.handler = Handler()
        self.alive = True
        self.closed = 0
        self.returned: list[tuple[socket.socket, bytes]] = []
        rules = LaneRules(lambda: self.alive, lambda: self.alive, self._close, self._give_back, keepalive)
        self.reader = HeadReader(self.handler)
        self.lane = Lane(handler=self.handler, reader=self.reader, rules=rules)
        self.lane.start("lane")

    def _close(self) -> None:
        self.closed += 1

    def _give_back(self, owner: socket.socket, data: bytes) -> None:
        self.returned.append((owner, data))

    def connect(self, body: bytes = b"abc") -> socket.socket:
        """A client whose first request has been read by somebody else."""
        client, server = socket.socketpair()
        client.settimeout(30)
        request = self.reader.read(HEAD + body, "")
        assert request is not None
        self.lane.take(Kept(server, server, ""), request)
        return client


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.lane.stop()


def until(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_connection_stays_from_request_to_request(world: World) -> None:
    with world.connect() as client:
        assert client.recv(9) == b"ABC+"
        for body in (b"def", b"ghi"):
            client.sendall(HEAD + body)
            assert client.recv(9) == body.upper() + b"+"
        assert world.lane.connections == 1
    until(lambda: (world.lane.connections, world.closed) == (0, 1))


def test_what_waits_is_answered_together(world: World) -> None:
    world.handler.gate.clear()
    clients = [world.connect()]
    assert world.handler.begun.wait(30)  # with the first one alone
    clients += [world.connect() for _ in range(BATCH + 8)]
    world.handler.gate.set()
    assert {client.recv(9) for client in clients} == {b"ABC+"}
    assert (world.handler.batches[0], max(world.handler.batches)) == (1, BATCH)
    for client in clients:
        client.close()


def test_a_request_sent_before_the_answer_waits_its_turn(world: World) -> None:
    world.handler.gate.clear()
    with world.connect() as client:
        client.sendall(HEAD + b"def")
        time.sleep(0.05)
        world.handler.gate.set()
        received = b""
        while len(received) < 8:
            received += client.recv(9)
        assert received == b"ABC+DEF+"


def test_who_sends_no_more_still_gets_the_answer(world: World) -> None:
    world.handler.gate.clear()
    with world.connect() as client:
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
        world.handler.gate.set()
        assert (client.recv(9), client.recv(9)) == (b"ABC+", b"")


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", HEAD, HEAD + b"abc" + HEAD + b"def"])
def test_what_is_not_for_the_lane_leaves_with_its_connection(world: World, sent: bytes) -> None:
    with world.connect() as client:
        assert client.recv(9) == b"ABC+"
        client.sendall(sent)
        until(lambda: bool(world.returned))
        ((owner, data),) = world.returned
        assert data == sent
        owner.close()
        assert (world.lane.connections, world.closed) == (0, 0)


def test_who_is_silent_too_long_is_closed() -> None:
    world = World(keepalive=0.1)
    with world.connect() as client:
        assert (client.recv(9), client.recv(9)) == (b"ABC+", b"")
    until(lambda: world.closed == 1)
    world.lane.stop()


def test_a_stopping_worker_answers_and_closes(world: World) -> None:
    with world.connect() as idle, world.connect() as late:
        assert idle.recv(9) == late.recv(9) == b"ABC+"
        world.alive = False
        late.sendall(HEAD + b"def")
        assert (late.recv(9), late.recv(9)) == (b"DEF-", b"")
        assert idle.recv(9) == b""
    until(lambda: world.closed == 2)


def test_a_bug_cuts_off_whom_it_hits_and_nobody_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with world.connect() as well, world.connect(b"bug") as hit:
        until(lambda: world.closed >= 1)
        assert hit.recv(9) == b""
        if well.recv(9) != b"ABC+":  # they were in one batch
            until(lambda: world.closed == 2)
        with world.connect() as later:
            assert later.recv(9) == b"ABC+"
    assert "ZeroDivisionError" in caplog.text


def test_who_does_not_read_is_cut_off(world: World) -> None:
    client, server = socket.socketpair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.setblocking(False)
    with suppress(BlockingIOError):  # its buffer is full
        while True:
            server.send(bytes(4096))
    request = world.reader.read(HEAD + b"abc", "")
    assert request is not None
    world.lane.take(Kept(server, server, ""), request)
    until(lambda: world.closed == 1)
    client.close()
