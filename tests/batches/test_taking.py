"""Taking a batch in: whole or not at all, and once for each key."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest
from falcon import testing

from tests.batches.conftest import KEY, Office
from tests.signer.pdfs import make_pdf

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(5)]


WRONG_FILES: list[tuple[list[tuple[str, bytes]], str, str]] = [
    ([], "level=B-B", "file"),
    ([("a.pdf", b"")], "level=B-B", "file"),
    ([("a.pdf", b"x"), ("b.pdf", b"y"), ("a.pdf", b"z")], "level=B-B", "name"),
    ([("../../etc/cron.d/x", b"x")], "level=B-B", "name"),
    ([("..", b"x")], "level=B-B", "name"),
    ([("a\\b", b"x")], "level=B-B", "name"),
    ([("a" * 256, b"x")], "level=B-B", "name"),
    ([("a.pdf", b"x")], f"level=B-B&password={'x' * 128}", "password"),
    ([("options", b"{"), ("a.pdf", b"x")], "level=B-B", "options"),
    ([("options", b'{"reason":' + b"[" * 9000), ("a.pdf", b"x")], "level=B-B", "options"),
    ([("options", b"[]"), ("a.pdf", b"x")], "level=B-B", "options"),
    ([("options", b'{"signer": "x"}'), ("a.pdf", b"x")], "level=B-B", "options"),
    ([("options", b'{"no_such": 1}'), ("a.pdf", b"x")], "level=B-B", "no_such"),
    ([("a.pdf", b"x"), ("options", b"{}")], "level=B-B", "options"),
    ([("a.pdf", b"x")], "level=B-B&signer=nobody", "signer"),
    ([("a.pdf", b"x")], "level=B-X", "level"),
]
WRONG_DIGESTS: list[dict[str, Any]] = [
    {"items": []},
    {"items": [{"digest": DIGESTS[0]}] * 10_001},
    {"items": [{"digest": DIGESTS[0], "name": "a"}, {"digest": DIGESTS[1], "name": "a"}]},
    {"items": [{"digest": DIGESTS[0], "name": "a/b"}]},
    {"items": [{"digest": DIGESTS[0][:-2]}]},
    {"items": [{"digest": hashlib.sha1(b"").hexdigest()}], "algorithm": "sha1"},
    {"items": [{"digest": DIGESTS[0]}], "algorithm": "sha384"},
]


def test_what_cannot_be_meant_is_refused_whole(office: Office) -> None:
    for files, query, field in WRONG_FILES:
        answer = office.post(files, query=query)
        assert (answer.status_code, answer.json["violations"][0]["field"]) == (422, field), files
    for body in WRONG_DIGESTS:
        assert office.post_digests(body).status_code == 422, str(body)[:200]
    assert office.folders() == []
    assert office.get("1").status_code == 404


def test_a_hash_that_is_not_the_keys_and_options_of_files_are_refused(office: Office) -> None:
    digest = hashlib.sha512(b"").hexdigest()
    assert office.post_digests({"items": [{"digest": digest}], "algorithm": "sha512"}).status_code == 409
    answer = office.post_digests({"items": [{"digest": DIGESTS[0]}]}, query="level=B-B&page=1&reason=x")
    assert [item["field"] for item in answer.json["violations"]] == ["page", "reason"]


def test_bodies_that_are_too_large_or_broken_leave_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    assert office.post([("a.pdf", bytes(600_000))]).status_code == 413  # more than one document may have
    assert office.post([(f"{number}.pdf", bytes(400_000)) for number in range(3)]).status_code == 413  # more than all together
    headers = {**KEY, "Content-Type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for body in (b"", head + b"cut", head * 3, b"--b\r\n" + b"x: y\r\n" * 10_000 + b"\r\n\r\n--b--\r\n"):
        assert office.api.simulate_post("/v1/signatures/batches", body=body, headers=headers).status_code in (400, 422)
    monkeypatch.setattr("batches.http.MOST_ITEMS", 3)
    answer = office.post([(str(number), b"x") for number in range(4)])
    assert (answer.status_code, answer.json["detail"]) == (413, "at most 3 files are taken at once: part the batch")
    assert office.folders() == []


def test_the_same_key_is_the_same_batch(office: Office) -> None:
    document = make_pdf()
    first = office.post([("a.pdf", document)], key="one")
    again = office.post([("a.pdf", document)], key="one")
    assert first.json == again.json
    assert len(office.folders()) == 1
    assert office.post([("b.pdf", document)], key="one").status_code == 409
    assert office.post([("a.pdf", document)], key="one", query="level=B-T").status_code == 409
    assert office.post([("a.pdf", document)], key="a b").status_code == 422
    assert office.post([("a.pdf", document)]).json["id"] != first.json["id"]


def test_two_who_send_the_same_at_once_get_one_batch(office: Office) -> None:
    document, found = make_pdf(), list[testing.Result]()
    threads = [threading.Thread(target=lambda: found.append(office.post([("a.pdf", document)], key="race"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert {answer.status_code for answer in found} == {201}
    assert len({answer.json["id"] for answer in found}) == 1
    assert len(office.folders()) == 1
