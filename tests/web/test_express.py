"""The express lane: what it takes, what it leaves to the general way, and that both answer alike."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from email import message_from_bytes
from email.message import Message

import pytest

from audit.log import Actor
from core.db import Database
from core.errors import CondauError, TooMany
from core.logs import JsonLines
from web.access import ApiKeys
from web.express import ExpressRequest, Head, HeadReader
from web.express_shell import Call, ExpressShell
from web.operation import OPEN, PUBLIC, Audience

GOOD = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc"


class Service:
    reply_type = "a/reply"
    audience: Audience = OPEN

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def takes(self, path: str, kind: str) -> bool:
        return path == "/x" and kind == "a/b"

    def answer_calls(self, calls: Sequence[Call]) -> list[bytes | CondauError]:
        self.calls += calls
        return [TooMany("slow down", retry_after=7) if call.body == b"too" else call.body.upper() for call in calls]

    def route(self, path: str, kind: str) -> int | None:
        return 0 if self.takes(path, kind) else None

    def answer(self, requests: Sequence[ExpressRequest], *, keep: bool) -> list[bytes]:
        raise NotImplementedError


def parse_express(data: bytes) -> ExpressRequest | None:
    return HeadReader(Service()).read(data, "10.0.0.1")


def test_a_plain_complete_request_is_read() -> None:
    request = parse_express(GOOD)
    assert request is not None
    assert (request.head.path, request.body, request.peer) == ("/x", b"abc", "10.0.0.1")
    assert request.head.headers["host"] == "h"


@pytest.mark.parametrize(
    "change",
    [
        (b"POST", b"GET"),
        (b"POST", b"post"),
        (b"/x", b"/y"),
        (b"/x", b"/x?a=b"),
        (b"/x", b"http://h/x"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"\r\n", b"\n"),
        (b"Host: h\r\n", b""),
        (b"Host: h\r\n", b"Host: h\r\nHost: g\r\n"),
        (b"Host: h\r\n", b"Host: h\r\n folded\r\n"),
        (b"Host: h\r\n", b"Host : h\r\n"),
        (b"Host: h\r\n", b"Host: h\r\nTransfer-Encoding: chunked\r\n"),
        (b"Host: h\r\n", b"Host: h\r\nExpect: 100-continue\r\n"),
        (b"Host: h\r\n", b"Host: h\r\nConnection: close\r\n"),
        (b"Host: h\r\n", b"Host: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"),
        (b"Host: h\r\n", b"Host: h\r\nX: \x00\r\n"),
        (b"Host: h\r\n", "Host: h\r\nX: ế\r\n".encode()),
        (b"a/b", b"text/plain"),
        (b"Length: 3", b"Length: 4"),
        (b"Length: 3", b"Length: 2"),
        (b"Length: 3", b"Length: +3"),
        (b"Length: 3", b"Length: 3, 3"),
        (b"Length: 3", b"Length: 03"),
        (b"Length: 3", b"Length: -1"),
        (b"Content-Length: 3\r\n", b""),
        (b"abc", b"ab"),
        (b"abc", b"abcPOST /x HTTP/1.1\r\n"),
        (b"\r\n\r\nabc", b""),
    ],
)
def test_anything_less_plain_goes_the_general_way(change: tuple[bytes, bytes]) -> None:
    data = GOOD.replace(*change)
    assert data != GOOD
    assert parse_express(data) is None


def test_no_beginning_of_a_request_is_taken_for_one() -> None:
    assert [n for n in range(len(GOOD)) if parse_express(GOOD[:n])] == []


def test_a_head_that_is_known_is_still_held_to_its_length() -> None:
    reader = HeadReader(Service())
    for _ in range(2):
        assert reader.read(GOOD, "10.0.0.1") is not None
        for data in (GOOD + b"d", GOOD[:-1], GOOD + GOOD):
            assert reader.read(data, "10.0.0.1") is None
    other = reader.read(GOOD[:-3] + b"xyz", "10.0.0.2")
    assert other is not None
    assert (other.body, other.peer) == (b"xyz", "10.0.0.2")


def test_heads_are_not_remembered_without_end() -> None:
    reader = HeadReader(Service())
    for number in range(1200):
        assert reader.read(GOOD.replace(b"Host: h", b"Host: h%d" % number), "10.0.0.1") is not None
        assert reader.read(GOOD.replace(b"Host: h", b"Host: h\r\nX-Request-Id: id-%06d" % number), "10.0.0.1") is not None
    assert len(reader._heads) <= 500


def head(**headers: str) -> Head:
    return Head("/x", {name.replace("_", "-"): value for name, value in headers.items()}, 3, 0)


def parse(answer: bytes) -> tuple[int, Message, bytes]:
    start, _, rest = answer.partition(b"\r\n")
    fields, _, body = rest.partition(b"\r\n\r\n")
    read = message_from_bytes(fields)
    assert int(read["Content-Length"]) == len(body)
    return int(start.split()[1]), read, body


def test_of_the_public_no_key_is_looked_at(database: Database) -> None:
    """As on the general way: a wrong key is no reason to refuse what is for everybody."""
    service = Service()
    service.audience = PUBLIC
    shell = ExpressShell(services=[service], access=ApiKeys(database=database))
    (answer,) = shell.answer([ExpressRequest(head(authorization="Bearer nobody"), b"abc", "10.0.0.1")], keep=True)
    assert parse(answer)[0] == 200
    assert [(call.actor.name, call.actor.role) for call in service.calls] == [("anonymous", "public")]


def test_each_gets_its_own_answer_and_a_key_that_is_not_known_gets_none(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service()
    shell = ExpressShell(services=[service], access=ApiKeys(database=database))
    requests = [
        ExpressRequest(head(x_request_id="request-0001"), b"abc", "10.0.0.1"),
        ExpressRequest(head(authorization="Bearer nobody"), b"abc", "10.0.0.1"),
        ExpressRequest(head(), b"too", "10.0.0.1"),
    ]
    with caplog.at_level(logging.INFO, "condau.request"):
        good, unknown, many = [parse(answer) for answer in shell.answer(requests, keep=True)]
    assert (good[0], good[2], good[1]["X-Request-Id"], good[1]["Content-Type"]) == (200, b"ABC", "request-0001", "a/reply")
    assert (good[1]["Connection"], good[1]["X-Content-Type-Options"]) == ("keep-alive", "nosniff")
    assert (unknown[0], unknown[1]["WWW-Authenticate"]) == (401, "Bearer")
    assert (many[0], many[1]["Retry-After"]) == (429, "7")
    assert [call.actor for call in service.calls] == [
        Actor("anonymous", "public", "request-0001"),
        Actor("anonymous", "public", many[1]["X-Request-Id"]),
    ]
    lines = [json.loads(line) for record in caplog.records for line in JsonLines().format(record).splitlines()]
    assert [(line["status"], line["actor"], line["request_id"]) for line in lines] == [
        (200, "anonymous", "request-0001"),
        (401, None, unknown[1]["X-Request-Id"]),
        (429, "anonymous", many[1]["X-Request-Id"]),
    ]


def test_requests_of_several_rooms_come_back_in_their_order(database: Database) -> None:
    shell = ExpressShell(services=[Service(), Other()], access=ApiKeys(database=database))
    assert [shell.route(path, "a/b") for path in ("/x", "/y", "/z")] == [0, 1, None]
    mixed = [ExpressRequest(Head(f"/{'xy'[route]}", {}, 3, route), b"abc", "") for route in (0, 1, 1, 0)]
    assert [parse(answer)[2] for answer in shell.answer(mixed, keep=False)] == [b"ABC", b"cba", b"cba", b"ABC"]
    assert parse(shell.answer(mixed, keep=False)[0])[1]["Connection"] == "close"


class Other(Service):
    def takes(self, path: str, kind: str) -> bool:
        return path == "/y" and kind == "a/b"

    def answer_calls(self, calls: Sequence[Call]) -> list[bytes | CondauError]:
        return [call.body[::-1] for call in calls]


def test_a_fault_of_ours_is_a_problem_for_those_it_hits_and_in_the_log(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Service):
        def answer_calls(self, calls: Sequence[Call]) -> list[bytes | CondauError]:
            raise ZeroDivisionError(len(calls))

    shell = ExpressShell(services=[Broken(), Other()], access=ApiKeys(database=database))
    requests = [ExpressRequest(Head("/x", {}, 3, 0), b"abc", ""), ExpressRequest(Head("/y", {}, 3, 1), b"abc", "")]
    broken, well = [parse(answer) for answer in shell.answer(requests, keep=True)]
    assert (broken[0], json.loads(broken[2])["type"]) == (500, "urn:condau:problem:internal")
    assert well[2] == b"cba"
    assert "ZeroDivisionError" in caplog.text
