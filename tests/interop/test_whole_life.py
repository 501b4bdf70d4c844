"""EU DSS over the whole life of an official letter: five signatures, one of them shown in four fields."""

from __future__ import annotations

import pytest

from tests.interop.dss import Dss
from tests.signer.gate_house import Desk
from tests.signer.test_whole_life import desk, live

pytestmark = pytest.mark.interop
__all__ = ["desk"]


def test_dss_passes_every_signature_of_the_letter_and_of_its_annex(desk: Desk, dss: Dss) -> None:
    acts, annex = live(desk)
    root = desk.house.root
    said = dss.judge(acts[-1], root, at=desk.clock(), keep="whole-life")
    assert [one.field for one in said] == ["Initial1", "Person1", "Seal1", "Portal1", "Comment1"]
    assert {one.indication for one in said} == {"TOTAL_PASSED"}, said
    assert said[-1].level == "PAdES-BASELINE-LTA"
    [alone] = dss.judge(annex, root, at=desk.clock(), keep="annex")
    assert alone.short == ("TOTAL_PASSED", "PAdES-BASELINE-LTA"), alone
