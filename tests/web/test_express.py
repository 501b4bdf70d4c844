"""The express lane: what it takes, what it leaves to the general way, and that both answer alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from audit.log import Actor
from core.db import Database
from core.errors import CondauError, TooMany
from web.access import ApiKeys
from web.express import ExpressAnswer, ExpressRequest, parse_express
from web.express_shell import Call, ExpressShell

GOOD = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Length: 3\r\n\r\nabc"


class Service:
    reply_type = "a/reply"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def takes(self, path: str, kind: str) -> bool:
        return path == "/x" and kind == "a/b"

    def answer_calls(self, calls: Sequence[Call]) -> list[bytes | CondauError]:
        self.calls += calls
        return [TooMany("slow down", retry_after=7) if call.body == b"too" else call.body.upper() for call in calls]

    def answer(self, requests: Sequence[ExpressRequest]) -> list[ExpressAnswer]:
        raise NotImplementedError


def test_a_plain_complete_request_is_read() -> None:
    request = parse_express(GOOD, "10.0.0.1", Service())
    assert request is not None
    assert (request.path, request.body, request.peer) == ("/x", b"abc", "10.0.0.1")
    assert request.headers["host"] == "h"


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
    assert parse_express(data, "10.0.0.1", Service()) is None


def test_no_beginning_of_a_request_is_taken_for_one() -> None:
    assert [n for n in range(len(GOOD)) if parse_express(GOOD[:n], "10.0.0.1", Service())] == []


def test_each_gets_its_own_answer_and_a_key_that_is_not_known_gets_none(database: Database) -> None:
    service = Service()
    shell = ExpressShell(service=service, access=ApiKeys(database=database))
    plain = {"x-request-id": "request-0001"}
    requests = [
        ExpressRequest("/x", plain, b"abc", "10.0.0.1"),
        ExpressRequest("/x", {"authorization": "Bearer nobody"}, b"abc", "10.0.0.1"),
        ExpressRequest("/x", {}, b"too", "10.0.0.1"),
    ]
    good, unknown, many = shell.answer(requests)
    assert (good.status, good.body, good.headers["X-Request-Id"]) == (200, b"ABC", "request-0001")
    assert (unknown.status, unknown.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (many.status, many.headers["Retry-After"]) == (429, "7")
    assert [call.actor for call in service.calls] == [
        Actor("anonymous", "public", "request-0001"),
        Actor("anonymous", "public", many.headers["X-Request-Id"]),
    ]
    assert many.encode(keep=False).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
