"""What the machine says of its clock: adjtimex, and chrony through a chronyc of ours."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tsa.clock_local import (
    STA_CLOCKERR,
    STA_DEL,
    STA_INS,
    STA_NANO,
    STA_UNSYNC,
    TIME_ERROR,
    TIME_OOP,
    Chrony,
    Kernel,
    Timex,
    read_moment,
    read_timex,
    read_tracking,
)
from tsa.clock_verdict import SECOND, Estimate, Failure, Moment

MOMENT = Moment(wall=1_800_000_000 * SECOND, raw=5 * SECOND)
TRACKING = "C0000201,192.0.2.1,2,1795296135.5,0.000125,-0.0001,0.0003,-12.5,0.01,0.05,0.020,0.003,64.2,Normal\n"


def timex(*, status: int = 0, maxerror: int = 2000, offset: int = 0, fraction: int = 500_000) -> Timex:
    structure = Timex()
    structure.status, structure.maxerror, structure.offset = status, maxerror, offset
    structure.time.seconds, structure.time.fraction = 1_800_000_000, fraction
    return structure


def test_wall_and_raw_clock_are_read_together() -> None:
    moment = read_moment()
    assert abs(moment.wall - time.time_ns()) < SECOND
    assert 0 <= moment.doubt < SECOND


def test_the_kernel_answers_whatever_it_says_here() -> None:
    before = read_moment()
    answer = Kernel().estimate()
    assert isinstance(answer, Estimate | Failure)
    if isinstance(answer, Estimate):
        assert answer.low <= before.wall - before.raw + SECOND
    else:
        assert "kernel" in answer.reason or "adjtimex" in answer.reason


def test_the_bound_is_the_kernels() -> None:
    utc = 1_800_000_000 * SECOND + SECOND // 2
    assert read_timex(timex(), 0, 7) == Estimate("kernel", 7, utc - 2_000_000 - 7, utc + 2_000_000 - 7)
    nano = read_timex(timex(status=STA_NANO, fraction=500_000_000, offset=-1000), 0, 7)
    assert nano == Estimate("kernel", 7, utc - 2_002_000 - 7, utc + 2_000_000 - 7)


@pytest.mark.parametrize(("status", "state"), [(STA_UNSYNC, 0), (STA_CLOCKERR, 0), (0, TIME_ERROR), (STA_UNSYNC, TIME_ERROR)])
def test_a_kernel_that_is_not_synchronised_is_no_source(status: int, state: int) -> None:
    answer = read_timex(timex(status=status), state, 0)
    assert isinstance(answer, Failure)
    assert not answer.silent


@pytest.mark.parametrize(("status", "state"), [(STA_INS, 0), (STA_DEL, 0), (0, TIME_OOP)])
def test_the_kernels_leap_second_is_passed_on(status: int, state: int) -> None:
    answer = read_timex(timex(status=status), state, 0)
    assert isinstance(answer, Estimate)
    assert answer.leap


def test_chronys_bound_is_offset_dispersion_and_half_the_delay() -> None:
    answer = read_tracking(TRACKING, MOMENT)
    assert isinstance(answer, Estimate)
    assert answer.high - (MOMENT.wall - MOMENT.raw) == pytest.approx(13_125_000, abs=2)
    assert (MOMENT.wall - MOMENT.raw) - answer.low == pytest.approx(13_125_000, abs=2)
    assert not answer.leap
    leap = read_tracking(TRACKING.replace("Normal", "Insert second"), MOMENT)
    assert isinstance(leap, Estimate)
    assert leap.leap


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (TRACKING.replace("Normal", "Not synchronised"), "Not synchronised"),
        ("", "do not know"),
        ("506 Cannot talk to daemon", "do not know"),
        (TRACKING.replace("0.020", "nan"), "cannot bound"),
        (TRACKING.replace("0.020", "inf"), "cannot bound"),
        (TRACKING.replace("0.020", "-9"), "cannot bound"),
    ],
)
def test_what_chrony_does_not_know_is_no_source(line: str, reason: str) -> None:
    answer = read_tracking(line, MOMENT)
    assert isinstance(answer, Failure)
    assert reason in answer.reason


def _chronyc(path: Path, script: str) -> Chrony:
    command = path / "chronyc"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o700)
    return Chrony(read_moment=lambda: MOMENT, command=str(command))


def test_chronyc_is_asked(tmp_path: Path) -> None:
    answer = _chronyc(tmp_path, f'test "$*" = "-c -n tracking" && printf "{TRACKING.strip()}"').estimate()
    assert isinstance(answer, Estimate)


def test_a_chrony_that_is_away_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsa.clock_local.CHRONYC_TIMEOUT", 0.1)
    for script in ("echo 506 Cannot talk to daemon; exit 1", "exec sleep 5"):
        answer = _chronyc(tmp_path, script).estimate()
        assert isinstance(answer, Failure)
        assert answer.silent
    missing = Chrony(read_moment=read_moment, command=str(tmp_path / "none")).estimate()
    assert isinstance(missing, Failure)
    assert "not installed" in missing.reason
