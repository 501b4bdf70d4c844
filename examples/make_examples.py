"""Makes the sample documents of this folder: ``python examples/make_examples.py``. Everything in them is invented."""

from __future__ import annotations

import io
import math
from pathlib import Path

from PIL import Image, ImageDraw
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.writer import PageObject, PdfFileWriter

from signer.fonts import subset_font

FOLDER = Path(__file__).parent
FONTS = Path("/usr/share/fonts/truetype/croscore")  # Debian and Ubuntu: fonts-croscore (Apache License 2.0)
REGULAR, BOLD, ITALIC = "Regular", "Bold", "Italic"
A4 = (595, 842)

# Font, size, the x of its left end and the y of its base line (points from the lower left corner), text.
LINES = (
    (REGULAR, 12, 70, 770, "ỦY BAN NHÂN DÂN"),
    (BOLD, 12, 58, 754, "TỈNH THỬ NGHIỆM"),
    (REGULAR, 12, 70, 728, "Số: 01/UBND-VP"),
    (BOLD, 12, 270, 770, "CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM"),
    (BOLD, 12, 322, 754, "Độc lập - Tự do - Hạnh phúc"),
    (ITALIC, 12, 300, 728, "Thử Nghiệm, ngày 15 tháng 4 năm 2025"),
    (REGULAR, 12, 58, 706, "V/v thử nghiệm ký số văn bản"),
    (REGULAR, 13, 150, 650, "Kính gửi: Các sở, ban, ngành tỉnh Thử Nghiệm"),
    (REGULAR, 13, 85, 610, "Văn bản này là tài liệu mẫu của phần mềm Condau, không có giá trị hành chính."),
    (REGULAR, 13, 85, 590, "Tỉnh, cơ quan và số ký hiệu nêu ở đây đều không có thật."),
    (REGULAR, 13, 85, 570, "Đề nghị các đơn vị dùng văn bản này để thử ký số, cấp dấu thời gian và kiểm tra chữ ký./."),
    (BOLD, 13, 345, 520, "TM. ỦY BAN NHÂN DÂN"),
    (BOLD, 13, 385, 502, "CHỦ TỊCH"),
    (BOLD, 13, 372, 410, "Nguyễn Văn Thử"),
)

DISPATCH = """\
<?xml version="1.0" encoding="UTF-8"?>
<congVan xmlns="urn:condau:example:dispatch" id="cv-01">
  <coQuan ma="000.00.00.X00">Ủy ban nhân dân tỉnh Thử Nghiệm</coQuan>
  <soKyHieu>01/UBND-VP</soKyHieu>
  <ngayBanHanh>2025-04-15</ngayBanHanh>
  <trichYeu>V/v thử nghiệm ký số văn bản</trichYeu>
  <noiDung>Văn bản này là tài liệu mẫu của phần mềm Condau, không có giá trị hành chính.</noiDung>
</congVan>
"""


def build_letter() -> bytes:
    """A one-page official letter with its fonts embedded."""
    writer = PdfFileWriter()
    resources, operators = generic.DictionaryObject(), []
    for name in (REGULAR, BOLD, ITALIC):
        lines = [line[1:] for line in LINES if line[0] == name]
        font = subset_font(FONTS / f"Tinos-{name}.ttf", "".join(text for *_, text in lines))
        resources[generic.pdf_name(f"/{name}")] = font.embed(writer)
        operators += [
            b"BT /%b %d Tf %d %d Td %b Tj ET" % (name.encode(), size, x, y, font.encode(text)) for size, x, y, text in lines
        ]
    content = generic.StreamObject(stream_data=b"\n".join(operators))
    page = PageObject(contents=writer.add_object(content), media_box=(0, 0, *A4))
    page["/Resources"] = generic.DictionaryObject({generic.pdf_name("/Font"): resources})
    writer.insert_page(page)
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def build_signature() -> bytes:
    """The picture of a signature, in blue on nothing (PNG): drawn large and made small, so that its edges are soft."""
    image = Image.new("RGBA", (2880, 1200), (20, 45, 160, 0))
    curve = []
    for step in range(601):
        at = step / 600
        curve.append((2880 * (0.06 + 0.88 * at), 1200 * (0.5 + 0.36 * math.sin(19 * at) * (1 - at) * math.cos(5 * at) - 0.1 * at)))
    pen = ImageDraw.Draw(image)
    pen.line(curve, fill=(20, 45, 160, 255), width=36, joint="curve")
    pen.line([(580, 1030), (2590, 840)], fill=(20, 45, 160, 255), width=24)
    output = io.BytesIO()
    image.resize((720, 300), Image.Resampling.LANCZOS).save(output, "PNG", optimize=True)
    return output.getvalue()


if __name__ == "__main__":
    (FOLDER / "chu-ky.png").write_bytes(build_signature())
    (FOLDER / "cong-van.pdf").write_bytes(build_letter())
    (FOLDER / "cong-van.xml").write_text(DISPATCH, encoding="utf-8")
