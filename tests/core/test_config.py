"""The configuration: what it takes, and that it refuses what cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.config import load_config, parse_config
from core.errors import Rejected


def test_an_empty_table_is_the_embedded_default(tmp_path: Path) -> None:
    config = parse_config({}, tmp_path)
    assert config.database_url == f"sqlite:///{tmp_path}/condau.sqlite3"
    assert config.hsm.pin_file == tmp_path / "secrets" / "user-pin"
    assert config.server.body_limit == 100_000_000


def test_home_is_put_into_what_the_module_reads(tmp_path: Path) -> None:
    config = parse_config({"hsm": {"environment": {"SOFTHSM2_CONF": "{home}/softhsm2.conf"}}}, tmp_path)
    assert config.hsm.environment["SOFTHSM2_CONF"] == f"{tmp_path}/softhsm2.conf"


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"colour": "red"}, "colour"),
        ({"hsm": {"modul": "x"}}, "hsm.modul"),
        ({"hsm": "x"}, "hsm"),
        ({"home": "/"}, "home"),
        ({"server": {"port": "80"}}, "server.port"),
        ({"server": {"port": True}}, "server.port"),
        ({"server": {"workers": 0}}, "server.workers"),
        ({"server": {"body_limit": 10}}, "server.body_limit"),
        ({"public_url": "localhost:8080"}, "public_url"),
        ({"public_url": "http://localhost:8080/"}, "public_url"),
        ({"pki": {"certificate_days": 2000}}, "pki.certificate_days"),
        ({"tsa": {"accuracy_milliseconds": 5000}}, "tsa.accuracy_milliseconds"),
        ({"hsm": {"environment": {"A": 1}}}, "hsm.environment"),
        ({"tsa": {"clock": {"sources": []}}}, "tsa.clock.sources"),
        ({"tsa": {"clock": {"sources": ["chrony", "chrony"]}}}, "tsa.clock.sources"),
        ({"tsa": {"clock": {"sources": ["kernel", "unchecked"]}}}, "tsa.clock.sources[1]"),
        ({"tsa": {"clock": {"sources": ["ntp://"]}}}, "tsa.clock.sources[0]"),
        ({"tsa": {"clock": {"sources": ["ntp://time.example:99999"]}}}, "tsa.clock.sources[0]"),
        ({"tsa": {"clock": {"sources": ["ntp://time.example/pool"]}}}, "tsa.clock.sources[0]"),
        ({"tsa": {"clock": {"sources": ["kernel", "chrony"], "quorum": 1}}}, "tsa.clock.quorum"),
        ({"tsa": {"clock": {"sources": ["kernel"], "quorum": 2}}}, "tsa.clock.quorum"),
        ({"tsa": {"clock": {"interval": 0}}}, "tsa.clock.interval"),
        ({"tsa": {"clock": {"interval": 60}}}, "tsa.clock.max_age"),
        ({"tsa": {"clock": {"unchecked": True}}}, "tsa.clock.unchecked"),
        ({"tsa": {"units": {"name": "a"}}}, "tsa.units"),
        ({"tsa": {"units": [{"policy": "1.2.3"}]}}, "tsa.units[0].name"),
        ({"tsa": {"units": [{"name": "a"}, {"name": "A"}]}}, "tsa.units[1].name"),
        ({"tsa": {"units": [{"name": "a"}, {"name": "a"}]}}, "tsa.units[1].name"),
        ({"tsa": {"units": [{"name": "a", "keys": 0}]}}, "tsa.units[0].keys"),
        ({"tsa": {"units": [{"name": "a", "pss": True}]}}, "tsa.units[0].pss"),
        ({"tsa": {"units": [{"name": "a", "colour": "red"}]}}, "tsa.units[0].colour"),
        ({"tsa": {"organization_identifier": "0100000000"}}, "tsa.organization_identifier"),
        ({"tsa": {"contact": "a\nb"}}, "tsa.contact"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_key(tmp_path: Path, table: dict[str, Any], key: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_config(table, tmp_path)
    assert refused.value.violations[0].field == key


def test_units_without_a_policy_have_the_authority_s(tmp_path: Path) -> None:
    units = [{"name": "a"}, {"name": "b", "policy": "1.2.4", "key": "rsa-2048", "pss": True}]
    assert [unit.policy for unit in parse_config({"tsa": {"policy": "1.2.3", "units": units}}, tmp_path).tsa.all_units] == [
        "1.2.3",
        "1.2.4",
    ]
    assert [unit.name for unit in parse_config({}, tmp_path).tsa.all_units] == ["default"]


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="condau init"):
        load_config(tmp_path)


def test_the_environment_names_port_and_database_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "condau.toml").write_text("[server]\nport = 1\n")
    monkeypatch.setenv("CONDAU_PORT", "9999")
    monkeypatch.setenv("CONDAU_DATABASE_URL", "postgresql+psycopg:///x")
    config = load_config(tmp_path)
    assert (config.server.port, config.database_url) == (9999, "postgresql+psycopg:///x")


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "8080 "])
def test_a_port_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    (tmp_path / "condau.toml").write_text("")
    monkeypatch.setenv("CONDAU_PORT", port)
    with pytest.raises(Rejected):
        load_config(tmp_path)
