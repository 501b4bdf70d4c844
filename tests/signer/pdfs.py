"""PDFs the tests make themselves, and the programs that judge what became of them."""

from __future__ import annotations

import io
import re
import subprocess
import zlib
from pathlib import Path

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, NumberObject, pdf_name
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.writer import PageObject, PdfFileWriter
from pyhanko.sign.fields import SigFieldSpec, append_signature_field, enumerate_sig_fields

A4 = (0, 0, 595, 842)
HELLO = "Xin chao"


def make_pdf(*, pages: int = 1, rotate: int = 0, crop: tuple[int, int, int, int] | None = None, xref_stream: bool = True) -> bytes:
    """Pages of A4 that say "Xin chao 1", "Xin chao 2", …"""
    writer = PdfFileWriter(stream_xrefs=xref_stream)
    entries = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    font = DictionaryObject({pdf_name(key): pdf_name(value) for key, value in entries.items()})
    resources = DictionaryObject({pdf_name("/Font"): DictionaryObject({pdf_name("/F"): writer.add_object(font)})})
    for number in range(1, pages + 1):
        text = b"BT /F 18 Tf 100 600 Td (%b %d) Tj ET" % (HELLO.encode(), number)
        content = writer.add_object(generic.StreamObject(stream_data=text))
        page = PageObject(contents=content, media_box=A4, resources=resources)
        page["/Rotate"] = NumberObject(rotate)
        if crop is not None:
            page["/CropBox"] = ArrayObject(map(NumberObject, crop))
        writer.insert_page(page)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def make_hybrid() -> bytes:
    """A hybrid-reference file (ISO 32000-1, 7.5.8.4): old readers see a table, new ones find the font in an object stream."""
    out = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    where = {}

    def add(number: int, body: bytes) -> None:
        where[number] = len(out)
        out.extend(b"%d 0 obj\n%b\nendobj\n" % (number, body))

    add(1, b"<</Type/Catalog/Pages 2 0 R>>")
    add(2, b"<</Type/Pages/Kids[3 0 R]/Count 1>>")
    add(3, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>")
    text = b"BT /F 18 Tf 100 600 Td (%b) Tj ET" % HELLO.encode()
    add(4, b"<</Length %d>>\nstream\n%b\nendstream" % (len(text), text))
    held = b"5 0 <</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    packed = zlib.compress(held)
    stream = b"<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream"
    add(6, stream % (len(packed), packed))
    where[7] = len(out)
    rows = b"".join(bytes([kind]) + at.to_bytes(4, "big") + b"\0" for kind, at in ((2, 6), (1, where[6]), (1, where[7])))
    cross = b"7 0 obj\n<</Type/XRef/W[1 4 1]/Index[5 3]/Size 8/Root 1 0 R/Length %d>>\nstream\n%b\nendstream\nendobj\n"
    out.extend(cross % (len(rows), rows))
    start = len(out)
    out.extend(b"xref\n0 5\n0000000000 65535 f \n")
    out.extend(b"".join(b"%010d 00000 n \n" % where[number] for number in range(1, 5)))
    out.extend(b"trailer\n<</Size 8/Root 1 0 R/XRefStm %d>>\nstartxref\n%d\n%%%%EOF\n" % (where[7], start))
    return bytes(out)


def add_empty_field(document: bytes, name: str, extra: dict[str, generic.PdfObject] | None = None) -> bytes:
    """``document`` with an empty signature field of 200 x 50 points, ``extra`` entries in its dictionary."""
    writer = IncrementalPdfFileWriter(io.BytesIO(document))
    append_signature_field(writer, SigFieldSpec(name, on_page=0, box=(50, 50, 250, 100)))
    for _, _, reference in enumerate_sig_fields(writer, with_name=name):
        for key, value in (extra or {}).items():
            reference.get_object()[key] = value
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def qpdf(folder: Path, document: bytes, *options: str) -> bytes:
    """``document`` rewritten by qpdf."""
    source, target = folder / "in.pdf", folder / "out.pdf"
    source.write_bytes(document)
    subprocess.run(["qpdf", *options, source, target], check=True, capture_output=True, timeout=30)
    return target.read_bytes()


def judge(folder: Path, document: bytes, *, password: str = "") -> list[bool]:
    """What poppler's pdfsig says of each signature: whether it is valid. The last must cover the whole file.

    Document timestamps are no signatures, and pdfsig does not know how to check them.
    """
    path = folder / "judged.pdf"
    path.write_bytes(document)
    command = ["pdfsig", "-nocert", "-upw", password, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    signatures = said.split("Signature #")[1:]
    assert signatures, said
    assert "Total document signed" in signatures[-1], said
    return ["Signature is Valid" in signature for signature in signatures if "Field Name: Timestamp" not in signature]


def text_of(folder: Path, document: bytes, *, password: str = "") -> str:
    """The text poppler reads."""
    path = folder / "read.pdf"
    path.write_bytes(document)
    options = ["pdftotext", "-upw", password, str(path), "-"]
    return subprocess.run(options, capture_output=True, check=True, timeout=30).stdout.decode()


def take_apart(document: bytes) -> tuple[bytes, bytes]:
    """(signed bytes, CMS without padding) of the last signature, read from the bytes alone."""
    found = re.findall(rb"/ByteRange \[0 (\d+) (\d+) (\d+)\]", document)[-1]
    before, after, rest = map(int, found)
    padded = bytes.fromhex(document[before + 1 : after - 1].decode())
    size = 4 + int.from_bytes(padded[2:4], "big")  # a SignedData of ours is longer than 255 bytes
    assert padded[:2] == b"\x30\x82"
    assert not padded[size:].strip(b"\0")
    return document[:before] + document[after : after + rest], padded[:size]
