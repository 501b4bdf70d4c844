"""Every official profile as EU DSS sees it: each signature passed and at the level it was made at."""

from __future__ import annotations

from core.content import Content
from registry.agencies import VIETNAM
from signer.extend import ExtendOptions
from signer.options import Profile
from signer.register import Wanted
from tests.interop.dss import Dss
from tests.signer.gate_house import AGENCY, CLERK, NUMBERER, Desk
from tests.signer.house import CLIENT, OFFICER, SEAL
from tests.signer.letters import letter, write_pdf
from tests.signer.test_fields import with_field
from tests.signer.test_whole_life import LEADER, desk, furnished, live, sign

__all__ = ["desk", "furnished"]  # the fixtures
PASSED_LTA = ("TOTAL_PASSED", "PAdES-BASELINE-LTA")


def test_the_whole_life_of_a_letter_is_passed_signature_by_signature(desk: Desk, dss: Dss) -> None:
    acts, annex = live(desk)
    root = desk.house.root
    for number, document in enumerate(acts[1:], start=1):
        found = dss.judge(document, root, at=desk.clock(), keep=f"life-{number}")
        assert {said.indication for said in found} == {"TOTAL_PASSED"}, found
        assert len(found) == number
    assert {said.short for said in found} == {PASSED_LTA}  # what was B-LT is under the archive's timestamps by now
    (said,) = dss.judge(annex, root, at=desk.clock(), keep="appendix")
    assert said.short == PASSED_LTA
    extended = desk.house.extender().extend(Content.of(acts[-1]), ExtendOptions(), CLIENT)
    found = dss.judge(extended.read(0, extended.size), root, at=desk.clock(), keep="life-renewed")
    assert {said.short for said in found} == {PASSED_LTA}, found


def test_leader_and_seal_in_fields_the_letter_had_are_passed(desk: Desk, dss: Dss) -> None:
    year = desk.clock().astimezone(VIETNAM).year
    document = write_pdf([letter(leader=LEADER, day=f"Thử Nghiệm, ngày        tháng        năm {year}")])
    for name, box in (("LanhDao", (360, 440, 520, 500)), ("Dau", (300, 440, 420, 560))):
        document = with_field(document, box, name)
    number = desk.register.hold(AGENCY, Wanted("UBND-VP", NUMBERER), CLIENT).text
    led = sign(desk, document, profile="person", signer=OFFICER, field="LanhDao")
    issued = sign(desk, led, profile="agency-issue", signer=SEAL, field="Dau", number=number, activation=desk.token())
    found = dss.judge(issued, desk.house.root, at=desk.clock(), keep="fields")
    assert [said.short for said in found] == [PASSED_LTA, PASSED_LTA], found
    assert {said.field for said in found} == {"LanhDao", "Dau"}


def test_every_profile_is_passed_at_lta(desk: Desk, dss: Dss) -> None:
    acts: dict[Profile, dict[str, object]] = {
        "person": {"signer": OFFICER},
        "initial": {"signer": CLERK},
        "comment": {"signer": OFFICER, "comment": "Giao Văn phòng."},
        "copy": {"signer": SEAL, "copy_kind": "sao-y"},
        "incoming": {"signer": SEAL, "number": "15"},
        "portal": {"signer": SEAL},
        "plain": {"signer": OFFICER, "page": 1},
    }
    document = write_pdf([letter(leader=LEADER)])
    for profile, options in acts.items():
        activation = desk.token() if options["signer"] == SEAL else None
        signed = sign(desk, document, profile=profile, activation=activation, **options)
        (said,) = dss.judge(signed, desk.house.root, at=desk.clock(), keep=f"profile-{profile}")
        assert said.short == PASSED_LTA, (profile, said)
