"""What time sources say, put together into a verdict, and that verdict applied to one moment. Pure: readings in, words out.

The one quantity everything is reduced to is UTC minus the machine's raw monotonic clock (CLOCK_MONOTONIC_RAW), which nobody
can set or slew. A source bounds it by an interval; the verdict is an interval too; and the wall clock is right to within what
wall minus raw differs from that interval by. A wall clock that is set between two rounds of the sources therefore betrays
itself at the next time-stamp. Times are whole nanoseconds, those of UTC and the wall clock since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
DRIFT_PPM: Final = 500
"""How fast the raw clock may run away from UTC, in parts per million: what the Linux kernel assumes for its own maxerror."""
WIDEST: Final = SECOND
"""A source that knows the time no better than this to each side knows nothing (RFC 5905, MAXDIST)."""
NOISE: Final = 10 * MILLISECOND
"""How far wall and raw clock may part between two rounds beyond the slewing a kernel does before it counts as a step."""
LEAP_GUARD: Final = 2 * SECOND
"""While a leap second is announced, nothing is stamped this close to midnight UTC: second 60 cannot be expressed."""
DAY: Final = 86_400 * SECOND


class Code(Enum):
    """What is known of the clock, one word for each answer; the log tells every change of it."""

    TRUSTED = "trusted"
    UNCHECKED = "unchecked"
    """Nothing vouches for the clock, and a development instance goes on all the same."""
    NO_VERDICT = "no verdict"
    """The sources have not been asked yet, or not been heard for too long."""
    NO_QUORUM = "no quorum"
    """Too few sources agree with each other."""
    STEPPED = "stepped"
    """The wall clock was set since the sources were last asked."""
    OUTSIDE = "outside accuracy"
    LEAP = "leap second"


@dataclass(frozen=True, slots=True)
class Moment:
    """The wall clock and the raw clock read together; the reading of ``wall`` lies within ``doubt`` of ``raw``."""

    wall: int
    raw: int
    doubt: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a source says: when the raw clock showed ``raw``, UTC minus raw was from ``low`` to ``high``."""

    source: str
    raw: int
    low: int
    high: int
    leap: bool = False
    """A leap second is announced for the end of this UTC day, or is passing now."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a source gave no estimate. ``silent``: it was not heard at all, which says nothing against the clock."""

    source: str
    reason: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a quorum of sources bears out: when the raw clock showed ``raw``, UTC minus raw was from ``low`` to ``high``."""

    raw: int
    low: int
    high: int
    departure: int
    """Wall minus raw at that moment: what a later one is compared with to see a step."""
    basis: str
    """The sources that agree, for people."""
    leap: bool = False
    checked: bool = True
    """False when nothing vouches for it (a development instance without a time source)."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why there is no verdict. ``silent``: only because sources were not heard, so that an earlier verdict may age on."""

    reason: str
    silent: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """The wall clock at one moment: its offset from UTC lies within ``bound`` (both seconds; None when not known)."""

    code: Code
    detail: str
    offset: float | None = None
    """The likeliest UTC minus wall, in seconds."""
    bound: float | None = None
    """The largest error the wall clock can have, in seconds."""

    @property
    def trusted(self) -> bool:
        """Whether a time-stamp may carry this moment."""
        return self.code in (Code.TRUSTED, Code.UNCHECKED)


def decide(answers: Sequence[Estimate | Failure], *, quorum: int, moment: Moment) -> Verdict | Doubt:
    """The verdict of at least ``quorum`` sources, which must be more than half of ``answers``, as of ``moment``.

    It reaches from the first to the last instant that ``quorum`` estimates contain (Marzullo's interval). If that many
    sources are right, the truth is in it, whatever the others say.
    """
    failures = [answer for answer in answers if isinstance(answer, Failure)]
    estimates: list[Estimate] = []
    for answer in answers:
        if isinstance(answer, Estimate):
            aged = _age(answer, moment.raw)
            if not 0 <= aged.high - aged.low <= 2 * WIDEST:
                failures.append(Failure(answer.source, f"knows the time only to {_seconds((aged.high - aged.low) // 2)}"))
            else:
                estimates.append(aged)
    span = _span(estimates, quorum)
    if span is None:
        heard = [f"{item.source}: {item.reason}" for item in failures]
        if len(estimates) >= quorum:
            heard += [
                f"{item.source}: {_seconds((item.low + item.high) // 2 - moment.wall + moment.raw)} off" for item in estimates
            ]
        silent = len(estimates) < quorum and all(item.silent for item in failures)
        reason = f"no quorum of {quorum} among {len(answers)} time sources ({'; '.join(heard)})"
        return Doubt(reason, silent=silent)
    low, high = span
    agreeing = [item for item in estimates if item.low <= high and item.high >= low]
    return Verdict(
        raw=moment.raw,
        low=low,
        high=high,
        departure=moment.wall - moment.raw,
        basis=", ".join(item.source for item in agreeing),
        leap=any(item.leap for item in agreeing),
    )


def build_unchecked(moment: Moment, doubt: Doubt) -> Verdict:
    """The verdict of a development instance that believes its own wall clock for want of anything better."""
    departure = moment.wall - moment.raw
    basis = f"nothing vouches for the clock, which only a development instance puts up with: {doubt.reason}"
    return Verdict(moment.raw, departure, departure, departure, basis, checked=False)


def judge(verdict: Verdict, moment: Moment, *, accuracy: int, max_age: int) -> Judgement:
    """Whether the wall clock at ``moment`` is within ``accuracy`` of UTC, as far as ``verdict`` lets it be known."""
    age = moment.raw - verdict.raw
    if not 0 <= age <= max_age:
        return Judgement(Code.NO_VERDICT, f"the time sources were last heard {_seconds(age)} ago")
    drift = _drift(age) + moment.doubt
    departure = moment.wall - moment.raw
    stepped = departure - verdict.departure
    if abs(stepped) > drift + NOISE:
        return Judgement(Code.STEPPED, f"the clock was set by {_seconds(stepped)} since the time sources were last asked")
    low, high = verdict.low - drift - departure, verdict.high + drift - departure
    offset, bound = (low + high) / (2 * SECOND), max(abs(low), abs(high))
    if bound > accuracy:
        detail = f"the clock may be wrong by {_seconds(bound)}; stated is {_seconds(accuracy)} ({verdict.basis})"
        return Judgement(Code.OUTSIDE, detail, offset, bound / SECOND)
    if verdict.leap and not LEAP_GUARD <= moment.wall % DAY < DAY - LEAP_GUARD:
        return Judgement(Code.LEAP, "a leap second is about to pass or has just passed", offset, bound / SECOND)
    return Judgement(Code.TRUSTED if verdict.checked else Code.UNCHECKED, verdict.basis, offset, bound / SECOND)


def _age(estimate: Estimate, raw: int) -> Estimate:
    """The estimate as it stands at another reading of the raw clock: wider by what that may have drifted."""
    drift = _drift(abs(raw - estimate.raw))
    return Estimate(estimate.source, raw, estimate.low - drift, estimate.high + drift, estimate.leap)


def _span(estimates: Sequence[Estimate], quorum: int) -> tuple[int, int] | None:
    """From the first to the last point that lies in at least ``quorum`` of the intervals."""
    edges = sorted([(item.low, -1) for item in estimates] + [(item.high, 1) for item in estimates])
    inside, first, last = 0, None, None
    for point, edge in edges:  # where they meet, intervals begin before others end
        if edge < 0:
            inside += 1
            if inside == quorum and first is None:
                first = point
        else:
            if inside == quorum:
                last = point
            inside -= 1
    return None if first is None or last is None else (first, last)


def _drift(elapsed: int) -> int:
    return elapsed * DRIFT_PPM // 1_000_000 + 1


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND:.6f} s"
