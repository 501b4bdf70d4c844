"""The running service: what it counts over both ways of a request, and limits that hold on both."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator

import pytest
from rfc3161_client import TimestampRequestBuilder

from tests.service import Service
from tests.system.conftest import Instances

QUERY = TimestampRequestBuilder().data(b"counted").build().as_bytes()
KIND = "application/timestamp-query"


def over_the_lane(service: Service, times: int, headers: str = "") -> list[int]:
    """The statuses of requests in one piece each, so that they take the express lane, on one connection."""
    return [status for status, _ in answers_of_the_lane(service, times, headers)]


def answers_of_the_lane(service: Service, times: int, headers: str = "") -> list[tuple[int, int]]:
    """Status and Retry-After (0: none) of each."""
    head = f"POST /tsa HTTP/1.1\r\nHost: h\r\nContent-Type: {KIND}\r\n{headers}Content-Length: {len(QUERY)}\r\n\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.connect()
    statuses = []
    for _ in range(times):
        connection.sock.sendall(head.encode() + QUERY)
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        answer.read()
        statuses.append((answer.status, int(answer.getheader("Retry-After", "0"))))
    connection.close()
    return statuses


def counted(service: Service) -> dict[str, float]:
    answer = service.request("GET", "/metrics", key="auditor")
    assert answer.status == 200
    return {name: float(value) for name, value in re.findall(r"^(condau_\S+) (\S+)$", answer.body.decode(), re.MULTILINE)}


def test_both_ways_are_counted_over_all_workers(service: Service) -> None:
    before = counted(service)
    assert over_the_lane(service, 20) == [200] * 20
    for _ in range(5):
        assert service.request("POST", "/tsa", QUERY, kind=KIND).status == 200
        assert service.request("POST", "/tsa", b"junk", kind=KIND).status == 200
    after = counted(service)
    granted, refused = (f'condau_timestamp_requests_total{{outcome="{name}"}}' for name in ("GRANTED", "BAD_DATA_FORMAT"))
    assert after[granted] - before.get(granted, 0) == 25
    assert after[refused] - before.get(refused, 0) == 5
    assert after["condau_timestamp_hsm_seconds_count"] - before.get("condau_timestamp_hsm_seconds_count", 0) == 25
    assert after["condau_timestamp_seconds_count"] - before.get("condau_timestamp_seconds_count", 0) == 30
    assert {"condau_clock_trusted", "condau_clock_offset_seconds", "condau_commit_groups_count"} <= set(after)


def test_the_counters_are_not_for_everybody(service: Service) -> None:
    assert service.request("GET", "/metrics").status == 401
    assert service.request("GET", "/metrics", key="client").status == 403


def test_a_key_gives_the_record_its_name_and_a_wrong_one_is_refused(service: Service) -> None:
    key = f"Authorization: Bearer {service.api_key('client')}\r\n"
    assert over_the_lane(service, 2, key) == [200, 200]
    assert over_the_lane(service, 1, "Authorization: Bearer nobody\r\n") == [401]
    audit = service.request("GET", "/v1/audit-entries?limit=20", key="auditor").body.decode()
    assert audit.count('"actor":"demo-client"') >= 2


@pytest.fixture(scope="module")
def limited(new_service: Instances) -> Iterator[Service]:
    """A service with limits, of one worker, so that every request meets the same count."""
    service = new_service.make()
    toml = service.home / "condau.toml"
    toml.write_text(toml.read_text(encoding="utf-8") + LIMITS, encoding="utf-8")
    service.start()
    yield service
    assert service.stop() == 0


LIMITS = """
[server]
workers = 1

[tsa.limits]
anonymous_per_second = 3

[[tsa.limits.clients]]
name = "demo-client"
per_day = 4
"""


def answers_of_the_general_way(service: Service, times: int, key: str | None = None) -> list[tuple[int, int]]:
    answers = [service.request("POST", "/tsa", QUERY, key=key, kind=KIND) for _ in range(times)]
    return [(answer.status, int(answer.headers.get("retry-after", "0"))) for answer in answers]


def test_a_rate_holds_on_both_ways_and_the_answer_says_when_to_come_back(limited: Service) -> None:
    """The anonymous of one address, three a second, whichever way they take."""
    for ask in (answers_of_the_lane, answers_of_the_general_way):
        answers = ask(limited, 40)  # a machine that is busy gives a few of them in a second, not forty
        assert answers[0] == (200, 0)
        assert (429, 1) in answers
        assert {200, 429} == {status for status, _ in answers}
        time.sleep(1.1)
        assert ask(limited, 1) == [(200, 0)]
        time.sleep(1.1)


def test_a_quota_of_a_day_is_one_for_both_ways(limited: Service) -> None:
    key = f"Authorization: Bearer {limited.api_key('client')}\r\n"
    granted = 'condau_timestamp_requests_total{outcome="GRANTED"}'
    before = counted(limited).get(granted, 0)
    for asked in range(20):  # on a machine that stood still the clock is not trusted for a moment, and a refusal is no timestamp
        answers = answers_of_the_general_way(limited, 1, "client") if asked % 2 else answers_of_the_lane(limited, 1, key)
        assert answers == [(200, 0)]
        if counted(limited)[granted] - before == 4:
            break
    for status, retry_after in answers_of_the_lane(limited, 1, key) + answers_of_the_general_way(limited, 1, "client"):
        assert (status, 0 < retry_after <= 86_400) == (429, True)
    assert over_the_lane(limited, 1) == [200]  # what one has used up the others still have
