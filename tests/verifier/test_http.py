"""POST /v1/verifications behind the HTTP shell."""

from __future__ import annotations

from typing import Any

import falcon
import pytest
from falcon import testing

from core.db import Database
from tests.verifier.authorities import NOW, Pki
from tests.verifier.files import encrypted_pdf, plain_pdf, sign
from tests.verifier.test_service import verifier as verifier  # noqa: PLC0414 - the fixture
from tests.verifier.test_timestamps import DATA, token
from verifier.http import Verifications
from verifier.service import Verifier
from verifier.verdict import Report
from web import problems
from web.access import ApiKeys, Shell


@pytest.fixture
def client(verifier: Verifier, database: Database) -> testing.TestClient:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/v1/verifications", Verifications(verifier=verifier))
    return testing.TestClient(app)


def post(client: testing.TestClient, body: bytes, kind: str | None) -> Report:
    answer = client.simulate_post("/v1/verifications", body=body, headers={} if kind is None else {"Content-Type": kind})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    return Report.model_validate_json(answer.content)


def form(parts: dict[str, bytes]) -> bytes:
    """As multipart/form-data with the boundary ``b``."""
    head = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), value) for name, value in parts.items()) + b"--b--\r\n"


@pytest.mark.parametrize(
    "kind", [None, "application/pdf", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain; charset=utf-8"]
)
def test_anybody_may_ask_under_any_media_type(client: testing.TestClient, pki: Pki, kind: str | None) -> None:
    report = post(client, sign(plain_pdf(), pki), kind)
    assert (report.conclusion, report.verified_at) == ("valid", NOW)


def test_data_go_along_as_another_part(client: testing.TestClient, pki: Pki) -> None:
    parts = {"document": token(pki), "data": DATA}
    assert post(client, form(parts), "multipart/form-data; boundary=b").conclusion == "valid"


def test_a_password_goes_along_as_an_option(client: testing.TestClient, pki: Pki) -> None:
    document = sign(encrypted_pdf("mo cua"), pki, password="mo cua")
    assert post(client, document, "application/pdf").conclusion == "indeterminate"
    parts = {"document": document, "options": b'{"password": "mo cua"}'}
    assert post(client, form(parts), "multipart/form-data; boundary=b").conclusion == "valid"


def test_junk_is_a_report_too(client: testing.TestClient) -> None:
    assert post(client, b"\0\1\2", "application/pdf").conclusion == "invalid"
