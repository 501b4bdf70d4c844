"""Files of every kind, made here by programs that are not ours: signed behind their own bytes, and sound for qpdf and poppler."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name, String

from signer.options import PdfOptions
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import judge, make_pdf, qpdf, text_of

pytestmark = pytest.mark.one_database  # the signed document is looked at


def save(pdf: pikepdf.Pdf, **options: object) -> bytes:
    out = io.BytesIO()
    pdf.save(out, **options)  # type: ignore[arg-type]  # passed through
    return out.getvalue()


def form(*, fill: bool) -> bytes:
    """A form with a text field, filled or not, and another that is its kid."""
    pdf = pikepdf.open(io.BytesIO(make_pdf(pages=2)))
    page = pdf.pages[0]
    widget = Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Tx, T=String("so"), Rect=Array([50, 50, 150, 70]), P=page.obj)
    if fill:
        widget.V = String("17/UBND")
    parent = pdf.make_indirect(Dictionary(T=String("nhom"), FT=Name.Tx))
    kid = pdf.make_indirect(
        Dictionary(Type=Name.Annot, Subtype=Name.Widget, T=String("a"), Parent=parent, Rect=Array([50, 80, 90, 90]))
    )
    parent.Kids = Array([kid])
    field = pdf.make_indirect(widget)
    page.Annots = Array([field, kid])
    pdf.Root.AcroForm = Dictionary(Fields=Array([field, parent]), NeedAppearances=fill, DA=String("/Helv 0 Tf 0 g"))
    return save(pdf)


def tagged() -> bytes:
    """A document that says how it reads aloud."""
    pdf = pikepdf.open(io.BytesIO(make_pdf()))
    root = pdf.make_indirect(Dictionary(Type=Name.StructTreeRoot))
    root.K = pdf.make_indirect(Dictionary(Type=Name.StructElem, S=Name.Document, P=root, K=Array([])))
    pdf.Root.StructTreeRoot, pdf.Root.MarkInfo, pdf.Root.Lang = root, Dictionary(Marked=True), String("vi-VN")
    return save(pdf, object_stream_mode=pikepdf.ObjectStreamMode.generate)


def deep_pages() -> bytes:
    """A tree of pages of several levels, the page's size inherited from the top."""
    pdf = pikepdf.open(io.BytesIO(make_pdf(pages=1)))
    page = pdf.pages[0].obj
    pages = pdf.Root.Pages
    pages.MediaBox = page.MediaBox
    del page.MediaBox
    for _ in range(5):
        pages = pdf.make_indirect(Dictionary(Type=Name.Pages, Kids=Array([pages]), Count=1))
        pages.Kids[0].Parent = pages
    pdf.Root.Pages = pages
    return save(pdf, fix_metadata_version=False)


def encrypted(folder: Path, *way: str) -> bytes:
    return qpdf(folder, make_pdf(pages=2), "--allow-weak-crypto", "--encrypt", "mo", "chu", *way, "--")


KINDS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a form": (lambda _: form(fill=False), ""),
    "a filled form that wants new appearances": (lambda _: form(fill=True), ""),
    "tagged": (lambda _: tagged(), ""),
    "pages in a deep tree": (lambda _: deep_pages(), ""),
    "linearised, object streams": (lambda folder: qpdf(folder, form(fill=False), "--linearize", "--object-streams=generate"), ""),
    "PDF 2.0": (lambda folder: qpdf(folder, make_pdf(), "--force-version=2.0"), ""),
    "RC4 of 40 bits, the reader's password": (lambda folder: encrypted(folder, "40"), "mo"),
    "RC4 of 128 bits, the owner's password": (lambda folder: encrypted(folder, "128", "--use-aes=n"), "chu"),
    "AES of 128 bits, the owner's password": (lambda folder: encrypted(folder, "128", "--use-aes=y"), "chu"),
    "AES of 256 bits, the owner's password": (lambda folder: encrypted(folder, "256"), "chu"),
    "AES, but for the metadata": (lambda folder: encrypted(folder, "128", "--use-aes=y", "--cleartext-metadata"), "mo"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_signed_behind_its_own_bytes(house: House, tmp_path: Path, kind: str) -> None:
    make, password = KINDS[kind]
    document = make(tmp_path)
    once = sign_pdf(house.signer, document, PdfOptions(level="B-B", password=password or None), CLIENT)
    twice = sign_pdf(house.signer, once, PdfOptions(level="B-B", page=1, password=password or None), CLIENT)
    assert once.startswith(document)
    assert twice.startswith(once)
    opened = "mo" if password else ""  # poppler is given the reader's password
    assert judge(tmp_path, twice, password=opened) == [True, True]
    assert text_of(tmp_path, once, password=opened) == text_of(tmp_path, document, password=opened)
    (tmp_path / "twice.pdf").write_bytes(twice)
    command: list[str | Path] = ["qpdf", "--check", f"--password={opened}", tmp_path / "twice.pdf"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)


def test_many_revisions_are_read_and_one_more_is_added(house: House, tmp_path: Path) -> None:
    document = make_pdf(xref_stream=False)
    for number in range(12):
        pages = PdfOptions(level="B-B", page=1, rectangle=f"20,{20 + 60 * number},180,{75 + 60 * number}")
        document = sign_pdf(house.signer, document, pages, CLIENT)
    assert judge(tmp_path, document) == [True] * 12
