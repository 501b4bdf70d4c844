"""Files that mean no good: whatever the bytes, a verdict or the house's own error, soon and in little memory."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable

import pytest
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter

from core import pdf_reader
from core.errors import CondauError
from tests.core.test_pdf_reader import TRAPS as TABLES
from tests.signer.test_hostile import TRAPS, with_objects
from tests.verifier.authorities import NOW, Pki
from tests.verifier.files import plain_pdf, sign, stamp_document, update
from tests.verifier.judging import verify_pdf
from verifier.context import Context
from verifier.pdf import PdfVerdicts

SECONDS = 5.0


def judge(document: bytes, context: Context) -> PdfVerdicts | None:
    """The verdicts, or None for a file that cannot be read."""
    start = time.thread_time()
    try:
        return verify_pdf(document, context)
    except CondauError:
        return None
    finally:
        assert time.thread_time() - start < SECONDS


@pytest.fixture(scope="module")
def signed(pki: Pki) -> bytes:
    return sign(plain_pdf(2, text_field=True), pki, box=(300, 50, 500, 100))


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_no_signature(context: Context, trap: str) -> None:
    found = judge(with_objects(*TRAPS[trap]), context)
    assert found is None or found.signatures == ()


@pytest.mark.parametrize("trap", TABLES)
def test_a_hostile_table_is_unreadable(context: Context, trap: str) -> None:
    assert judge(TABLES[trap](), context) is None


class Raw(generic.PdfObject):
    """Bytes written as they are."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def write_to_stream(self, stream: object, *_: object, **__: object) -> None:
        stream.write(self._data)  # type: ignore[attr-defined]  # what pyHanko hands over it does not type


def put_into_the_catalog(data: bytes) -> Callable[[IncrementalPdfFileWriter], None]:
    def change(writer: IncrementalPdfFileWriter) -> None:
        writer.root["/X"] = writer.add_object(Raw(data))
        writer.update_root()

    return change


OBJECTS = {
    "numbers without end": b"[" + b"0 " * 100_000 + b"]",
    "dictionaries without end": b"[" + b"<</A/B>>" * 20_000 + b"]",
    "references without end": b"[" + b"1 0 R " * 30_000 + b"]",
    "dictionaries in dictionaries": b"<</A" * 100_000,
    "a string without end": b"(" + b"a" * 200_000 + b")",
    "a number of so many digits": b"1" * 200_000,
    "a comment without end": b"%" + b"a" * 200_000 + b"\n1",
    "a stream whose length is itself": b"<</Length 30 0 R>>\nstream\nx\nendstream",
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_what_comes_later_cannot_keep_the_analysis_busy(
    signed: bytes, context: Context, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With the bounds a tenth of what they are, to be quick."""
    monkeypatch.setattr(pdf_reader, "_LONGEST_OBJECT", 100_000)
    monkeypatch.setattr("verifier.pdf_reader._LARGEST_OBJECT", 10_000)
    found = judge(update(signed, put_into_the_catalog(OBJECTS[kind])), context)
    assert found is not None
    assert [one.indication == "TOTAL-PASSED" for one in found.signatures] == [False]


def with_rows(document: bytes, count: int) -> bytes:
    """A later revision that says it holds ``count`` objects, all of them in one place."""
    start, at = int(document.rpartition(b"startxref")[2].split()[0]), len(document)
    rows = zlib.compress(b"\x01\0\0\0\x0f\0" * count, 9)
    entries = b"/Type/XRef/W[1 4 1]/Index[50 %d]/Size %d/Root 1 0 R/Prev %d" % (count, count + 50, start)
    entries += b"/Filter/FlateDecode/Length %d" % len(rows)
    return document + b"49 0 obj\n<<%b>>\nstream\n%b\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % (entries, rows, at)


def test_a_revision_of_millions_of_objects_is_not_unpacked(signed: bytes, context: Context) -> None:
    found = judge(with_rows(signed, 4_000_000), context)
    assert found is not None
    assert [[finding.code for finding in one.changes] for one in found.signatures] == [["CHANGES_UNKNOWN"]]


def test_a_file_that_says_byte_range_without_end_is_given_up(signed: bytes, context: Context) -> None:
    assert judge(signed + b"/ByteRange" * 1_100_000 + b"\nstartxref\n9\n%%EOF\n", context) is None


def test_the_analysis_ends_when_the_time_for_a_document_is_used_up(
    signed: bytes, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_reader.Allowance.__init__, "__defaults__", (0.02,))
    found = judge(update(signed, put_into_the_catalog(b"[" + b"[0]" * 9_000 + b"]")), context)
    assert found is not None
    assert [[finding.code for finding in one.changes] for one in found.signatures] == [["CHANGES_UNKNOWN"]]


def test_a_mutated_file_is_a_verdict(pki: Pki, signed: bytes, context: Context) -> None:
    choose = random.Random(7)
    whole = stamp_document(sign(signed, pki, field="Second"), pki, NOW)
    for _ in range(150):
        document = bytearray(whole)
        for _ in range(choose.randint(1, 4)):
            at = choose.randrange(len(document))
            match choose.randrange(4):
                case 0:
                    document[at] = choose.randrange(256)
                case 1:
                    del document[at : at + choose.randint(1, 30)]
                case 2:
                    document[at:at] = choose.choice([b"<<", b">>", b"3 0 R", b"\0", b"%%EOF", b"stream\n", b"endobj"])
                case _:
                    document[at : at + 1] = choose.choice([b"0", b"-1", b"999999999999", b"1.5"])
        found = judge(bytes(document), context)
        assert found is None or sum(one.indication == "TOTAL-PASSED" for one in found.signatures) <= 2


@pytest.mark.parametrize("entries", [1, 10])
def test_a_stream_in_the_file_is_counted_once_however_many_say_they_hold_it(pki: Pki, context: Context, entries: int) -> None:
    """Streams that overlap: each says that it goes on up to the end of the last one."""
    size = 3_000_000
    body = b"<</Length %d>>\nstream\n" % size
    objects = [b"<</Type/Catalog/Pages 2 0 R/X[4 0 R]>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"]
    objects += [b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>", *([body + bytes(size) + b"\nendstream"] * entries)]
    found = judge(update(sign(with_objects(*objects), pki), put_into_the_catalog(b"4 0 R")), context)
    assert found is not None
    assert [one.indication == "TOTAL-PASSED" for one in found.signatures] == [False]
