"""Documents larger than memory over HTTP: into a file on the way in, in pieces on the way out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import falcon
import pytest
from falcon import testing

from audit.log import Actor
from core.content import Content
from core.db import Database
from web import problems
from web.access import ApiKeys, Shell
from web.body import IN_MEMORY, Spool, drain, send_content
from web.operation import PUBLIC, Document, operation

pytestmark = pytest.mark.one_database  # requests and answers are looked at

LIMIT = 5 * IN_MEMORY
LARGE = os.urandom(1000) * (4 * IN_MEMORY // 1000)


class Echo:
    """Answers with the document it is sent; tells how the other parts came."""

    @operation(
        roles=PUBLIC,
        summary="Echo",
        tag="t",
        body=Document("application/pdf", parts=("image",), large=("data",), spooled=True),
        returns="application/pdf",
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,
        document: Content,
        parts: dict[str, bytes],
        contents: dict[str, Content],
    ) -> None:
        resp.set_header("X-Contents", str({name: content.size for name, content in contents.items()}))
        resp.set_header("X-Digest", req.context.body_digest.hex())
        resp.set_header("X-Parts", f"{actor.name} {sorted(parts.items())}")
        send_content(req, resp, document, "application/pdf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def client(database: Database, folder: Path) -> testing.TestClient:
    shell = Shell(access=ApiKeys(database=database), body_limit=1000, spool=Spool(folder, LIMIT))
    app: Any = falcon.App(middleware=[shell])
    problems.install(app)
    app.add_route("/echo", Echo())
    return testing.TestClient(app)


def post(client: testing.TestClient, body: bytes, kind: str = "application/pdf", **headers: str) -> Any:
    return client.simulate_post("/echo", body=body, headers={"Content-Type": kind, **headers})


def form(**parts: bytes) -> tuple[bytes, str]:
    head = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(head % (name.encode(), part) for name, part in parts.items()) + b"--b--\r\n", "multipart/form-data; boundary=b"


@pytest.mark.parametrize("document", [b"", b"%PDF", LARGE[:IN_MEMORY], LARGE], ids=["empty", "small", "a full memory", "large"])
def test_a_document_of_any_size_comes_through(client: testing.TestClient, folder: Path, document: bytes) -> None:
    for body, kind in ((document, "application/pdf"), form(document=document, image=b"PNG")):
        answer = post(client, body, kind)
        assert answer.status_code == 200
        assert answer.content == document
        assert int(answer.headers["content-length"]) == len(document)
        assert answer.headers["x-digest"] == hashlib.sha256(body).hexdigest()
    assert "('image', b'PNG')" in answer.headers["x-parts"]
    assert folder.exists() == (len(document) > IN_MEMORY)
    assert not folder.exists() or list(folder.iterdir()) == []  # the files have no names


def test_a_part_beside_the_document_may_be_large_as_well(client: testing.TestClient, folder: Path) -> None:
    answer = post(client, *form(document=b"%PDF", data=LARGE))
    assert (answer.status_code, answer.headers["x-contents"]) == (200, str({"data": len(LARGE)}))
    assert list(folder.iterdir()) == []
    assert post(client, *form(document=LARGE, data=LARGE + LARGE)).status_code == 413
    assert post(client, *form(document=b"%PDF", data=b"1", other=b"2")).status_code == 422


def test_more_than_the_limit_is_refused(client: testing.TestClient) -> None:
    assert post(client, bytes(LIMIT)).status_code == 200
    assert post(client, bytes(LIMIT + 1)).status_code == 413
    assert post(client, *form(document=bytes(LIMIT + 4_100_000))).status_code == 413
    answer = post(client, *form(document=b"%PDF", image=bytes(4_000_001)))
    assert (answer.status_code, answer.json["violations"][0]["field"]) == (413, "image")


@pytest.mark.parametrize("missing", [1, 10, 2 * IN_MEMORY])
def test_a_body_cut_off_is_refused(client: testing.TestClient, missing: int) -> None:
    for body, kind in ((LARGE, "application/pdf"), form(document=LARGE)):
        answer = post(client, body[:-missing], kind, **{"Content-Length": str(len(body))})
        assert answer.status_code == 400
        assert "ended before" in answer.json["detail"]


def test_a_part_given_twice_is_refused(client: testing.TestClient) -> None:
    body, kind = form(document=b"1")
    answer = post(client, body.removesuffix(b"--b--\r\n") + body, kind)
    assert (answer.status_code, answer.json["violations"][0]["field"]) == (422, "document")


def test_a_full_disk_is_to_come_back(client: testing.TestClient, folder: Path) -> None:
    folder.write_bytes(b"")  # no folder can be made here, which the system reports like a disk that is full
    for body, kind in ((LARGE, "application/pdf"), form(document=LARGE)):
        answer = post(client, body, kind)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert post(client, b"%PDF").status_code == 200


def test_what_nobody_wants_is_taken_in_and_a_broken_connection_is_the_end_of_it() -> None:
    req = falcon.Request(testing.create_environ(method="POST", body=LARGE))
    drain(req)
    assert req.bounded_stream.read() == b""

    class Broken:
        def read(self, _size: int) -> bytes:
            raise ConnectionResetError

    broken = falcon.Request({**testing.create_environ(method="POST", body=b"x"), "wsgi.input": Broken()})
    drain(broken)
