"""``condau``'s commands on the registry and on looks, typed one after the other; no token is needed for them."""

from __future__ import annotations

from pathlib import Path

import pytest

import cli
from core.config import load_config
from core.db import Database
from migrations.schema import upgrade
from tests.signer.letters import seal


@pytest.fixture(autouse=True)
def _instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDAU_HOME", str(tmp_path))
    monkeypatch.delenv("CONDAU_DATABASE_URL", raising=False)
    (tmp_path / "condau.toml").write_text("")
    database = Database(load_config(tmp_path).database_url)
    upgrade(database)
    database.close()


def _type(line: str, capsys: pytest.CaptureFixture[str], *, code: int = 0) -> str:
    assert cli.main(line.split()) == code
    said = capsys.readouterr()
    return said.err if code else said.out


def test_agencies_are_added_changed_and_listed_as_of_a_day(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (
        "add-agency --code H62 --name A --locality X --since 2020-01-01",
        "add-agency --code H44 --name B --locality X --since 2020-01-01",
        "add-agency --code 000.00.01.H62 --name C --locality X --parent H62 --since 2020-01-01",
        "rename-agency H62.01 C2 --effective 2024-01-01",
        "merge-agency H62 H44 --effective 2025-07-01",
        "move-agency H62.01 --effective 2025-08-01",
        "close-agency H62.01 --effective 2025-09-01",
    ):
        _type(line, capsys)
    assert _type("list-agencies --at 2023-01-01", capsys).splitlines() == ["H44\tB\tX", "H62\tA\tX", "000.00.01.H62\tC\tX"]
    now = ["H44\tB\tX", "H62\tA\tX\tclosed", "000.00.01.H62\tC2\tX\tclosed"]
    assert _type("list-agencies", capsys).splitlines() == now
    assert "merged into H44 on 2025-07-01" in _type("add-subscriber x --kind officer --name N --agency H62", capsys, code=1)
    assert "closed" in _type("rename-agency H62 Z", capsys, code=1)
    assert "H99" in _type("close-agency H99", capsys, code=1)
    assert "code" in _type("add-agency --code h62 --name A --locality X", capsys, code=1)


def test_subscribers_callers_and_grants(capsys: pytest.CaptureFixture[str]) -> None:
    _type("add-agency --code H44 --name B --locality X", capsys)
    _type("add-agency --code H45 --name C --locality X", capsys)
    assert "check digit" in _type("add-subscriber s --kind agency --name B --agency H44 --uid MST:0100000004", capsys, code=1)
    _type("add-subscriber s --kind device --name B --agency H44 --uid MST:0100000003 --dns-name a.example.vn", capsys)
    _type("change-subscriber s --agency H45 --email a@example.vn", capsys)
    assert _type("list-subscribers --agency H45", capsys) == "s\tdevice\tB\tH45\n"
    assert _type("list-subscribers --agency H44", capsys) == ""
    _type("add-client dms --role client", capsys)
    _type("grant dms s", capsys)
    _type("withdraw-grant dms s", capsys)
    assert "no grant" in _type("withdraw-grant dms s", capsys, code=1)
    _type("disable-client dms", capsys)
    assert _type("list-clients", capsys) == "dms\tclient\tdisabled\n"


def test_the_profiles_in_force_are_listed_and_an_unsafe_one_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "tls-server\tversion 1\tsha256 " in _type("list-profiles", capsys)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "mine.toml").write_text("version = 1\nusages = []\ndays = 9\nmax_days = 3\n")
    assert "profiles/mine.toml: days" in _type("list-profiles", capsys, code=1)


def test_looks_and_pictures_are_kept_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, png, kept = tmp_path / "copy.toml", tmp_path / "seal.png", tmp_path / "kept.png"
    own.write_text(_type("look show copy", capsys).replace("{copy}; {agency};", "{copy}: {agency}"), encoding="utf-8")
    png.write_bytes(seal())
    _type("add-agency --code H44 --name B --locality X", capsys)
    assert "version 1" in _type(f"look set H44 copy {own}", capsys)
    assert _type("look show copy --agency H44", capsys) == own.read_text(encoding="utf-8")
    assert _type("look list H44", capsys).startswith("copy\tversion 1")
    assert "36 mm wide" in _type(f"look set-picture H44 seal {png} --width 36", capsys)
    _type(f"look get-picture H44 seal {kept}", capsys)
    assert kept.read_bytes() == png.read_bytes()
    assert "width" in _type(f"look set-picture H44 seal {png} --width 360", capsys, code=1)
