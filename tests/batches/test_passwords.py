"""Encrypted documents in a batch: each with its password, which is sealed while it waits and gone when it is done."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.log import AuditEntry
from batches.models import Batch, BatchItem
from batches.passwords import PasswordSeal
from core.content import Content
from core.errors import Rejected
from tests.batches.conftest import Office
from tests.signer.house import CLIENT
from tests.signer.pdfs import judge, make_pdf, qpdf, text_of

FIRST, SECOND = "mật-khẩu-số-một", "mat-khau-so-hai"


class Killed(BaseException):
    """The worker is no more."""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Two documents, each encrypted (AES-256) with a password of its own."""
    folder = tmp_path_factory.mktemp("locked")
    one, other = (qpdf(folder, make_pdf(), "--encrypt", word, "owner", "256", "--") for word in (FIRST, SECOND))
    return one, other


def opened_by(password: str) -> tuple[str, bytes]:
    return "options", json.dumps({"password": password}).encode()


def on_disk(office: Office) -> bytes:
    """All that lies in the spool."""
    return b"".join(path.read_bytes() for path in office.spool.rglob("*") if path.is_file())


def in_database(office: Office) -> str:
    """All that the database holds of batches and in the audit log."""
    with office.house.database.read() as db:
        tables = (Batch.__table__, BatchItem.__table__, AuditEntry.__table__)
        return repr([row for table in tables for row in db.execute(sa.select(table))])


def kept(office: Office) -> list[str]:
    return sorted(path.name for path in office.spool.rglob("*.password"))


def test_each_is_opened_with_its_own_and_none_is_seen_anywhere(
    office: Office, locked: tuple[bytes, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [opened_by(FIRST), ("a.pdf", locked[0]), opened_by(SECOND), ("b.pdf", locked[1])]
    files += [opened_by("sai-mật-khẩu"), ("c.pdf", locked[0]), ("d.pdf", locked[1]), ("e.pdf", make_pdf())]
    with caplog.at_level(logging.DEBUG):
        assert office.post(files).status_code == 201
        assert kept(office) == ["1.password", "2.password", "3.password"]
        waiting = on_disk(office), in_database(office)
        office.new_worker().work(60)
    assert [item["state"] for item in office.get("1/items").json["items"]] == ["done", "done", "failed", "failed", "done"]
    problems = [item["problem"]["violations"][0] for item in office.get("1/items?state=failed").json["items"]]
    assert [one["field"] for one in problems] == ["password", "password"]
    for number, password in ((1, FIRST), (2, SECOND)):
        signed = office.get(f"1/items/{number}/document").content
        assert judge(tmp_path, signed, password=password) == [True]
        assert "Xin chao" in text_of(tmp_path, signed, password=password)
    assert kept(office) == []
    for word in (FIRST, SECOND, "sai-mật-khẩu"):
        for text in (waiting[0], on_disk(office)):
            assert word.encode() not in text
        for said in (waiting[1], in_database(office), caplog.text, office.get("1/items").text):
            assert word not in said
            assert word.encode("unicode_escape").decode() not in said


def test_an_item_whose_worker_was_lost_is_opened_by_the_next(
    office: Office, locked: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    office.post([opened_by(FIRST), ("a.pdf", locked[0])])

    def die(*_: object, **__: object) -> Content:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(office.house.signer, "sign_pdf", die)
        with pytest.raises(Killed):
            office.new_worker(threads=1).work(60)
    assert kept(office) == ["1.password"]
    office.clock.move(minutes=1)
    assert office.new_worker().work(60) == 1
    assert office.get("1").json["progress"]["done"] == 1
    assert kept(office) == []


def test_a_cancelled_batch_and_one_whose_key_is_gone_keep_none(office: Office, locked: tuple[bytes, bytes]) -> None:
    office.post([opened_by(FIRST), ("a.pdf", locked[0])])
    office.batches.cancel(1, CLIENT)
    assert kept(office) == []
    office.post([opened_by(FIRST), ("a.pdf", locked[0])])
    office.batches.config.key_file.write_text("6b" * 32)
    office.new_worker().work(60)
    [item] = office.get("2/items").json["items"]
    assert (item["state"], item["problem"]["violations"][0]["field"]) == ("failed", "password")
    assert kept(office) == []
    for broken in ("", "zz" * 32, "6b"):
        office.batches.config.key_file.write_text(broken)
        answer = office.post([opened_by(FIRST), ("a.pdf", locked[0])])
        assert answer.status_code == 503
        assert "condau init" in answer.json["detail"]
    assert len(office.folders()) == 2
    assert office.post([("a.pdf", make_pdf())]).status_code == 201  # who has no password needs no key


def test_another_password_under_the_same_key_is_another_batch(office: Office, locked: tuple[bytes, bytes]) -> None:
    first = office.post([opened_by("sai"), ("a.pdf", locked[0])], key="one")
    assert office.post([opened_by("sai"), ("a.pdf", locked[0])], key="one").json["id"] == first.json["id"]
    assert office.post([opened_by(FIRST), ("a.pdf", locked[0])], key="one").status_code == 409
    assert office.post([("a.pdf", locked[0])], key="one").status_code == 409


def test_a_sealed_password_is_for_one_place(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("5a" * 32)
    seal = PasswordSeal(tmp_path / "key")
    sealed = seal.seal(FIRST, "a/1")
    assert seal.open(sealed, "a/1") == FIRST
    assert seal.seal(FIRST, "a/1") != sealed
    for other, place in ((sealed, "a/2"), (sealed[:-1], "a/1"), (b"", "a/1"), (bytes(40), "a/1")):
        with pytest.raises(Rejected, match="send the document again"):
            seal.open(other, place)
