"""What the official profiles look like: rendered by poppler, measured, read back, and beside pictures that were looked at.

The golden pictures are in ``tests/signer/golden``; ``CONDAU_GOLDEN=write`` in the environment makes them anew, to be looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageFilter

from audit.log import SYSTEM
from core.content import Content
from core.db import Database
from core.errors import Rejected
from core.signatures import fitting_hash
from core.signatures import sign as sign_with
from migrations.schema import upgrade
from signer import pdf
from signer.compose import compose
from signer.layout import Layout
from signer.looks import POINTS
from signer.marks import Mark
from signer.options import PdfOptions
from signer.pdf_update import open_update
from signer.places import leader_of
from tests.signer.house import FONT, OFFICER, SEAL, House, build_house
from tests.signer.letters import LEADER, Form, appendix, initials, letter, scribble, seal, write_pdf
from tests.signer.pdfs import judge, text_of
from tests.software_keys import SoftwareKeys

GOLDEN = Path(__file__).parent / "golden"
AT = datetime(2025, 4, 15, 9, 28, 33, tzinfo=UTC)
TIME = "15.04.2025 16:28:33 +07:00"
A4 = (595.0, 842.0)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for the module: nothing here changes what the others see. On SQLite always: it is not what is tested."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('profiles') / 'condau.sqlite3'}")
    upgrade(database)
    house = build_house(database, SoftwareKeys(), lambda: AT, seal=True)
    gallery = house.gallery()
    gallery.keep_picture(OFFICER, "signature", scribble(), 45, SYSTEM)
    gallery.keep_picture(OFFICER, "initials", initials(), 12, SYSTEM)
    gallery.keep_picture("H12.34", "seal", seal(), 36, SYSTEM)
    yield house
    database.close()


@pytest.fixture(scope="module")
def plain() -> bytes:
    """The sample letter, unsigned."""
    return write_pdf([letter()])


@pytest.fixture(scope="module")
def led(house: House, plain: bytes) -> bytes:
    """The sample letter with its leader's signature."""
    return person(house, plain)


@pytest.fixture(scope="module")
def issued(house: House, led: bytes) -> bytes:
    """And with number, date and seal."""
    return issue(house, led)


@pytest.fixture(scope="module")
def place(house: House, plain: bytes) -> tuple[float, ...]:
    """Where the leader's picture stands on it."""
    return marks(house, plain, profile="person", printed_name=LEADER)[0].box


def draw(house: House, document: bytes, *, image: bytes | None = None, **options: Any) -> bytes:
    """The document signed (B-B, gates aside) as the profile says."""
    asked = PdfOptions(level="B-B", **options)
    identity = house.identity(asked.signer or OFFICER)
    act = house.gallery().act(asked, identity, AT, image)
    prepared = pdf.prepare(Content.of(document), asked, identity=identity, at=AT, image=image, font=FONT, act=act)
    key = house.keys.key(identity.key_label)
    hashed = fitting_hash(identity.certificate.public_key())
    signed = pdf.finish(prepared, pdf.sign(prepared.digest, identity, lambda data: sign_with(key, data, hashed)), None)
    return signed.read(0, signed.size)


def marks(house: House, document: bytes, **options: Any) -> list[Mark]:
    """What would be drawn where."""
    asked = PdfOptions(level="B-B", **options)
    act = house.gallery().act(asked, house.identity(asked.signer or OFFICER), AT, None)
    assert act is not None
    return compose(open_update(Content.of(document), asked.password), act)


def person(house: House, document: bytes, **options: Any) -> bytes:
    return draw(house, document, profile="person", **{"printed_name": LEADER, **options})


def issue(house: House, document: bytes, **options: Any) -> bytes:
    given = {"number": "12/UBND-VP", "issued_on": "2025-04-05", **options}
    return draw(house, document, profile="agency-issue", signer=SEAL, **given)


def render(folder: Path, document: bytes, *, page: int = 1, dpi: int = 100) -> Image.Image:
    (folder / "seen.pdf").write_bytes(document)
    command = ["pdftoppm", "-r", str(dpi), "-png", "-f", str(page), "-singlefile", "-cropbox"]
    subprocess.run([*command, folder / "seen.pdf", folder / "seen"], check=True, capture_output=True, timeout=60)
    return Image.open(folder / "seen.png").convert("RGB")


def where(image: Image.Image, colour: str, dpi: int = 100) -> tuple[float, float, float, float]:
    """The box, in millimetres from the page's lower left corner, of all that is red or blue."""
    r, g, b = image.split()
    strong, weak = (r, b) if colour == "red" else (b, r)
    mask = ImageChops.multiply(strong.point(lambda v: 255 * (v > 120)), weak.point(lambda v: 255 * (v < 110)))
    mask = ImageChops.multiply(mask, g.point(lambda v: 255 * (v < 110)))
    box = mask.getbbox()
    assert box is not None
    scale = 25.4 / dpi
    return box[0] * scale, (image.height - box[3]) * scale, box[2] * scale, (image.height - box[1]) * scale


# -- what Phụ lục I says ------------------------------------------------------------------------------------------------


def test_the_leader_s_picture_stands_in_the_middle_between_title_and_name(
    house: House, plain: bytes, led: bytes, tmp_path: Path
) -> None:
    document, signed = plain, led
    blue = where(render(tmp_path, signed), "blue")
    [mark] = marks(house, document, profile="person", printed_name=LEADER)
    width, height = mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]
    assert (width / POINTS, height / POINTS) == pytest.approx((45, 45 * 300 / 720))
    text = next(house_text(document))
    [name] = [span for span in text.find(LEADER) if text.run_of(span).text == LEADER.replace(" ", "")]
    [title] = text.find("CHỦ TỊCH")
    assert (mark.box[1] + mark.box[3]) / 2 == pytest.approx((title.box[1] + name.box[3]) / 2, abs=0.1)
    assert (mark.box[0] + mark.box[2]) / 2 == pytest.approx((name.box[0] + name.box[2]) / 2, abs=0.1)
    assert mark.box[0] / POINTS - 0.5 < blue[0] < blue[2] < mark.box[2] / POINTS + 0.5
    assert judge(tmp_path, signed) == [True]


def house_text(document: bytes) -> Iterator[Any]:
    return Layout(open_update(Content.of(document), None), None).texts_from_the_end()


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
    for under, over in zip(blue.get_flattened_data(), both.get_flattened_data(), strict=True):
        if under[2] > 120 and under[0] < 60 and over[2] < 40:  # a pixel of signature that the seal was put on
            crossings += 1
            assert over[0] < 60, over
    assert crossings > 20


def test_number_and_date_go_into_their_blanks(issued: bytes, tmp_path: Path) -> None:
    said = layout_text(tmp_path, issued)
    assert re.search(r"Số: +12 +/UBND-VP", said)
    assert re.search(r"ngày +05 +tháng +4 +năm 2025", said)


def layout_text(folder: Path, document: bytes) -> str:
    (folder / "read.pdf").write_bytes(document)
    return subprocess.run(["pdftotext", "-layout", folder / "read.pdf", "-"], capture_output=True, check=True).stdout.decode()


def test_what_is_printed_already_is_not_written_again(house: House) -> None:
    ready = letter(number="Số: 12/UBND-VP", day="Thử Nghiệm, ngày 05 tháng 4 năm 2025")
    document = person(house, write_pdf([ready]))
    drawn = marks(house, document, profile="agency-issue", signer=SEAL, number="12/UBND-VP", issued_on="2025-04-05")
    assert [mark.name for mark in drawn] == ["Seal"]


@pytest.mark.parametrize(
    ("lines", "options", "field"),
    [
        ({"number": "Số: 11/UBND-VP"}, {}, "number"),
        ({}, {"number": "12/QĐ-UBND"}, "number"),
        ({}, {"number": "123456789012/UBND-VP"}, "number"),
        ({"day": "Thử Nghiệm, ngày 06 tháng 4 năm 2025"}, {}, "issued_on"),
        ({}, {"issued_on": "2026-04-05"}, "issued_on"),
        ({"number": "Công văn"}, {}, "number_rectangle"),
        ({"day": "Thử Nghiệm"}, {}, "date_rectangle"),
    ],
)
def test_what_contradicts_the_document_or_has_no_place_is_refused(
    house: House, lines: dict[str, str], options: dict[str, str], field: str
) -> None:
    document = person(house, write_pdf([letter(**lines)]))
    with pytest.raises(Rejected) as refused:
        issue(house, document, **options)
    assert [violation.field for violation in refused.value.violations] == [field]


def test_number_and_date_go_into_rectangles_where_there_are_no_blanks(house: House, tmp_path: Path) -> None:
    document = person(house, write_pdf([letter(number="", day="")]))
    signed = issue(house, document, number_rectangle="62,720,200,740", date_rectangle="300,720,520,740")
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
    house: House, tmp_path: Path, profile: str, options: dict[str, str], said: str
) -> None:
    signed = draw(house, write_pdf([appendix(), appendix()]), profile=profile, signer=SEAL, **options)
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


def bbox(folder: Path, document: bytes) -> str:
    (folder / "box.pdf").write_bytes(document)
    return subprocess.run(["pdftotext", "-bbox", folder / "box.pdf", "-"], capture_output=True, check=True).stdout.decode()


def test_the_font_is_an_embedded_subset_with_the_metrics_of_times(house: House, tmp_path: Path) -> None:
    signed = draw(house, write_pdf([appendix()]), profile="appendix", signer=SEAL, number="12/UBND-VP")
    (tmp_path / "fonts.pdf").write_bytes(signed)
    fonts = subprocess.run(["pdffonts", tmp_path / "fonts.pdf"], capture_output=True, text=True, check=True).stdout
    assert re.search(r"[A-Z]{6}\+Tinos\s+CID TrueType\s+Identity-H\s+yes yes yes", fonts)


# -- where the name stands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "given", ["Trần Văn Thử", "TRẦN VĂN THỬ", "trần  văn thử", "Tra\u0302\u0300n Va\u0306n Thử", "Trâ\u0300n Văn Thư\u0309"]
)
def test_the_name_is_found_whatever_its_unicode_form(house: House, place: tuple[float, ...], form: Form, given: str) -> None:
    assert marks(house, write_pdf([letter()], form=form), profile="person", printed_name=given)[0].box == pytest.approx(
        place, abs=1.5
    )


def test_a_rank_before_the_name_does_not_hide_it(house: House) -> None:
    assert marks(house, write_pdf([letter(rank="Thượng tá ")]), profile="person", printed_name=LEADER)[0].page == 1


def test_the_last_page_with_the_name_counts_and_not_a_sentence_that_has_it(house: House) -> None:
    pages = [letter(), letter(), [("regular", 13, 85, 700, f"Phụ lục do ông {LEADER} lập và chịu trách nhiệm.")]]
    assert marks(house, write_pdf(pages), profile="person", printed_name=LEADER)[0].page == 2


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_the_place_is_found_on_a_turned_page(
    house: House, led: bytes, place: tuple[float, ...], tmp_path: Path, rotate: int
) -> None:
    """The text runs across the page as it is shown: on a turned page it is written turned the other way."""
    document = turned(write_pdf([letter()]), rotate)
    [mark] = marks(house, document, profile="person", printed_name=LEADER)
    assert mark.box == pytest.approx(place, abs=0.5)
    blue = where(render(tmp_path, person(house, document)), "blue")
    assert blue == pytest.approx(where(render(tmp_path, led), "blue"), abs=0.6)


def turned(document: bytes, rotate: int) -> bytes:
    """The same page to look at, made on a sheet that is shown turned by ``rotate`` and cropped by a margin of its own."""
    width, height = (842, 595) if rotate % 180 else (595, 842)
    matrix = {90: "0 1 -1 0 842 0", 180: "-1 0 0 -1 595 842", 270: "0 -1 1 0 0 595"}[rotate]
    shifted = [*map(float, matrix.split())]
    shifted[4], shifted[5] = shifted[4] + 20, shifted[5] + 30
    update = open_update(Content.of(document), None)
    page = update.root["/Pages"]["/Kids"][0]
    from pyhanko.pdf_utils import generic  # noqa: PLC0415 - for this helper alone

    name = generic.pdf_name
    wrap = generic.StreamObject(stream_data=b"q %b cm" % " ".join(f"{value:g}" for value in shifted).encode())
    unwrap = generic.StreamObject(stream_data=b"Q")
    page["/Contents"] = generic.ArrayObject([update.add_object(wrap), page.raw_get("/Contents"), update.add_object(unwrap)])
    page[name("/MediaBox")] = generic.ArrayObject(map(generic.NumberObject, (0, 0, width + 40, height + 60)))
    page[name("/CropBox")] = generic.ArrayObject(map(generic.NumberObject, (20, 30, width + 20, height + 30)))
    page[name("/Rotate")] = generic.NumberObject(rotate)
    update.update_container(page)
    return document + bytes(update.revision())


def test_where_the_text_says_nothing_the_rectangle_counts(house: House) -> None:
    """Old fonts (TCVN3, VNI) show letters that the text does not say."""
    document = write_pdf([letter(leader="TrÇn V¨n Thö")])
    with pytest.raises(Rejected, match="printed_name") as refused:
        marks(house, document, profile="person", printed_name=LEADER)
    assert refused.value.violations[0].field == "rectangle"
    [mark] = marks(house, document, profile="person", printed_name=LEADER, rectangle="350,420,550,500", page=1)
    assert (mark.box[0] + mark.box[2]) / 2 == pytest.approx(450)
    assert (mark.box[2] - mark.box[0]) / POINTS == pytest.approx(45)  # its real size, however large the rectangle is


def test_a_document_that_cannot_be_searched_asks_for_a_rectangle(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signer.page_text.SECONDS", 0)
    with pytest.raises(Rejected) as refused:
        marks(house, write_pdf([letter()]), profile="person", printed_name=LEADER)
    assert refused.value.violations[0].field == "rectangle"


# -- the others -----------------------------------------------------------------------------------------------------------


def test_initials_follow_the_end_of_the_text(house: House) -> None:
    document = write_pdf([letter()])
    [mark] = marks(house, document, profile="initial")
    [end] = next(house_text(document)).find("./.")
    assert (mark.box[0] - end.box[2], mark.box[2] - mark.box[0]) == pytest.approx((3, 12 * POINTS))


def test_the_mark_of_arrival_keeps_clear_of_what_is_printed(house: House, tmp_path: Path) -> None:
    document = write_pdf([letter()])
    [mark] = marks(house, document, profile="incoming", signer=SEAL, number="321")
    assert (mark.box[2] - mark.box[0], mark.box[3] - mark.box[1]) == pytest.approx((50 * POINTS, 30 * POINTS))
    for run in next(house_text(document)).runs:
        apart = mark.box[2] < run.box[0] or run.box[2] < mark.box[0] or mark.box[3] < run.box[1] or run.box[3] < mark.box[1]
        assert apart, run
    read = text_in(tmp_path, draw(house, document, profile="incoming", signer=SEAL, number="321"), mark.box)
    for said in ("ỦY BAN NHÂN DÂN XÃ THỬ\nNGHIỆM", "ĐẾN", "Số: 321", "Ngày: 15/04/2025", "Chuyển: ..."):
        assert said in read


def test_a_full_page_asks_for_a_rectangle(house: House) -> None:
    full = [("regular", 13, 30.0, 20.0 + 20 * at, "chữ kín cả trang, " * 5) for at in range(41)]
    with pytest.raises(Rejected) as refused:
        marks(house, write_pdf([full]), profile="incoming", signer=SEAL, number="321")
    assert refused.value.violations[0].field == "rectangle"


def test_the_comment_says_what_who_and_when(house: House, tmp_path: Path) -> None:
    document, options = write_pdf([letter()]), {"profile": "comment", "comment": "Giao Văn phòng trả lời."}
    [mark] = marks(house, document, **options)
    assert f"Giao Văn phòng trả lời.\nNguyễn Thị Ký\n{TIME}" in text_in(tmp_path, draw(house, document, **options), mark.box)


def text_in(folder: Path, document: bytes, box: tuple[float, float, float, float]) -> str:
    """What is read inside a box of page 1."""
    (folder / "part.pdf").write_bytes(document)
    x, y, width, height = (str(round(value)) for value in (box[0], A4[1] - box[3], box[2] - box[0], box[3] - box[1]))
    command = ["pdftotext", "-x", x, "-y", y, "-W", width, "-H", height, folder / "part.pdf", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def test_a_second_stamp_in_a_corner_stands_below_the_first(house: House) -> None:
    once = draw(house, write_pdf([appendix()]), profile="portal", signer=SEAL)
    [mark] = marks(house, once, profile="portal", signer=SEAL)
    [first] = Layout(open_update(Content.of(once), None), None).signatures
    assert mark.box[3] < first.box[1]


def test_the_qr_code_leads_to_the_verification_page(house: House, tmp_path: Path) -> None:
    signed = draw(house, write_pdf([appendix()]), profile="appendix", signer=SEAL, number="12/UBND-VP", qr=True)
    assert b"/Image" not in signed  # drawn, not a picture
    import segno  # noqa: PLC0415 - for this test alone

    wanted = segno.make(house.gallery().verification_page, error="m", micro=False)
    dpi = 300
    image = render(tmp_path, signed, dpi=dpi).convert("1")
    modules = wanted.symbol_size(border=4)[0]
    side, left, bottom = 18 / 25.4 * dpi, 8 / 25.4 * dpi, image.height - 8 / 25.4 * dpi
    step = side / modules
    for row, cells in enumerate(wanted.matrix_iter(border=4)):
        for column, cell in enumerate(cells):
            spot = int(left + (column + 0.5) * step), int(bottom - side + (row + 0.5) * step)
            assert (image.getpixel(spot) == 0) == bool(cell), (row, column)


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
    house: House, led: bytes, issued: bytes, tmp_path: Path, profile: str
) -> None:
    seen = render(tmp_path, picture_of(house, profile, led, issued)).crop(
        tuple(round(value * 100 / 25.4) for value in GOLDENS[profile])
    )
    path = GOLDEN / f"{profile}.png"
    if os.environ.get("CONDAU_GOLDEN") == "write":
        seen.quantize(24, dither=Image.Dither.NONE).save(path, optimize=True)
    kept = Image.open(path).convert("RGB")
    assert kept.size == seen.size
    # blurred, another version's way with edges is not seen; a letter that is missing or a millimetre off is
    one, other = (image.filter(ImageFilter.GaussianBlur(2)) for image in (kept, seen))
    worst = max(high for _, high in ImageChops.difference(one, other).getextrema())
    assert worst < 70, f"differs by {worst} of 255 somewhere"


def picture_of(house: House, profile: str, led: bytes, issued: bytes) -> bytes:
    """The sample document signed with this profile."""
    if profile in {"appendix", "copy", "portal"}:
        options = {"appendix": {"number": "12/UBND-VP"}, "copy": {"copy_kind": "sao-y"}, "portal": {}}[profile]
        return draw(house, write_pdf([appendix()]), profile=profile, signer=SEAL, **options)
    if profile in {"person", "agency-issue"}:
        return led if profile == "person" else issued
    if profile == "incoming":
        return draw(house, led, profile="incoming", signer=SEAL, number="321")
    if profile == "comment":
        return draw(house, led, profile="comment", comment="Giao Văn phòng tham mưu,\ntrả lời trước ngày 20/4.")
    return draw(house, write_pdf([letter()]), profile="initial")
