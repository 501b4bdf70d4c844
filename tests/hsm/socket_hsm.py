"""An HSM at the other end of a socket, which can be unplugged: p11-kit serving a SoftHSM token."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from core.settings import HsmConfig
from hsm.softhsm_guard import load_guard


class SocketHsm:
    """Serves the token of a SoftHSM configuration; :attr:`config` is the configuration of its clients."""

    def __init__(self, behind: HsmConfig, socket: Path) -> None:
        """``socket``: a short path (a UNIX socket's name has at most 107 bytes) that does not exist."""
        self._behind = behind
        self._socket = socket
        self._server: subprocess.Popen[bytes] | None = None
        (module,) = Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so")
        environment = {"P11_KIT_SERVER_ADDRESS": f"unix:path={socket}"}
        self.config = dataclasses.replace(behind, module=module, environment=environment)

    def plug_in(self) -> None:
        """Start serving."""
        self._mend()
        command = ["p11-kit", "server", "--foreground", "-n", str(self._socket), "--provider", str(self._behind.module)]
        self._server = subprocess.Popen(
            [*command, f"pkcs11:token={self._behind.token_label}"],
            env={**os.environ, **self._behind.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not self._socket.exists():
            assert time.monotonic() < deadline, "p11-kit server does not start"
            time.sleep(0.01)

    def unplug(self) -> None:
        """Kill the server and every open connection, and wait until they are gone."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)  # so that it takes no new connection while the old ones die
        self.cut()
        self._server.kill()
        self._server.wait(30)
        self._server = None
        with suppress(FileNotFoundError):
            self._socket.unlink()

    def cut(self) -> None:
        """Kill the processes that serve the open connections; a new connection is taken at once."""
        assert self._server is not None
        for child in _children(self._server.pid):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self._mend()

    def _mend(self) -> None:
        """An HSM does not lose its token when it is unplugged; SoftHSM does when it is killed while a client logs in."""
        guard = load_guard(self._behind)
        assert guard is not None
        guard.mend()

    def close(self) -> None:
        """Stop serving, if it serves."""
        if self._server is not None:
            self.unplug()


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found
