"""All official profiles on one picture, for docs/operations.md: ``python -m tests.signer.contact_sheet docs/img/profiles.png``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tests.signer.drawing import build_studio, cut, draw, issue, person, render
from tests.signer.house import FONT, SEAL, House
from tests.signer.letters import appendix, letter, write_pdf

_DPI = 80
_GAP, _TITLE = 14, 26
_PANELS = (
    ("initial", "initial: ký nháy", (25, 82, 200, 104)),
    ("person", "person: chữ ký của người có thẩm quyền", (25, 106, 200, 162)),
    ("agency-issue", "agency-issue: số, ngày và dấu trong một lần ký", (15, 22, 205, 162)),
    ("agency-issue", "qr=true: mã QR dẫn tới trang của chữ ký, địa chỉ và mã", (0, 267, 190, 293)),
    ("appendix", "appendix: phụ lục là tệp riêng", (60, 3, 210, 38)),
    ("copy", "copy: sao y, sao lục, trích sao", (60, 3, 210, 38)),
    ("portal", "portal: đăng lại trên cổng", (0, 3, 150, 38)),
    ("incoming", "incoming: dấu đến", (25, 90, 200, 140)),
    ("comment", "comment: ý kiến chỉ đạo", (25, 90, 200, 140)),
)


def main() -> int:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studio = build_studio(folder)
        seen = {profile: render(folder, document, dpi=_DPI) for profile, document in _documents(studio).items()}
        studio.database.close()
    parts = [(title, cut(seen[profile], box, _DPI)) for profile, title, box in _PANELS]
    columns = parts[:4], parts[4:]
    width = sum(max(image.width for _, image in column) + _GAP for column in columns) + _GAP
    height = max(sum(image.height + _TITLE + _GAP for _, image in column) for column in columns) + _GAP
    sheet = Image.new("RGB", (width, height), (236, 236, 236))
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(FONT), 15)
    left = _GAP
    for column in columns:
        top = _GAP
        for title, image in column:
            pen.text((left, top), title, font=font, fill="black")
            sheet.paste(image, (left, top + _TITLE))
            top += image.height + _TITLE + _GAP
        left += max(image.width for _, image in column) + _GAP
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    return 0


def _documents(house: House) -> dict[str, bytes]:
    initialled = draw(house, write_pdf([letter()]), profile="initial")
    led = person(house, initialled)
    annex = write_pdf([appendix()])
    return {
        "initial": initialled,
        "person": led,
        "agency-issue": issue(house, led, qr=True),
        "appendix": draw(house, annex, profile="appendix", signer=SEAL, number="12/UBND-VP"),
        "copy": draw(house, annex, profile="copy", copy_kind="sao-y", signer=SEAL),
        "portal": draw(house, annex, profile="portal", signer=SEAL),
        "incoming": draw(house, initialled, profile="incoming", signer=SEAL, number="321"),
        "comment": draw(house, initialled, profile="comment", comment="Giao Văn phòng tham mưu,\ntrả lời trước ngày 20/4."),
    }


if __name__ == "__main__":
    sys.exit(main())
