"""The HTTP shell on an application of its own: access, bodies, problems and the reference they make."""

from __future__ import annotations

import json
from typing import Any

import falcon
import pytest
from falcon import testing
from pydantic import BaseModel, ConfigDict, Field

from audit.log import SYSTEM, Actor
from core.clock import system_now
from core.db import Database
from core.errors import Unavailable
from registry.models import Role
from registry.registry import add_client
from web import problems
from web.access import ApiKeys, Shell
from web.openapi import build_openapi, endpoints_of
from web.operation import PUBLIC, Document, operation, send_json

pytestmark = pytest.mark.one_database  # requests and answers are looked at

LIMIT = 1000


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    page: int = Field(default=1, ge=1)


class Echo(BaseModel):
    actor: str
    size: int
    page: int | None = None
    parts: dict[str, int] = {}


class Body(BaseModel):
    name: str


class Documents:
    @operation(
        roles={Role.CLIENT},
        summary="Take",
        tag="t",
        query=Options,
        body=Document("application/pdf", parts=("image",)),
        returns=Echo,
    )
    def on_post(
        self,
        _req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,
        options: Options,
        document: bytes,
        parts: dict[str, bytes],
    ) -> None:
        sizes = {name: len(part) for name, part in parts.items()}
        send_json(resp, Echo(actor=actor.name, size=len(document), page=options.page, parts=sizes))


class Models:
    @operation(roles=PUBLIC, summary="Take", tag="t", body=Body, returns=Echo, status=201)
    def on_post(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor, body: Body) -> None:
        send_json(resp, Echo(actor=actor.name, size=len(body.name)))


class Broken:
    @operation(roles=PUBLIC, summary="Break", tag="t", returns=Echo)
    def on_get(self, _req: falcon.Request, _resp: falcon.Response, *, actor: Actor) -> None:
        raise ZeroDivisionError(f"a secret of {actor.name}")

    @operation(roles=PUBLIC, summary="Be away", tag="t", returns=Echo)
    def on_put(self, _req: falcon.Request, _resp: falcon.Response, *, actor: Actor) -> None:
        raise Unavailable("hsm", f"the HSM is away from {actor.name}", retry_after=3)


class Undeclared:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Declares nothing."""


@pytest.fixture
def keys_of(database: Database) -> dict[str, str]:
    with database.write() as db:
        return {role: add_client(db, at=system_now(), actor=SYSTEM, name=f"a-{role}", role=role) for role in Role}


@pytest.fixture
def client(database: Database) -> testing.TestClient:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=LIMIT)])
    problems.install(app)
    for path, resource in (("/documents", Documents()), ("/models", Models()), ("/broken", Broken())):
        app.add_route(path, resource)
    app.add_sink(problems.refuse_route)
    return testing.TestClient(app)


def _post(client: testing.TestClient, key: str, body: bytes = b"%PDF", kind: str = "application/pdf", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
    return client.simulate_post("/documents", body=body, headers=headers, **more)


def _multipart(**parts: bytes) -> tuple[bytes, str]:
    lines = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data) for name, data in parts.items()
    )
    return lines + b"--b--\r\n", "multipart/form-data; boundary=b"


def test_the_caller_is_known_by_the_key(client: testing.TestClient, keys_of: dict[str, str]) -> None:
    answer = _post(client, keys_of[Role.CLIENT], query_string="page=3")
    assert answer.json == {"actor": "a-client", "size": 4, "page": 3, "parts": {}}
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer ", "Bearer wrong", "Basic dXNlcjpwdw=="])
def test_without_a_good_key_nobody_is_let_in(client: testing.TestClient, header: str | None) -> None:
    headers = {"Content-Type": "application/pdf"} | ({"Authorization": header} if header else {})
    answer = client.simulate_post("/documents", body=b"%PDF", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json["type"] == "urn:condau:problem:unauthenticated"


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR])
def test_another_role_is_forbidden(client: testing.TestClient, keys_of: dict[str, str], role: Role) -> None:
    assert _post(client, keys_of[role]).status_code == 403


def test_multipart_gives_the_same_document_and_options(client: testing.TestClient, keys_of: dict[str, str]) -> None:
    body, kind = _multipart(document=b"%PDF-1", options=b'{"page": 2}', image=b"PNG")
    answer = _post(client, keys_of[Role.CLIENT], body, kind)
    assert answer.json == {"actor": "a-client", "size": 6, "page": 2, "parts": {"image": 3}}


@pytest.mark.parametrize(
    ("parts", "status", "field"),
    [
        ({"options": b"{}"}, 422, "document"),
        ({"document": b"", "options": b"{"}, 422, "body"),
        ({"document": b"", "options": b'{"pages": 1}'}, 422, "pages"),
        ({"document": b"", "other": b""}, 422, "other"),
    ],
)
def test_a_wrong_part_is_named(
    client: testing.TestClient, keys_of: dict[str, str], parts: dict[str, bytes], status: int, field: str
) -> None:
    answer = _post(client, keys_of[Role.CLIENT], *_multipart(**parts))
    assert (answer.status_code, answer.json["violations"][0]["field"]) == (status, field)


@pytest.mark.parametrize("body", [b"", b"--b", b"--c\r\n\r\n", b"--b\r\nContent-Disposition: form-data\r\n\r\nx", b"\x00" * 50])
def test_broken_multipart_is_malformed_or_incomplete(client: testing.TestClient, keys_of: dict[str, str], body: bytes) -> None:
    answer = _post(client, keys_of[Role.CLIENT], body, "multipart/form-data; boundary=b")
    assert answer.status_code in (400, 422)
    assert _post(client, keys_of[Role.CLIENT], body, "multipart/form-data").status_code == 400


def test_every_wrong_option_is_named_and_its_value_is_not_repeated(client: testing.TestClient, keys_of: dict[str, str]) -> None:
    answer = _post(client, keys_of[Role.CLIENT], query_string="page=hush&password=hush")
    assert answer.status_code == 422
    assert {item["field"] for item in answer.json["violations"]} == {"page", "password"}
    assert "hush" not in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_media_type_is_415_and_says_which_to_send(client: testing.TestClient, keys_of: dict[str, str], kind: str) -> None:
    answer = _post(client, keys_of[Role.CLIENT], kind=kind)
    assert answer.status_code == 415
    assert "application/pdf" in answer.json["detail"]


def test_more_than_the_limit_is_413(client: testing.TestClient, keys_of: dict[str, str]) -> None:
    assert _post(client, keys_of[Role.CLIENT], b"x" * LIMIT).status_code == 200
    assert _post(client, keys_of[Role.CLIENT], b"x" * (LIMIT + 1)).status_code == 413


def test_a_body_cut_off_is_malformed(client: testing.TestClient, keys_of: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {keys_of[Role.CLIENT]}", "Content-Type": "application/pdf", "Content-Length": "100"}
    answer = client.simulate_post("/documents", body=b"%PDF", headers=headers)
    assert answer.status_code == 400
    assert "ended before" in answer.json["detail"]


def test_json_is_validated_and_the_declared_status_answered(client: testing.TestClient) -> None:
    assert client.simulate_post("/models", json={"name": "abc"}).status_code == 201
    assert client.simulate_post("/models", json={}).json["violations"][0]["field"] == "name"
    assert client.simulate_post("/models", body="{}", content_type="text/plain").status_code == 415


def test_a_bug_is_a_500_without_detail(client: testing.TestClient) -> None:
    answer = client.simulate_get("/broken", headers={"X-Request-Id": "given-by-caller-1"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json["request_id"] == "given-by-caller-1"


def test_an_outage_is_a_503_with_retry_after(client: testing.TestClient) -> None:
    answer = client.simulate_put("/broken")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


def test_unknown_paths_and_methods_are_problems_too(client: testing.TestClient) -> None:
    for answer in (client.simulate_get("/nowhere"), client.simulate_delete("/models")):
        assert answer.headers["content-type"] == problems.MEDIA_TYPE
        assert answer.status_code in (404, 405)


def test_a_responder_without_a_declaration_cannot_be_routed() -> None:
    with pytest.raises(TypeError, match="does not declare"):
        list(endpoints_of([("/x", Undeclared())]))


def test_the_reference_says_what_the_declarations_say() -> None:
    document = build_openapi(endpoints_of([("/documents", Documents()), ("/models", Models())]), version="1", public_url="http://h")
    assert document["openapi"].startswith("3.1")
    taken = document["paths"]["/documents"]["post"]
    assert set(taken["requestBody"]["content"]) == {"application/pdf", "multipart/form-data"}
    assert taken["security"] == [{"apiKey": []}]
    assert taken["parameters"][0]["schema"]["minimum"] == 1
    assert {"200", "401", "403", "413", "415", "422", "503"} == set(taken["responses"])
    assert document["paths"]["/models"]["post"]["security"] == []
    assert "Echo" in document["components"]["schemas"]
    json.dumps(document)
