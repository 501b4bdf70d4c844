"""An HSM that is unplugged under load and plugged in again: errors only meanwhile, service after it, the same process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import Unavailable
from hsm.keys import KeySpec
from hsm.token import Token
from tests.hsm.instance import make_instance
from tests.hsm.socket_hsm import SocketHsm

ECDSA = ec.ECDSA(hashes.SHA256())


@pytest.fixture(scope="module")
def hsm() -> Iterator[SocketHsm]:
    """One for all tests here: the client module reads the socket's address once in a process."""
    with TemporaryDirectory(prefix="hsm") as folder:
        hsm = SocketHsm(make_instance(Path(folder)), Path(folder) / "socket")
        hsm.plug_in()
        yield hsm
        hsm.close()


class Load:
    """Threads that sign without pause and note when each call that went well, or was sent away, had begun."""

    def __init__(self, token: Token, threads: int) -> None:
        self._token = token
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        self.good: list[float] = []
        self.away: list[float] = []
        self.longest = 0.0
        self.wrong: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                key = self._token.key("under-load")
                assert isinstance(key, ec.EllipticCurvePrivateKey)
                key.public_key().verify(key.sign(b"m", ECDSA), b"m", ECDSA)
                self.good.append(begun)
            except Unavailable:
                self.away.append(begun)
                time.sleep(0.01)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test must tell
                self.wrong.append(error)
            self.longest = max(self.longest, time.monotonic() - begun)


def until(wanted: Callable[[], object]) -> None:
    """Wait for it; on a busy machine that takes a while."""
    deadline = time.monotonic() + 30
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def token(hsm: SocketHsm) -> Iterator[Token]:
    token = Token(hsm.config)
    if "under-load" not in token.labels():
        token.generate("under-load", KeySpec.P_256)
    yield token
    token.close()


def test_an_unplugged_hsm_is_503_and_back_within_seconds(hsm: SocketHsm, token: Token) -> None:
    with Load(token, 4) as load:
        until(lambda: load.good)
        hsm.unplug()
        gone = time.monotonic()
        time.sleep(1)
        until(lambda: any(at > gone for at in load.away))
        back = time.monotonic()
        hsm.plug_in()
        until(lambda: any(at > back for at in load.good))
        served, ended = min(at for at in load.good if at > back), time.monotonic()
        time.sleep(1.5)
        token.probe()
    assert load.wrong == []
    assert not any(gone < at < back for at in load.good)
    assert served - back < 15
    assert not any(at > ended for at in load.away)
    assert load.longest < 15


def test_a_cut_connection_is_replaced_without_an_error(hsm: SocketHsm, token: Token) -> None:
    with Load(token, 4) as load:
        for _ in range(3):
            time.sleep(0.4)
            hsm.cut()
        last = time.monotonic()
        until(lambda: any(at > last for at in load.good))
    assert load.wrong == []
    assert len(load.away) <= 3 * 4


def test_several_sessions_are_in_flight_at_once(hsm: SocketHsm, token: Token) -> None:
    """Not with the connection cut: this client module can then hang for ever in one of several threads."""
    token.close()
    several = Token(replace(hsm.config, sessions=4))
    with Load(several, 8) as load:
        for turn in range(4):
            time.sleep(0.3)
            assert several._connection is not None
            several._connection.run(lambda lane: lane.session.close())
            several.generate(f"{os.getpid()}-{turn}", KeySpec.P_256)
        until(lambda: len(load.good) > 100)
    several.close()
    assert (load.wrong, load.away) == ([], [])


def test_a_forked_child_has_a_connection_of_its_own(hsm: SocketHsm, token: Token) -> None:
    token.probe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for _ in range(20):
                token.probe()
            status = 0
        finally:
            os._exit(status)
    for _ in range(20):
        token.probe()
    assert os.waitpid(child, 0)[1] == 0
    assert hsm.config.module.exists()
