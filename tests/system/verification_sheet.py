"""The verification page on a picture for the documentation: ``python -m tests.system.verification_sheet docs/img/verify.png``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import zxingcpp
from PIL import Image

from tests.service import Service
from tests.system.browser import Browser
from tests.system.letter_with_code import sign_with_code

_GAP = 18
_HEIGHT = 1010


def main() -> int:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        service = Service(folder / "instance", port=8080)
        service.home.mkdir()
        service.condau("init", "--development")
        service.start()
        browser = Browser(folder / "chromium")
        try:
            panels = _panels(service, browser, folder)
        finally:
            browser.close()
            service.end()
    sheet = Image.new("RGB", (sum(panel.width + _GAP for panel in panels) + _GAP, _HEIGHT + 2 * _GAP), (205, 205, 205))
    left = _GAP
    for panel in panels:
        sheet.paste(panel.crop((0, 0, panel.width, _HEIGHT)), (left, _GAP))
        left += panel.width + _GAP
    sheet.quantize(64, dither=Image.Dither.NONE).save(Path(sys.argv[1]), optimize=True)
    return 0


def _panels(service: Service, browser: Browser, folder: Path) -> list[Image.Image]:
    """A valid file, and what the code on it leads to on a phone."""
    signed, seen = folder / "cong-van-da-ky.pdf", folder / "seen"
    signed.write_bytes(sign_with_code(service, level="B-LTA"))
    subprocess.run(["pdftoppm", "-r", "120", "-png", "-singlefile", signed, seen], check=True)
    [code] = zxingcpp.read_barcodes(Image.open(seen.with_suffix(".png")))
    browser.open(f"{service.url}/verify", width=760)
    browser.choose("#document", signed)
    browser.press("#check button")
    browser.picture(folder / "valid.png")
    browser.open(code.text, width=400)
    browser.picture(folder / "code.png")
    return [Image.open(folder / name).convert("RGB") for name in ("valid.png", "code.png")]


if __name__ == "__main__":
    sys.exit(main())
