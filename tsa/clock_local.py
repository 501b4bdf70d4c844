"""What this machine says of its own clock: the clocks themselves, the kernel's synchronisation state, and chrony's."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Final

from tsa.clock_verdict import MILLISECOND, SECOND, Estimate, Failure, Moment

STA_INS, STA_DEL, STA_UNSYNC, STA_CLOCKERR, STA_NANO = 0x0010, 0x0020, 0x0040, 0x1000, 0x2000
"""Bits of ``timex.status`` (adjtimex(2))."""
TIME_OOP, TIME_ERROR = 3, 5
"""Results of adjtimex: a leap second is being inserted now; the clock is not synchronised."""
CHRONYC_TIMEOUT: Final = 2.0
READING_TRIES: Final = 8


class _Timeval(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("fraction", ctypes.c_long))


class Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), under its own names."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def read_moment() -> Moment:
    """The wall clock and the raw one, read together; again, a few times, when we were interrupted in between."""
    best: Moment | None = None
    for _ in range(READING_TRIES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        wall = time.time_ns()
        gap = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - before
        if best is None or gap < best.doubt:
            best = Moment(wall, before + gap // 2, gap)
        if gap < MILLISECOND:
            break
    assert best is not None  # noqa: S101 - the loop runs at least once
    return best


def read_timex(timex: Timex, state: int, raw: int) -> Estimate | Failure:
    """What adjtimex returned, ``state`` and structure, when the raw clock showed ``raw``.

    The kernel's error bound (maxerror) is the one its NTP daemon gave it, grown by 500 ppm since. The wall clock is the one in
    the structure, read together with the rest.
    """
    if state == TIME_ERROR or timex.status & (STA_UNSYNC | STA_CLOCKERR):
        return Failure("kernel", "the kernel says that nothing keeps its clock synchronised")
    unit = 1 if timex.status & STA_NANO else 1000
    utc = timex.time.seconds * SECOND + timex.time.fraction * unit + timex.offset * unit
    bound = timex.maxerror * 1000 + abs(timex.offset) * unit
    leap = bool(timex.status & (STA_INS | STA_DEL)) or state == TIME_OOP
    return Estimate("kernel", raw, utc - bound - raw, utc + bound - raw, leap)


class Kernel:
    """The kernel's own synchronisation state, which an NTP daemon on this machine keeps."""

    name = "kernel"

    def __init__(self) -> None:
        self._adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex

    def estimate(self) -> Estimate | Failure:
        """Ask adjtimex, changing nothing (modes 0)."""
        timex = Timex()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        state = self._adjtimex(ctypes.byref(timex))
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        if state < 0:
            return Failure("kernel", f"adjtimex: {os.strerror(ctypes.get_errno())}")
        answer = read_timex(timex, state, before)
        if isinstance(answer, Failure):
            return answer
        gap = after - before  # the kernel read its clock somewhere in between
        return Estimate("kernel", after, answer.low - gap, answer.high, answer.leap)


def read_tracking(line: str, moment: Moment) -> Estimate | Failure:
    """One line of ``chronyc -c tracking``, read at ``moment``.

    The bound is the one chrony's manual states: the clock's error is at most the offset still to be corrected, plus the root
    dispersion, plus half of the root delay.
    """
    fields = line.strip().split(",")
    try:
        offset, delay, dispersion = float(fields[4]), float(fields[10]), float(fields[11])
        status = fields[13]
    except (IndexError, ValueError):
        return Failure("chrony", "chronyc answered in words we do not know")
    if status not in ("Normal", "Insert second", "Delete second"):
        return Failure("chrony", f"chrony says: {status}")
    total = abs(offset) + dispersion + delay / 2
    if not 0 <= total < 3600:  # also refuses what is no number
        return Failure("chrony", f"chrony cannot bound its error ({total} s)")
    bound = int(total * SECOND) + moment.doubt + 1
    departure = moment.wall - moment.raw
    return Estimate("chrony", moment.raw, departure - bound, departure + bound, status != "Normal")


class Chrony:
    """chronyd on this machine, through its own client."""

    name = "chrony"

    def __init__(self, *, read_moment: Callable[[], Moment], command: str = "chronyc") -> None:
        """``command`` is looked for in PATH each time, so that chrony may be installed while we run."""
        self._read_moment = read_moment
        self._command = command

    def estimate(self) -> Estimate | Failure:
        """Ask ``chronyc tracking``."""
        command = shutil.which(self._command)
        if command is None:
            return Failure("chrony", f"{self._command} is not installed")
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command line
                [command, "-c", "-n", "tracking"], capture_output=True, text=True, timeout=CHRONYC_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Failure("chrony", f"chronyc does not answer ({type(error).__name__})", silent=True)
        if done.returncode != 0:
            return Failure("chrony", f"chronyd does not answer: {(done.stdout + done.stderr).strip()[:100]}", silent=True)
        return read_tracking(done.stdout, self._read_moment())
