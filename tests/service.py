"""A Condau that really runs: an instance in a folder of its own, served by `condau serve` on a free loopback port."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONDAU = [sys.executable, "-m", "cli"]
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def free_port() -> int:
    """A TCP port of the loopback nobody listens on at this moment.

    It is drawn from below those the kernel gives out by itself: neither a connection that somebody opens before the port is used,
    nor one while a service is started again, can take it.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)  # two test runs hardly ever try the same one
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Service:
    """An instance and, between :meth:`start` and :meth:`stop`, the processes that serve it."""

    def __init__(self, home: Path, *, port: int | None = None, database_url: str = "") -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._database_url = database_url
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command about this instance runs with."""
        own = {"CONDAU_HOME": str(self.home), "CONDAU_PORT": str(self.port), "CONDAU_DATABASE_URL": self._database_url}
        return {**os.environ, **own, "PYTHONPATH": str(ROOT)}

    def condau(self, *arguments: str) -> str:
        """Run one `condau` command to its end; its standard output. Raises CalledProcessError when it fails."""
        done = subprocess.run([*CONDAU, *arguments], env=self.environment, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    def start(self) -> None:
        """Start serving and wait until the service is ready."""
        with (self.home / "service.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*CONDAU, "serve"], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_ready()

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until /readyz says so; raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/readyz").status == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass  # not listening yet
            time.sleep(0.05)
        raise TimeoutError(f"not ready after {seconds} s; the end of its log:\n{self.log()[-3000:]}")

    def log(self) -> str:
        """What the service has written to its log."""
        path = self.home / "service.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        """The process id of the master."""
        assert self._process is not None
        return self._process.pid

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def stop(self) -> int:
        """SIGTERM, as an operator would; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        return self._process.wait(timeout=30)

    def end(self) -> None:
        """Stop it if it runs, by force if need be."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to every process of the service at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        key: str | None = None,
        kind: str | None = None,
        timeout: float = 60,
    ) -> Answer:
        """One request on a connection of its own."""
        headers = ({"Authorization": f"Bearer {self.api_key(key)}"} if key else {}) | ({"Content-Type": kind} if kind else {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def credentials(self) -> dict[str, Any]:
        """The demonstration clients of this instance."""
        return tomllib.loads((self.home / "dev" / "credentials.toml").read_text(encoding="utf-8"))

    def api_key(self, section: str) -> str:
        """The API key in one table of the credentials."""
        key: str = self.credentials()[section]["key"]
        return key
