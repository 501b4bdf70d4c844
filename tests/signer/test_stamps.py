"""What a stamp looks like: rendered by poppler, and read back by it."""

from __future__ import annotations

import io
import subprocess
import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image
from pyhanko.pdf_utils.generic import ArrayObject, BooleanObject, DictionaryObject, NumberObject, PdfObject, pdf_name, pdf_string
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

from core.errors import Rejected, Unavailable
from signer.options import PdfOptions
from signer.rasters import IMAGE_BYTES, parse_image
from signer.stamps import default_text
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import judge, make_pdf, text_of

pytestmark = pytest.mark.one_database  # the signed document is looked at

VIETNAMESE = "Người ký: Đặng Thị Mỹ\nKhẳng định: ĐỒNG Ý hỗ trợ, ngẫm nghĩ"


def make_seal(mode: str = "RGBA", size: int = 40) -> bytes:
    """A red square with a see-through hole in the middle."""
    image = Image.new(mode, (size, size), (220, 0, 0, 255) if mode == "RGBA" else (220, 0, 0))
    if mode == "RGBA":
        image.paste((0, 0, 0, 0), (size // 4, size // 4, 3 * size // 4, 3 * size // 4))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def render(folder: Path, document: bytes) -> Image.Image:
    """The first page as it is shown, one pixel per point."""
    (folder / "page.pdf").write_bytes(document)
    command = ["pdftoppm", "-r", "72", "-png", "-singlefile", "-cropbox", str(folder / "page.pdf"), str(folder / "page")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return Image.open(folder / "page.png").convert("RGB")


def red(image: Image.Image) -> set[tuple[int, int]]:
    """(x, y) of every red pixel, y counted upwards from the bottom as in a PDF."""
    width, height = image.size
    data = image.tobytes()
    hits = [at for at in range(width * height) if data[3 * at] > 180 and max(data[3 * at + 1 : 3 * at + 3]) < 90]
    return {(at % width, height - 1 - at // width) for at in hits}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_vietnamese_text_reads_back_composed(house: House, tmp_path: Path, form: str) -> None:
    options = PdfOptions(level="B-B", text=unicodedata.normalize(form, VIETNAMESE))  # type: ignore[arg-type]  # NFC or NFD
    signed = sign_pdf(house.signer, make_pdf(), options, CLIENT)
    assert VIETNAMESE in text_of(tmp_path, signed)
    fonts = subprocess.run(["pdffonts", tmp_path / "read.pdf"], capture_output=True, text=True, check=True).stdout
    assert "+Tinos" in fonts
    assert "CID TrueType      Identity-H       yes yes yes" in fonts


def test_the_stamp_says_by_default_who_for_whom_and_when(house: House, tmp_path: Path) -> None:
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(page=1), CLIENT)
    assert default_text(house.identity().certificate, house.now()) in text_of(tmp_path, signed)
    lines = default_text(house.identity().certificate, house.now()).split("\n")
    assert lines[:2] == ["Ký bởi: Nguyễn Thị Ký", "Cơ quan: Ủy ban nhân dân xã Thử Nghiệm"]
    assert lines[2].endswith(" +07:00")


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_the_picture_stands_where_it_was_asked_for_however_the_page_is_turned(house: House, tmp_path: Path, rotate: int) -> None:
    document = make_pdf(rotate=rotate, crop=(20, 30, 595, 842))
    options = PdfOptions(level="B-B", rectangle="100,200,140,240")
    signed = sign_pdf(house.signer, document, options, CLIENT, image=make_seal())
    found = red(render(tmp_path, signed))
    xs, ys = [x for x, _ in found], [y for _, y in found]
    assert max(abs(a - b) for a, b in zip((min(xs), max(xs), min(ys), max(ys)), (100, 139, 200, 239), strict=True)) <= 1
    assert (120, 220) not in found  # the page shows through the hole
    assert judge(tmp_path, signed) == [True]


def test_the_text_is_upright_on_a_turned_page(house: House, tmp_path: Path) -> None:
    """The picture is left of the text, so its red is in the left third of the rectangle as shown."""
    options = PdfOptions(level="B-B", rectangle="100,200,400,260", text="MỘT\nHAI")
    signed = sign_pdf(house.signer, make_pdf(rotate=90), options, CLIENT, image=make_seal())
    page = render(tmp_path, signed)
    assert all(100 <= x <= 205 and 200 <= y <= 260 for x, y in red(page))
    words = subprocess.run(["pdftotext", "-bbox", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert words.index("MỘT") < words.index("HAI")


def test_an_image_without_alpha_is_drawn_as_it_is(house: House, tmp_path: Path) -> None:
    options = PdfOptions(level="B-B", rectangle="100,200,140,240")
    signed = sign_pdf(house.signer, make_pdf(), options, CLIENT, image=make_seal("RGB"))
    assert (120, 220) in red(render(tmp_path, signed))


def test_a_form_that_wants_its_fields_drawn_anew_keeps_what_it_shows(house: House, tmp_path: Path) -> None:
    """The filled field has no appearance of its own: it is seen only while /NeedAppearances stands."""
    writer = IncrementalPdfFileWriter(io.BytesIO(make_pdf()))
    entries: dict[str, PdfObject] = {"/Type": pdf_name("/Annot"), "/Subtype": pdf_name("/Widget"), "/FT": pdf_name("/Tx")}
    entries |= {"/T": pdf_string("SoVanBan"), "/V": pdf_string("So 17"), "/DA": pdf_string("/Helv 12 Tf 0 g")}
    entries |= {"/Rect": ArrayObject(map(NumberObject, (50, 50, 200, 80)))}
    page, _ = writer.find_page_for_modification(0)
    field = writer.add_object(DictionaryObject({pdf_name(key): value for key, value in entries.items()}))
    writer.register_annotation(page, field)
    form = {"/Fields": ArrayObject([field]), "/NeedAppearances": BooleanObject(True)}
    writer.root["/AcroForm"] = DictionaryObject({pdf_name(key): value for key, value in form.items()})
    writer.update_root()
    out = io.BytesIO()
    writer.write(out)
    assert "So 17" in text_of(tmp_path, out.getvalue())
    assert "So 17" in text_of(tmp_path, sign_pdf(house.signer, out.getvalue(), PdfOptions(level="B-B", page=1), CLIENT))


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    return out.getvalue()


def _png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 6, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big") + bytes(100)


NO_PNG = {
    "empty": b"",
    "text": b"no picture",
    "jpeg": _jpeg(),
    "truncated": make_seal()[:-60],
    "bomb": _png_claiming(100_000, 100_000),
    "no pixels": _png_claiming(4000, 3000),
    "too many bytes": bytes(IMAGE_BYTES + 1),
}


@pytest.mark.parametrize("which", NO_PNG)
def test_what_is_no_png_is_refused_as_image(which: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_image(NO_PNG[which])
    assert refused.value.violations[0].field == "image"


def test_a_sign_the_font_lacks_is_refused_by_its_code(house: House) -> None:
    with pytest.raises(Rejected, match=r"U\+1F600") as refused:
        sign_pdf(house.signer, make_pdf(), PdfOptions(text="tốt 😀"), CLIENT)
    assert refused.value.violations[0].field == "text"


def test_text_that_cannot_fit_is_refused_as_rectangle(house: House) -> None:
    with pytest.raises(Rejected) as refused:
        sign_pdf(house.signer, make_pdf(), PdfOptions(text="dài " * 200, rectangle="10,10,60,40"), CLIENT)
    assert refused.value.violations[0].field == "rectangle"


def test_a_missing_font_is_an_outage(house: House) -> None:
    signer = house.signer_with(house.tsa.stamp, font=Path("/nowhere.ttf"))
    with pytest.raises(Unavailable, match="font"):
        sign_pdf(signer, make_pdf(), PdfOptions(page=1), CLIENT)
