"""CSV from anybody: what makes no table is refused, what makes no row takes no other with it."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Malformed, Rejected, TooLarge
from jobs import csv_rows
from jobs.csv_rows import parse_csv, write_csv


def _parse(data: bytes) -> list[csv_rows.CsvRow]:
    return parse_csv(data, required=("a", "b"), optional=("c",))


@pytest.mark.parametrize("data", [b"a,b\r\n1,2", b"\xef\xbb\xbfa,b\n1,2\n\n", b"A ; b\n1;2", b"b,a\n2,1"])
def test_a_table_is_read_with_bom_semicolons_and_columns_in_any_order(data: bytes) -> None:
    [row] = _parse(data)
    assert (row.fields, row.problem) == ({"a": "1", "b": "2"}, "")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", Malformed, "header"),
        (b"\n\n", Rejected, "fields"),
        (b"a,b", Malformed, "no row"),
        (b"a,b\n,\n;;", Malformed, "no row"),
        ("a,b\n1,2".encode("utf-16"), Malformed, "UTF-16"),
        (b"\xff\x00a,b\n1,2", Malformed, "header line"),
        (b'"a,b\n1,2', Malformed, "header line"),
        (b"a\n1", Rejected, "b is missing"),
        (b"a,b,d\n1,2,3", Rejected, "no column is called"),
        (b"a,b,a\n1,2,3", Rejected, "there twice"),
        (b"x" * 40_000 + b"\n1", Malformed, "header"),
    ],
)
def test_what_is_no_table_says_why(data: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _parse(data)


def test_a_bad_row_is_named_and_the_others_are_read() -> None:
    lines = [b"1,2", b'"open,2', b"1,2,3", b"\xe1\xbb,2", b"nul\x00,2", b"y" * 40_000 + b",2", "tên,2".encode(), b'"x,y",2']
    rows = _parse(b"a,b\n" + b"\n".join(lines))
    assert [row.number for row in rows] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert [bool(row.problem) for row in rows] == [False, True, True, True, True, True, False, False]
    assert rows[-1].fields == {"a": "x,y", "b": "2"}


def test_too_many_rows_or_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROWS", 3)
    with pytest.raises(TooLarge, match="4 rows"):
        _parse(b"a,b" + b"\n1,2" * 4)
    monkeypatch.setattr(csv_rows, "MAX_BYTES", 5)
    with pytest.raises(TooLarge, match="bytes"):
        _parse(b"a,b\n1,2")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_rows_or_a_typed_error(data: bytes, headed: bool) -> None:
    try:
        rows = _parse(b"a,b\n" + data if headed else data)
    except Rejected:
        return
    assert all(row.problem or set(row.fields) <= {"a", "b", "c"} for row in rows)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "=cmd|' /C calc'!A0"])
def test_a_formula_is_exported_as_text(text: str) -> None:
    [_, [cell]] = csv.reader(io.StringIO(write_csv(["x"], [[text]]).decode("utf-8-sig")))
    assert cell == f"'{text}"
