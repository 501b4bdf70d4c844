"""Documents as offices write them, and the pictures they are signed with. Everything in them is invented."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

from PIL import Image, ImageDraw, ImageFont
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.writer import PageObject, PdfFileWriter

from core.settings import SignerConfig
from signer.fonts import subset_font

Line = tuple[str, int, float, float, str]
"""Style, size, x and base line y in points, text."""
Form = Literal["NFC", "NFD"]

FONT = SignerConfig().font
STYLES = {"regular": "Regular", "bold": "Bold", "italic": "Italic"}
LEADER = "Trần Văn Thử"
_BLUE, _RED = (20, 45, 160), (205, 20, 25)


def letter(
    *,
    number: str = "Số:            /UBND-VP",
    day: str = "Thử Nghiệm, ngày        tháng        năm 2025",
    leader: str = LEADER,
    rank: str = "",
) -> list[Line]:
    """The lines of an official letter with room for number, date, signature and seal."""
    return [
        ("regular", 12, 70, 770, "ỦY BAN NHÂN DÂN"),
        ("bold", 12, 58, 754, "XÃ THỬ NGHIỆM"),
        ("regular", 13, 62, 726, number),
        ("bold", 12, 268, 770, "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM"),
        ("bold", 13, 314, 752, "Độc lập - Tự do - Hạnh phúc"),
        ("italic", 13, 292, 726, day),
        ("regular", 12, 58, 704, "V/v thử nghiệm ký số văn bản"),
        ("regular", 13, 150, 650, "Kính gửi: Các phòng, ban xã Thử Nghiệm"),
        ("regular", 13, 85, 610, "Văn bản này là tài liệu mẫu, không có giá trị hành chính. Xã, cơ quan và người"),
        ("regular", 13, 85, 592, f"nêu ở đây đều không có thật. Giao ông {LEADER} và văn phòng theo dõi việc thử nghiệm."),
        ("regular", 13, 85, 574, "Đề nghị các đơn vị dùng văn bản này để thử ký số và kiểm tra chữ ký./."),
        ("bold", 13, 360, 530, "TM. ỦY BAN NHÂN DÂN"),
        ("bold", 13, 398, 512, "CHỦ TỊCH"),
        ("bold", 13, 385, 400, rank + leader),
        ("italic", 12, 85, 530, "Nơi nhận:"),
        ("regular", 11, 85, 514, "- Như trên;"),
        ("regular", 11, 85, 500, "- Lưu: VT."),
    ]


def appendix() -> list[Line]:
    """A first page of an annex that is a file of its own."""
    return [
        ("bold", 14, 255, 770, "PHỤ LỤC"),
        ("italic", 13, 130, 750, "(Kèm theo Công văn số       /UBND-VP ngày     tháng     năm 2025)"),
        ("regular", 13, 85, 700, "1. Danh sách các đơn vị tham gia thử nghiệm."),
        ("regular", 13, 85, 680, "2. Thời gian: hai tuần."),
    ]


def write_pdf(
    pages: Sequence[Sequence[Line]], *, rotate: int = 0, form: Form = "NFC", box: tuple[int, int, int, int] = (0, 0, 595, 842)
) -> bytes:
    """A PDF of A4 pages; with ``form`` its letters are composed or decomposed, in glyphs and in what they stand for."""
    writer = PdfFileWriter()
    for lines in pages:
        resources, operators = generic.DictionaryObject(), []
        for style, name in STYLES.items():
            texts = [unicodedata.normalize(form, text) for kind, *_, text in lines if kind == style]
            font = subset_font(FONT.with_name(FONT.name.replace("Regular", name)), "".join(texts))
            resources[generic.pdf_name(f"/{style}")] = font.embed(writer)
            of_style = [(size, x, y, text) for kind, size, x, y, text in lines if kind == style]
            for (size, x, y, _), text in zip(of_style, texts, strict=True):
                operators.append(b"BT /%b %d Tf %.1f %.1f Td %b Tj ET" % (style.encode(), size, x, y, font.encode(text)))
        content = writer.add_object(generic.StreamObject(stream_data=b"\n".join(operators)))
        page = PageObject(contents=content, media_box=box)
        page["/Resources"] = generic.DictionaryObject({generic.pdf_name("/Font"): resources})
        page["/Rotate"] = generic.NumberObject(rotate)
        writer.insert_page(page)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def scribble(size: tuple[int, int] = (720, 300)) -> bytes:
    """A signature in blue ink on nothing."""

    def draw(pen: ImageDraw.ImageDraw, width: int, height: int) -> None:
        def curve(at: float) -> tuple[float, float]:
            x = width * (0.06 + 0.88 * at)
            y = height * (0.5 + 0.36 * math.sin(19 * at) * (1 - at) * math.cos(5 * at) - 0.1 * at)
            return x, y

        pen.line([curve(step / 600) for step in range(601)], fill=(*_BLUE, 255), width=height // 34, joint="curve")
        pen.line([(width * 0.2, height * 0.86), (width * 0.9, height * 0.7)], fill=(*_BLUE, 255), width=height // 50)

    return _png(size, draw)


def initials(size: tuple[int, int] = (240, 160)) -> bytes:
    """Initials in blue ink."""

    def draw(pen: ImageDraw.ImageDraw, width: int, height: int) -> None:
        points = [(0.1, 0.8), (0.3, 0.1), (0.45, 0.85), (0.6, 0.15), (0.7, 0.8), (0.95, 0.5)]
        pen.line([(x * width, y * height) for x, y in points], fill=(*_BLUE, 255), width=height // 14, joint="curve")

    return _png(size, draw)


def seal(size: int = 720, words: str = "CƠ QUAN THỬ NGHIỆM") -> bytes:
    """A round seal in red ink: two rings, words along them, a star."""
    image = Image.new("RGBA", (size, size), (*_RED, 0))
    pen = ImageDraw.Draw(image)
    red = (*_RED, 255)
    pen.ellipse((4, 4, size - 5, size - 5), outline=red, width=size // 45)
    inner = size * 0.27
    pen.ellipse((inner, inner, size - inner, size - inner), outline=red, width=size // 90)
    points = [_on_circle(size, 0.2 if step % 2 == 0 else 0.08, math.pi * step / 5 - math.pi / 2) for step in range(10)]
    pen.polygon(points, fill=red)
    font = ImageFont.truetype(str(FONT.with_name("Tinos-Bold.ttf")), size // 8)
    for at, char in enumerate(f"{words} * "):
        angle = 2 * math.pi * at / (len(words) + 3) + math.pi
        glyph = Image.new("RGBA", (size // 4, size // 4), (*_RED, 0))
        ImageDraw.Draw(glyph).text((size // 8, size // 8), char, font=font, fill=red, anchor="mm")
        turned = glyph.rotate(-math.degrees(angle) - 90, resample=Image.Resampling.BICUBIC)
        x, y = _on_circle(size, 0.36, angle)
        image.alpha_composite(turned, (round(x - size / 8), round(y - size / 8)))
    return _saved(image)


def _on_circle(size: int, radius: float, angle: float) -> tuple[float, float]:
    return size / 2 + size * radius * math.cos(angle), size / 2 + size * radius * math.sin(angle)


def _png(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, int, int], None]) -> bytes:
    """Drawn four times as large and made small, so that edges are soft."""
    large = Image.new("RGBA", (4 * size[0], 4 * size[1]), (*_BLUE, 0))
    draw(ImageDraw.Draw(large), *large.size)
    return _saved(large.resize(size, Image.Resampling.LANCZOS))


def _saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
