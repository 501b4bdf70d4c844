"""From the QR code on a rendered page to the verdict on the file, in a browser that is not ours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from tests.service import ROOT, Service
from tests.system.browser import Browser
from tests.system.letter_with_code import sign_with_code

BANNERS = ".banner :is(h1, h2)"


@pytest.fixture(scope="module")
def signed(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample letter, approved by its officer, with a QR code."""
    file = tmp_path_factory.mktemp("signed") / "cong-van-da-ky.pdf"
    file.write_bytes(sign_with_code(service, level="B-T"))
    return file


@pytest.fixture(scope="module")
def page(service: Service, signed: Path) -> str:
    """Where the QR code leads that a reader sees on the rendered page."""
    seen = signed.with_suffix("")
    subprocess.run(["pdftoppm", "-r", "120", "-png", "-singlefile", signed, seen], check=True, capture_output=True, timeout=60)
    [code] = zxingcpp.read_barcodes(Image.open(seen.with_suffix(".png")))
    assert code.text.startswith(f"{service.url}/verify/")
    return str(code.text)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is not here")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.mark.interop
def test_a_citizen_with_a_phone_scans_the_code_and_checks_the_file_even_without_scripts(
    browser: Browser, page: str, signed: Path, tmp_path: Path
) -> None:
    browser.open(page, width=390, script=False)
    assert browser.text(BANNERS) == ["Như vậy chưa đủ để tin văn bản"]
    assert "Nguyễn Văn Thử" in browser.text("dd")[0]
    browser.choose("#document", signed)
    browser.press("#check button")
    assert browser.text(BANNERS) == ["Khớp với mã trên văn bản", "HỢP LỆ"]
    assert not browser.overflows()
    forged = tmp_path / "gia.pdf"
    forged.write_bytes((ROOT / "examples" / "cong-van.pdf").read_bytes())
    browser.choose("#document", forged)
    browser.press("#check button")
    assert browser.text(BANNERS) == ["KHÔNG khớp với mã trên văn bản", "KHÔNG CÓ CHỮ KÝ SỐ"]
    assert not browser.overflows()
    assert browser.troubles == []


@pytest.mark.interop
def test_the_script_says_at_once_what_the_server_would_say_after_the_upload(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    large = tmp_path / "large.pdf"
    with large.open("wb") as file:
        file.truncate(512_000_001)
    browser.open(f"{service.url}/verify?lang=en")
    browser.choose("#document", large)
    assert browser.text("[role=status]") == ["The file is larger than 512 MB: this page does not take it."]
    assert browser.ask("document.getElementById('check').checkValidity()") is False
    small = tmp_path / "small.txt"
    small.write_text("junk", encoding="utf-8")
    browser.choose("#document", small)
    assert browser.text("[role=status]") == [""]
    browser.press("#check button")
    assert browser.text(BANNERS) == ["NOT VALID"]
    assert browser.troubles == []


@pytest.mark.interop
@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_by_day_and_by_night(
    browser: Browser, service: Service, page: str, signed: Path, tmp_path: Path, *, dark: bool
) -> None:
    broken = tmp_path / "broken.pdf"
    data = bytearray(signed.read_bytes())
    data[12] ^= 1  # of the comment in its second line
    broken.write_bytes(data)
    browser.open(page, dark=dark)
    assert browser.low_contrast() == []
    for file, state in ((signed, "HỢP LỆ"), (broken, "KHÔNG HỢP LỆ")):
        browser.open(f"{service.url}/verify", dark=dark)
        browser.choose("#document", file)
        browser.press("#check button")
        browser.ask("document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert browser.text(BANNERS) == [state]
        assert browser.low_contrast() == []
        assert not browser.overflows()
    assert browser.troubles == []
