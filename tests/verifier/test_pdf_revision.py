"""What pyHanko's difference analysis asks, answered our way: the same as pyHanko's own answers."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import Reference
from pyhanko.pdf_utils.reader import PdfFileReader

from core.content import Content
from core.errors import Malformed
from core.pdf_streams import LARGE, LargeStream
from tests.core.test_pdf_reader import SAMPLES
from tests.signer.pdfs import qpdf
from tests.verifier.authorities import Pki
from tests.verifier.files import encrypted_pdf, plain_pdf, sign
from verifier.pdf_reader import open_pdf


def with_structure() -> bytes:
    """A tagged page, whose structure leads to it and to its annotation."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/StructTreeRoot 5 0 R/Names 9 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Annots[4 0 R]/Contents 8 0 R>>",
        b"<</Type/Annot/Subtype/Link/Rect[0 0 1 1]/P 3 0 R/Dest[3 0 R/Fit]>>",
        b"<</Type/StructTreeRoot/K 6 0 R/ParentTree<</Nums[0[7 0 R]]>>>>",
        b"<</Type/StructElem/S/Document/P 5 0 R/K[7 0 R]>>",
        b"<</Type/StructElem/S/Link/P 6 0 R/Pg 3 0 R/K[<</Type/OBJR/Obj 4 0 R>>]>>",
        b"<</Length 3>>\nstream\nq Q\nendstream",
        b"[[3 0 R] 10 0 R 10 0 R]",
        b"<</Next 9 0 R/Double 11 0 R>>",
        b"3 0 R",
    ]
    out, rows = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        rows.append(b"%010d 00000 n \n" % len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<</Size %d/Root 1 0 R>>\n" % (size, b"".join(rows), size)
    return bytes(out) + table + b"startxref\n%d\n%%%%EOF\n" % len(out)


DOCUMENTS: dict[str, Callable[[Path, Pki], bytes]] = {
    **{name: lambda folder, _, make=make: make(folder) for name, make in SAMPLES.items()},  # type: ignore[misc]  # one for each
    "signed twice": lambda _, pki: sign(sign(plain_pdf(3, text_field=True), pki, box=(1, 1, 90, 90)), pki, field="B"),
    "tagged": lambda _, pki: sign(with_structure(), pki),
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_paths_and_dependencies_are_those_that_pyhanko_finds(tmp_path: Path, pki: Pki, kind: str) -> None:
    document = DOCUMENTS[kind](tmp_path, pki)
    theirs, ours = PdfFileReader(io.BytesIO(document), strict=False), open_pdf(Content.of(document))
    for revision in range(ours.xrefs.total_revisions):
        if revision == 0 and kind.startswith("linearised"):
            continue  # the part of such a file that comes first in its table has no catalog
        their, our = theirs.get_historical_resolver(revision), ours.get_historical_resolver(revision)
        their._load_reverse_xref_cache()
        for number in range(1, ours.highest_number + 2):
            reference = Reference(number, 0)
            assert our._get_usages_of_ref(reference) == their._get_usages_of_ref(reference)
            assert our.collect_dependencies(our(reference)) == their.collect_dependencies(their(reference))
            assert written(our(reference)) == written(their(reference))


def written(value: Any) -> bytes:
    out = io.BytesIO()
    value.write_to_stream(out)
    return out.getvalue()


def with_picture(size: int, filters: bytes = b"") -> bytes:
    body = b"<</Length 5 0 R%b>>\nstream\n%b\nendstream" % (filters, b"0123456789" * (size // 10))
    objects = [b"<</Type/Catalog/Pages 2 0 R/X 4 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"]
    objects += [b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>", body, b"%d" % (size // 10 * 10)]
    out, rows = bytearray(b"%PDF-1.7\n"), []
    for number, item in enumerate(objects, 1):
        rows.append(b"%010d 00000 n \n" % len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, item)
    table = b"xref\n0 6\n0000000000 65535 f \n%btrailer\n<</Size 6/Root 1 0 R>>\n" % b"".join(rows)
    return bytes(out) + table + b"startxref\n%d\n%%%%EOF\n" % len(out)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_large_stream_stays_in_the_file_and_reads_the_same(tmp_path: Path, encrypted: bool) -> None:
    document = with_picture(3 * LARGE)
    if encrypted:
        document = qpdf(tmp_path, document, "--encrypt", "mo", "chu", "256", "--", "--stream-data=preserve")
    reader = open_pdf(Content.of(document), "mo" if encrypted else None)
    for found in (reader.root["/X"], reader.get_historical_resolver(0).root["/X"]):
        assert isinstance(found, LargeStream)
        assert found._encoded_data is None
        assert found.data == b"0123456789" * (3 * LARGE // 10)
    small = open_pdf(Content.of(with_picture(LARGE // 2))).root["/X"]
    assert type(small) is generic.StreamObject
    assert small.data == b"0123456789" * (LARGE // 20)


def test_an_object_of_too_many_parts_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.pdf_reader._LARGEST_OBJECT", 50)
    reader = open_pdf(Content.of(plain_pdf(3)))
    assert reader.root["/Type"] == "/Catalog"
    with pytest.raises(Malformed, match="more than 50 parts"):
        open_pdf(Content.of(plain_pdf(60))).root["/Pages"]


def test_what_is_kept_of_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifier.pdf_reader._KEPT", 100)
    reader = open_pdf(Content.of(plain_pdf(60)))
    kids = reader.root["/Pages"]["/Kids"]
    for _ in range(2):
        assert [kids[position]["/Type"] for position in range(60)] == ["/Page"] * 60
        assert reader._weight <= 100


def test_an_encrypted_revision_is_decrypted(pki: Pki) -> None:
    reader = open_pdf(Content.of(sign(encrypted_pdf(""), pki, password="")))
    revision = reader.get_historical_resolver(0)
    assert revision.root["/Pages"]["/Kids"][0]["/Contents"].data.startswith(b"BT /F1")
