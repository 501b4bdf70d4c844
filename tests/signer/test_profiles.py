"""What the official profiles look like: rendered by poppler, measured, read back, and beside pictures that were looked at.

The golden pictures are in ``tests/signer/golden``; ``CONDAU_GOLDEN=write`` in the environment makes them anew, to be looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageFilter
from pyhanko.pdf_utils import generic

from core.content import Content
from core.errors import Rejected
from signer.layout import Layout
from signer.looks import POINTS
from signer.marks import Mark
from signer.pdf_update import open_update
from signer.places import leader_of
from signer.stamps import TextRun
from tests.signer.drawing import A4, TIME, bbox, cut, draw, issue, layout_text, marks, person, render, texts_of, where
from tests.signer.house import SEAL, House
from tests.signer.letters import LEADER, appendix, letter, write_pdf
from tests.signer.pdfs import judge, text_of

GOLDEN = Path(__file__).parent / "golden"


# -- what Phụ lục I says ------------------------------------------------------------------------------------------------


def test_the_leader_s_picture_stands_in_the_middle_between_title_and_name(
    studio: House, letter_pdf: bytes, led: bytes, tmp_path: Path
) -> None:
    document, signed = letter_pdf, led
    blue = where(render(tmp_path, signed), "blue")
    [mark] = marks(studio, document, profile="person", printed_name=LEADER)
    width, height = mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]
    assert (width / POINTS, height / POINTS) == pytest.approx((45, 45 * 300 / 720))
    text = next(texts_of(document))
    [name] = [span for span in text.find(LEADER) if text.run_of(span).text == LEADER.replace(" ", "")]
    [title] = text.find("CHỦ TỊCH")
    assert (mark.box[1] + mark.box[3]) / 2 == pytest.approx((title.box[1] + name.box[3]) / 2, abs=0.1)
    assert (mark.box[0] + mark.box[2]) / 2 == pytest.approx((name.box[0] + name.box[2]) / 2, abs=0.1)
    assert mark.box[0] / POINTS - 0.5 < blue[0] < blue[2] < mark.box[2] / POINTS + 0.5
    assert judge(tmp_path, signed) == [True]


def test_the_seal_has_its_real_size_and_covers_a_third_of_the_signature_on_its_left(issued: bytes, tmp_path: Path) -> None:
    signed = issued
    red = where(render(tmp_path, signed, dpi=200), "red", dpi=200)
    assert (red[2] - red[0], red[3] - red[1]) == pytest.approx((36, 36), abs=0.7)
    leader = leader_of(Layout(open_update(Content.of(signed), None), None))
    assert leader is not None
    x0, y0, x1, y1 = (value / POINTS for value in leader.box)
    assert red[2] == pytest.approx(x0 + (x1 - x0) / 3, abs=0.7)
    assert (red[1] + red[3]) / 2 == pytest.approx((y0 + y1) / 2, abs=0.5)
    assert judge(tmp_path, signed)[0] is True
    assert all(judge(tmp_path, signed))


def test_the_blue_stays_readable_beneath_the_red(led: bytes, issued: bytes, tmp_path: Path) -> None:
    """Where both are, the colour is darker than either: ink over ink, nothing is hidden."""
    blue, both = (render(tmp_path, document, dpi=150) for document in (led, issued))
    crossings = 0
    before, after = blue.tobytes(), both.tobytes()
    for at in range(0, len(before), 3):
        if before[at + 2] > 120 and before[at] < 60 and after[at + 2] < 40:  # a pixel of signature that the seal was put on
            crossings += 1
            assert after[at] < 60, after[at : at + 3]
    assert crossings > 20


def test_number_and_date_go_into_their_blanks(issued: bytes, tmp_path: Path) -> None:
    said = layout_text(tmp_path, issued)
    assert re.search(r"Số: +12 +/UBND-VP", said)
    assert re.search(r"ngày +05 +tháng +4 +năm 2025", said)


@pytest.mark.parametrize(
    ("number", "day", "said"),
    [
        ("Số: ……/UBND–VP", "Thử Nghiệm, ngày ….. tháng ….. năm 20…", ("12", "05", "4", "25")),
        ("Số:      /UBND\u2011VP", "Thử Nghiệm, ngày      tháng 4 năm 20", ("12", "05", "25")),
        ("Số:", "Thử Nghiệm, ngày      tháng      năm", ("12/UBND-VP", "05", "4", "2025")),
        ("SỐ : ____ /UBND - VP", "Thử Nghiệm, Ngày ___ tháng ___ năm 2025", ("12", "05", "4")),
    ],
)
def test_blanks_are_found_in_every_form_they_are_left_in(studio: House, number: str, day: str, said: tuple[str, ...]) -> None:
    document = person(studio, write_pdf([letter(number=number, day=day)]))
    drawn = _issue_marks(studio, document)
    assert tuple(part.text for mark in drawn for part in mark.drawing if isinstance(part, TextRun)) == said


def test_a_blank_that_is_too_narrow_gives_way_to_the_rectangle(studio: House) -> None:
    document = person(studio, write_pdf([letter(number="Số:/UBND-VP", day="Thử Nghiệm, ngày tháng năm 2025")]))
    wanted = {"number_rectangle": "62,690,200,710", "date_rectangle": "300,690,520,710"}
    number, day = (mark.box for mark in _issue_marks(studio, document, **wanted) if mark.name in {"Number", "Date"})
    assert (number, day) == ((62, 690, 200, 710), (300, 690, 520, 710))


def test_a_blank_that_a_signature_fills_is_none(studio: House) -> None:
    """Another agency's number, or one that another system has put there."""
    issued = issue(studio, person(studio, write_pdf([letter()])))
    with pytest.raises(Rejected) as refused:
        _issue_marks(studio, issued)
    assert [violation.field for violation in refused.value.violations] == ["number_rectangle"]


def _issue_marks(studio: House, document: bytes, **options: str) -> list[Mark]:
    given = {"number": "12/UBND-VP", "issued_on": "2025-04-05", **options}
    return marks(studio, document, profile="agency-issue", signer=SEAL, **given)


def test_what_is_printed_already_is_not_written_again(studio: House) -> None:
    ready = letter(number="Số: 12/UBND-VP", day="Thử Nghiệm, ngày 05 tháng 4 năm 2025")
    document = person(studio, write_pdf([ready]))
    drawn = _issue_marks(studio, document)
    assert [mark.name for mark in drawn] == ["Seal"]


@pytest.mark.parametrize(
    ("lines", "options", "field"),
    [
        ({"number": "Số: 11/UBND-VP"}, {}, "number"),
        ({}, {"number": "12/QĐ-UBND"}, "number"),
        ({}, {"number": "123456789012/UBND-VP"}, "number_rectangle"),
        ({"number": "Số:/UBND-VP"}, {"number_rectangle": "80,720,90,730"}, "number_rectangle"),
        ({"day": "Thử Nghiệm, ngày tháng năm 2025"}, {}, "date_rectangle"),
        ({"day": "Thử Nghiệm, ngày     tháng     năm 19..."}, {}, "issued_on"),
        ({"day": "Thử Nghiệm, ngày 06 tháng 4 năm 2025"}, {}, "issued_on"),
        ({"day": "Thử Nghiệm, ngày ² tháng 4 năm 2025"}, {}, "issued_on"),
        ({"day": "Thử Nghiệm, ngày 05 tháng 4 năm 20²"}, {}, "issued_on"),
        ({}, {"issued_on": "2026-04-05"}, "issued_on"),
        ({"number": "Công văn"}, {}, "number_rectangle"),
        ({"day": "Thử Nghiệm"}, {}, "date_rectangle"),
    ],
)
def test_what_contradicts_the_document_or_has_no_place_is_refused(
    studio: House, lines: dict[str, str], options: dict[str, str], field: str
) -> None:
    document = person(studio, write_pdf([letter(**lines)]))
    with pytest.raises(Rejected) as refused:
        issue(studio, document, **options)
    assert [violation.field for violation in refused.value.violations] == [field]


def test_number_and_date_go_into_rectangles_where_there_are_no_blanks(studio: House, tmp_path: Path) -> None:
    document = person(studio, write_pdf([letter(number="", day="")]))
    signed = issue(studio, document, number_rectangle="62,720,200,740", date_rectangle="300,720,520,740")
    said = layout_text(tmp_path, signed)
    assert "12/UBND-VP" in said
    assert "ngày 05 tháng 4 năm 2025" in said


@pytest.mark.parametrize(
    ("profile", "options", "said"),
    [
        ("appendix", {"number": "12/UBND-VP"}, f"12/UBND-VP\n{TIME}"),
        ("copy", {"copy_kind": "sao-y"}, f"Sao y; Ủy ban nhân dân xã Thử Nghiệm;\n{TIME}"),
        ("copy", {"copy_kind": "sao-luc"}, f"Sao lục; Ủy ban nhân dân xã Thử Nghiệm;\n{TIME}"),
        ("copy", {"copy_kind": "trich-sao"}, f"Trích sao; Ủy ban nhân dân xã Thử Nghiệm;\n{TIME}"),
    ],
)
def test_annex_and_copy_have_ten_points_black_at_the_top_right_of_page_1(
    studio: House, tmp_path: Path, profile: str, options: dict[str, Any], said: str
) -> None:
    signed = draw(studio, write_pdf([appendix(), appendix()]), profile=profile, signer=SEAL, **options)
    read = text_of(tmp_path, signed)
    assert said in read
    assert unicodedata.is_normalized("NFC", read)
    assert b"/Image" not in signed  # no picture
    words = re.findall(r'xMin="([\d.]+)" yMin="([\d.]+)" xMax="([\d.]+)" yMax="([\d.]+)">\+07:00', bbox(tmp_path, signed))
    [(left, top, right, bottom)] = [tuple(map(float, word)) for word in words]
    assert right == pytest.approx(A4[0] - 15 * POINTS, abs=0.5)
    assert bottom < 20 * POINTS  # in the margin
    assert left > A4[0] / 2
    assert bottom - top == pytest.approx(10 * 1.107, abs=0.3)  # ascent and descent of the font at 10 points


def test_the_font_is_an_embedded_subset_with_the_metrics_of_times(studio: House, tmp_path: Path) -> None:
    signed = draw(studio, write_pdf([appendix()]), profile="appendix", signer=SEAL, number="12/UBND-VP")
    (tmp_path / "fonts.pdf").write_bytes(signed)
    fonts = subprocess.run(["pdffonts", tmp_path / "fonts.pdf"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"[A-Z]{6}\+Tinos\s+CID TrueType\s+Identity-H\s+yes yes yes", fonts)


# -- PDF/A ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "intent", "soft"),
    [(None, False, True), (1, True, False), (1, False, False), (2, True, True), (2, False, False), (3, True, True)],
)
def test_pictures_have_soft_edges_only_where_the_file_s_kind_of_pdf_a_takes_them(
    studio: House, letter_pdf: bytes, part: int | None, intent: bool, soft: bool
) -> None:
    added = issue(studio, person(studio, declared(letter_pdf, part, intent=intent)))[len(letter_pdf) :]
    assert (b"/SMask" in added, b"/Multiply" in added, b"/ImageMask" in added) == (soft, soft, not soft)
    assert b"/DeviceRGB" not in added
    assert added.count(b"/DeviceGray") == added.count(b"/SMask")  # nothing else depends on a device


def declared(document: bytes, part: int | None, *, intent: bool) -> bytes:
    """The document saying that it is PDF/A of this part (in UTF-16, as some do), with an output intent or without."""
    update = open_update(Content.of(document), None)
    name = generic.pdf_name
    if part is not None:
        said = f'<rdf:Description xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/" pdfaid:part="{part}" pdfaid:conformance="B"/>'
        update.root["/Metadata"] = update.add_object(generic.StreamObject(stream_data=said.encode("utf-16")))
    if intent:
        kind = {name("/Type"): name("/OutputIntent"), name("/S"): name("/GTS_PDFA1")}
        update.root["/OutputIntents"] = generic.ArrayObject([generic.DictionaryObject(kind)])
    update.update_root()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
    return document + bytes(update.revision())


# -- golden pictures ------------------------------------------------------------------------------------------------------

GOLDENS: dict[str, tuple[float, float, float, float]] = {
    "person": (110, 108, 190, 160),
    "agency-issue": (15, 25, 205, 162),
    "initial": (100, 84, 200, 102),
    "appendix": (110, 0, 210, 22),
    "copy": (110, 0, 210, 22),
    "incoming": (15, 85, 120, 140),
    "comment": (15, 85, 120, 140),
    "portal": (0, 0, 90, 22),
}
"""Which part of the page is kept: left, top, right, bottom in millimetres from the page's top left corner."""


@pytest.mark.parametrize("profile", GOLDENS)
def test_the_profile_looks_as_it_did_when_it_was_looked_at(
    studio: House, led: bytes, issued: bytes, tmp_path: Path, profile: str
) -> None:
    seen = cut(render(tmp_path, picture_of(studio, profile, led, issued)), GOLDENS[profile], 100)
    path = GOLDEN / f"{profile}.png"
    if os.environ.get("CONDAU_GOLDEN") == "write":
        seen.quantize(24, dither=Image.Dither.NONE).save(path, optimize=True)
    kept = Image.open(path).convert("RGB")
    assert kept.size == seen.size
    # blurred, another version's way with edges is not seen; a letter that is missing or a millimetre off is
    one, other = (image.filter(ImageFilter.GaussianBlur(2)) for image in (kept, seen))
    worst = max(ImageChops.difference(one, other).tobytes())
    assert worst < 70, f"differs by {worst} of 255 somewhere"


def picture_of(studio: House, profile: str, led: bytes, issued: bytes) -> bytes:
    """The sample document signed with this profile."""
    if profile in {"appendix", "copy", "portal"}:
        options: dict[str, Any] = {"appendix": {"number": "12/UBND-VP"}, "copy": {"copy_kind": "sao-y"}, "portal": {}}[profile]
        return draw(studio, write_pdf([appendix()]), profile=profile, signer=SEAL, **options)
    if profile in {"person", "agency-issue"}:
        return led if profile == "person" else issued
    if profile == "incoming":
        return draw(studio, led, profile="incoming", signer=SEAL, number="321")
    if profile == "comment":
        return draw(studio, led, profile="comment", comment="Giao Văn phòng tham mưu,\ntrả lời trước ngày 20/4.")
    return draw(studio, write_pdf([letter()]), profile="initial")
