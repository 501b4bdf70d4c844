"""A job in a service with two workers that is killed in the middle: it goes on, and every row is done once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.service import Service
from tests.system.conftest import Instances

OFFICERS = 24


@pytest.fixture
def service(new_service: Instances) -> Iterator[Service]:
    """A service of this test's own."""
    service = new_service.make()
    service.start()
    yield service
    service.end()


def _post(service: Service, path: str, body: bytes, kind: str, status: int) -> dict[str, object]:
    answer = service.request("POST", path, body, key="admin", kind=kind)
    assert answer.status == status, answer.body
    found: dict[str, object] = json.loads(answer.body)
    return found


def _progress(service: Service, job: object) -> dict[str, int]:
    answer = json.loads(service.request("GET", f"/v1/jobs/{job}", key="admin").body)
    found: dict[str, int] = answer["progress"]
    return found


@pytest.mark.slow
def test_a_job_survives_kill_9_of_every_worker_and_does_each_row_once(service: Service) -> None:
    lines = ["subscriber,profile,reference"]
    for number in range(OFFICERS):
        body = {"handle": f"cb-{number}", "kind": "officer", "common_name": f"Cán bộ {number}", "agency": "000.00.00.X00"}
        _post(service, "/v1/subscribers", json.dumps(body).encode(), "application/json", 201)
        lines.append(f"cb-{number},officer,1/PYC")
    job = _post(service, "/v1/jobs/enrolments?execute=true", "\n".join(lines).encode(), "text/csv", 201)["id"]
    _wait(service, job, at_least=4)
    service.kill()
    service.start()
    before = _progress(service, job)
    assert before["done"] < OFFICERS
    _wait(service, job, at_least=OFFICERS)
    after = _progress(service, job)
    assert (after["done"], after["failed"], after["refused"]) == (OFFICERS, 0, 0)
    for number in range(OFFICERS):
        page = service.request("GET", f"/v1/certificates?subscriber=cb-{number}&state=issued", key="admin")
        assert len(json.loads(page.body)["certificates"]) == 1, f"cb-{number}"


def _wait(service: Service, job: object, *, at_least: int) -> None:
    deadline = time.monotonic() + 90
    while _progress(service, job)["done"] < at_least:
        assert time.monotonic() < deadline, _progress(service, job)
        time.sleep(0.05)
