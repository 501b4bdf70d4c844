"""An NTP server on the loopback that says what a test wants: the right time, a wrong one, nothing, or rubbish."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tsa.clock_ntp import ERA, HEADER, UNIX_EPOCH
from tsa.clock_verdict import SECOND

Reply = Callable[[bytes], bytes | None]


def ntp_timestamp(nanoseconds: int) -> int:
    """Nanoseconds since 1970 as a 64-bit NTP timestamp."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return ((seconds + UNIX_EPOCH) % ERA) << 32 | (rest << 32) // SECOND


def build_reply(
    request: bytes,
    *,
    offset: float = 0,
    leap: int = 0,
    stratum: int = 2,
    mode: int = 4,
    version: int = 4,
    precision: int = -20,
    root_delay: float = 0.001,
    root_dispersion: float = 0.001,
    reference: bytes = b"\x7f\x00\x00\x01",
    origin: bytes | None = None,
    worked: float = 0,
) -> bytes:
    """A server's answer to ``request`` whose clock is ``offset`` seconds ahead of this process's."""
    now = time.time_ns() + int(offset * SECOND)
    received = ntp_timestamp(now).to_bytes(8, "big")
    return HEADER.pack(
        leap << 6 | version << 3 | mode,
        stratum,
        6,
        precision,
        int(root_delay * 65536),
        int(root_dispersion * 65536),
        int.from_bytes(reference, "big"),
        received,
        request[40:48] if origin is None else origin,
        received,
        ntp_timestamp(now + int(worked * SECOND)),
    )


class NtpServer:
    """Answers on a UDP port of its own until closed. ``reply`` may be exchanged while it runs; None is silence."""

    def __init__(self, reply: Reply = build_reply) -> None:
        self.reply = reply
        self.reply_first: Reply = lambda _: None
        """A datagram sent before the reply, as a forger would."""
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def source(self) -> str:
        """Its name in the configuration."""
        return f"ntp://127.0.0.1:{self.port}"

    def say(self, **fields: float) -> None:
        """From now on answer so (see :func:`build_reply`)."""
        self.reply = lambda request: build_reply(request, **fields)  # type: ignore[arg-type]  # the test's own keywords

    def fall_silent(self) -> None:
        """From now on answer nothing."""
        self.reply = lambda _: None

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(timeout=5)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                request, address = self._socket.recvfrom(512)
            except TimeoutError:
                continue
            self.asked += 1
            for answer in (self.reply_first(request), self.reply(request)):
                if answer is not None:
                    self._socket.sendto(answer, address)
