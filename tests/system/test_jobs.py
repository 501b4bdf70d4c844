"""Against a service with two workers: a job that is killed in the middle goes on, four eyes, and one request sent many times."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.service import Service
from tests.signer.pdfs import judge, make_pdf, qpdf
from tests.system.conftest import Instances
from tests.system.digest_batch import DigestBatch

OFFICERS = 24
LOCKED, PASSWORD = 30, "mat-khau-cua-tep"


@pytest.fixture(scope="module")
def service(new_service: Instances) -> Iterator[Service]:
    """A service of this test's own."""
    service = new_service.make()
    with (service.home / "condau.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[approvals]\nissue = ["device"]\nrole = ["admin"]\n\n[jobs]\nrows_per_second = 6\n')
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
def test_a_job_and_a_batch_survive_kill_9_of_every_worker_and_do_each_row_once(service: Service, tmp_path: Path) -> None:
    lines, document = ["subscriber,profile,reference"], qpdf(tmp_path, make_pdf(), "--encrypt", PASSWORD, "owner", "256", "--")
    for number in range(OFFICERS):
        body = {"handle": f"cb-{number}", "kind": "officer", "common_name": f"Cán bộ {number}", "agency": "000.00.00.X00"}
        _post(service, "/v1/subscribers", json.dumps(body).encode(), "application/json", 201)
        lines.append(f"cb-{number},officer,1/PYC")
    job = _post(service, "/v1/jobs/enrolments?execute=true", "\n".join(lines).encode(), "text/csv", 201)["id"]
    _wait(service, job, at_least=4)
    locked = _send_locked(service, document)
    batch = DigestBatch(service, 200, "two-hundred")
    service.kill()
    waiting = list((service.home / "spool" / "batches").rglob("*.password"))
    assert waiting, "nothing was left to open"
    assert not any(PASSWORD.encode() in path.read_bytes() for path in waiting)
    service.start()
    before = _progress(service, job)
    assert before["done"] < OFFICERS
    assert batch.done < 200
    _wait(service, job, at_least=OFFICERS)
    after = _progress(service, job)
    assert (after["done"], after["failed"], after["refused"]) == (OFFICERS, 0, 0)
    for number in range(OFFICERS):
        page = service.request("GET", f"/v1/certificates?subscriber=cb-{number}&state=issued", key="admin")
        assert len(json.loads(page.body)["certificates"]) == 1, f"cb-{number}"
    batch.check_end()
    _check_locked(service, locked, tmp_path)


def _send_locked(service: Service, document: bytes) -> str:
    """A batch of encrypted documents, and where it is."""
    said = b'--b\r\nContent-Disposition: form-data; name="options"\r\n\r\n' + json.dumps({"password": PASSWORD}).encode() + b"\r\n"
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="{}.pdf"\r\n\r\n'
    parts = [said + head.format(number).encode() + document + b"\r\n" for number in range(LOCKED)]
    path, kind = "/v1/signatures/batches?level=B-B&signer=demo-seal", "multipart/form-data; boundary=b"
    answer = service.request("POST", path, b"".join(parts) + b"--b--\r\n", key="client", kind=kind)
    assert answer.status == 201, answer.body
    return f"/v1/signatures/batches/{json.loads(answer.body)['id']}"


def _check_locked(service: Service, path: str, folder: Path) -> None:
    """All of them are signed, some by workers that were started after the password was sent; it is kept nowhere any more."""
    deadline = time.monotonic() + 90
    while (batch := json.loads(service.request("GET", f"{path}?wait=5", key="client").body))["state"] == "running":
        assert time.monotonic() < deadline, batch
    assert (batch["progress"]["done"], batch["progress"]["failed"]) == (LOCKED, 0)
    signed = service.request("GET", f"{path}/items/{LOCKED}/document", key="client").body
    assert judge(folder, signed, password=PASSWORD) == [True]
    assert not list((service.home / "spool" / "batches").rglob("*.password"))
    assert json.loads(service.request("DELETE", path, key="client").body)["state"] == "discarded"


def _wait(service: Service, job: object, *, at_least: int) -> None:
    deadline = time.monotonic() + 90
    while _progress(service, job)["done"] < at_least:
        assert time.monotonic() < deadline, _progress(service, job)
        time.sleep(0.05)


def _send(service: Service, path: str, body: dict[str, object], *, who: str, key: str | None = None) -> tuple[int, dict[str, Any]]:
    """One POST as one of the credentials' admins; status and answer."""
    headers = {"Authorization": f"Bearer {service.api_key(who)}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body).encode(), headers | ({"Idempotency-Key": key} if key else {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_four_eyes_from_the_request_to_the_certificate(service: Service) -> None:
    order: dict[str, object] = {"profile": "device", "subscriber": "demo-device", "reference": "2/PYC", "key": "p-256"}
    status, asked = _send(service, "/v1/certificates", order, who="admin")
    assert (status, asked["state"]) == (202, "pending")
    consent: dict[str, object] = {"payload_sha256": asked["payload_sha256"]}
    where = f"/v1/approvals/{asked['id']}/approval"
    assert _send(service, where, consent, who="admin")[0] == 403
    status, done = _send(service, where, consent, who="admin2")
    assert (status, done["state"]) == (200, "executed")
    found = service.request("GET", f"/v1/certificates/{done['result']['serial']}", key="admin")
    assert json.loads(found.body)["subscriber"] == "demo-device"


def test_no_admin_is_made_by_one_person_alone(service: Service) -> None:
    assert _send(service, "/v1/clients", {"name": "shadow", "role": "admin"}, who="admin")[0] == 409
    assert _send(service, "/v1/clients", {"name": "shadow", "role": "client"}, who="admin")[0] == 201
    assert _send(service, "/v1/clients/shadow/role", {"role": "admin"}, who="admin")[0] == 202


def test_one_issuance_sent_eight_times_at_once_to_two_workers_is_one_certificate(service: Service) -> None:
    order: dict[str, object] = {"profile": "agency-seal", "subscriber": "demo-seal", "reference": "3/PYC", "key": "p-256"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: _send(service, "/v1/certificates", order, who="admin", key="one"), range(8)))
    assert {status for status, _ in answers} <= {201, 503}
    assert len({answer["serial"] for status, answer in answers if status == 201}) == 1
    page = json.loads(service.request("GET", "/v1/certificates?subscriber=demo-seal&state=issued", key="admin").body)
    assert len([item for item in page["certificates"] if item["serial"] in {answer.get("serial") for _, answer in answers}]) == 1
    assert len(page["certificates"]) == 2  # the demonstration's own, and this one
