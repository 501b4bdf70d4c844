"""The running service: what it counts over both ways of a request, and limits that hold on both."""

from __future__ import annotations

import http.client
import re

from rfc3161_client import TimestampRequestBuilder

from tests.service import Service

QUERY = TimestampRequestBuilder().data(b"counted").build().as_bytes()
KIND = "application/timestamp-query"


def over_the_lane(service: Service, times: int, headers: str = "") -> list[int]:
    """Requests in one piece each, so that they take the express lane, on one connection."""
    head = f"POST /tsa HTTP/1.1\r\nHost: h\r\nContent-Type: {KIND}\r\n{headers}Content-Length: {len(QUERY)}\r\n\r\n"
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.connect()
    statuses = []
    for _ in range(times):
        connection.sock.sendall(head.encode() + QUERY)
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        answer.read()
        statuses.append(answer.status)
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
