"""Our way of reading a PDF: the same as pyHanko's on sound files, and an end to what hostile ones may take."""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyhanko.pdf_utils.generic import Reference
from pyhanko.pdf_utils.reader import PdfFileReader

from core import pdf_reader
from core.content import Content
from core.errors import Malformed
from core.pdf_reader import BoundedReader
from signer.pdf_update import open_update
from tests.signer.pdfs import add_empty_field, make_hybrid, make_pdf, qpdf
from tests.signer.test_hostile import CATALOG, PAGE, PAGES, with_objects


def irregular(document: bytes) -> bytes:
    """Rows of 19 bytes, which many programs wrote."""
    return document.replace(b" n \n", b" n\n").replace(b" f \n", b" f\n")


SAMPLES: dict[str, Callable[[Path], bytes]] = {
    "table": lambda _: make_pdf(pages=5, xref_stream=False),
    "stream": lambda _: make_pdf(pages=5),
    "hybrid": lambda _: make_hybrid(),
    "rows too short": lambda _: irregular(make_pdf(xref_stream=False)),
    "several revisions": lambda _: add_empty_field(add_empty_field(make_pdf(xref_stream=False), "a"), "b"),
    "object streams": lambda folder: qpdf(folder, make_pdf(pages=30), "--object-streams=generate"),
    "linearised": lambda folder: qpdf(folder, make_pdf(pages=30), "--linearize", "--object-streams=generate"),
    "linearised with tables": lambda folder: qpdf(folder, make_pdf(pages=30), "--linearize", "--object-streams=disable"),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_object_is_found_where_pyhanko_finds_it(tmp_path: Path, kind: str) -> None:
    document = SAMPLES[kind](tmp_path)
    theirs, ours = PdfFileReader(io.BytesIO(document), strict=False), BoundedReader(Content.of(document))
    assert ours.xrefs.total_revisions == theirs.xrefs.total_revisions
    for revision in range(ours.xrefs.total_revisions):
        numbers = [{ref.idnum for ref in reader.xrefs.explicit_refs_in_revision(revision)} for reader in (ours, theirs)]
        assert numbers[0] == numbers[1]
        assert max(numbers[0]) <= ours.highest_number
        ends = [reader.xrefs.get_xref_container_info(revision).end_location for reader in (theirs, ours)]
        assert document[slice(*ends)].strip()[:2] in (b"", b"<<"), "of a table ours holds the trailer as well"
    for number in range(ours.highest_number + 3):
        for generation in (0, 1, 65535):
            assert ours.xrefs[Reference(number, generation)] == theirs.xrefs[Reference(number, generation)]
        assert written(ours, number) == written(theirs, number)


def written(reader: Any, number: int) -> bytes:
    out = io.BytesIO()
    reader.get_object(Reference(number, 0, reader)).write_to_stream(out, None)
    return out.getvalue()


def test_earlier_sections_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    document = make_pdf(pages=3)
    earlier = BoundedReader(Content.of(document))
    later = Content.of(add_empty_field(document, "a"))
    monkeypatch.setattr(earlier.sections[0].xref_data, "try_resolve", lambda ref: 1000 + ref.idnum)
    reader = BoundedReader(later, earlier)
    assert reader.xrefs.total_revisions == 2
    assert reader.xrefs[Reference(3, 0)] == 1003


def cross_reference_bomb(size: int) -> bytes:
    rows = zlib.compress(bytes(4) * size, 9)
    dictionary = b"<</Type/XRef/W[1 2 1]/Size %d/Root 1 0 R/Filter/FlateDecode/Length %d>>" % (size, len(rows))
    return b"%PDF-1.7\n1 0 obj\n" + dictionary + b"\nstream\n" + rows + b"\nendstream\nendobj\nstartxref\n9\n%%EOF\n"


TRAPS = {
    "a cross-reference stream of 50 million rows": lambda: cross_reference_bomb(50_000_000),
    "a comment without end": lambda: with_objects(CATALOG, PAGES, PAGE)[:-200] + b"\nstartxref\n9\n%%EOF % " * 2,
    "a table of everything": lambda: b"%PDF-1.7\nxref\n0 9999999999\n" + b"0000000000 00000 n \n" * 1000 + b"startxref\n9\n%%EOF\n",
    "rows without end": lambda: b"%PDF-1.7\nxref\n0 3000000\n" + b"0000000000 00000 n\n" * 300_000 + b"startxref\n9\n%%EOF\n",
    "an earlier revision that is the later one": lambda: with_objects(CATALOG, PAGES, PAGE).replace(b"<</Size", b"<</Prev 9/Size"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_hostile_table_is_refused_soon(trap: str) -> None:
    document = Content.of(TRAPS[trap]())
    began = time.thread_time()
    with pytest.raises(Malformed) as refused:
        open_update(document, None)
    assert refused.value.violations[0].field == "document"
    assert time.thread_time() - began < 5


def test_reading_ends_when_its_time_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog of a million dictionaries: nothing wrong with it but the time it takes."""
    monkeypatch.setattr(pdf_reader.Allowance.__init__, "__defaults__", (0.2,))
    document = with_objects(b"<</Type/Catalog/Pages 2 0 R/X[%b]>>" % (b"<</A/B>>" * 300_000), PAGES, PAGE)
    began = time.thread_time()
    with pytest.raises(Malformed, match="too long"):
        open_update(Content.of(document), None)
    assert time.thread_time() - began < 2


def test_a_stream_where_none_belongs_is_not_read_into_memory(tmp_path: Path) -> None:
    """The form is said to be in a stream of 100 MB."""
    path = tmp_path / "large.pdf"
    head = b"%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R/AcroForm 4 0 R>>\nendobj\n2 0 obj\n" + PAGES + b"\nendobj\n"
    head += b"3 0 obj\n" + PAGE + b"\nendobj\n"
    size = 100_000_000
    with path.open("wb") as file:
        file.write(head + b"4 0 obj\n<</Length %d>>\nstream\n" % size)
        file.seek(size, io.SEEK_CUR)
        file.write(b"\nendstream\nendobj\n")
        at = file.tell()
        places = [head.index(b"%d 0 obj" % number) for number in (1, 2, 3)] + [len(head)]
        rows = b"".join(b"%010d 00000 n \n" % place for place in places)
        file.write(b"xref\n0 5\n0000000000 65535 f \n%btrailer\n<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (rows, at))
    with path.open("rb") as file:
        update = open_update(Content.of_file(file), None)
    with pytest.raises(Malformed, match="too large"):
        update.root["/AcroForm"]
