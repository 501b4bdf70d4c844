"""Files whose metadata are no XMP: signed up to B-LTA they are valid, and others like them may not take their place."""

from __future__ import annotations

import io
import re

import pikepdf
import pytest

from core.content import Content
from signer.options import PdfOptions
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import make_pdf
from verifier.service import Verifier
from verifier.verdict import Indication, Report

pytestmark = pytest.mark.one_database  # the signed document is looked at


def with_odd_metadata(document: bytes) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(document)) as pdf:
        pdf.Root.Metadata = pdf.make_stream(b"no XMP", Type=pikepdf.Name.Metadata, Subtype=pikepdf.Name.XML)
        pdf.save(out)
    return out.getvalue()


def replaced(document: bytes, number: int, body: bytes) -> bytes:
    """An update in which the object of this number is another one."""
    place = len(document) + 1
    start = place + len(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    earlier = re.findall(rb"startxref\s+(\d+)", document)[-1]
    with pikepdf.open(io.BytesIO(document)) as pdf:
        root, size = pdf.Root.objgen[0], int(pdf.trailer.Size)
    table = b"xref\n%d 1\n%010d 00000 n \n" % (number, place)
    trailer = b"trailer\n<< /Size %d /Root %d 0 R /Prev %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, root, earlier, start)
    return document + b"\n%d 0 obj\n%s\nendobj\n" % (number, body) + table + trailer


def judged(house: House, document: bytes) -> Report:
    return Verifier(database=house.database, now=house.now).verify(Content.of(document))


def test_what_is_left_alone_is_not_held_against_a_signature(house: House) -> None:
    signed = sign_pdf(house.signer, with_odd_metadata(make_pdf()), PdfOptions(level="B-LTA"), CLIENT)
    report = judged(house, signed)
    assert report.indication is Indication.TOTAL_PASSED
    assert [one.level for one in report.signatures] == ["B-LTA"]


def test_who_puts_others_like_it_in_their_place_is_noticed(house: House) -> None:
    words = b"other words, no XMP either"
    signed = sign_pdf(house.signer, with_odd_metadata(make_pdf()), PdfOptions(level="B-LTA"), CLIENT)
    with pikepdf.open(io.BytesIO(signed)) as pdf:
        number = pdf.Root.Metadata.objgen[0]
    stream = b"<< /Type /Metadata /Subtype /XML /Length %d >>\nstream\n%s\nendstream" % (len(words), words)
    attacked = replaced(signed, number, stream)
    with pikepdf.open(io.BytesIO(attacked)) as pdf:
        assert pdf.Root.Metadata.read_bytes() == words  # readers see the new one
    (verdict,) = judged(house, attacked).signatures
    assert verdict.indication is Indication.INDETERMINATE
    assert "error" in [change.severity for change in verdict.changes]
