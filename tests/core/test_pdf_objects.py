"""Plainly written objects are read as pyHanko reads them, or left to it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, Reference, StreamObject, read_object

from core.pdf_objects import parse_direct, parse_indirect

TOKENS = [
    b"<<",
    b">>",
    b"[",
    b"]",
    b"/A",
    b"/A#20B",
    b"/",
    b"1",
    b"-2",
    b"+3",
    b"1.5",
    b".5",
    b"-.5",
    b"4.",
    b"--1",
    b"1 0 R",
    b"2 0  R",
]
TOKENS += [
    b"true",
    b"false",
    b"null",
    b"nul",
    b"(abc)",
    b"(a\\)b)",
    b"(a\\n\\050\\344\\b\\\\)",
    b"(\\12 \\9 \\400)",
    b"(a(b)c)",
    b"(\xfe\xff\x00A)",
    b"(\xd0\xff)",
    b"(a\rb)",
    b"(",
    b")",
]
TOKENS += [
    b"<4142>",
    b"<41 4>",
    b"<feff0041>",
    b"<>",
    b"%x\n",
    b"\0",
    b"\f",
    b"endobj",
    b"stream\n",
    b"0",
    b"/\xc3\xa9",
    b"1 0 obj",
]
SEPARATORS = [b" ", b"", b"\n", b"\r\n", b"  "]


class Handler:
    strict = False


REFERENCE = Reference(7, 0, Handler())


def description(value: Any) -> Any:
    """The types and values all the way down, and what each belongs to."""
    if isinstance(value, DictionaryObject):
        entries = [(key, description(value.raw_get(key))) for key in value]
        return type(value), value.container_ref, entries, value.encoded_data if isinstance(value, StreamObject) else None
    if isinstance(value, ArrayObject):
        return type(value), value.container_ref, [description(item) for item in list.__iter__(value)]
    out = io.BytesIO()
    value.write_to_stream(out)
    return type(value), value.container_ref, out.getvalue(), getattr(value, "pdf", None), getattr(value, "original_bytes", None)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(SEPARATORS)), max_size=25))
@example(parts=[(b"<<", b""), (b"/A", b" "), (b"1", b" "), (b"/A", b" "), (b"2", b""), (b">>", b"")])
@example(parts=[(b"<<", b""), (b"/A", b" "), (b"<<", b""), (b"/A", b" "), (b"1 0 R", b""), (b">>", b""), (b">>", b"")])
def test_what_is_understood_is_what_pyhanko_understands(parts: list[tuple[bytes, bytes]]) -> None:
    data = b"".join(token + separator for token, separator in parts) + b" endobj\n"
    ours = parse_direct(data, 0, REFERENCE)
    if ours is None:
        return
    theirs = read_object(io.BytesIO(data.lstrip()), REFERENCE)
    assert description(ours) == description(theirs)


@pytest.mark.parametrize(
    "written",
    [b"<</A 1/B[2 0 R (x)<41>]/C/D/E 1.5/F true/G null>>", b"[/A]", b"(x)", b"7 ", b"<</Length 3>>\nstream\nabc\nendstream"],
)
def test_plain_objects_are_understood(written: bytes) -> None:
    found = parse_indirect(b"7 0 obj\n%b\nendobj\n" % written, REFERENCE.pdf)
    assert found is not None
    assert found[0] == REFERENCE
    assert description(found[1]) == description(read_object(io.BytesIO(written + b"\n"), REFERENCE))


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"<</A",
        b"<</A 1>> x",
        b"<</Length 4>>\nstream\nabc\nendstream",
        b"<</Length 1 0 R>>\nstream\nabc\nendstream",
        b"<</Length -3>>\nstream\nabc\nendstream",
        b"[" * 100 + b"]" * 100,
        b"% c\n<<>>",
        b"[(a\\)]",
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_pyhanko(written: bytes) -> None:
    assert parse_indirect(b"7 0 obj\n%b\nendobj\n" % written, REFERENCE.pdf) is None
