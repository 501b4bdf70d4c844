"""Levels as EU DSS, pdfsig, MuPDF and iText see them: after signing, extending and renewing, now and decades on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from audit.log import SYSTEM
from core.content import Content
from core.db import Database
from core.settings import Config
from hsm.keys import KeySpec
from pki.certificates import authority_certificate, authority_named
from pki.crl import CrlPublisher
from pki.profile import build_subject
from signer.extend import ExtendOptions, ExtensionLevel
from signer.options import PadesLevel, PdfOptions
from tests.conftest import Clock
from tests.interop.dss import REPORTS, Dss
from tests.signer.house import CLIENT, OFFICER, SEAL, House, build_house, sign_pdf
from tests.signer.pdfs import judge, make_pdf
from tests.software_keys import SoftwareKeys
from verifier.service import Verifier
from verifier.verdict import Conclusion

_JARS: Final = [Path("/usr/share/java") / f"{name}.jar" for name in ("itext5", "bcprov", "bcpkix")]
_SOURCE: Final = Path(__file__).parent / "java" / "Itext.java"


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    return build_house(database, keys, clock, seal=True)


def sign(house: House, document: bytes, level: PadesLevel, signer: str = OFFICER) -> bytes:
    return sign_pdf(house.signer, document, PdfOptions(level=level, signer=signer), CLIENT)


def extend(house: House, document: bytes, level: ExtensionLevel = "B-LTA") -> bytes:
    extended = house.extender().extend(Content.of(document), ExtendOptions(level=level), CLIENT)
    return extended.read(0, extended.size)


def crls(house: House) -> list[bytes]:
    """For what carries no revocation answers itself."""
    publisher = CrlPublisher(database=house.database, keys=house.keys, now=house.now, config=Config(home=Path()))
    return [publisher.publish(name, actor=SYSTEM).der for name in ("root", "issuing")]


def test_every_level_is_passed_and_exact(house: House, dss: Dss) -> None:
    lists = crls(house)
    for level in ("B-B", "B-T", "B-LT", "B-LTA"):
        below = level in ("B-B", "B-T")
        document = sign(house, make_pdf(), level)
        (said,) = dss.judge(document, house.root, crls=lists if below else (), at=house.now(), keep=f"level-{level}")
        assert said.short == ("TOTAL_PASSED", f"PAdES-BASELINE-{level.removeprefix('B-')}"), said
        assert not said.errors
        assert not said.warnings
        for extended in ("B-LT", "B-LTA") if level != "B-LTA" else ("B-LTA",):
            further = extend(house, document, extended)
            (said,) = dss.judge(further, house.root, at=house.now(), keep=f"level-{level}-extended-to-{extended}")
            assert said.short == ("TOTAL_PASSED", f"PAdES-BASELINE-{extended.removeprefix('B-')}"), said


def build_files(house: House) -> Mapping[str, bytes]:
    """Several hands on one file: with the archive's timestamp in between, and extended all at once."""
    archived = sign(house, make_pdf(), "B-LTA")
    both = sign(house, archived, "B-LTA", SEAL)
    mixed = sign(house, sign(house, sign(house, make_pdf(), "B-B"), "B-T", SEAL), "B-LT")
    return {"both": both, "both-renewed": extend(house, both), "mixed-extended": extend(house, mixed)}


def test_several_signatures_on_one_file_are_all_at_lta(house: House, dss: Dss, tmp_path: Path) -> None:
    files = build_files(house)
    for name, document in files.items():
        found = dss.judge(document, house.root, at=house.now(), keep=name)
        assert {said.short for said in found} == {("TOTAL_PASSED", "PAdES-BASELINE-LTA")}, (name, found)
        assert len(found) == (3 if name == "mixed-extended" else 2)
        assert judge(tmp_path, document) == [True] * len(found)
    check_itext(files, tmp_path)
    check_mupdf(files, tmp_path)


def check_itext(files: Mapping[str, bytes], folder: Path) -> None:
    """iText 5: every signature and document timestamp holds, and so do the timestamps over signatures."""
    if shutil.which("javac") is None or not all(map(Path.exists, _JARS)):
        pytest.skip("iText 5 is not installed (libitext5-java)")
    classpath = ":".join(map(str, _JARS))
    subprocess.run(["javac", "-cp", classpath, "-d", folder, _SOURCE], check=True, capture_output=True, timeout=120)
    paths = []
    for name, document in files.items():
        paths.append(folder / f"{name}.pdf")
        paths[-1].write_bytes(document)
    command = ["java", "-cp", f"{classpath}:{folder}", "Itext", *map(str, paths)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / "itext.txt").write_text(said)
    rows = [line.split("\t") for line in said.splitlines()]
    assert {row[0] for row in rows} == {str(number) for number in range(len(files))}
    for _, field, holds, is_stamp, stamped in rows:
        assert holds == "true", said
        assert is_stamp == ("true" if field.startswith("Timestamp") else "false")
        assert stamped == "true" or field.startswith("Timestamp") or field == "Signature1"  # B-B is stamped with the document


def check_mupdf(files: Mapping[str, bytes], folder: Path) -> None:
    """MuPDF: every signature holds. It has no notion of document timestamps, and does not know our root."""
    if shutil.which("mutool") is None:
        pytest.skip("MuPDF is not installed (mupdf-tools)")
    for name, document in files.items():
        path = folder / f"{name}.pdf"
        path.write_bytes(document)
        said = subprocess.run(["mutool", "sign", "-v", path], capture_output=True, text=True, timeout=60, check=False).stdout
        (REPORTS / f"mutool-{name}.txt").write_text(said)
        assert said.count("The signature is valid") == (3 if name == "mixed-extended" else 2), said
        assert "invalid" not in said.lower()


def succeed(house: House, generation: int) -> x509.Certificate:
    """Authorities, a time-stamping unit and a responder of a new generation; the new root."""
    name = {"organization": "Cơ quan thử nghiệm", "locality": "Cà Mau"}
    root, issuing = f"root-{generation}", f"issuing-{generation}"
    for authority, issuer in ((root, None), (issuing, root)):
        subject = build_subject(common_name=authority, **name)
        house.ca.create_authority(authority, subject=subject, spec=KeySpec.P_256, issuer=issuer, actor=SYSTEM)
    for profile in ("tsa", "ocsp-responder"):
        subject = build_subject(common_name=f"{profile} {generation}", **name)
        house.ca.issue_service(profile=profile, subject=subject, issuer=issuing, spec=KeySpec.P_256, actor=SYSTEM)
    house.tsa.units.forget()
    with house.database.read() as db:
        return authority_certificate(authority_named(db, root))


def test_with_renewals_a_file_is_valid_for_decades(house: House, dss: Dss, clock: Clock) -> None:
    """Signer, time-stamping units and authorities expire one after the other; each renewal comes before the unit's end."""
    anchors = [house.root]
    archived = neglected = sign(house, make_pdf(), "B-LTA")
    first_end = house.tsa.signers()[0].not_valid_after_utc
    ours = Verifier(database=house.database, now=house.now)
    for generation in range(2, 6):
        clock.move(days=6 * 365)
        (said,) = dss.judge(archived, *anchors, at=clock(), keep=f"year-{6 * generation - 6}-before")
        assert said.short == ("TOTAL_PASSED", "PAdES-BASELINE-LTA"), said
        anchors.append(succeed(house, generation))
        archived = extend(house, archived)
        (said,) = dss.judge(archived, *anchors, at=clock(), keep=f"year-{6 * generation - 6}-after")
        assert said.short == ("TOTAL_PASSED", "PAdES-BASELINE-LTA"), said
        assert ours.verify(Content.of(archived)).conclusion is Conclusion.VALID
    assert clock() > anchors[0].not_valid_after_utc  # even the root under which it was signed
    (said,) = dss.judge(neglected, *anchors, at=first_end + timedelta(days=30), keep="neglected")
    assert said.indication == "INDETERMINATE"
    assert ours.verify(Content.of(neglected)).conclusion is Conclusion.INDETERMINATE
