"""Uploads that mean no good: whatever the bytes, only the house's own errors come out, and soon."""

from __future__ import annotations

import time
import zlib
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audit.log import Actor
from bench.fuzz_pdf import Mutator
from core.errors import CondauError
from signer.options import PdfOptions
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import make_hybrid, make_pdf

pytestmark = pytest.mark.one_database  # the document is looked at

SECONDS = 5.0
INSERTED = [b"<<", b">>", b"[", b"(", b"3 0 R", b"null", b"\0", b"%%EOF", b"stream\n"]


@cache
def samples() -> list[bytes]:
    return [make_pdf(pages=3), make_pdf(xref_stream=False, rotate=90), make_hybrid()]


def try_to_sign(house: House, document: bytes, options: PdfOptions, image: bytes | None = None) -> bytes | None:
    start = time.thread_time()
    try:
        return sign_pdf(house.signer, document, options, CLIENT, image=image)
    except CondauError:
        return None
    finally:
        assert time.thread_time() - start < SECONDS


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_pdf_is_signed_or_refused(house: House, data: st.DataObject) -> None:
    document = bytearray(data.draw(st.sampled_from(samples())))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(document) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "number"])):
            case "flip":
                document[at] = data.draw(st.integers(0, 255))
            case "cut":
                del document[at : at + data.draw(st.integers(1, 30))]
            case "insert":
                document[at:at] = data.draw(st.sampled_from(INSERTED))
            case "number":
                document[at : at + 1] = data.draw(st.sampled_from([b"0", b"-1", b"999999999999", b"1.5"]))
        if not document:
            break
    signed = try_to_sign(house, bytes(document), PdfOptions(level="B-B", page=data.draw(st.sampled_from([None, 1]))))
    assert signed is None or signed.startswith(bytes(document))


def test_a_file_broken_inside_is_signed_or_refused(house: House) -> None:
    """A few of what ``make fuzz-pdf`` tries: the table leads to every object, and what is in one is not what belongs there."""
    mutator = Mutator(seed=20)
    for number in range(60):
        document = mutator.next()
        signed = try_to_sign(house, document, PdfOptions(level="B-B", page=1 if number % 2 else None))
        assert signed is None or signed.startswith(document)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.binary(max_size=300))
@example(document=b"%PDF-1.7\nstartxref\n0\n%%EOF")
def test_noise_is_refused(house: House, document: bytes) -> None:
    assert try_to_sign(house, document, PdfOptions(level="B-B")) is None


def with_objects(*objects: bytes) -> bytes:
    """A file of these objects, numbered from 1; the first is the catalog."""
    out, rows = bytearray(b"%PDF-1.7\n"), [b"0000000000 65535 f \n"]
    for number, body in enumerate(objects, 1):
        rows.append(b"%010d 00000 n \n" % len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start, size = len(out), len(objects) + 1
    out += b"xref\n0 %d\n%btrailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, b"".join(rows), size, start)
    return bytes(out)


CATALOG, PAGES = b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>"
TRAPS = {
    "pages that contain themselves": (CATALOG, b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 1>>"),
    "a parent that is its own": (CATALOG, PAGES, b"<</Type/Page/Parent 3 0 R>>"),
    "a form field that is its own kid": (
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>",
        PAGES,
        PAGE,
        b"<</FT/Sig/T(a)/Kids[4 0 R]>>",
    ),
    "an object that is itself": (b"<</Type/Catalog/Pages 2 0 R>>", b"2 0 R"),
    "arrays without end": (CATALOG, PAGES, b"<</Type/Page/MediaBox" + b"[" * 5000 + b"]" * 5000 + b">>"),
    "a stream longer than it says": (CATALOG, PAGES, PAGE, b"<</Length 99999999>>\nstream\nx\nendstream"),
    "objects in a bomb": (),  # made when it is needed
    "no catalog": (b"<</Type/Page>>",),
    "a form that is no dictionary": (b"<</Type/Catalog/Pages 2 0 R/AcroForm 7>>", PAGES, PAGE),
    "annotations that are no array": (CATALOG, PAGES, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Annots(x)>>"),
    "a page of no size": (CATALOG, PAGES, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 0 0]>>"),
}


def bomb() -> tuple[bytes, ...]:
    zeros = zlib.compress(bytes(200_000_000), 9)
    stream = b"<</Type/ObjStm/N 1/First 5/Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream" % (len(zeros), zeros)
    return CATALOG, stream


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_signed_or_refused_in_time(house: House, trap: str) -> None:
    document = with_objects(*(TRAPS[trap] or bomb()))
    for options in (PdfOptions(level="B-B"), PdfOptions(level="B-B", page=1), PdfOptions(field="a")):
        signed = try_to_sign(house, document, options)
        assert signed is None or signed.startswith(document)


def test_a_refusal_uses_no_key(house: House) -> None:
    used: list[Actor] = []
    signer = house.signer_with(lambda _data, actor: used.append(actor) or b"")  # type: ignore[func-returns-value]  # append gives None
    with pytest.raises(CondauError):
        sign_pdf(signer, b"%PDF-1.7 broken", PdfOptions(), CLIENT)
    assert not used
