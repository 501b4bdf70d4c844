"""Official profiles signed into a field that stands in the document already: drawn inside it, at true size, upright."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from core.errors import Conflict, Rejected
from signer.looks import POINTS
from tests.signer.drawing import A4, TIME, bbox, draw, issue, person, render, text_in, where
from tests.signer.house import SEAL, House
from tests.signer.letters import LEADER
from tests.signer.pdfs import judge, make_pdf
from tests.signer.test_pdf import validate

Box = tuple[float, float, float, float]
ROOMY: Box = (100, 400, 300, 520)
"""In points: larger than any mark of the built-in looks."""


def with_field(document: bytes, box: Box = ROOMY, name: str = "Ky", *, mk: int | None = None, **extra: Any) -> bytes:
    """The document with an empty signature field at ``box`` (in the file's coordinates) of page 1, made by another program."""
    with pikepdf.open(io.BytesIO(document)) as pdf:
        page = pdf.pages[0]
        own: dict[str, Any] = {
            "Type": pikepdf.Name.Annot,
            "Subtype": pikepdf.Name.Widget,
            "FT": pikepdf.Name.Sig,
            "T": name,
            "F": 4,
        }
        field = pdf.make_indirect(pikepdf.Dictionary(**own, Rect=list(box), **extra))
        if mk is not None:
            field.MK = pikepdf.Dictionary(R=mk)
        page.obj.Annots = pdf.make_indirect(pikepdf.Array([*page.obj.get("/Annots", []), field]))
        if "/AcroForm" not in pdf.Root:
            pdf.Root.AcroForm = pdf.make_indirect(pikepdf.Dictionary(Fields=[], SigFlags=0))
        pdf.Root.AcroForm.Fields.append(field)
        out = io.BytesIO()
        pdf.save(out)
    return out.getvalue()


def inside(seen: Box, box: Box, size: tuple[float, float] | None = None) -> bool:
    """Whether what is seen (in millimetres) lies in a box (in points), and in its middle if it has that size (millimetres)."""
    left, bottom, right, top = (value / POINTS for value in box)
    if size is not None:
        across, up = (right - left - size[0]) / 2, (top - bottom - size[1]) / 2
        left, bottom, right, top = left + across, bottom + up, right - across, top - up
    return left - 0.5 < seen[0] and bottom - 0.5 < seen[1] and seen[2] < right + 0.5 and seen[3] < top + 0.5


def test_the_picture_has_its_true_size_in_the_middle_of_a_larger_field(studio: House, letter_pdf: bytes, tmp_path: Path) -> None:
    signed = draw(studio, with_field(letter_pdf), profile="person", field="Ky")
    assert inside(where(render(tmp_path, signed), "blue"), ROOMY, (45, 45 * 300 / 720))
    assert judge(tmp_path, signed) == [True]
    with pikepdf.open(io.BytesIO(signed)) as pdf:
        [field] = pdf.Root.AcroForm.Fields
        assert [float(value) for value in field.Rect] == list(ROOMY)


def test_it_is_scaled_down_in_a_smaller_field_and_refused_in_one_too_small(
    studio: House, letter_pdf: bytes, tmp_path: Path
) -> None:
    box = (100.0, 400.0, 100 + 30 * POINTS, 400 + 15 * POINTS)
    blue = where(render(tmp_path, draw(studio, with_field(letter_pdf, box), profile="person", field="Ky"), dpi=200), "blue", 200)
    assert inside(blue, box)
    assert blue[2] - blue[0] > 24  # of 30 mm
    small = with_field(letter_pdf, (100, 400, 100 + 20 * POINTS, 440))
    with pytest.raises(Rejected, match=r"20\.0 x 14\.1 mm, and Person of this profile takes 22\.5 x 9\.4 mm at least") as refused:
        draw(studio, small, profile="person", field="Ky")
    assert refused.value.violations[0].field == "field"


@pytest.mark.parametrize(
    ("rotate", "mk", "box"),
    [
        (90, None, (300, 400, 380, 550)),  # no wish: upright as the page is shown
        (90, 90, (300, 400, 380, 550)),
        (0, 90, (100, 400, 180, 550)),  # turned, as the field's author wants it
        (180, None, ROOMY),
        (270, 270, (300, 400, 380, 550)),
    ],
)
def test_the_picture_is_turned_as_page_and_field_say(studio: House, tmp_path: Path, rotate: int, mk: int | None, box: Box) -> None:
    signed = draw(studio, with_field(make_pdf(rotate=rotate), box, mk=mk), profile="person", field="Ky")
    image = render(tmp_path, signed)
    blue = where(image, "blue")
    x0, y0, x1, y1 = box
    shown = {0: box, 90: (y0, A4[0] - x1, y1, A4[0] - x0), 180: (A4[0] - x1, A4[1] - y1, A4[0] - x0, A4[1] - y0)}
    shown[270] = (A4[1] - y1, x0, A4[1] - y0, x1)
    assert inside(blue, shown[rotate])
    lies = blue[2] - blue[0] > blue[3] - blue[1]
    assert lies is (mk is None or (mk - rotate) % 180 == 0)


def test_the_seal_goes_into_the_field_and_number_and_date_where_they_belong(
    studio: House, letter_pdf: bytes, tmp_path: Path
) -> None:
    document = person(studio, with_field(letter_pdf, name="Dau"))
    signed = issue(studio, document, field="Dau")
    red = where(render(tmp_path, signed, dpi=200), "red", 200)
    assert inside(red, ROOMY, (36, 36))
    assert (red[2] - red[0], red[3] - red[1]) == pytest.approx((36, 36), abs=0.7)
    said = bbox(tmp_path, signed)
    assert ">12<" in said
    assert "2025" in said
    with pikepdf.open(io.BytesIO(signed)) as pdf:
        names = {str(field.T): field.V.objgen for field in pdf.Root.AcroForm.Fields}
    assert set(names) == {"Dau", "Person1", "Number1", "Date1"}
    assert names["Dau"] == names["Number1"] == names["Date1"] != names["Person1"]
    assert all(judge(tmp_path, signed))
    assert validate(studio, signed, 0).bottom_line


def test_a_seal_covers_a_third_of_the_picture_and_not_of_its_field(studio: House, letter_pdf: bytes, tmp_path: Path) -> None:
    """The leader signed in a field that another program made, larger than the picture, and names no page."""
    led = draw(studio, with_field(letter_pdf), profile="person", field="Ky")
    red = where(render(tmp_path, issue(studio, led), dpi=200), "red", 200)
    centre = (ROOMY[0] + ROOMY[2]) / 2 / POINTS
    assert red[2] == pytest.approx(centre - 45 / 2 + 45 / 3, abs=0.7)
    assert (red[1] + red[3]) / 2 == pytest.approx((ROOMY[1] + ROOMY[3]) / 2 / POINTS, abs=0.7)


def test_a_seal_is_not_scaled(studio: House, letter_pdf: bytes) -> None:
    document = person(studio, with_field(letter_pdf, (100, 400, 190, 490)))
    with pytest.raises(Rejected, match=r"takes 36\.0 x 36\.0 mm at least"):
        issue(studio, document, field="Ky")


def test_text_is_broken_to_the_field_and_keeps_its_size(studio: House, letter_pdf: bytes, tmp_path: Path) -> None:
    box = (350.0, 780.0, 520.0, 830.0)
    options: dict[str, Any] = {"profile": "copy", "copy_kind": "sao-y", "signer": SEAL, "field": "Ky"}
    signed = draw(studio, with_field(letter_pdf, box), **options)
    assert text_in(tmp_path, signed, box).replace("\n", " ").strip() == f"Sao y; Ủy ban nhân dân xã Thử Nghiệm; {TIME}"
    with pytest.raises(Rejected, match="enlarge it in the document"):
        draw(studio, with_field(letter_pdf, (350, 780, 380, 830)), **options)


def test_where_nothing_would_be_seen_is_refused(studio: House, letter_pdf: bytes) -> None:
    with pytest.raises(Rejected, match="no extent"):
        draw(studio, with_field(letter_pdf, (0, 0, 0, 0)), profile="person", field="Ky")
    with pikepdf.open(io.BytesIO(with_field(letter_pdf))) as pdf:
        pdf.Root.AcroForm.Fields[0].F = 2
        pdf.save(hidden := io.BytesIO())
    with pytest.raises(Rejected, match="is hidden"):
        draw(studio, hidden.getvalue(), profile="person", field="Ky")


def test_locks_seeds_and_signed_fields_are_respected(studio: House, letter_pdf: bytes) -> None:
    lock = pikepdf.Dictionary(Type=pikepdf.Name.SigFieldLock, Action=pikepdf.Name.Include, Fields=["Khoa"])
    both = with_field(with_field(letter_pdf, name="Khoa"), (320, 400, 500, 520), Lock=lock)
    signed = draw(studio, both, profile="person", field="Ky")
    assert b"/FieldMDP" in signed
    with pytest.raises(Conflict, match="locked the field 'Khoa'"):
        draw(studio, signed, profile="person", field="Khoa")
    with pytest.raises(Conflict, match="signed already"):
        draw(studio, signed, profile="person", field="Ky")
    seed = pikepdf.Dictionary(Type=pikepdf.Name.SV, Ff=1)
    with pytest.raises(Conflict, match="seed value"):
        draw(studio, with_field(letter_pdf, SV=seed), profile="person", field="Ky")
    with pytest.raises(Rejected, match="its own page and rectangle"):
        draw(studio, both, profile="person", field="Ky", page=1)
    with pytest.raises(ValueError, match="give either it, or field"):
        draw(studio, both, profile="person", field="Ky", printed_name=LEADER)


def test_a_field_without_a_page_of_its_own_is_found_on_the_page_that_lists_it(studio: House, tmp_path: Path) -> None:
    box = (300.0, 400.0, 380.0, 550.0)  # pikepdf wrote no /P; on a page turned by 90 degrees it matters
    document = with_field(make_pdf(rotate=90), box)
    blue = where(render(tmp_path, draw(studio, document, profile="person", field="Ky")), "blue")
    assert blue[2] - blue[0] > blue[3] - blue[1]
