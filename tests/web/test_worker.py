"""The worker under clients that are slow, silent or many: gunicorn runs it in a process of its own, with two threads."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.service import ROOT, free_port

THREADS = 2
PUNCTUALITY = 2.0
PATIENCE = 1.0
PROGRAM = f"""
import resource, sys
from gunicorn.app.base import BaseApplication
import web.lane, web.worker
from web.balance import Balance

web.worker.PUNCTUALITY, web.worker.PATIENCE, web.worker.HEAD_LIMIT, web.worker.LINGER = {PUNCTUALITY}, {PATIENCE}, 20_000, 1.0
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nlane"

class Handler:
    def route(self, path, kind):
        return 0 if path == "/lane" else None
    def answer(self, requests, *, keep):
        return [ANSWER] * len(requests)

class Server(BaseApplication):
    express, express_threads = Handler(), 2
    def load_config(self):
        settings = dict(bind=f"127.0.0.1:{{sys.argv[1]}}", workers=1, threads={THREADS}, worker_class="web.worker.ExpressWorker",
                        timeout=30, keepalive=5, graceful_timeout=1, control_socket_disable=True, pre_fork=self.share)
        for name, value in settings.items():
            self.cfg.set(name, value)
    def share(self, arbiter, worker):
        worker.balance, worker.slot = Balance(1), 0
    def load(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        return answer

def answer(environ, start_response):
    environ["wsgi.input"].read()
    size = 4_000_000 if environ["PATH_INFO"] == "/large" else 7
    start_response("200 OK", [("Content-Length", str(size))])
    return [b"g" * size]

Server().run()
"""


@dataclass(frozen=True)
class Running:
    """The worker, and where it logs."""

    port: int
    log: Path

    def connect(self, data: bytes = b"", *, buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        try:
            if buffer:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            connection.settimeout(10)
            connection.connect(("127.0.0.1", self.port))
            connection.sendall(data)
        except OSError:
            connection.close()
            raise
        return connection

    def seconds(self) -> float:
        """How long a request of the general way takes on a new connection."""
        began = time.monotonic()
        with self.connect(GENERAL) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        return time.monotonic() - began


GENERAL = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
LANE = b"POST /lane HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    log = tmp_path_factory.mktemp("worker") / "log"
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port)], cwd=ROOT, stdout=file, stderr=file)
    running = Running(port, log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                running.seconds()
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            else:
                break
        yield running
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(
    ("whole", "cut"),
    [
        (GENERAL, 1),
        (b"\r\n" + GENERAL, 2),
        (b"\r\n" + GENERAL, 1),
        (GENERAL, len(GENERAL) - 2),
        (GENERAL + GENERAL, len(GENERAL) + 5),
        (LANE, len(LANE) - 1),
        (LANE + LANE, 2 * len(LANE) - 1),
        (LANE + GENERAL, len(LANE) + 10),
    ],
)
def test_a_request_that_is_not_there_yet_keeps_no_thread_and_is_finished_later(worker: Running, whole: bytes, cut: int) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(worker.connect(whole[:cut])) for _ in range(THREADS + 1)]
        time.sleep(0.1)
        assert worker.seconds() < PUNCTUALITY / 2
        for connection in slow:
            connection.sendall(whole[cut:])
            said = b""
            while said.count(b"HTTP/1.1 200") < whole.count(b"HTTP/1.1"):
                part = connection.recv(1000)
                assert part, said
                said += part


def test_who_dribbles_is_told_so_and_who_is_silent_is_cut_off(worker: Running) -> None:
    began = time.monotonic()
    with worker.connect(GENERAL[:5]) as dribbling, worker.connect() as silent, worker.connect(LANE[:-1]) as half:
        for octet in GENERAL[5:-2]:
            dribbling.sendall(bytes([octet]))
            time.sleep(PUNCTUALITY / 40)
        assert dribbling.recv(100).startswith(b"HTTP/1.1 408")
        assert half.recv(100).startswith(b"HTTP/1.1 408")
        assert silent.recv(100) == b""
    assert time.monotonic() - began < PUNCTUALITY + 3


def test_a_head_without_end_is_refused(worker: Running) -> None:
    with worker.connect(b"GET / HTTP/1.1\r\nX: " + b"x" * 30_000) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 431")


def test_a_head_that_cannot_become_one_is_refused_at_once(worker: Running) -> None:
    began = time.monotonic()
    for wrong in (GENERAL.replace(b"\r\n", b"\n"), GENERAL.replace(b"/x", b"/x\n"), b"\n", GENERAL[:-2] + b"X: y\n"):
        with worker.connect(wrong) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert time.monotonic() - began < PUNCTUALITY / 2


def test_who_does_not_close_after_the_last_answer_keeps_nobody_waiting(worker: Running) -> None:
    with ExitStack() as stack:
        last = GENERAL.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        open_ends = [stack.enter_context(worker.connect(last)) for _ in range(20)]
        assert all(connection.recv(100) for connection in open_ends)
        assert worker.seconds() < 1
        for connection in open_ends:
            while connection.recv(100):
                pass


def test_who_does_not_read_is_cut_off(worker: Running) -> None:
    large = GENERAL.replace(b"/x", b"/large")
    with ExitStack() as stack:
        for _ in range(THREADS):
            stack.enter_context(worker.connect(large * 5, buffer=1024))
        time.sleep(0.1)
        assert worker.seconds() < 8 * PATIENCE


@pytest.mark.parametrize("kind", [b"Content-Length: 100000", b"Transfer-Encoding: chunked"])
def test_whose_body_stalls_or_crawls_is_cut_off(worker: Running, kind: bytes) -> None:
    """However often an octet comes: it would take hours."""
    head = b"POST /x HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % kind + (b"186A0\r\n" if b"chunked" in kind else b"")
    began, ended = time.monotonic(), 0
    with ExitStack() as stack:
        crawling = [stack.enter_context(worker.connect(head)) for _ in range(THREADS)]
        while ended < THREADS and time.monotonic() - began < 10 * PATIENCE:
            time.sleep(PATIENCE / 20)
            ended = 0
            for connection in crawling:
                try:
                    connection.send(b"o")
                except OSError:
                    ended += 1
    assert ended == THREADS
    assert worker.seconds() < PATIENCE


def test_more_connections_than_there_are_descriptors_do_not_end_it(worker: Running) -> None:
    before = worker.log.read_text().count("Booting worker")
    with ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(worker.connect())
        time.sleep(0.3)
    assert worker.seconds() < PUNCTUALITY + 2
    assert worker.log.read_text().count("Booting worker") == before == 1
