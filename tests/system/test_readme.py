"""The README's commands, run as they stand in it against a running service."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.service import ROOT, Service
from tests.system.conftest import run

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.interop
def test_the_readme_commands_do_what_it_says(service: Service, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
    said = run("bash", "-eu", "-o", "pipefail", "-c", script, cwd=tmp_path, env=service.environment).stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["conclusion"] == "valid"
    assert report["signatures"][0]["level"] == "B-LTA"
    assert report["message"]["vi"] in said
    assert "Verification: OK" in said
    assert "out/device.pem: OK" in said
    assert said.index("out/device.pem: good") < said.index("out/device.pem: revoked") < said.index("Key Compromise")
    assert "Signature is Valid." in run("pdfsig", "-nocert", tmp_path / "out" / "signed.pdf").stdout
    assert "Signature Field Name: Person1" in run("pdfsig", "-nocert", tmp_path / "out" / "approved.pdf").stdout
    assert "SignatureTimeStamp" in (tmp_path / "out" / "signed.xml").read_text(encoding="utf-8")
