"""``condau``'s commands on what governs official signatures, typed one after the other; no token is needed for them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import cli
from audit.log import Actor
from core.clock import system_now
from core.config import load_config
from core.db import Database
from migrations.schema import upgrade
from signer.register import Register, Wanted
from tests.signer.test_hygiene import build


@pytest.fixture(autouse=True)
def _instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An instance with an agency, its seal and two of its people."""
    monkeypatch.setenv("CONDAU_HOME", str(tmp_path))
    monkeypatch.delenv("CONDAU_DATABASE_URL", raising=False)
    (tmp_path / "condau.toml").write_text('[approvals]\nactivation = ["dau-mat"]\n')
    database = Database(load_config(tmp_path).database_url)
    upgrade(database)
    database.close()
    _type("add-agency --code H44 --name B --locality X", capsys)
    for handle, kind in (("dau", "agency"), ("dau-mat", "agency"), ("a", "officer"), ("b", "officer")):
        _type(f"add-subscriber {handle} --kind {kind} --name N --agency H44", capsys)


def _type(line: str, capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    assert cli.main(shlex.split(line)) == code
    said = capsys.readouterr()
    return said.err if code == 1 and said.err else said.out


def test_holders_are_given_secrets_once_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    said = _type("add-activation-holder dau a --method pin+code", capsys)
    assert re.search(r"PIN: \d{8} ", said)
    assert "otpauth://totp/" in said
    assert _type("list-activation-holders dau", capsys) == "a\tpin+code\tPIN not changed yet\n"
    _type("unlock-activation dau a", capsys)
    _type("remove-activation-holder dau a", capsys)
    assert _type("list-activation-holders dau", capsys) == ""
    assert "does not activate" in _type("unlock-activation dau a", capsys, code=1)
    assert "no person" in _type("add-activation-holder dau dau", capsys, code=1)
    _type("add-activation-holder dau-mat a", capsys, code=3)  # waits for approval
    assert _type("list-activation-holders dau-mat", capsys) == ""


def test_authorisations_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    line = 'add-authorisation H44 b --granted-by a --capacity TUQ --reference "12/GUQ-UBND" --content "Nhân sự"'
    assert "limited in" in _type(line, capsys, code=1)
    said = _type(line + " --kind QĐ --since 2026-01-01 --until 2099-12-31", capsys)
    assert said == "authorisation 1: b signs TUQ. for H44\n"
    _type("withdraw-authorisation 1", capsys)
    assert "already" in _type("withdraw-authorisation 1", capsys, code=1)
    said = _type('set-signing-rule H44 --one-person "05/QĐ-UBND" --until 2030-12-31 --one-series', capsys)
    assert said == "H44: one person may hold several roles (05/QĐ-UBND); one series\n"


def test_numbers_are_listed_with_their_gaps(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    database = Database(load_config(tmp_path).database_url)
    for number in (2, 5):
        wanted = Wanted("QĐ-UBND", "b", number=number)
        Register(database=database, now=system_now).hold("H44", wanted, Actor("admin", "admin"))
    database.close()
    lines = _type("list-numbers H44 --series QĐ", capsys).splitlines()
    assert [line.split("\t")[0] for line in lines] == ["02/QĐ-UBND", "05/QĐ-UBND", "gap: 1", "gap: 3 to 4"]


def test_a_number_is_shown_given_back_and_made_void_with_a_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    database = Database(load_config(tmp_path).database_url)
    Register(database=database, now=system_now).hold("H44", Wanted("QĐ-UBND", "b"), Actor("dms", "admin"))
    assert "\theld\t" in _type("number show H44 1/QĐ-UBND", capsys)
    assert _type('number free H44 01/QĐ-UBND --reason "mất điện"', capsys).endswith(": free\n")
    assert "nothing was given back" in _type('number free H44 01/QĐ-UBND --reason "lần nữa"', capsys, code=1)
    assert "not taken" in _type('number void H44 01/QĐ-UBND --reason "mất điện"', capsys, code=1)
    Register(database=database, now=system_now).hold("H44", Wanted("QĐ-UBND", "b"), Actor("dms", "admin"))
    assert "no document ever has it" in _type('number void H44 01/QĐ-UBND --reason "mất điện"', capsys)
    assert "\tvoid\t" in _type("number show H44 01/QĐ-UBND", capsys)
    assert "nobody of H44 ever took" in _type("number show H44 02/QĐ-UBND", capsys, code=1)
    database.close()


def test_a_document_is_looked_at(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "a.pdf"
    file.write_bytes(build())
    assert _type(f"check-document {file}", capsys) == ""
    file.write_bytes(build(catalog=b"/OpenAction<</S/JavaScript/JS(x)>>", more={6: b"<</Type/Catalog>>"}))
    said = _type(f"check-document {file}", capsys, code=1)
    assert [line.split("\t")[:2] for line in said.splitlines()] == [["refused", "JAVASCRIPT"], ["error", "SPARE_CATALOG"]]
    file.write_bytes(b"no pdf")
    assert "document:" in _type(f"check-document {file}", capsys, code=1)
