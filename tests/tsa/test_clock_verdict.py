"""The pure decision: what sources say becomes a verdict that is never better than the truth allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tsa.clock_verdict import (
    DAY,
    DRIFT_PPM,
    LEAP_GUARD,
    MILLISECOND,
    NOISE,
    SECOND,
    WIDEST,
    Code,
    Doubt,
    Estimate,
    Failure,
    Moment,
    Verdict,
    build_unchecked,
    decide,
    judge,
)

TRUTH = 1_800_000_000 * SECOND  # UTC minus the raw clock, which begins at 0
NOON = Moment(wall=TRUTH + DAY // 2 - TRUTH % DAY, raw=0)
MAX_AGE = 64 * SECOND
errors = st.integers(-30 * SECOND, 30 * SECOND)
widths = st.integers(0, WIDEST - 1)  # the reckoning rounds a nanosecond up


def estimate(name: str, middle: int, half: int, *, raw: int = 0, leap: bool = False) -> Estimate:
    return Estimate(name, raw, middle - half, middle + half, leap)


def moment(*, error: int = 0, raw: int = 0) -> Moment:
    """The clocks when the wall clock is ahead of UTC by ``error``."""
    return Moment(TRUTH + raw + error, raw)


def verdict_of(*answers: Estimate | Failure, at: Moment | None = None) -> Verdict:
    decided = decide(answers, quorum=len(answers) // 2 + 1, moment=at or moment())
    assert isinstance(decided, Verdict), decided
    return decided


@given(
    honest=st.lists(st.tuples(widths, st.floats(-1, 1)), min_size=1, max_size=5),
    lying=st.lists(st.tuples(errors, widths), max_size=4),
    silent=st.integers(0, 2),
)
def test_while_a_quorum_is_right_the_truth_is_in_the_verdict(
    honest: list[tuple[int, float]], lying: list[tuple[int, int]], silent: int
) -> None:
    """Whatever a minority of liars and mutes does."""
    answers: list[Estimate | Failure] = []
    answers += [estimate(f"honest-{n}", TRUTH + int(half * shift * 0.999), half) for n, (half, shift) in enumerate(honest)]
    answers += [estimate(f"lying-{n}", TRUTH + error, half) for n, (error, half) in enumerate(lying)]
    answers += [Failure(f"silent-{n}", "no reply", silent=True) for n in range(silent)]
    quorum = len(answers) // 2 + 1
    decided = decide(answers, quorum=quorum, moment=moment())
    if len(honest) >= quorum:
        assert isinstance(decided, Verdict)
        assert decided.low <= TRUTH <= decided.high


@given(
    answers=st.lists(st.tuples(errors, st.integers(-SECOND, 3 * WIDEST)), min_size=1, max_size=7), quorum_above=st.integers(0, 3)
)
def test_a_verdict_is_borne_out_by_a_quorum_at_both_ends(answers: list[tuple[int, int]], quorum_above: int) -> None:
    said = [estimate(str(n), TRUTH + error, half) for n, (error, half) in enumerate(answers)]
    quorum = min(len(said) // 2 + 1 + quorum_above, len(said))
    decided = decide(said, quorum=quorum, moment=moment())
    if isinstance(decided, Doubt):
        return
    assert decided.low <= decided.high
    for end in (decided.low, decided.high):
        assert sum(item.low - 1 <= end <= item.high + 1 and item.high - item.low <= 2 * WIDEST for item in said) >= quorum


@given(
    bias=st.integers(-400 * MILLISECOND, 400 * MILLISECOND),
    half=st.integers(0, 200 * MILLISECOND),
    wall_error=errors,
    step=errors,
    drift=st.integers(-DRIFT_PPM, DRIFT_PPM),
    age=st.integers(0, 80 * SECOND),
    accuracy=st.integers(MILLISECOND, SECOND),
)
def test_no_moment_is_trusted_that_is_wrong_by_more_than_the_accuracy(
    bias: int, half: int, wall_error: int, step: int, drift: int, age: int, accuracy: int
) -> None:
    """Physics at its worst: the raw clock drifts, the wall clock was wrong and is set anywhere, the sources are biased."""
    bias = max(-half, min(half, bias))
    verdict = verdict_of(estimate("one", TRUTH + bias, half), at=moment(error=wall_error))
    utc = TRUTH + age + age * drift // 1_000_000  # what UTC is when the raw clock has counted ``age``
    later = Moment(TRUTH + age + wall_error + step, age)
    judgement = judge(verdict, later, accuracy=accuracy, max_age=MAX_AGE)
    if judgement.trusted:
        assert abs(later.wall - utc) <= accuracy
        assert abs(step) <= NOISE + age * DRIFT_PPM // 1_000_000 + 1
        assert age <= MAX_AGE
        assert judgement.bound is not None
        assert abs(later.wall - utc) <= judgement.bound * SECOND + 1


def test_one_liar_among_four_is_outvoted() -> None:
    honest = [estimate(name, TRUTH, 5 * MILLISECOND) for name in "abc"]
    verdict = verdict_of(*honest, estimate("liar", TRUTH + 10 * SECOND, MILLISECOND))
    assert verdict.basis == "a, b, c"
    assert judge(verdict, moment(), accuracy=SECOND, max_age=MAX_AGE).code is Code.TRUSTED


def test_two_halves_that_contradict_each_other_give_no_verdict() -> None:
    halves = [estimate(name, TRUTH + shift, MILLISECOND) for name, shift in (("a", 0), ("b", 0), ("c", SECOND), ("d", SECOND))]
    decided = decide(halves, quorum=3, moment=moment())
    assert isinstance(decided, Doubt)
    assert not decided.silent  # they were heard, so an earlier verdict counts no more
    assert "no quorum of 3 among 4" in decided.reason


def test_only_silence_is_silent() -> None:
    mute, wrong = Failure("a", "no reply", silent=True), Failure("b", "the server is not synchronised")
    assert decide([mute, mute], quorum=2, moment=moment()) == Doubt(
        "no quorum of 2 among 2 time sources (a: no reply; a: no reply)", silent=True
    )
    decided = decide([mute, wrong], quorum=2, moment=moment())
    assert isinstance(decided, Doubt)
    assert not decided.silent


def test_a_source_that_hardly_knows_the_time_has_no_vote() -> None:
    """It would agree with everybody."""
    vague = estimate("vague", TRUTH, WIDEST + 1)
    decided = decide([vague, estimate("a", TRUTH, 0)], quorum=2, moment=moment())
    assert isinstance(decided, Doubt)
    assert "knows the time only to" in decided.reason


def test_a_verdict_that_is_old_or_of_the_future_is_none() -> None:
    verdict = verdict_of(estimate("a", TRUTH, 0), at=moment(raw=SECOND))
    for raw in (0, MAX_AGE + SECOND + 1):
        assert judge(verdict, moment(raw=raw), accuracy=SECOND, max_age=MAX_AGE).code is Code.NO_VERDICT
    assert judge(verdict, moment(raw=MAX_AGE + SECOND), accuracy=SECOND, max_age=MAX_AGE).trusted


def test_a_step_is_seen_although_it_stays_within_the_accuracy() -> None:
    verdict = verdict_of(estimate("a", TRUTH, 0))
    for error in (-NOISE - MILLISECOND, NOISE + MILLISECOND):
        assert judge(verdict, moment(error=error), accuracy=SECOND, max_age=MAX_AGE).code is Code.STEPPED


def test_what_is_outside_the_accuracy_says_by_how_much() -> None:
    at = moment(error=3 * SECOND)
    judgement = judge(verdict_of(estimate("a", TRUTH, MILLISECOND), at=at), at, accuracy=SECOND, max_age=MAX_AGE)
    assert judgement.code is Code.OUTSIDE
    assert judgement.offset is not None
    assert round(judgement.offset, 6) == -3
    assert "3.001" in judgement.detail


def test_nothing_is_stamped_around_an_announced_leap_second() -> None:
    departure = NOON.wall - NOON.raw
    verdict = verdict_of(*[Estimate(name, 0, departure, departure, leap=name == "a") for name in "abc"], at=NOON)
    assert verdict.leap  # one that is right and announces it is enough
    midnight = Verdict(0, departure, departure, departure, "a", leap=True)
    for before, trusted in (
        (LEAP_GUARD + 1, True),
        (LEAP_GUARD, False),
        (LEAP_GUARD - 1, False),
        (-LEAP_GUARD + 1, False),
        (-LEAP_GUARD, True),
    ):
        raw = DAY // 2 - before
        judgement = judge(midnight, Moment(NOON.wall + raw, raw), accuracy=60 * SECOND, max_age=DAY)
        assert (judgement.trusted, judgement.code is Code.LEAP) == (trusted, not trusted), before


def test_the_unchecked_clock_is_called_so_and_its_steps_are_still_seen() -> None:
    verdict = build_unchecked(moment(error=5 * SECOND), Doubt("nobody answers", silent=True))
    judgement = judge(verdict, moment(error=5 * SECOND), accuracy=SECOND, max_age=MAX_AGE)
    assert (judgement.code, judgement.trusted) == (Code.UNCHECKED, True)
    assert "nobody answers" in judgement.detail
    assert not judge(verdict, moment(), accuracy=SECOND, max_age=MAX_AGE).trusted
