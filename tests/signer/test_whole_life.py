"""The whole life of one official letter: initials, leader, number with date and seal, annex, portal, remark; then it is judged."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from audit.log import SYSTEM
from core.content import Content
from core.db import Database
from registry.agencies import VIETNAM
from signer.options import PdfOptions
from signer.register import Wanted
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.gate_house import AGENCY, CLERK, NUMBERER, Desk, furnish_desk, open_desk
from tests.signer.house import CLIENT, OFFICER, SEAL
from tests.signer.letters import appendix, initials, letter, scribble, seal, write_pdf
from tests.software_keys import SoftwareKeys
from verifier.service import Verifier
from verifier.verdict import Conclusion, Indication

pytestmark = pytest.mark.one_database  # the signed document is looked at

LEADER = "Nguyễn Thị Ký"
ISSUED = {"Seal1", "Number1", "Date1", "Qr1"}
FIELDS = {"Initial1", "Person1", *ISSUED, "Portal1", "Comment1"}


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With the desk in it for a test that sits at it."""
    return databases.furnished(furnish_desk) if "desk" in request.fixturenames else databases.plain()


@pytest.fixture
def desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    """The office, with the pictures its signatures are drawn with."""
    desk = open_desk(database, keys, clock)
    gallery = desk.house.gallery()
    gallery.keep_picture(CLERK, "initials", initials(), 12, SYSTEM)
    gallery.keep_picture(OFFICER, "signature", scribble(), 45, SYSTEM)
    gallery.keep_picture(AGENCY, "seal", seal(), 36, SYSTEM)
    return desk


def sign(desk: Desk, document: bytes, *, activation: str | None = None, **options: object) -> bytes:
    """Signed as an office asks for it: the profile alone says what is drawn and where."""
    desk.clock.move(minutes=1)
    signed = desk.house.signer.sign_pdf(Content.of(document), PdfOptions.model_validate(options), CLIENT, activation=activation)
    whole = signed.read(0, signed.size)
    assert whole.startswith(document)
    return whole


def live(desk: Desk) -> tuple[list[bytes], bytes]:
    """The letter after each act, and its annex."""
    today = desk.clock().astimezone(VIETNAM).date()
    acts = [write_pdf([letter(leader=LEADER, day=f"Thử Nghiệm, ngày        tháng        năm {today.year}")])]
    number = desk.register.hold(AGENCY, Wanted("UBND-VP", NUMBERER), CLIENT).text
    acts.append(sign(desk, acts[-1], profile="initial", signer=CLERK, level="B-LT"))
    acts.append(sign(desk, acts[-1], profile="person", signer=OFFICER, level="B-LT"))
    acts.append(
        sign(desk, acts[-1], profile="agency-issue", signer=SEAL, number=number, issued_on=today, activation=desk.token(), qr=True)
    )
    annex = sign(desk, write_pdf([appendix()]), profile="appendix", signer=SEAL, number=number, activation=desk.token())
    acts.append(sign(desk, acts[-1], profile="portal", signer=SEAL, activation=desk.token()))
    acts.append(sign(desk, acts[-1], profile="comment", signer=OFFICER, comment="Giao Văn phòng theo dõi."))
    return acts, annex


def test_every_signature_is_valid_and_every_change_between_them_is_named_and_allowed(desk: Desk, tmp_path: Path) -> None:
    acts, annex = live(desk)
    verifier = Verifier(database=desk.database, now=desk.clock)
    report = verifier.verify(Content.of(acts[-1]))
    assert report.conclusion is Conclusion.VALID, report
    assert [one.name for one in report.signatures] == ["Initial1", "Person1", "Seal1", "Portal1", "Comment1"]
    assert all(one.indication is Indication.TOTAL_PASSED for one in report.signatures)
    after_issuing = FIELDS - {"Initial1", "Person1"} - ISSUED
    for signature, names in zip(
        report.signatures[:4], (FIELDS - {"Initial1"}, ISSUED | after_issuing, after_issuing, {"Comment1"}), strict=True
    ):
        [change] = signature.changes
        assert change.code == "SIGNED_AGAIN"
        assert set(re.findall("“(.*?)”", change.text.en)) == names
    assert report.signatures[-1].changes[0].code == "VALIDATION_MATERIAL_ADDED"
    assert verifier.verify(Content.of(annex)).conclusion is Conclusion.VALID
    # a program that is not ours: it tells of each field, and those of the issuing act show one signature
    judged = judge_fields(tmp_path, acts[-1])
    assert {name: judged[name] for name in FIELDS} == dict.fromkeys(FIELDS, True), judged
    assert judge_fields(tmp_path, annex)["Appendix1"]


def judge_fields(folder: Path, document: bytes) -> dict[str, bool]:
    """What pdfsig says of each field; of document timestamps it knows nothing."""
    path = folder / "life.pdf"
    path.write_bytes(document)
    said = subprocess.run(["pdfsig", "-nocert", path], capture_output=True, text=True, timeout=60, check=False).stdout
    parts = said.split("Signature #")[1:]
    return {re.search(r"Field Name: (\S+)", part)[1]: "Signature is Valid" in part for part in parts}  # type: ignore[index]  # each has one
