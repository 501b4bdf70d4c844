"""Where marks go: names in every spelling, turned pages, free places, corners."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image
from pyhanko.pdf_utils import generic

from core.content import Content
from core.errors import Rejected
from signer.layout import Layout
from signer.looks import POINTS
from signer.pdf_update import open_update
from signer.stamps import Box
from signer.verification_pages import format_code, parse_code
from tests.signer.drawing import TIME, draw, marks, person, render, text_in, texts_of, where
from tests.signer.house import SEAL, House
from tests.signer.letters import LEADER, Form, Line, appendix, letter, write_pdf


@pytest.fixture(scope="module")
def place(studio: House, letter_pdf: bytes) -> Box:
    """Where the leader's picture stands on the sample letter."""
    return marks(studio, letter_pdf, profile="person", printed_name=LEADER)[0].box


# -- where the name stands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "given", ["Trần Văn Thử", "TRẦN VĂN THỬ", "trần  văn thử", "Tra\u0302\u0300n Va\u0306n Thử", "Trâ\u0300n Văn Thư\u0309"]
)
def test_the_name_is_found_whatever_its_unicode_form(studio: House, place: Box, form: Form, given: str) -> None:
    assert marks(studio, write_pdf([letter()], form=form), profile="person", printed_name=given)[0].box == pytest.approx(
        place, abs=1.5
    )


def test_the_picture_stands_in_the_middle_of_rank_and_name(studio: House) -> None:
    document = write_pdf([letter(rank="Thượng tá ")])
    [mark] = marks(studio, document, profile="person", printed_name=LEADER)
    [line] = next(texts_of(document)).find(f"Thượng tá {LEADER}")
    assert (mark.box[0] + mark.box[2]) / 2 == pytest.approx((line.box[0] + line.box[2]) / 2, abs=0.5)


def test_the_last_page_with_the_name_counts_and_not_a_sentence_that_has_it(studio: House) -> None:
    pages: list[list[Line]] = [letter(), letter(), [("regular", 13, 85, 700, f"Phụ lục do ông {LEADER} lập và chịu trách nhiệm.")]]
    assert marks(studio, write_pdf(pages), profile="person", printed_name=LEADER)[0].page == 2


def test_a_list_in_an_annex_that_names_the_leader_is_no_place_to_sign(studio: House, place: Box) -> None:
    """The members of a board, its head among them, each name alone in its cell."""
    annex: list[Line] = [("regular", 13, 330, 420 - 20 * row, name) for row, name in enumerate(["Lê An", LEADER, "Vũ Bình"])]
    [mark] = marks(studio, write_pdf([letter(), annex]), profile="person", printed_name=LEADER)
    assert mark.page == 1
    assert mark.box == pytest.approx(place, abs=0.1)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_the_place_is_found_on_a_turned_page(studio: House, led: bytes, place: Box, tmp_path: Path, rotate: int) -> None:
    """The text runs across the page as it is shown: on a turned page it is written turned the other way."""
    document = turned(write_pdf([letter()]), rotate)
    [mark] = marks(studio, document, profile="person", printed_name=LEADER)
    assert mark.box == pytest.approx(place, abs=0.5)
    blue = where(render(tmp_path, person(studio, document)), "blue")
    assert blue == pytest.approx(where(render(tmp_path, led), "blue"), abs=0.6)


def test_on_a_page_of_larger_units_everything_keeps_its_real_size(studio: House, led: bytes, place: Box, tmp_path: Path) -> None:
    """/UserUnit 2: MuPDF, which heeds it, draws the picture where and as large as on the same page in points."""
    document = laid_out(write_pdf([letter()]), "0.5 0 0 0.5 0 0", {"/MediaBox": (0, 0, 297.5, 421), "/UserUnit": 2})
    [mark] = marks(studio, document, profile="person", printed_name=LEADER)
    assert mark.box == pytest.approx(place, abs=0.5)
    (tmp_path / "signed.pdf").write_bytes(person(studio, document))
    command = ["mutool", "draw", "-q", "-r", "100", "-o", str(tmp_path / "signed.png"), str(tmp_path / "signed.pdf")]
    subprocess.run(command, check=True, timeout=60)
    with Image.open(tmp_path / "signed.png") as page:
        blue = where(page.convert("RGB"), "blue")
    assert blue == pytest.approx(where(render(tmp_path, led), "blue"), abs=0.6)


def turned(document: bytes, rotate: int) -> bytes:
    """The same page to look at, made on a sheet that is shown turned by ``rotate`` and cropped by a margin of its own."""
    width, height = (842, 595) if rotate % 180 else (595, 842)
    matrix = {90: "0 1 -1 0 842 0", 180: "-1 0 0 -1 595 842", 270: "0 -1 1 0 0 595"}[rotate]
    shifted = [*map(float, matrix.split())]
    shifted[4], shifted[5] = shifted[4] + 20, shifted[5] + 30
    boxes = {"/MediaBox": (0, 0, width + 40, height + 60), "/CropBox": (20, 30, width + 20, height + 30)}
    return laid_out(document, " ".join(f"{value:g}" for value in shifted), {**boxes, "/Rotate": rotate})


def laid_out(document: bytes, matrix: str, entries: dict[str, Any]) -> bytes:
    """What the first page shows, drawn through ``matrix`` onto a page with these entries."""
    update = open_update(Content.of(document), None)
    page = update.root["/Pages"]["/Kids"][0]
    name = generic.pdf_name
    wrap = generic.StreamObject(stream_data=b"q %b cm" % matrix.encode())
    unwrap = generic.StreamObject(stream_data=b"Q")
    page["/Contents"] = generic.ArrayObject([update.add_object(wrap), page.raw_get("/Contents"), update.add_object(unwrap)])
    for key, value in entries.items():
        numbers = isinstance(value, tuple)
        page[name(key)] = generic.ArrayObject(map(generic.FloatObject, value)) if numbers else generic.NumberObject(value)
    update.update_container(page)
    return document + bytes(update.revision())


def test_where_the_text_says_nothing_the_rectangle_counts(studio: House) -> None:
    """Old fonts (TCVN3, VNI) show letters that the text does not say."""
    document = write_pdf([letter(leader="TrÇn V¨n Thö")])
    with pytest.raises(Rejected, match="printed_name") as refused:
        marks(studio, document, profile="person", printed_name=LEADER)
    assert refused.value.violations[0].field == "rectangle"
    [mark] = marks(studio, document, profile="person", printed_name=LEADER, rectangle="350,420,550,500", page=1)
    assert (mark.box[0] + mark.box[2]) / 2 == pytest.approx(450)
    assert (mark.box[2] - mark.box[0]) / POINTS == pytest.approx(45)  # its real size, however large the rectangle is


def test_a_document_that_cannot_be_searched_asks_for_a_rectangle(studio: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signer.page_text.SECONDS", 0)
    with pytest.raises(Rejected) as refused:
        marks(studio, write_pdf([letter()]), profile="person", printed_name=LEADER)
    assert refused.value.violations[0].field == "rectangle"


# -- the others -----------------------------------------------------------------------------------------------------------


def test_initials_follow_the_end_of_the_text(studio: House) -> None:
    document = write_pdf([letter()])
    [mark] = marks(studio, document, profile="initial")
    [end] = next(texts_of(document)).find("./.")
    assert (mark.box[0] - end.box[2], mark.box[2] - mark.box[0]) == pytest.approx((3, 12 * POINTS))


def test_the_mark_of_arrival_keeps_clear_of_what_is_printed(studio: House, tmp_path: Path) -> None:
    document = write_pdf([letter()])
    [mark] = marks(studio, document, profile="incoming", signer=SEAL, number="321")
    assert (mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]) == pytest.approx((50 * POINTS, 30 * POINTS))
    for run in next(texts_of(document)).runs:
        apart = mark.box[2] < run.box[0] or run.box[2] < mark.box[0] or mark.box[3] < run.box[1] or run.box[3] < mark.box[1]
        assert apart, run
    read = text_in(tmp_path, draw(studio, document, profile="incoming", signer=SEAL, number="321"), mark.box)
    for said in ("ỦY BAN NHÂN DÂN XÃ THỬ\nNGHIỆM", "ĐẾN", "Số: 321", "Ngày: 15/04/2025", "Chuyển: ..."):
        assert said in read


@pytest.mark.parametrize("rotate", [0, 90])
def test_the_mark_of_arrival_keeps_clear_of_what_is_on_a_scan(studio: House, rotate: int) -> None:
    """A page that is one dark picture but for a strip at its foot, without a letter of text."""
    document = write_pdf([[]]) if rotate == 0 else turned(write_pdf([[]]), rotate)
    [strip] = marks(studio, blackened(document, rotate), profile="incoming", signer=SEAL, number="321")
    assert strip.box[3] < 150
    [top] = marks(studio, document, profile="incoming", signer=SEAL, number="321")
    assert top.box[3] > 700


def test_the_mark_of_arrival_keeps_clear_of_thin_letters_on_grey_paper(studio: House, tmp_path: Path) -> None:
    """An ordinary letter, scanned: drawn small, its letters are no darker than a shade."""
    sheet = render(tmp_path, write_pdf([letter()]), dpi=150)
    scanned = Image.blend(sheet, Image.new("RGB", sheet.size, (190, 190, 190)), 0.4)
    out = io.BytesIO()
    scanned.save(out, "PDF", resolution=150)
    [mark] = marks(studio, out.getvalue(), profile="incoming", signer=SEAL, number="321")
    x0, y0, x1, y1 = (value * 150 / 72 for value in mark.box)
    beneath = sheet.convert("L").crop((int(x0), int(sheet.height - y1), int(x1), int(sheet.height - y0)))
    assert min(beneath.tobytes()) > 200


def blackened(document: bytes, rotate: int) -> bytes:
    """All of page 1 black from 150 points above its lower edge, as it is shown."""
    update = open_update(Content.of(document), None)
    page = update.root["/Pages"]["/Kids"][0]
    dark = b"0 g 0 150 595 692 re f" if rotate == 0 else b"0 g 0 30 712 595 re f"
    page["/Contents"] = generic.ArrayObject([update.add_object(generic.StreamObject(stream_data=dark))])
    update.update_container(page)
    return document + bytes(update.revision())


def test_a_full_page_asks_for_a_rectangle(studio: House) -> None:
    full: list[Line] = [("regular", 13, 30.0, 20.0 + 20 * at, "chữ kín cả trang, " * 5) for at in range(41)]
    with pytest.raises(Rejected) as refused:
        marks(studio, write_pdf([full]), profile="incoming", signer=SEAL, number="321")
    assert refused.value.violations[0].field == "rectangle"


def test_the_comment_says_what_who_and_when(studio: House, tmp_path: Path) -> None:
    document = write_pdf([letter()])
    options: dict[str, Any] = {"profile": "comment", "comment": "Giao Văn phòng trả lời."}
    [mark] = marks(studio, document, **options)
    assert f"Giao Văn phòng trả lời.\nNguyễn Thị Ký\n{TIME}" in text_in(tmp_path, draw(studio, document, **options), mark.box)


def test_a_second_stamp_in_a_corner_stands_below_the_first(studio: House) -> None:
    once = draw(studio, write_pdf([appendix()]), profile="portal", signer=SEAL)
    [mark] = marks(studio, once, profile="portal", signer=SEAL)
    [first] = Layout(open_update(Content.of(once), None), None).signatures
    assert mark.box[3] < first.box[1]


def test_the_qr_code_leads_to_the_signature_s_own_page_and_the_address_stands_beside_it(studio: House, tmp_path: Path) -> None:
    document = write_pdf([appendix()])
    once, again = (
        draw(studio, document, profile="appendix", signer=SEAL, number="12/UBND-VP", qr=True) for document in [document] * 2
    )
    assert b"/Image" not in once  # drawn, not a picture
    [seen], [other] = (zxingcpp.read_barcodes(render(tmp_path, signed, dpi=150)) for signed in (once, again))
    page, _, code = seen.text.rpartition("/")
    assert page == studio.gallery().verification_page == "https://kyso.thu-nghiem.example/verify"
    assert parse_code(code) == code
    assert other.text != seen.text
    [mark] = [mark for mark in marks(studio, document, profile="appendix", signer=SEAL, number="1", qr=True) if mark.name == "Qr"]
    beside = text_in(tmp_path, once, mark.box)
    assert "kyso.thu-nghiem.example/verify" in beside
    assert format_code(code) in beside


def test_the_seal_goes_to_the_leader_who_is_named_where_several_signed(studio: House) -> None:
    lines = [line for line in letter() if line[4] != "- Lưu: VT."]
    joint = write_pdf([[*lines, ("bold", 13, 100, 400, "Lê Thị Khác")]])
    both = person(studio, person(studio, joint), printed_name="Lê Thị Khác")
    seals = [
        marks(studio, both, profile="agency-issue", signer=SEAL, **({"printed_name": name} if name else {}))[0].box
        for name in (LEADER, "Lê Thị Khác", None)
    ]
    assert seals[0][2] > 300 > seals[1][2]
    assert seals[2] == seals[1]  # the last one who signed


def test_a_seal_without_a_leader_s_signature_asks_for_a_name_or_a_place(studio: House, letter_pdf: bytes) -> None:
    with pytest.raises(Rejected, match="printed_name") as refused:
        marks(studio, letter_pdf, profile="agency-issue", signer=SEAL)
    assert refused.value.violations[0].field == "rectangle"
    [named] = marks(studio, letter_pdf, profile="agency-issue", signer=SEAL, printed_name=LEADER)
    [placed] = marks(studio, letter_pdf, profile="agency-issue", signer=SEAL, rectangle="100,100,300,300")
    assert named.box[2] > 300 > placed.box[2]
