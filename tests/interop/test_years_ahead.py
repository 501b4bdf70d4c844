"""A file's life in other times: the service, the operator's commands and the judges all run under libfaketime.

Nothing is told what time it is but by the clock of its machine. Authorities, responders and time-stamping units succeed each
other by the operator's commands, and the file is renewed by one of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509

from tests.faketime import FakedService, FakedTime
from tests.interop.dss import Away, Dss
from tests.service import CONDAU, ROOT
from tests.system.conftest import run

HOUR: Final = 3600
YEAR: Final = 365.25 * 24 * HOUR
SIGNED: Final = ("TOTAL_PASSED", "PAdES-BASELINE-LTA")
ISSUING_CEREMONY: Final = """\
kind = "issuing-ca"
title = "Issuing authority {generation}"
reference = "No. {generation}"
roles = ["Operator", "Witness"]
authority = "issuing"
generation = {generation}
issuer = "{root}"
key = "p-256"
days = 3652
[subject]
organization = "Condau Demo"
locality = "Thử Nghiệm"
common_name = "Issuing {generation}"
"""
ROOT_CEREMONY: Final = """\
kind = "root"
title = "Root 2"
reference = "No. 2"
roles = ["Operator", "Witness"]
authority = "root"
generation = 2
key = "p-384"
days = 7305
[subject]
organization = "Condau Demo"
locality = "Thử Nghiệm"
common_name = "Root 2"
"""


class House:
    """The service, its operator and the judge, in one time."""

    def __init__(self, service: FakedService, judge: Dss, folder: Path) -> None:
        self.service = service
        self.judge = judge
        self.folder = folder
        self.anchors = x509.load_pem_x509_certificates(service.request("GET", "/ca/root.pem").body)
        self.years = 0.0

    def go(self, years: float) -> None:
        """To so many years from now."""
        self.years = years
        self.service.time.set(years * YEAR)

    def command(self, *arguments: str) -> str:
        """Run a command of the operator; what it printed."""
        done = self.try_command(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def try_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one that may fail; a busy machine takes its time."""
        environment = self.service.environment
        return subprocess.run([*CONDAU, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False)

    def hold(self, name: str, definition: str) -> list[x509.Certificate]:
        """Carry out a ceremony; what it issued, and the chain."""
        file, out = self.folder / f"{name}.toml", self.folder / name
        file.write_text(definition, encoding="utf-8")
        self.command("ceremony", str(file), "--execute", "--out", str(out))
        (pem,) = out.glob("*.pem")
        return x509.load_pem_x509_certificates(pem.read_bytes())

    def make_unit_key(self) -> None:
        """Give the time-stamping unit a key under the newest authority; the service itself may just be making one."""
        done = self.try_command("timestamp-units", "--successor")
        if done.returncode != 0:
            assert "another process is making a key" in done.stderr, done.stderr
            time.sleep(5)
            self.command("timestamp-units", "--successor")

    def told(self, document: Path) -> dict[str, Any]:
        """What our verifier says, in the service's process."""
        report: dict[str, Any] = json.loads(self.service.request("POST", "/v1/verifications", document.read_bytes()).body)
        assert abs(self.off(datetime.fromisoformat(report["verified_at"]))) < HOUR
        return report

    def judged(self, document: Path, name: str) -> tuple[str, str]:
        """What EU DSS says, by the clock of its own process."""
        (said,) = self.judge.judge(document, *self.anchors, keep=f"faketime-{self.years:g}-years-{name}")
        assert abs(self.off(said.validated_at)) < HOUR, "it was not under libfaketime"
        return said.short

    def off(self, moment: datetime) -> float:
        """How many seconds ``moment`` is from the time that is faked."""
        return (moment - datetime.fromtimestamp(time.time() + self.years * YEAR, UTC)).total_seconds()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for name in ("home", "time", "work"):
        (tmp_path / name).mkdir()
    own_time = FakedTime(tmp_path / "time")
    service = FakedService(tmp_path / "home", own_time)
    service.condau("init", "--development")
    try:
        service.start()
        # without the fix that libfaketime has for other programs, Java's threads wait instead of spinning
        with Dss({**own_time.environment, "FAKETIME_FORCE_MONOTONIC_FIX": "0"}) as judge:
            yield House(service, judge, tmp_path / "work")
        assert service.stop() == 0
    except Away as away:
        pytest.skip(str(away))
    finally:
        service.end()


def sign(house: House, level: str) -> bytes:
    document = (ROOT / "examples" / "cong-van.pdf").read_bytes()
    answer = house.service.request("POST", f"/v1/signatures/pdf?level={level}", document, key="client", kind="application/pdf")
    assert answer.status == 200, answer.body
    return answer.body


def holds(house: House, document: Path) -> None:
    """To pdfsig, which knows nothing of time-stamps' proof, every signature's mathematics at least."""
    said = run("pdfsig", "-nocert", document, env={**os.environ, **house.service.time.environment}).stdout
    assert "Signature is Valid." in said
    assert "Signature is Invalid" not in said


def test_for_decades_what_is_renewed_in_time_stays_valid_and_what_is_not_does_not(house: House) -> None:
    archive = house.folder / "archive"
    archive.mkdir()
    kept, neglected = archive / "kept.pdf", house.folder / "neglected.pdf"
    kept.write_bytes(sign(house, "B-LTA"))
    shutil.copy(kept, neglected)
    for years in (0.0, 3.5, 6.0):  # the signer's certificate lives for 3 years, the unit's key for 2
        house.go(years)
        assert house.told(kept)["conclusion"] == "valid"
        assert house.judged(kept, "kept") == SIGNED

    for generation, years in enumerate((7.9, 15.8, 23.6), start=2):  # the unit's certificate lives for 8, and the root for 20
        house.go(years)
        if generation == 3:
            house.anchors += house.hold("root-g2", ROOT_CEREMONY)[:1]
        house.hold(
            f"issuing-g{generation}", ISSUING_CEREMONY.format(generation=generation, root="root" if generation == 2 else "root-g2")
        )
        house.make_unit_key()
        told = house.command("archive", "renew", str(archive))
        assert "renewed, due again" in told, told
        assert house.told(kept)["conclusion"] == "valid"
        assert house.judged(kept, "renewed") == SIGNED
        if generation == 2:
            house.go(8.1)  # the first unit's certificate has expired, and the first renewal proves its stamp
            assert house.judged(neglected, "neglected")[0] == "INDETERMINATE"
            report = house.told(neglected)
            assert (report["conclusion"], report["indication"]) == ("indeterminate", "INDETERMINATE")
            assert house.judged(kept, "renewed") == SIGNED

    house.go(31)
    assert house.told(kept)["conclusion"] == "valid"
    assert house.judged(kept, "kept") == SIGNED
    assert house.off(house.anchors[0].not_valid_after_utc) < -10 * YEAR
    holds(house, kept)
