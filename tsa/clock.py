"""The clock gate: the present moment for a time-stamp, or ClockUntrusted. It fails closed (ETSI EN 319 421, 7.7.2).

A thread asks the configured time sources every so often and leaves their verdict; :meth:`TrustedClock.now` applies the latest
verdict to the clocks as they read at that instant, in microseconds and without waiting for anybody. What the sources say is
put together in tsa/clock_verdict.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

from core.errors import ClockUntrusted
from core.settings import ClockConfig
from tsa.clock_events import ClockEvents
from tsa.clock_local import Chrony, Kernel, read_moment
from tsa.clock_ntp import PORT, NtpServer
from tsa.clock_verdict import (
    MILLISECOND,
    SECOND,
    Code,
    Doubt,
    Estimate,
    Failure,
    Judgement,
    Moment,
    Verdict,
    build_unchecked,
    decide,
    judge,
)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SHORTEST_PAUSE: Final = 0.5
"""Seconds between two rounds at least, however urgent: the sources are other people's."""
ROUNDING: Final = MILLISECOND
"""What the milliseconds of a genTime cut off at most; it counts against the accuracy."""
_log = logging.getLogger("condau.tsa.clock")


class Source(Protocol):
    """A time source, asked by one thread at a time; it answers within a few seconds and raises nothing."""

    @property
    def name(self) -> str:
        """As the configuration names it."""

    def estimate(self) -> Estimate | Failure:
        """What it says now."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """The clock as it is now, for metrics, ``/readyz`` and ``condau check``."""

    trusted: bool
    code: Code
    detail: str
    """In words: what the clock rests on, or why it is not trusted."""
    offset: float | None
    """The likeliest UTC minus wall, in seconds; None when not known."""
    bound: float | None
    """The largest error the clock can have, in seconds; None when not known."""


def build_sources(config: ClockConfig) -> tuple[Source, ...]:
    """The sources that ``config`` names; nothing is asked yet."""
    return tuple(_build_source(name) for name in config.sources)


def _build_source(name: str) -> Source:
    if name == "kernel":
        return Kernel()
    if name == "chrony":
        return Chrony(read_moment=read_moment)
    parts = urlsplit(name)  # core/config.py has seen to it that it is ntp://host[:port]
    return NtpServer(parts.hostname or "", parts.port or PORT, read_moment=read_moment)


class TrustedClock:
    """Tells the time as long as it is known to be within the stated accuracy.

    After :meth:`start` a thread keeps the verdict fresh. Without it (a command, a test) the sources are asked when the verdict
    is too old, and the caller waits for them.
    """

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        config: ClockConfig,
        accuracy_milliseconds: int,
        read: Callable[[], Moment] = read_moment,
        events: ClockEvents | None = None,
    ) -> None:
        """``read`` is how the machine's clocks are read; ``events``: where changes are recorded while it is asked by itself."""
        self._sources = tuple(sources)
        self._quorum = config.quorum or len(self._sources) // 2 + 1
        self._interval = float(config.interval)
        self._unchecked = config.unchecked
        self._accuracy = accuracy_milliseconds * MILLISECOND - min(ROUNDING, accuracy_milliseconds * MILLISECOND // 2)
        self._max_age = config.max_age * SECOND
        self._read = read
        self._events = events
        self._asked = False
        self._verdict: Verdict | None = None
        self._doubt = "the time sources have not been asked yet"
        self._told: Code | None = None
        self._telling = threading.Lock()
        self._sampling = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask the sources in the background, once, in the process that stamps (a thread does not live on in a fork)."""
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking. The last verdict ages."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def now(self) -> datetime:
        """The present moment in UTC, within the stated accuracy; raises ClockUntrusted when that cannot be known."""
        moment, judgement = self._judge()
        if not judgement.trusted:
            raise ClockUntrusted("tsa", judgement.detail)
        return EPOCH + timedelta(microseconds=moment.wall // 1000)

    def state(self) -> ClockState:
        """What is known of the clock now."""
        _, judgement = self._judge()
        return ClockState(judgement.trusted, judgement.code, judgement.detail, judgement.offset, judgement.bound)

    def check(self) -> str:
        """What the clock rests on, in words; raises ClockUntrusted."""
        state = self.state()
        if not state.trusted:
            raise ClockUntrusted("tsa", state.detail)
        if state.code is Code.UNCHECKED:
            return f"UNCHECKED: {state.detail}"
        return f"within {state.bound:.6f} s of UTC, says {state.detail}"

    def sample(self) -> None:
        """Ask every source once and take over their verdict. Only silence leaves an earlier verdict, which ages."""
        with self._sampling, ThreadPoolExecutor(len(self._sources), "clock-source") as pool:
            answers = list(pool.map(lambda source: source.estimate(), self._sources))
        self._asked = True
        moment = self._read()
        decision = decide(answers, quorum=self._quorum, moment=moment)
        if isinstance(decision, Doubt) and self._unchecked:
            decision = build_unchecked(moment, decision)
        if isinstance(decision, Verdict):
            self._verdict = decision
            return
        self._doubt = decision.reason
        if not decision.silent:
            self._verdict = None

    def _judge(self) -> tuple[Moment, Judgement]:
        moment, judgement = self._look()
        if judgement.code in (Code.NO_VERDICT, Code.NO_QUORUM, Code.STEPPED):
            if self._thread is None:
                self.sample()
                moment, judgement = self._look()
            else:
                self._wake.set()
        if judgement.code is not self._told:
            self._tell(judgement)
        return moment, judgement

    def _look(self) -> tuple[Moment, Judgement]:
        verdict = self._verdict  # before the clocks: never a moment older than its verdict
        moment = self._read()
        if verdict is None:
            return moment, Judgement(Code.NO_QUORUM, self._doubt)
        judgement = judge(verdict, moment, accuracy=self._accuracy, max_age=self._max_age)
        if judgement.code is Code.NO_VERDICT:
            judgement = Judgement(Code.NO_VERDICT, f"{judgement.detail} ({self._doubt})")
        return moment, judgement

    def _tell(self, judgement: Judgement) -> None:
        """Log that the clock's state is another one: once for each change, however many requests see it."""
        with self._telling:
            if judgement.code is self._told:
                return
            self._told = judgement.code
            if self._events is not None and self._asked:
                self._events.note(judgement)
        fields = {"code": judgement.code.value, "detail": judgement.detail, "offset": judgement.offset, "bound": judgement.bound}
        level = logging.INFO if judgement.code is Code.TRUSTED else logging.WARNING
        message = {Code.TRUSTED: "clock trusted", Code.UNCHECKED: "clock unchecked"}.get(judgement.code, "clock not trusted")
        _log.log(level, message, extra={"fields": fields})

    def _run(self) -> None:
        """Ask the sources every ``interval``, sooner while the clock is not trusted or when a request saw it step."""
        pause = SHORTEST_PAUSE
        while True:
            self._wake.clear()
            try:
                self.sample()
            except Exception:  # noqa: BLE001 - a bug here must not end the thread; the verdict ages, so that it fails closed
                _log.exception("asking the time sources broke")
            _, judgement = self._look()
            if judgement.code is not self._told:
                self._tell(judgement)
            self._write_events()
            pause = self._interval if judgement.trusted else min(pause * 2, self._interval)
            if self._stop.wait(SHORTEST_PAUSE):
                return
            self._wake.wait(max(pause - SHORTEST_PAUSE, 0))

    def _write_events(self) -> None:
        try:
            if self._events is not None:
                self._events.write()
        except Exception:  # noqa: BLE001 - as above: the clock goes on
            _log.exception("recording the clock's changes broke")
