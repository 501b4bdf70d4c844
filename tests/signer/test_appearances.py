"""/NeedAppearances is taken back by the first signature where nothing looks different for it, so that every viewer shows it."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name, Stream, String
from PIL import Image

from tests.signer.drawing import draw, render, where
from tests.signer.house import House
from tests.signer.pdfs import judge, make_pdf

STAMP = {"rectangle": "300,300,400,360"}


def form(content: bytes | None = b"/Tx BMC q BT /Helv 12 Tf (So 1\\067) Tj ET Q EMC", *, more: bool = False) -> bytes:
    """A form that wants its fields drawn anew: a text field that holds "So 17", its appearance (None: none), an empty one."""
    pdf = pikepdf.open(io.BytesIO(make_pdf()))
    page = pdf.pages[0]
    font = Dictionary(Font=Dictionary(Helv=Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)))
    widget: dict[str, Any] = {"Type": Name.Annot, "Subtype": Name.Widget, "FT": Name.Tx, "DA": String("/Helv 12 Tf 0 g")}
    text = pdf.make_indirect(Dictionary(**widget, T=String("so"), V=String("So 17"), Rect=Array([50, 50, 200, 80])))
    if content is not None:
        kind = {"Type": Name.XObject, "Subtype": Name.Form, "BBox": Array([0, 0, 150, 30])}
        drawn = Stream(pdf, content.replace(b"BT", b"BT 4 10 Td"), **kind, Resources=font)
        text.AP = Dictionary(N=drawn)
    empty = pdf.make_indirect(Dictionary(**widget, T=String("ngay"), Rect=Array([50, 90, 200, 120])))
    fields = [text, empty]
    if more:
        box = Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Btn, T=String("chon"), Rect=Array([50, 130, 60, 140]))
        fields.append(pdf.make_indirect(box))
    page.obj.Annots = Array(fields)
    pdf.Root.AcroForm = Dictionary(Fields=Array(fields), NeedAppearances=True, DR=font)
    pdf.save(out := io.BytesIO())
    return out.getvalue()


def wanted(document: bytes) -> bool:
    with pikepdf.open(io.BytesIO(document)) as pdf:
        return bool(pdf.Root.AcroForm.get("/NeedAppearances", False))


def signed(studio: House, document: bytes) -> bytes:
    return draw(studio, document, profile="person", **STAMP)


def is_blue(image: Image.Image) -> bool:
    try:
        where(image, "blue")
    except AssertionError:
        return False
    return True


def test_every_viewer_shows_the_signature_and_the_field(studio: House, tmp_path: Path) -> None:
    document = form()
    out = signed(studio, document)
    assert not wanted(out)
    assert is_blue(render(tmp_path, out))
    (tmp_path / "m.pdf").write_bytes(out)
    subprocess.run(["mutool", "draw", "-q", "-r", "100", "-o", tmp_path / "m.png", tmp_path / "m.pdf"], check=True, timeout=60)
    assert is_blue(Image.open(tmp_path / "m.png").convert("RGB"))
    read = subprocess.run(["pdftotext", tmp_path / "m.pdf", "-"], capture_output=True, check=True, timeout=60).stdout
    assert b"So 17" in read
    assert judge(tmp_path, out) == [True]


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (None, False),  # seen only because viewers draw it
        (b"BT /Helv 12 Tf (So 16) Tj ET", False),  # what it held before
        (b"BT /Helv 12 Tf <00360052> Tj ET", False),  # glyph numbers: nobody can tell
        (b"BT /Helv 12 Tf (So 17) Tj ET", True),  # a button without an appearance
        (b"BT /Helv 12 Tf (So 17) Tj <5> Tj ET", False),
    ],
)
def test_where_something_would_look_different_it_stays(studio: House, content: bytes | None, more: bool) -> None:
    assert wanted(signed(studio, form(content, more=more)))


def test_an_appearance_that_cannot_be_read_is_no_reason_not_to_sign(studio: House) -> None:
    with pikepdf.open(io.BytesIO(form())) as pdf:
        pdf.Root.AcroForm.Fields[0].AP.N.write(b"this is no zlib", filter=Name.FlateDecode)
        pdf.save(broken := io.BytesIO(), compress_streams=False)
    assert wanted(signed(studio, broken.getvalue()))


def test_strings_are_read_however_they_are_written(studio: House) -> None:
    assert not wanted(signed(studio, form(b"BT [(S\\157) -20 <2031 3\n7>] TJ ET")))


def test_the_second_signature_changes_nothing(studio: House, tmp_path: Path) -> None:
    """A request that stands under a signature stays: taking it back would change what was signed."""
    once = draw(studio, form(), reason="không hiển thị")  # nothing is drawn, so nothing is touched
    assert wanted(once)
    twice = signed(studio, once)
    assert wanted(twice)
    assert not is_blue(render(tmp_path, twice))  # why: poppler draws the field anew, and has no way to draw a signature
    assert judge(tmp_path, twice) == [True, True]
