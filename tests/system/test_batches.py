"""A batch against a running service with two workers: killed in the middle, it goes on and comes to its end."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service import CONDAU, Service
from tests.signer.pdfs import judge, make_pdf
from tests.system.conftest import Instances, run

DIGESTS = 300


@pytest.fixture(scope="module")
def service(new_service: Instances) -> Iterator[Service]:
    """A service of this module's own."""
    service = new_service.make()
    service.start()
    yield service
    service.end()


def _ask(service: Service, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        said = {"Authorization": f"Bearer {service.api_key('client')}", "Content-Type": "application/json"}
        connection.request(method, f"/v1/signatures/batches{path}", body, said | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _wait(service: Service, batch: int, *, done: int) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while True:
        _, found = _ask(service, "GET", f"/{batch}?wait=1" if done == DIGESTS else f"/{batch}")
        if found["progress"]["done"] >= done:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.mark.slow
def test_a_batch_survives_kill_9_and_each_item_comes_to_one_result(service: Service) -> None:
    items = [
        {"name": f"hồ sơ {number}", "digest": hashlib.sha256(bytes([number % 256, 1])).hexdigest()} for number in range(DIGESTS)
    ]
    body = json.dumps({"items": items}).encode()
    status, batch = _ask(service, "POST", "?level=B-B&signer=demo-seal", body, **{"Idempotency-Key": "thousands"})
    assert (status, batch["state"], batch["progress"]["total"]) == (201, "running", DIGESTS)
    _wait(service, batch["id"], done=5)
    service.kill()
    service.start()
    assert _ask(service, "GET", f"/{batch['id']}")[1]["progress"]["done"] < DIGESTS
    ended = _wait(service, batch["id"], done=DIGESTS)
    assert (ended["state"], ended["progress"]["failed"]) == ("done", 0)
    _, page = _ask(service, "GET", f"/{batch['id']}/items?limit=1000")
    assert [item["name"] for item in page["items"]] == [item["name"] for item in items]
    assert len({item["result"]["cms"] for item in page["items"]}) == DIGESTS
    status, again = _ask(service, "POST", "?level=B-B&signer=demo-seal", body, **{"Idempotency-Key": "thousands"})
    assert (status, again["id"]) == (201, batch["id"])
    assert _ask(service, "DELETE", f"/{batch['id']}")[1]["state"] == "discarded"


def test_a_folder_is_signed_by_one_command(service: Service, tmp_path: Path) -> None:
    (tmp_path / "vào").mkdir()
    (tmp_path / "vào" / "a.pdf").write_bytes(make_pdf())
    (tmp_path / "vào" / "hỏng.pdf").write_bytes(b"no PDF")
    client = service.credentials()["client"]["name"]
    command = [*CONDAU, "batch", "sign", tmp_path / "vào", "--output", tmp_path / "ra", "--client", client, "--level", "B-T"]
    done = run(*command, "--signer", "demo-seal", check=False, env=service.environment)
    assert (done.returncode, "1 of 2 signed" in done.stdout) == (1, True), done.stderr
    assert "hỏng.pdf: document: " in done.stderr
    assert judge(tmp_path, (tmp_path / "ra" / "a.pdf").read_bytes()) == [True]
    assert not list((service.home / "spool" / "batches").iterdir())


def test_files_of_one_call_come_back_at_the_level_asked_for(service: Service, tmp_path: Path) -> None:
    documents = [make_pdf(pages=number) for number in (1, 2, 3)]
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="{}.pdf"\r\n\r\n'
    parts = [head.format(number).encode() + document + b"\r\n" for number, document in enumerate(documents)]
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    status, batch = _ask(service, "POST", "?level=B-LTA&signer=demo-seal&wait=20", b"".join(parts) + b"--b--\r\n", **kind)
    assert (status, batch["state"], batch["progress"]["done"]) == (201, "done", 3)
    for number, document in enumerate(documents, start=1):
        path = f"/v1/signatures/batches/{batch['id']}/items/{number}/document"
        signed = service.request("GET", path, key="client").body
        assert signed.startswith(document)
        assert judge(tmp_path, signed)[0]
