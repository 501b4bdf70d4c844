"""Reading where the letters stand: bounded, in a process of its own, whose word is not taken for more than it is."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from core.content import Content
from core.errors import Rejected
from signer import glyph_reader, page_text
from signer.page_text import PageText, read_text
from signer.pdf_place import View
from tests.signer.letters import LEADER, letter, write_pdf
from tests.signer.pdfs import qpdf

A4 = View((0, 0, 595, 842), 0)


@functools.cache
def two_letters() -> bytes:
    return write_pdf([letter(), letter(leader="Lê Thị Khác")])


def read(document: bytes, password: str | None = None, *, first: int = 0, last: int = 1, most: int = 9) -> list[PageText]:
    def view(page: int) -> View:
        if page > 2:
            raise Rejected("page", "there is no such page")
        return A4

    return list(read_text(Content.of(document), password, view, first=first, last=last, most=most))


def test_pages_come_from_the_last_to_the_first_and_no_more_than_asked_for() -> None:
    assert [page.number for page in read(two_letters())] == [2, 1]
    assert [page.number for page in read(two_letters(), most=1)] == [2]
    assert [page.number for page in read(two_letters(), first=1, last=0)] == [1, 2]


def test_an_encrypted_document_is_read_with_its_password(tmp_path: Path) -> None:
    locked = qpdf(tmp_path, two_letters(), "--encrypt", "mở-ra", "chủ", "256", "--")
    assert read(locked) == []
    assert read(locked, "mở-ra")[1].find(LEADER)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda _: b"no PDF",
        lambda whole: whole[:2000],
        lambda whole: whole.replace(b"/Kids", b"/Kidz"),
        lambda _: b"%PDF-1.7\n" + bytes(5000),
    ],
    ids=["nothing", "no PDF", "cut off", "no kids", "zeros"],
)
def test_what_pdfium_cannot_read_has_no_text(spoil: Callable[[bytes], bytes]) -> None:
    assert read(spoil(two_letters())) == []


def speak(line: object) -> Callable[..., object]:
    return lambda *_: iter([line if isinstance(line, bytes) else json.dumps(line).encode()])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"garbage",
        b"[" * 100_000,
        {"page": 1, "text": "AB", "places": [1, 2, 3, 4, 5, 6]},
        {"page": 1, "text": "A", "places": [1, 2, 3, 4, 5, float("nan")]},
        {"page": 1, "text": "A", "places": [1, 2, 3, 4, 5, 1e300]},
        {"page": 99, "text": "A", "places": [1, 2, 3, 4, 5, 6]},
        {"text": "A"},
        {"page": 1, "text": "A", "places": [1, 2, 3, 4, 5, 6], "ink": [3, 3, "AAAA"]},
        {"page": 1, "text": "A", "places": [1, 2, 3, 4, 5, 6], "ink": [1]},
        ["page"],
        {"page": None, "text": "", "places": []},
    ],
)
def test_a_reader_that_was_taken_over_can_say_nothing_harmful(line: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_text, "_run", speak(line))
    assert not any(page.glyphs for page in read(two_letters()))


TAKEN_OVER = """
import runpy, sys, types
script, target, sys.argv = sys.argv[1], sys.argv[2], ["reader", "0", "0", "1", "9", "0", "0"]
def take_over(file, password):
    for name, harm in (("write", lambda: open(target, "wb", buffering=0).write(b"1")), ("hoard", lambda: bytearray(3 << 30))):
        try:
            harm()
        except (OSError, MemoryError) as error:
            print(name, type(error).__name__)
    raise fake.PdfiumError
fake = types.ModuleType("pypdfium2")
fake.PdfiumError, fake.PdfDocument = type("PdfiumError", (Exception,), {}), take_over
sys.modules["pypdfium2"] = fake
sys.exit(runpy.run_path(script)["main"]())
"""


def test_a_reader_that_was_taken_over_can_neither_write_nor_hoard(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-c", TAKEN_OVER, glyph_reader.__file__, str(tmp_path / "written")]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split("\n")[:2]) == (3, ["write OSError", "hoard MemoryError"]), done
    assert (tmp_path / "written").read_bytes() == b""


def page_of(*pieces: tuple[str, float, float]) -> PageText:
    """A page with these pieces of text (x of their left end, base line), every letter 6 points wide."""
    glyphs = []
    for text, x, base in pieces:
        for at, char in enumerate(text):
            if not char.isspace():
                glyphs.append(page_text.Glyph(char, (x + 6 * at, base, x + 6 * at + 6, base + 8), base))
    return PageText(1, (595, 842), glyphs)


def test_only_whole_words_on_one_line_are_found() -> None:
    page = page_of(("Nguyễn Văn Anh", 50, 700), ("Nguyễn Văn", 50, 600), ("An", 50, 580), ("Nguyễn Văn An", 50, 500))
    assert [span.base for span in page.find("Nguyễn Văn An")] == [500]


def test_letters_are_compared_in_canonical_order_and_old_stand_ins_are_known() -> None:
    cases = [("ệ", "e\u0323\u0302"), ("ệ", "ê\u0323"), ("ệ", "e\u0302\u0323"), ("Đ", "Ð"), ("ữ", "ư\u0303")]
    for one, other in cases:
        page = page_of((f"x{unicodedata.normalize('NFC', one)}", 50, 700))
        assert page.find(f"x{other}"), (one, other)


def test_columns_on_one_line_are_pieces_of_their_own() -> None:
    page = page_of(("Nơi nhận:", 85, 500), ("CHỦ TỊCH", 400, 500))
    assert [run.text for run in page.runs] == ["Nơinhận:", "CHỦTỊCH"]
