"""The SNTP client against hostile servers (RFC 5905)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Malformed
from tests.tsa.ntp_server import NtpServer, build_reply, ntp_timestamp
from tsa import clock_ntp
from tsa.clock_local import read_moment
from tsa.clock_ntp import ERA, UNIX_EPOCH, Kiss, Reply, build_request, parse_reply
from tsa.clock_verdict import SECOND, Estimate, Failure

COOKIE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
REQUEST = build_request(COOKIE)


@pytest.fixture
def server() -> Iterator[NtpServer]:
    with NtpServer() as server:
        yield server


def client(server: NtpServer) -> clock_ntp.NtpServer:
    return clock_ntp.NtpServer("127.0.0.1", server.port, read_moment=read_moment)


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_ntp, "TIMEOUT", 0.15)


@pytest.mark.parametrize("offset", [0.0, -30.0, 7.25])
def test_the_truth_lies_in_the_estimate(server: NtpServer, offset: float) -> None:
    server.say(offset=offset)
    answer = client(server).estimate()
    assert isinstance(answer, Estimate)
    now = read_moment()
    truth = now.wall - now.raw + int(offset * SECOND)
    assert answer.low <= truth <= answer.high
    assert answer.high - answer.low < SECOND
    assert answer.source == server.source


def test_the_request_gives_nothing_away() -> None:
    """RFC 5905 wants the transmit time there; random bits serve the on-wire protocol as well and cannot be guessed."""
    assert b"\x23" + bytes(39) + COOKIE == REQUEST


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda request: build_reply(request)[:47], "cut short"),
    "empty": (lambda _: b"", "cut short"),
    "another origin": (lambda request: build_reply(request, origin=b"\x01" * 8), "another request"),
    "no origin": (lambda request: build_reply(request, origin=bytes(8)), "another request"),
    "our own request": (lambda request: request, "not a reply"),
    "broadcast": (lambda request: build_reply(request, mode=5), "not a reply"),
    "version 1": (lambda request: build_reply(request, version=1), "not a reply"),
    "stratum 16": (lambda request: build_reply(request, stratum=16), "not synchronised"),
    "stratum 255": (lambda request: build_reply(request, stratum=255), "not synchronised"),
    "leap indicator 3": (lambda request: build_reply(request, leap=3), "not synchronised"),
    "no transmit time": (lambda request: build_reply(request)[:40] + bytes(8), "does not say the time"),
    "no receive time": (lambda request: build_reply(request)[:32] + bytes(8) + build_reply(request)[40:], "does not say the time"),
    "answered before asked": (lambda request: build_reply(request, worked=-1), "before it was asked"),
    "worked longer than we waited": (lambda request: build_reply(request, worked=100), "longer than we waited"),
}


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("case", WRONG)
def test_a_reply_that_is_none_is_not_believed(server: NtpServer, case: str) -> None:
    server.reply, reason = WRONG[case]
    answer = client(server).estimate()
    assert isinstance(answer, Failure)
    assert reason in answer.reason
    assert not answer.silent


@pytest.mark.usefixtures("_hurry")
def test_silence_is_asked_twice_and_then_silence(server: NtpServer) -> None:
    server.fall_silent()
    assert client(server).estimate() == Failure(server.source, "no reply", silent=True)
    assert server.asked == 2


@pytest.mark.usefixtures("_hurry")
def test_a_port_nobody_listens_on_is_silence(server: NtpServer) -> None:
    port = server.port
    server.close()
    answer = clock_ntp.NtpServer("127.0.0.1", port, read_moment=read_moment).estimate()
    assert isinstance(answer, Failure)
    assert answer.silent


def test_a_name_that_does_not_resolve_is_silence() -> None:
    answer = clock_ntp.NtpServer("time.invalid", read_moment=read_moment).estimate()
    assert isinstance(answer, Failure)
    assert answer.silent


@pytest.mark.parametrize("code", ["DENY", "RSTR"])
def test_a_kiss_of_death_ends_the_asking(server: NtpServer, code: str) -> None:
    """RFC 5905, 7.4."""
    server.reply = lambda request: build_reply(request, stratum=0, reference=code.encode())
    asking = client(server)
    first, later = asking.estimate(), asking.estimate()
    assert first == Failure(server.source, f"kiss-o'-death {code}")
    assert isinstance(later, Failure)
    assert "stay away" in later.reason
    assert server.asked == 1


def test_a_kiss_rate_halves_the_asking_until_it_is_answered_again(server: NtpServer) -> None:
    server.reply = lambda request: build_reply(request, stratum=0, reference=b"RATE")
    asking = client(server)
    for _ in range(6):  # asked, left alone once, asked, left alone three times
        assert isinstance(asking.estimate(), Failure)
    assert server.asked == 2
    server.say()
    assert isinstance(asking.estimate(), Estimate)
    assert isinstance(asking.estimate(), Estimate)


def test_a_kiss_that_does_not_answer_our_request_is_nobodys() -> None:
    forged = build_reply(REQUEST, stratum=0, reference=b"DENY", origin=bytes(8))
    with pytest.raises(Malformed, match="another request"):
        parse_reply(forged, COOKIE, near=time.time_ns())


def test_a_forged_reply_does_not_hide_the_true_one(server: NtpServer) -> None:
    """Both arrive, the forged one first."""
    server.reply_first = lambda request: build_reply(request, offset=50, origin=bytes(8))
    answer = client(server).estimate()
    assert isinstance(answer, Estimate)
    now = read_moment()
    assert abs((answer.low + answer.high) // 2 - now.wall + now.raw) < SECOND


@pytest.mark.parametrize("leap", [1, 2])
def test_an_announced_leap_second_is_passed_on(server: NtpServer, leap: int) -> None:
    server.say(leap=leap)
    answer = client(server).estimate()
    assert isinstance(answer, Estimate)
    assert answer.leap


def test_a_root_distance_counts_into_the_bound(server: NtpServer) -> None:
    server.say(root_delay=0.4, root_dispersion=0.1)
    answer = client(server).estimate()
    assert isinstance(answer, Estimate)
    assert 0.6 <= (answer.high - answer.low) / SECOND < 0.8


@pytest.mark.parametrize("year_seconds", [0, ERA - UNIX_EPOCH - 1, ERA - UNIX_EPOCH, ERA - UNIX_EPOCH + 86_400 * 365 * 20])
def test_the_era_after_2036_is_read(year_seconds: int) -> None:
    at = year_seconds * SECOND + SECOND // 2
    timestamp = ntp_timestamp(at)
    packet = build_reply(REQUEST)[:32] + timestamp.to_bytes(8, "big") * 2
    packet = packet[:24] + COOKIE + timestamp.to_bytes(8, "big") * 2
    reply = parse_reply(packet, COOKIE, near=at + 1000 * SECOND)
    assert isinstance(reply, Reply)
    assert reply.received == reply.sent == at


@given(
    packet=st.binary(max_size=100),
    mutate=st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255)), max_size=6),
    whole=st.booleans(),
)
def test_whatever_arrives_is_a_reply_a_kiss_or_malformed(packet: bytes, mutate: list[tuple[int, int]], whole: bool) -> None:
    if whole:
        mutable = bytearray(build_reply(REQUEST))
        for position, value in mutate:
            mutable[position] = value
        packet = bytes(mutable) + packet
    try:
        parsed: Any = parse_reply(packet, COOKIE, near=time.time_ns())
    except Malformed:
        return
    assert isinstance(parsed, Reply | Kiss)


def test_rubbish_from_the_network_never_raises(server: NtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_ntp, "TIMEOUT", 0.02)
    server.reply = lambda request: os.urandom(24) + request[40:48] + os.urandom(16)
    asking = client(server)
    for _ in range(20):
        assert isinstance(asking.estimate(), Estimate | Failure)
