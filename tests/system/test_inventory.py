"""Search, export, counts, contacts and deliveries, asked of a service that runs, over HTTP and by `condau`."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.notices.test_notices import SECRET, Receiver
from tests.service import Service


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Listens on the loopback."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Service]:
    """An instance with one webhook."""
    service = Service(tmp_path_factory.mktemp("told") / "var")
    service.condau("init", "--development")
    secrets = service.home / "secrets" / "webhooks"
    secrets.mkdir(parents=True)
    (secrets / "records").write_bytes(SECRET)
    with (service.home / "condau.toml").open("a", encoding="utf-8") as settings:
        settings.write(f'\n[notices.webhooks]\nrecords = "{receiver.url}"\n')
    service.start()
    yield service
    service.end()


def _get(service: Service, path: str) -> Any:
    answer = service.request("GET", path, key="admin")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_the_officer_is_found_without_accents_and_exported(told: Service) -> None:
    [row] = _get(told, "/v1/certificates?subscriber=demo-officer")["certificates"]
    name = row["subject"].split("CN=")[1].split(",")[0]
    for text in (name, name.upper(), name.split()[-1]):
        found = _get(told, f"/v1/certificates?text={quote(text)}&standing=valid&key_in_hsm=true")["certificates"]
        assert row["serial"] in [item["serial"] for item in found]
    exported = told.request("GET", f"/v1/certificates/export?agency={row['agency']}", key="admin")
    assert exported.headers["content-type"].startswith("text/csv")
    table = list(csv.DictReader(io.StringIO(exported.body.decode("utf-8-sig"))))
    assert row["serial"] in [line["serial"] for line in table]
    lines = told.request("GET", "/v1/certificates/export?format=jsonl&limit=1", key="admin")
    assert lines.status == 422
    lines = told.request("GET", "/v1/certificates/export?format=jsonl", key="admin")
    everything = _get(told, "/v1/certificates?limit=1000")["certificates"]
    assert [json.loads(line)["serial"] for line in lines.body.splitlines()] == [item["serial"] for item in everything]
    assert _get(told, "/v1/certificates/summary")["total"] == len(everything)
    assert row["serial"] in told.condau("certificates", *name.split())
    assert told.condau("certificates", "--format", "jsonl").count("\n") == len(everything)


@pytest.mark.parametrize("query", ["agency=H99.99.99", "cursor=x", "text=%25", "standing=good", "expiring_days=3&standing=valid"])
def test_a_search_that_cannot_be_meant_is_a_422(told: Service, query: str) -> None:
    assert told.request("GET", f"/v1/certificates?{query}", key="admin").status == 422
    assert told.request("GET", f"/v1/certificates/export?{query}", key="admin").status == 422


def test_nobody_else_sees_the_inventory(told: Service) -> None:
    for path in ("/v1/certificates/export", "/v1/certificates/summary", "/v1/deliveries", "/v1/contacts/subscriber/demo-officer"):
        assert told.request("GET", path).status == 401
        assert told.request("GET", path, key="client").status == 403


def test_contacts_are_kept(told: Service) -> None:
    path = "/v1/contacts/subscriber/demo-officer"
    body = json.dumps({"email": "officer@pki.example"}).encode()
    assert told.request("PUT", path, body, key="admin", kind="application/json").status == 200
    assert _get(told, path) == {"owner": "subscriber/demo-officer", "email": "officer@pki.example"}
    for wrong in ("nobody", "a@b\r\nBcc: c@d", "a b@c"):
        refused = told.request("PUT", path, json.dumps({"email": wrong}).encode(), key="admin", kind="application/json")
        assert refused.status == 422
    assert told.request("GET", "/v1/contacts/subscriber/nobody", key="admin").status == 404
    assert "none" in told.condau("contact", "subscriber", "demo-officer")


def test_every_event_reaches_the_webhook_and_its_history(told: Service, receiver: Receiver) -> None:
    told.condau("deliver")
    [row] = _get(told, "/v1/certificates?subscriber=demo-officer")["certificates"]
    deadline = time.monotonic() + 60
    while not _get(told, f"/v1/deliveries?subject={row['serial']}&state=delivered")["deliveries"]:
        assert time.monotonic() < deadline  # the service itself may have begun to deliver it
        time.sleep(0.1)
    events = [json.loads(body) for _, body in receiver.received]
    assert ("certificate.issued", row["serial"]) in [(event["kind"], event["subject"]) for event in events]
    [delivery] = _get(told, f"/v1/deliveries?subject={row['serial']}&state=delivered")["deliveries"]
    assert (delivery["recipient"], delivery["channel"], len(delivery["attempts"])) == ("records", "webhook", 1)
    assert Path(told.home, "service.log").exists()
