"""Bad input and hard times: what a running service answers, and that nothing half done is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench.load import SAMPLE_PDF, Load, make_csr
from core.config import parse_config
from core.db import Database
from pki.models import Certificate
from server import GRACE_SECONDS
from signer.models import Signature
from tests.service import Service
from tests.system.conftest import Instances

CSR = "/v1/certificates?profile=device&subscriber=demo-device&reference=01/CV-TN"


def open_database(service: Service) -> Database:
    """The database the service works on."""
    url = service.environment["CONDAU_DATABASE_URL"]
    return Database(parse_config({"database_url": url} if url else {}, service.home).database_url)


def count(service: Service, table: type[Certificate | Signature]) -> int:
    """Rows of one table."""
    database = open_database(service)
    with database.read() as db:
        found = db.scalar(sa.select(sa.func.count()).select_from(table))
    database.close()
    return found or 0


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "field"),
    [
        ("/v1/signatures/pdf", b"%PDF-1.7 and nothing", "application/pdf", 400, "document"),
        ("/v1/signatures/pdf", b"", "application/pdf", 400, "document"),
        ("/v1/signatures/pdf", SAMPLE_PDF, "text/plain", 415, "Content-Type"),
        ("/v1/signatures/pdf?signer=nobody", SAMPLE_PDF, "application/pdf", 422, "signer"),
        ("/v1/signatures/pdf?level=B-X", SAMPLE_PDF, "application/pdf", 422, "level"),
        ("/v1/signatures/pdf?page=99", SAMPLE_PDF, "application/pdf", 422, "page"),
        ("/v1/signatures/pdf?colour=red", SAMPLE_PDF, "application/pdf", 422, "colour"),
        ("/v1/signatures/xml", b"<a>", "application/xml", 400, "document"),
        ("/v1/signatures/xml", b"<!DOCTYPE a><a/>", "application/xml", 422, "document"),
        ("/v1/signatures/xml", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "application/xml", 422, "document"),
    ],
)
def test_a_document_that_cannot_be_signed_is_refused_by_field(
    service: Service, path: str, body: bytes, kind: str, status: int, field: str
) -> None:
    before = count(service, Signature)
    answer = service.request("POST", path, body, key="client", kind=kind)
    problem = json.loads(answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["violations"][0]["field"] == field
    assert answer.status in (400, 422) if status != 415 else answer.status == 415
    assert count(service, Signature) == before


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (CSR, b"no csr", "csr"),
        ("/v1/certificates?profile=none&reference=01/CV-TN&subscriber=demo-device", make_csr(), "profile"),
        ("/v1/certificates?profile=device&reference=01/CV-TN&subscriber=nobody", make_csr(), "subscriber"),
    ],
)
def test_a_certificate_that_cannot_be_issued_is_refused_by_field(service: Service, path: str, body: bytes, field: str) -> None:
    before = count(service, Certificate)
    answer = service.request("POST", path, body, key="admin", kind="application/pkcs10")
    assert 400 <= answer.status < 500
    assert field in {item["field"] for item in json.loads(answer.body)["violations"]}
    assert count(service, Certificate) == before


def test_an_unknown_certificate_is_not_found(service: Service) -> None:
    body = json.dumps({"reason": "unspecified"}).encode()
    answer = service.request("POST", "/v1/certificates/abcdef/revocation", body, key="admin", kind="application/json")
    assert answer.status == 404


def test_hostile_bytes_are_a_verdict(service: Service) -> None:
    for body in (b"", b"\x00" * 1000, b"%PDF-1.4\n" + b"[" * 10_000, b"<" * 10_000, b"\x30\x80" * 5000, os.urandom(5000)):
        answer = service.request("POST", "/v1/verifications", body, kind="application/octet-stream")
        assert answer.status == 200
        assert json.loads(answer.body)["indication"] != "TOTAL-PASSED"


def test_a_body_cut_off_in_the_middle_leaves_nothing_behind(service: Service) -> None:
    before = count(service, Signature), count(service, Certificate)
    for path, key, kind in (("/v1/signatures/pdf", "client", "application/pdf"), (CSR, "admin", "application/pkcs10")):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.api_key(key)}\r\nContent-Type: {kind}\r\n"
        for framing in ("Content-Length: 100000\r\n\r\nhalf of it", "Transfer-Encoding: chunked\r\n\r\n1000\r\nhalf of it"):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall((head + framing).encode())
    time.sleep(0.5)
    assert (count(service, Signature), count(service, Certificate)) == before
    assert service.request("GET", "/readyz").status == 200


@pytest.mark.one_database
def test_more_than_the_limit_is_refused_while_it_is_being_read(new_service: Instances) -> None:
    service = new_service.make()
    with (service.home / "condau.toml").open("a") as config:
        config.write("\n[server]\nbody_limit = 100000\ndocument_limit = 100000\n")
    service.start()
    answer = service.request("POST", "/v1/signatures/pdf", SAMPLE_PDF + b" " * 100_000, key="client", kind="application/pdf")
    assert answer.status == 413
    head = f"POST /v1/signatures/pdf HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.api_key('client')}\r\n"
    head += "Content-Type: application/pdf\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head.encode())
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        connection.sendall(chunk * 2)  # past the limit, and the body goes on
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert service.stop() == 0


def test_a_locked_database_is_a_503_and_never_half_a_certificate(new_service: Instances) -> None:
    service = new_service.make()
    service.start()
    before = count(service, Certificate)
    database = open_database(service)
    lock = "BEGIN EXCLUSIVE" if database.is_sqlite else "LOCK TABLE certificate IN ACCESS EXCLUSIVE MODE"
    holder = database.engine.raw_connection()
    holder.cursor().execute(lock)
    answer = service.request("POST", CSR, make_csr(), key="admin", kind="application/pkcs10")
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    holder.rollback()
    holder.close()
    database.close()
    assert count(service, Certificate) == before
    assert service.request("POST", CSR, make_csr(), key="admin", kind="application/pkcs10").status == 201
    assert service.stop() == 0


def test_lost_database_connections_are_503_at_most_and_heal(new_service: Instances) -> None:
    service = new_service.make()
    database = open_database(service)
    if database.is_sqlite:
        pytest.skip("SQLite has no connections that somebody else can end")
    service.start()
    load = Load(service, clients=3)
    load.start()
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(5):
        time.sleep(0.5)
        with database.read() as db:
            db.execute(sa.text(others))
    time.sleep(1)
    before = load.tally.server_errors
    time.sleep(1)
    tally = load.stop()
    assert set(tally.statuses) <= {200, 201, 503}
    assert tally.server_errors == before
    assert tally.statuses[200]
    database.close()
    assert service.stop() == 0


def test_sigterm_lets_what_was_begun_finish(new_service: Instances) -> None:
    """Under load: every answer that comes is a good one, and then nobody is there any more."""
    service = new_service.make()
    service.start()
    load = Load(service, clients=6)
    load.start()
    deadline = time.monotonic() + 60
    while not load.tally.statuses[200] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert service.stop() == 0
    while not load.tally.broken and time.monotonic() < deadline + 30:
        time.sleep(0.05)
    tally = load.stop()
    assert set(tally.statuses) <= {200, 201}
    assert tally.statuses[200]
    assert tally.broken, "the load went on after the end"
    assert "traceback" not in service.log()


@pytest.mark.one_database
def test_sigint_stops_it_as_well(new_service: Instances) -> None:
    service = new_service.make()
    service.start()
    deadline = time.monotonic() + 60
    while not all(len(list(Path(f"/proc/{pid}/task").iterdir())) > 1 for pid in service.worker_pids()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)  # a worker that is still being started would say so in the log
    began = time.monotonic()
    os.killpg(service.pid, signal.SIGINT)  # what Ctrl-C sends: to the master and every worker at once
    assert service.wait() == 0
    assert time.monotonic() - began < GRACE_SECONDS + 5
    assert "Traceback" not in service.log()


def test_init_again_keeps_everything(service: Service) -> None:
    before = {path: path.read_bytes() for path in (service.home / "condau.toml", service.home / "dev" / "credentials.toml")}
    root = service.request("GET", "/ca/root.pem").body
    service.condau("init", "--development")
    assert {path: path.read_bytes() for path in before} == before
    assert service.request("GET", "/ca/root.pem").body == root


def test_no_key_file_and_nothing_readable_by_others(service: Service) -> None:
    assert (service.home / "dev" / "credentials.toml").stat().st_mode & 0o777 == 0o600
    for path in service.home.rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes(), path
            assert not path.stat().st_mode & 0o077 or _is_ours_to_show(path), path


def _is_ours_to_show(path: Path) -> bool:
    return path.name == "service.log"
