"""What an operator types: each command does what it says, and says what is wrong on standard error with exit code 1."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from bench.load import make_csr
from tests.service import CONDAU, ROOT, Service
from tests.system.conftest import Instances

REFERENCE = ("--reference", "01/CV-TN")
"""Every certificate is issued on a written request."""


@pytest.fixture(scope="module")
def instance(new_service: Instances) -> Service:
    """An instance nobody serves."""
    return new_service.make()


def fail(instance: Service, *arguments: str) -> str:
    """Run a command that must fail with exit code 1; what it said on standard error."""
    done = subprocess.run([*CONDAU, *arguments], env=instance.environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_issue_from_a_csr_then_revoke_then_publish(instance: Service, tmp_path: Path) -> None:
    csr = tmp_path / "device.csr"
    csr.write_bytes(make_csr())
    issue = ("issue", "--profile", "device", "--subscriber", "demo-device", "--csr", str(csr), *REFERENCE)
    pem, again = (instance.condau(*issue, "--idempotency-key", "k-1") for _ in range(2))
    assert pem == again
    serial = format(x509.load_pem_x509_certificate(pem.encode()).serial_number, "x")
    receipt = json.loads(instance.condau("revoke", serial, "--reason", "superseded", "--idempotency-key", "k-2"))
    assert (receipt["serial"], receipt["reason"]) == (serial, "superseded")
    assert "revoked already" in fail(instance, "revoke", serial)
    published = instance.condau("publish-crl", "issuing")
    assert f"CRL number {receipt['crl_number'] + 1}" in published


def test_a_whole_life_without_the_demonstration_data(instance: Service, tmp_path: Path) -> None:
    instance.condau("add-agency", "--code", "000.00.01.X00", "--name", "Sở Thử Nghiệm", "--locality", "Thử Nghiệm")
    instance.condau("add-subscriber", "so-thu-nghiem", "--kind", "agency", "--name", "Sở Thử Nghiệm", "--agency", "000.00.01.X00")
    out = tmp_path / "seal.pem"
    said = instance.condau(
        "issue", "--profile", "agency-seal", "--subscriber", "so-thu-nghiem", "--key", "rsa-2048", "--out", str(out), *REFERENCE
    )
    assert format(x509.load_pem_x509_certificate(out.read_bytes()).serial_number, "x") in said
    key = instance.condau("add-client", "van-ban", "--role", "client").strip()
    assert len(key) >= 40
    instance.condau("grant", "van-ban", "so-thu-nghiem")
    assert "exists already" in fail(instance, "add-client", "van-ban", "--role", "client")


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("issue", "--profile", "none", "--subscriber", "demo-device", "--key", "p-256", *REFERENCE), "profile"),
        (("issue", "--profile", "officer", "--subscriber", "nobody", "--key", "p-256", *REFERENCE), "subscriber"),
        (("revoke", "abcdef"), "abcdef"),
        (("revoke", "xyz"), "hexadecimal"),
        (("publish-crl", "nobody"), "nobody"),
        (("grant", "nobody", "demo-seal"), "nobody"),
        (("add-subscriber", "x", "--kind", "officer", "--name", "X", "--agency", "H99"), "H99"),
    ],
)
def test_what_cannot_be_done_is_said_and_fails(instance: Service, arguments: tuple[str, ...], said: str) -> None:
    assert said in fail(instance, *arguments)


@pytest.mark.one_database
def test_check_fails_when_the_token_is_away(instance: Service) -> None:
    assert "ok       hsm" in instance.condau("check")
    conf = instance.home / "softhsm" / "softhsm2.conf"
    text = conf.read_text()
    conf.write_text(text.replace(str(instance.home / "softhsm" / "tokens"), "/nonexistent"))
    done = subprocess.run([*CONDAU, "check"], env=instance.environment, capture_output=True, text=True, check=False, timeout=60)
    conf.write_text(text)
    assert done.returncode == 2
    assert "CRITICAL hsm" in done.stdout
    assert "ok       hsm" in instance.condau("check")


def test_reconcile_says_how_many(instance: Service) -> None:
    assert instance.condau("reconcile", "--older-than", "0") == "0 undecided, now settled\n"


def test_without_an_instance_it_says_what_to_type(tmp_path: Path) -> None:
    environment = {"CONDAU_HOME": str(tmp_path / "none"), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*CONDAU, "check"], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "condau init" in done.stderr
