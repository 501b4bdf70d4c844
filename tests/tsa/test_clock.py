"""The gate: what it lets through in an invented world, what it says, and that it comes back by itself."""

from __future__ import annotations

import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.db import Database
from core.errors import ClockUntrusted, Unavailable
from core.settings import ClockConfig
from tests.software_keys import SoftwareKeys
from tests.tsa.requests import query
from tests.tsa.test_authority import failure_of
from tests.tsa.unit import ACTOR, Pki, make_authority
from tsa import clock as module
from tsa.clock import TrustedClock, build_sources
from tsa.clock_local import Chrony, Kernel, read_moment
from tsa.clock_ntp import NtpServer
from tsa.clock_verdict import DRIFT_PPM, MILLISECOND, SECOND, Code, Estimate, Failure, Moment

START = 1_800_000_000 * SECOND
ACCURACY = 500


class World:
    """True time, a raw clock that drifts against it, and a wall clock that is set now and then."""

    def __init__(self, drift_ppm: int = 0) -> None:
        self.elapsed = 0
        self.drift_ppm = drift_ppm
        self.error = 0

    @property
    def utc(self) -> int:
        return START + self.elapsed

    @property
    def raw(self) -> int:
        return self.elapsed + self.elapsed * self.drift_ppm // 1_000_000

    def read(self) -> Moment:
        return Moment(START + self.raw + self.error, self.raw)

    def pass_by(self, seconds: float) -> None:
        self.elapsed += int(seconds * SECOND)


class Source:
    """A time source of that world: honest to within ``half``, lying by ``lie``, or not to be heard."""

    def __init__(self, world: World, name: str, *, half: int = MILLISECOND) -> None:
        self.world = world
        self.name = name
        self.half = half
        self.lie = 0
        self.failure: Failure | None = None
        self.leap = False
        self.asked = 0

    def estimate(self) -> Estimate | Failure:
        self.asked += 1
        middle = self.world.utc - self.world.raw + self.lie
        return self.failure or Estimate(self.name, self.world.raw, middle - self.half, middle + self.half, self.leap)

    def fall_silent(self) -> None:
        self.failure = Failure(self.name, "no reply", silent=True)


def make(count: int = 4, *, unchecked: bool = False, drift_ppm: int = 0) -> tuple[TrustedClock, World, list[Source]]:
    world = World(drift_ppm)
    sources = [Source(world, f"source-{number}") for number in range(count)]
    config = ClockConfig(sources=tuple(source.name for source in sources), unchecked=unchecked)
    return TrustedClock(sources=sources, config=config, accuracy_milliseconds=ACCURACY, read=world.read), world, sources


events = st.one_of(
    st.tuples(st.just("pass"), st.floats(0.001, 100)),
    st.tuples(st.just("step"), st.floats(-2, 2)),
    st.tuples(st.just("lie"), st.floats(-40, 40)),
    st.tuples(st.just("silence"), st.integers(0, 3)),
    st.tuples(st.just("voice"), st.integers(0, 3)),
    st.tuples(st.just("sample"), st.just(0)),
)


@settings(max_examples=200)
@given(drift_ppm=st.integers(-DRIFT_PPM + 1, DRIFT_PPM - 1), story=st.lists(events, max_size=40))
def test_in_no_story_does_a_wrong_time_leave(drift_ppm: int, story: list[tuple[str, float]]) -> None:
    """Steps, drift, silence, one liar among four, in any order: what leaves is within the accuracy, or nothing does."""
    clock, world, sources = make(drift_ppm=drift_ppm)
    for what, value in story:
        if what == "pass":
            world.pass_by(value)
        elif what == "step":
            world.error += int(value * SECOND)
        elif what == "lie":
            sources[0].lie = int(value * SECOND)
        elif what == "silence":
            sources[int(value)].fall_silent()
        elif what == "voice":
            sources[int(value)].failure = None
        else:
            clock.sample()
        try:
            said = clock.now()
        except ClockUntrusted:
            continue
        error = (said - module.EPOCH).total_seconds() - world.utc / SECOND
        assert abs(error) <= ACCURACY / 1000


def test_it_tells_the_time_of_the_wall_clock() -> None:
    clock, world, _ = make()
    world.error = 100 * MILLISECOND
    assert (clock.now() - module.EPOCH).total_seconds() == pytest.approx(START / SECOND + 0.1, abs=1e-6)
    state = clock.state()
    assert (state.trusted, state.code) == (True, Code.TRUSTED)
    assert state.offset == pytest.approx(-0.1, abs=1e-4)
    assert state.bound == pytest.approx(0.101, abs=1e-3)
    assert clock.check().startswith("within 0.101")


def test_what_the_rounding_of_gen_time_cuts_off_counts_against_the_accuracy() -> None:
    clock, world, sources = make()
    for source in sources:
        source.half = 0
    world.error = -(ACCURACY - 1) * MILLISECOND - 10_000
    with pytest.raises(ClockUntrusted):
        clock.now()
    world.error = -(ACCURACY - 1) * MILLISECOND + 10_000
    clock.sample()
    clock.now()


def test_silence_lets_the_verdict_age_and_then_ends_it() -> None:
    clock, world, sources = make()
    clock.now()
    for source in sources:
        source.fall_silent()
    clock.sample()
    world.pass_by(60)
    clock.now()
    world.pass_by(5)
    with pytest.raises(ClockUntrusted, match="no reply"):
        clock.now()
    for source in sources:
        source.failure = None
    clock.now()


def test_contradiction_ends_the_verdict_at_once() -> None:
    clock, _, sources = make()
    clock.now()
    sources[0].lie = sources[1].lie = 10 * SECOND
    clock.sample()
    assert clock.state().code is Code.NO_QUORUM


def test_an_unchecked_clock_stamps_and_says_so() -> None:
    clock, world, sources = make(1, unchecked=True)
    sources[0].failure = Failure("kernel", "nothing keeps it synchronised")
    clock.now()
    assert clock.check().startswith("UNCHECKED: nothing vouches for the clock")
    world.error = 100 * SECOND  # a step is believed as soon as the clock has been looked at anew
    clock.now()


def test_an_unchecked_clock_that_is_proved_wrong_does_not_stamp() -> None:
    clock, world, _ = make(1, unchecked=True)
    world.error = 10 * SECOND
    with pytest.raises(ClockUntrusted, match="wrong by"):
        clock.now()


def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, world, _ = make()
    with caplog.at_level(logging.INFO, "condau.tsa.clock"):
        for error in (0, 0, SECOND, SECOND, 0, 0):
            world.error = error
            clock.state()
    assert [record.getMessage() for record in caplog.records] == ["clock trusted", "clock not trusted", "clock trusted"]


def test_a_thread_keeps_it_fresh_and_notices_when_time_is_good_again() -> None:
    clock, world, sources = make()
    for source in sources:
        source.fall_silent()
    clock.start()
    try:
        with pytest.raises(ClockUntrusted):
            clock.now()
        for source in sources:
            source.failure = None
        deadline = time.monotonic() + 30
        while not clock.state().trusted:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        asked = sources[0].asked
        world.error = 100 * MILLISECOND  # a request sees the step and has the sources asked before their time
        assert clock.state().code is Code.STEPPED
        while not clock.state().trusted:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert sources[0].asked > asked
    finally:
        clock.close()


def test_a_fault_in_a_source_fails_closed(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, _, sources = make()

    def broken() -> Estimate:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sources[0], "estimate", broken)
    clock.start()
    try:
        with pytest.raises(ClockUntrusted, match="not been asked"):
            clock.now()
        deadline = time.monotonic() + 30
        while "a bug" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not clock.state().trusted
    finally:
        clock.close()


def test_the_check_of_a_fresh_verdict_takes_microseconds() -> None:
    """On the way of every time-stamp. The limit is generous: 2 cores may be busy."""
    clock = TrustedClock(sources=[Now()], config=ClockConfig(), accuracy_milliseconds=1000)
    clock.now()
    best = min(timed(clock) for _ in range(20))
    assert best < 100e-6


class Now:
    """The machine itself, as a source."""

    name = "now"

    def estimate(self) -> Estimate:
        moment = read_moment()
        return Estimate(self.name, moment.raw, moment.wall - moment.raw - SECOND // 100, moment.wall - moment.raw + SECOND // 100)


def timed(clock: TrustedClock) -> float:
    start = time.perf_counter()
    for _ in range(100):
        clock.now()
    return (time.perf_counter() - start) / 100


def test_the_sources_are_those_of_the_configuration() -> None:
    names = ("kernel", "chrony", "ntp://time.example", "ntp://192.0.2.1:1123")
    kinds = [type(source) for source in build_sources(ClockConfig(sources=names))]
    assert kinds == [Kernel, Chrony, NtpServer, NtpServer]
    assert [source.name for source in build_sources(ClockConfig(sources=names))] == list(names)


def test_without_a_trusted_clock_the_answer_is_time_not_available(database: Database, keys: SoftwareKeys, pki: Pki) -> None:
    """RFC 3161, 2.4.2: timeNotAvailable, in a TimeStampResp; to the signer, who stamps inside, Unavailable."""
    assert pki
    gate, _, sources = make()
    authority = make_authority(database, keys, gate.now)
    sources[0].lie = sources[1].lie = 10 * SECOND
    assert failure_of(authority.respond(query(), ACTOR)) == ("rejection", {"time_not_available"})
    with pytest.raises(Unavailable) as caught:
        authority.stamp(b"", ACTOR)
    assert caught.value.part == "tsa"
