"""Attacks by way of the cross-reference tables: what no writer would write, and every reader has to resolve one way or another."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import timedelta

import pikepdf
import pytest

from tests.verifier.authorities import NOW, Pki
from tests.verifier.files import plain_pdf, sign
from tests.verifier.judging import verify_pdf
from verifier.context import Context
from verifier.verdict import Indication


def compressed(document: bytes) -> bytes:
    """The same with its dictionaries in an object stream."""
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(document)) as pdf:
        pdf.save(out, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return out.getvalue()


def object_bytes(number: int, body: bytes) -> bytes:
    return b"%d 0 obj\n%s\nendobj\n" % (number, body)


def stream_bytes(entries: bytes, data: bytes) -> bytes:
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(data), data)


class Tail:
    """A revision written by hand behind a document."""

    def __init__(self, document: bytes) -> None:
        self.document = document + b"\n"
        self.earlier = int(re.findall(rb"startxref\s+(\d+)", document)[-1])
        with pikepdf.open(io.BytesIO(document)) as pdf:
            self.root, self.size = pdf.Root.objgen[0], int(pdf.trailer.Size)
            self.content = pdf.pages[0].Contents.objgen[0]

    def add(self, number: int, body: bytes) -> int:
        place = len(self.document)
        self.document += object_bytes(number, body)
        return place

    def table(self, rows: list[tuple[int, bytes]], further: bytes = b"") -> bytes:
        start = len(self.document)
        self.document += b"xref\n" + (b"".join(b"%d 1\n%s\n" % (number, row) for number, row in rows) or b"0 0\n")
        self.document += b"trailer\n<< /Size %d /Root %d 0 R /Prev %d %s >>\n" % (self.size + 9, self.root, self.earlier, further)
        return self.document + b"startxref\n%d\n%%%%EOF\n" % start


SHOWN = b"BT /F1 18 Tf 72 700 Td (900) Tj ET"


def in_use(place: int) -> bytes:
    return b"%010d 00000 n " % place


def override(document: bytes) -> bytes:
    tail = Tail(document)
    return tail.table([(tail.content, in_use(tail.add(tail.content, stream_bytes(b"", SHOWN))))])


def override_in_hybrid(document: bytes) -> bytes:
    """The plain table names nothing; the stream beside it (ISO 32000-2 clause 7.5.8.4) does."""
    tail = Tail(document)
    place = tail.add(tail.content, stream_bytes(b"", SHOWN))
    row = b"\x01" + place.to_bytes(4, "big") + b"\0"
    entries = b"/Type /XRef /Size %d /W [1 4 1] /Index [%d 1] /Root %d 0 R" % (tail.size + 9, tail.content, tail.root)
    beside = tail.add(tail.size + 5, stream_bytes(entries, row))
    return tail.table([], b"/XRefStm %d" % beside)


def set_free(document: bytes) -> bytes:
    tail = Tail(document)
    return tail.table([(tail.content, b"0000000000 00001 f ")])


def free_and_in_hybrid(document: bytes) -> bytes:
    """Free in the table, in use in the stream beside it: hidden from old readers, shown by new ones."""
    tail = Tail(document)
    place = tail.add(tail.content, stream_bytes(b"", SHOWN))
    row = b"\x01" + place.to_bytes(4, "big") + b"\0"
    entries = b"/Type /XRef /Size %d /W [1 4 1] /Index [%d 1] /Root %d 0 R" % (tail.size + 9, tail.content, tail.root)
    beside = tail.add(tail.size + 5, stream_bytes(entries, row))
    return tail.table([(tail.content, b"0000000000 00000 f ")], b"/XRefStm %d" % beside)


def override_object_stream(document: bytes) -> bytes:
    """Nothing but the object stream is replaced: every object in it is another one now, and no table says so."""
    tail = Tail(document)
    with pikepdf.open(io.BytesIO(document)) as pdf:
        streams = [item for item in pdf.objects if isinstance(item, pikepdf.Stream) and item.get("/Type") == "/ObjStm"]
        holder = next(item for item in streams if b"/MediaBox" in item.read_bytes())
        data = holder.read_bytes().replace(b"595", b"195")
        entries = b"/Type /ObjStm /N %d /First %d" % (int(holder.N), int(holder.First))
        number = holder.objgen[0]
    return tail.table([(number, in_use(tail.add(number, stream_bytes(entries, data))))])


def move_into_object_stream(document: bytes) -> bytes:
    """A page comes out of another object stream from now on."""
    tail = Tail(document)
    with pikepdf.open(io.BytesIO(document)) as pdf:
        page = pdf.pages[0].objgen[0]
        words = b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 195 842] /Contents %d 0 R >>" % (
            pdf.Root.Pages.objgen[0],
            tail.content,
        )
    held = b"%d 0 %s" % (page, words)
    number = tail.size + 4
    place = tail.add(number, stream_bytes(b"/Type /ObjStm /N 1 /First %d" % held.index(b"<<"), held))
    start = len(tail.document)
    rows = b"\x02" + number.to_bytes(4, "big") + b"\0" + b"\x01" + place.to_bytes(4, "big") + b"\0"
    entries = b"/Type /XRef /Size %d /W [1 4 1] /Index [%d 1 %d 1] /Root %d 0 R /Prev %d" % (
        *(tail.size + 9, page, number, tail.root, tail.earlier),
    )
    return tail.document + object_bytes(tail.size + 5, stream_bytes(entries, rows)) + b"startxref\n%d\n%%%%EOF\n" % start


ATTACKS: list[tuple[Callable[[bytes], bytes], bool]] = [
    (override, False),
    (override, True),
    (override_in_hybrid, False),
    (override_in_hybrid, True),
    (set_free, False),
    (set_free, True),
    (free_and_in_hybrid, False),
    (override_object_stream, True),
    (move_into_object_stream, True),
]


@pytest.mark.parametrize(("attack", "packed"), ATTACKS)
def test_an_object_replaced_by_any_table_is_found(
    attack: Callable[[bytes], bytes], packed: bool, pki: Pki, context: Context
) -> None:
    document = compressed(plain_pdf()) if packed else plain_pdf()
    signed = sign(document, pki, stamped_at=NOW - timedelta(hours=1))
    (before,) = verify_pdf(signed, context).signatures
    assert before.indication is Indication.TOTAL_PASSED
    found = verify_pdf(attack(signed), context).signatures
    assert found
    assert [one.indication for one in found if one.indication is Indication.TOTAL_PASSED] == []
