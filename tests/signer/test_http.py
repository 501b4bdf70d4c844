"""Signing over HTTP, as a document system does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from falcon import testing

from audit.log import Actor
from core.errors import Unavailable
from registry.models import ApiClient
from registry.registry import key_digest
from signer.http import PdfSignatures, XmlSignatures
from signer.service import Signer
from tests.signer.house import CLIENT, House
from tests.signer.pdfs import judge, make_pdf, text_of
from tests.signer.test_stamps import make_seal
from web import problems
from web.access import ApiKeys, Shell

KEY = {"Authorization": "Bearer a-key"}
PDF = {**KEY, "Content-Type": "application/pdf"}


def client_of(house: House, signer: Signer) -> testing.TestClient:
    with house.database.write() as db:
        db.execute(sa.update(ApiClient).where(ApiClient.name == CLIENT.name).values(key_sha256=key_digest("a-key")))
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/v1/signatures/pdf", PdfSignatures(signer=signer))
    app.add_route("/v1/signatures/xml", XmlSignatures(signer=signer))
    return testing.TestClient(app)


@pytest.fixture
def client(house: House) -> testing.TestClient:
    return client_of(house, house.signer)


def test_a_bare_document_comes_back_signed(client: testing.TestClient, tmp_path: Path) -> None:
    document = make_pdf()
    answer = client.simulate_post("/v1/signatures/pdf", body=document, headers=PDF, params={"level": "B-B", "text": "Đã ký"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.startswith(document)
    assert judge(tmp_path, answer.content) == [True]
    assert "Đã ký" in text_of(tmp_path, answer.content)


def test_multipart_takes_document_options_and_image(client: testing.TestClient, tmp_path: Path) -> None:
    options = json.dumps({"rectangle": "100,100,200,200", "reason": "Ban hành"}).encode()
    parts = {"document": make_pdf(), "options": options, "image": make_seal()}
    head = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    body = b"".join(head % (name.encode(), part) for name, part in parts.items())
    headers = {**KEY, "Content-Type": "multipart/form-data; boundary=b"}
    answer = client.simulate_post("/v1/signatures/pdf", body=body + b"--b--\r\n", headers=headers)
    assert answer.status_code == 200
    assert judge(tmp_path, answer.content) == [True]
    assert b"/SMask" in answer.content


@pytest.mark.parametrize(
    ("params", "status", "field"),
    [
        ({"page": "9"}, 422, "page"),
        ({"page": "0"}, 422, "page"),
        ({"rectangle": "0,0,9999,9999"}, 422, "rectangle"),
        ({"rectangle": "1,2,3"}, 422, "rectangle"),
        ({"rectangle": "9,9,1,1"}, 422, "rectangle"),
        ({"level": "B-LTV"}, 422, "level"),
        ({"signer": "ai-do"}, 422, "signer"),
        ({"field": "khong-co"}, 422, "field"),
        ({"text": "a\x00b"}, 422, "text"),
        ({"colour": "red"}, 422, "colour"),
    ],
)
def test_an_option_that_does_not_fit_is_a_problem_naming_it(
    client: testing.TestClient, params: dict[str, str], status: int, field: str
) -> None:
    answer = client.simulate_post("/v1/signatures/pdf", body=make_pdf(), headers=PDF, params=params)
    assert answer.status_code == status
    assert [violation["field"] for violation in answer.json["violations"]] == [field]


def test_what_is_no_pdf_is_a_bad_request(client: testing.TestClient) -> None:
    answer = client.simulate_post("/v1/signatures/pdf", body=b"hello", headers=PDF)
    assert answer.status_code == 400
    assert answer.json["violations"][0]["field"] == "document"


def test_without_time_stamping_the_answer_is_to_come_back(house: House) -> None:
    def away(_data: bytes, _actor: Actor) -> bytes:
        raise Unavailable("tsa", "the time-stamping unit is away", retry_after=7)

    answer = client_of(house, house.signer_with(away)).simulate_post("/v1/signatures/pdf", body=make_pdf(), headers=PDF)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert b"/ByteRange" not in answer.content


def test_xml_comes_back_signed(client: testing.TestClient) -> None:
    headers = {**KEY, "Content-Type": "application/xml"}
    answer = client.simulate_post("/v1/signatures/xml", body=b"<so><dong>1</dong></so>", headers=headers, params={"level": "B-B"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/xml"
    assert b"SignatureValue" in answer.content
