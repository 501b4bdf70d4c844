"""An offline root in a token of its own, made in ceremonies; roll-over; and what keeps the service from starting."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
import sqlalchemy as sa

import cli
from tests.pki.house import run
from tests.service import ROOT, Service

CONFIG = """\
public_url = "{url}"

[hsm]
token_label = "condau"

[[hsm.tokens]]
name = "root"
token_label = "condau-root"
pin_file = "secrets/root-pin"
offline = true

[hsm.environment]
SOFTHSM2_CONF = "{{home}}/softhsm/softhsm2.conf"
"""
DEFINITIONS = ROOT / "certs" / "ceremonies"


@pytest.fixture
def service(tmp_path: Path, database_url: str) -> Iterator[Service]:
    """An instance without any authority, with a second token for the root."""
    service = Service(tmp_path / "home", database_url=database_url)
    service.home.mkdir()
    (service.home / "condau.toml").write_text(CONFIG.format(url=service.url))
    _condau(service, "init", "--without-authorities")
    yield service
    service.end()


def _hold(service: Service, name: str) -> Path:
    """Carry out a ceremony; the folder of its results."""
    out = service.home.parent / "results" / name
    _condau(service, "ceremony", str(DEFINITIONS / f"{name}.toml"), "--execute", "--out", str(out))
    return out


def _condau(service: Service, *arguments: str, code: int = 0) -> str:
    """Run a command in this process (one of its own costs seconds) to this exit code; everything it prints."""
    output = io.StringIO()
    with patch.dict(os.environ, service.environment), redirect_stdout(output), redirect_stderr(output):
        assert cli.main(arguments) == code, output.getvalue()
    return output.getvalue()


def _only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def _take_root_away(service: Service) -> Path:
    store = service.home / "softhsm" / "tokens"
    (folder,) = [path for path in store.iterdir() if b"condau-root" in (path / "token.object").read_bytes()]
    shutil.move(folder, service.home.parent / "safe")
    return folder


def _fails(service: Service, *arguments: str) -> str:
    with patch("server.serve", side_effect=AssertionError("it started")):
        return _condau(service, *arguments, code=1)


@pytest.mark.interop
@pytest.mark.slow
def test_a_hierarchy_made_in_ceremonies_serves_while_its_root_is_away_and_rolls_over(service: Service) -> None:
    planned = _condau(service, "ceremony", str(DEFINITIONS / "1-root.toml"))
    assert "Chưa thực hiện" in planned
    assert "Condau Demo Root CA" in planned
    assert "issuer: no certificate authority is named 'root'" in _fails(service, "ceremony", str(DEFINITIONS / "2-issuing.toml"))
    root = _hold(service, "1-root")
    issuing = _hold(service, "2-issuing")
    for name in ("3-ocsp-root", "4-ocsp-issuing", "5-tsa"):
        _hold(service, name)
    assert "generation: the next generation of root is 2" in _fails(service, "ceremony", str(DEFINITIONS / "1-root.toml"))

    root_pem, issuing_pem = _only(root, "*.pem"), _only(issuing, "*.pem")
    run("openssl", "verify", "-x509_strict", "-CAfile", root_pem, root_pem)
    run("openssl", "verify", "-x509_strict", "-CAfile", root_pem, issuing_pem)
    digest = run("openssl", "x509", "-in", root_pem, "-noout", "-fingerprint", "-sha256").partition("=")[2].strip()
    minutes = _only(root, "*.md").read_text(encoding="utf-8")
    assert digest.replace(":", "").lower() in minutes.replace(" ", "")
    assert minutes.startswith("# Biên bản")

    home = _take_root_away(service)
    assert "root" in _fails(service, "ceremony", str(DEFINITIONS / "6-crl-root.toml"), "--execute")
    service.start()
    assert service.request("GET", "/crl/root.crl").status == 200
    _condau(service, "add-agency", "--code", "000.00.00.X01", "--name", "Sở Thử Nghiệm", "--locality", "Thử Nghiệm")
    _condau(service, "add-subscriber", "mot", "--kind", "device", "--name", "Máy một", "--agency", "000.00.00.X01")
    first = _issue(service, "first")
    run("openssl", "verify", "-CAfile", root_pem, "-untrusted", issuing_pem, first)

    shutil.move(service.home.parent / "safe", home)
    crl = _only(_hold(service, "6-crl-root"), "*.crl")
    assert "verify OK" in run("openssl", "crl", "-inform", "DER", "-in", crl, "-noout", "-CAfile", root_pem)
    assert service.request("GET", "/crl/root.crl").body == crl.read_bytes()
    second_generation = _only(_hold(service, "7-issuing-g2"), "*.pem")
    second = _issue(service, "second")
    run("openssl", "verify", "-CAfile", root_pem, "-untrusted", second_generation, second)
    _condau(service, "revoke", run("openssl", "x509", "-in", first, "-noout", "-serial").partition("=")[2].strip())
    for name, pem in (("issuing", issuing_pem), ("issuing-g2", second_generation)):
        list_file = service.home.parent / f"{name}.crl"
        list_file.write_bytes(service.request("GET", f"/crl/{name}.crl").body)
        chain = service.home.parent / f"{name}-chain.pem"
        chain.write_bytes(pem.read_bytes() + root_pem.read_bytes())
        assert "verify OK" in run("openssl", "crl", "-inform", "DER", "-in", list_file, "-noout", "-CAfile", chain)
    assert service.stop() == 0


def _issue(service: Service, name: str) -> Path:
    csr, certificate = service.home.parent / f"{name}.csr", service.home.parent / f"{name}.pem"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", service.home.parent / f"{name}.key")
    run("openssl", "req", "-new", *key, "-subj", "/CN=x", "-out", csr)
    options = ["--profile", "device", "--subscriber", "mot", "--csr", str(csr), "--out", str(certificate)]
    _condau(service, "issue", *options, "--reference", "Số 1")
    return certificate


@pytest.mark.slow
def test_the_service_does_not_start_on_what_cannot_be_meant(service: Service) -> None:
    for name in ("1-root", "2-issuing"):
        _hold(service, name)
    config = service.home / "condau.toml"
    text = config.read_text()
    config.write_text(f'development = true\n{text}\n[server]\nhost = "0.0.0.0"\n')
    assert "development" in _fails(service, "serve")
    config.write_text(text)
    (service.home / "dev").mkdir()
    (service.home / "dev" / "credentials.toml").write_text("")
    assert "dev/credentials.toml" in _fails(service, "serve")
    shutil.rmtree(service.home / "dev")
    engine = sa.create_engine(service.environment["CONDAU_DATABASE_URL"] or f"sqlite:///{service.home / 'condau.sqlite3'}")
    with engine.begin() as db:
        db.execute(sa.text("UPDATE authority SET key_label = 'condau-probe' WHERE name = 'issuing'"))
    assert "the key condau-probe in the token is not the one" in _fails(service, "serve")
    with engine.begin() as db:
        db.execute(sa.text("UPDATE authority SET key_label = 'ca-issuing' WHERE name = 'issuing'"))
        db.execute(sa.text("UPDATE alembic_version SET version_num = '0004'"))
    assert "condau init" in _fails(service, "serve")
    engine.dispose()


MACHINE = ("disk", "clock")
"""What these say depends on where the tests run."""


@pytest.mark.slow
def test_check_weighs_every_part(service: Service) -> None:
    for name in ("1-root", "2-issuing", "4-ocsp-issuing", "5-tsa"):
        _hold(service, name)
    found = _check(service)
    parts = {finding["part"] for finding in found}
    assert parts == {"migrations", "hsm", "authorities", "crl", "services", "clock", "backups", "disk", "grants"}
    assert not [finding for finding in found if finding["level"] == "critical" and finding["part"] not in MACHINE]
    assert [finding["level"] for finding in found if finding["part"] == "backups"] == ["warning"]
    _condau(service, "backup", str(service.home.parent / "backup"))
    assert [finding["level"] for finding in _check(service) if finding["part"] == "backups"] == ["ok"]
    _take_root_away(service)
    away = [finding for finding in _check(service) if finding["part"] == "hsm" and "root" in finding["detail"]]
    assert [finding["level"] for finding in away] == ["ok"]


def _check(service: Service) -> list[dict[str, str]]:
    output = io.StringIO()
    with patch.dict(os.environ, service.environment), redirect_stdout(output):
        code = cli.main(["check", "--json"])
    found: list[dict[str, str]] = [json.loads(line) for line in output.getvalue().splitlines()]
    worst = {finding["level"] for finding in found}
    assert code == (2 if "critical" in worst else 1 if "warning" in worst else 0)
    return found
