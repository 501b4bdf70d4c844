"""EU DSS, the reference validator of AdES signatures, asked from Python: ``python -m tests.interop.dss FILE… --anchor CERT``.

The first call fetches its jars through Maven (some 30 MB, kept in Maven's own store). One Java process judges any number of
files; it has no network of its own, so it knows only what is in the file and the anchors it is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_JAVA: Final = Path(__file__).parent / "java"
REPORTS: Final = Path(__file__).parents[2] / "out" / "interop"
"""Where reports are kept; git ignores it."""


class Away(Exception):
    """It cannot be asked here; the text says why."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What it says of one timestamp."""

    indication: str
    sub_indication: str | None
    type: str
    """``SIGNATURE_TIMESTAMP``, ``DOCUMENT_TIMESTAMP``, …"""
    at: datetime
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """What it says of one signature."""

    indication: str
    """``TOTAL_PASSED``, ``TOTAL_FAILED`` or ``INDETERMINATE``."""
    sub_indication: str | None
    level: str
    """``PAdES-BASELINE-LTA`` and the like."""
    field: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    timestamps: tuple[Stamp, ...]
    validated_at: datetime
    """The moment for which it says so."""

    @property
    def short(self) -> tuple[str, str]:
        """Indication and level."""
        return self.indication, self.level


class Dss:
    """The running judge."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """``environment``: what its process gets beside this one's. Raises Away where Java, Maven or its jars cannot be had."""
        command = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", _classpath(), str(_JAVA / "Judge.java")]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._folder = tempfile.TemporaryDirectory(prefix="condau-dss-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
        self._log.close()
        self._folder.cleanup()

    def judge(
        self,
        document: bytes | Path,
        *anchors: x509.Certificate,
        at: datetime | None = None,
        password: str = "",
        crls: Sequence[bytes] = (),
        keep: str | None = None,
    ) -> list[Said]:
        """The verdict on every signature of a PDF, validated at the moment ``at`` (default: now) by its own default policy.

        ``crls``: revocation lists (DER) for a signature that carries none, below B-LT. ``keep``: the name under
        which its reports are written into :data:`REPORTS`.
        """
        answer = self._ask(document, anchors, at, password, crls)
        if keep is not None:
            REPORTS.mkdir(parents=True, exist_ok=True)
            for name in ("simple_report", "detailed_report", "diagnostic_data"):
                (REPORTS / f"{keep}-{name.replace('_', '-')}.xml").write_text(answer[name])
        validated_at = datetime.fromisoformat(answer["validated_at"])
        return [_said(one, validated_at) for one in answer["signatures"]]

    def _ask(
        self,
        document: bytes | Path,
        anchors: Sequence[x509.Certificate],
        at: datetime | None,
        password: str,
        crls: Sequence[bytes],
    ) -> Any:
        folder = Path(self._folder.name)
        path = document if isinstance(document, Path) else folder / "judged.pdf"
        if isinstance(document, bytes):
            path.write_bytes(document)
        trusted = []
        for anchor in anchors:
            trusted.append(folder / f"{anchor.serial_number:x}.der")
            trusted[-1].write_bytes(anchor.public_bytes(Encoding.DER))
        for number, crl in enumerate(crls):
            trusted.append(folder / f"{number}.crl")
            trusted[-1].write_bytes(crl)
        moment = "" if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join([str(path.absolute()), moment, password, *map(str, trusted)]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Away(f"EU DSS stopped: {self._complaints()}")
        answer = json.loads(line)
        if "problem" in answer:
            raise RuntimeError(f"EU DSS: {answer['problem']}\n{self._complaints()}")
        return answer

    def _complaints(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:]


def _said(one: dict[str, Any], validated_at: datetime) -> Said:
    return Said(
        indication=one["indication"],
        sub_indication=one["sub_indication"],
        level=one["level"].replace("_", "-"),
        field=one["field"],
        errors=tuple(one["errors"]),
        warnings=tuple(one["warnings"]),
        timestamps=tuple(
            Stamp(
                item["indication"], item["sub_indication"], item["type"], datetime.fromisoformat(item["at"]), tuple(item["errors"])
            )
            for item in one["timestamps"]
        ),
        validated_at=validated_at,
    )


def _classpath() -> str:
    """Its jars, by Maven; remembered as long as the POM stays as it is."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Away(f"{program} is not installed")
    pom, found = _JAVA / "pom.xml", REPORTS / "classpath.txt"
    if (
        found.exists()
        and found.stat().st_mtime > pom.stat().st_mtime
        and all(map(Path.exists, map(Path, found.read_text().split(":"))))
    ):
        return found.read_text()
    REPORTS.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={found}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise Away(f"Maven did not bring EU DSS: {done.stdout[-600:]}")
    return found.read_text()


def main() -> int:
    """Print what it says of every signature in the files."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.dss", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--anchor", action="append", type=Path, default=[], help="trusted certificate(s), PEM")
    parser.add_argument("--crl", action="append", type=Path, default=[], help="revocation list, DER, for what carries none itself")
    parser.add_argument("--at", type=datetime.fromisoformat, help="moment of validation, with an offset from UTC")
    parser.add_argument("--password", default="")
    options = parser.parse_args()
    anchors = [one for path in options.anchor for one in x509.load_pem_x509_certificates(path.read_bytes())]
    crls = [path.read_bytes() for path in options.crl]
    passed = True
    with Dss() as judge:
        for file in options.files:
            for one in judge.judge(file, *anchors, at=options.at, password=options.password, crls=crls):
                passed &= one.indication == "TOTAL_PASSED"
                print(f"{file}: {one.field}: {one.indication} {one.sub_indication or ''} {one.level}".replace("  ", " "))
                for text in (*one.errors, *one.warnings):
                    print(f"    {text}")
                for stamp in one.timestamps:
                    print(f"    {stamp.type} {stamp.at} {stamp.indication} {stamp.sub_indication or ''} {' '.join(stamp.errors)}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
