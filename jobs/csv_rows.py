"""Rows from a CSV file that anybody may have written, and to one that a spreadsheet may open."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import Malformed, Rejected, TooLarge, Violation

MAX_BYTES: Final = 20_000_000
MAX_ROWS: Final = 50_000
"""Every row is checked before the answer: this many take some ten seconds."""
MAX_LINE: Final = 32_768
"""Bytes of one line: a request over an 8192-bit RSA key takes some 3,000 of them."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One line: ``number`` is the line's in the file (the header is 1). Either it could be read or ``problem`` says why not."""

    number: int
    fields: dict[str, str]
    problem: str = ""


def parse_csv(data: bytes, *, required: Sequence[str], optional: Sequence[str]) -> list[CsvRow]:
    """Every row of a CSV file in UTF-8 (with or without a BOM), parted by commas or semicolons, with a header line.

    A row is a line, so that one that cannot be read never takes others with it: it comes back with its ``problem``. Empty
    lines are left out. Raises Malformed, Rejected and TooLarge for what makes no table at all.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge("body", f"at most {MAX_BYTES} bytes: part the file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Malformed("body", "is in UTF-16: save it as `CSV UTF-8`")
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    if not lines or len(lines[0]) > MAX_LINE:
        raise Malformed("body", "has no header line: its first line names the columns")
    delimiter = ";" if lines[0].count(b";") > lines[0].count(b",") else ","
    columns = _parse_header(lines[0], delimiter, required, optional)
    filled = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip(b" \t,;")]
    if not filled:
        raise Malformed("body", "has a header line and no row")
    if len(filled) > MAX_ROWS:
        raise TooLarge("body", f"has {len(filled)} rows and at most {MAX_ROWS} are taken: part the file")
    return [_parse_line(number, line, delimiter, columns) for number, line in filled]


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV file in UTF-8 with a BOM; what a spreadsheet would take for a formula is written with an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_defused(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8-sig", "backslashreplace")


def _defused(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _parse_header(line: bytes, delimiter: str, required: Sequence[str], optional: Sequence[str]) -> list[str]:
    try:
        columns = [name.strip().lower() for name in next(csv.reader([line.decode()], delimiter=delimiter, strict=True))]
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise Malformed("body", "its header line is not readable as CSV in UTF-8") from error
    known = [*required, *optional]
    violations = [Violation("body", f"the column {name} is missing") for name in required if name not in columns]
    violations += [
        Violation("body", f"no column is called {name[:40]!r}: there are {', '.join(known)}")
        for name in columns
        if name not in known
    ]
    violations += [
        Violation("body", f"the column {name} is there twice") for name in sorted(set(columns)) if columns.count(name) > 1
    ]
    if violations:
        raise Rejected.all(violations[:20])
    return columns


def _parse_line(number: int, line: bytes, delimiter: str, columns: list[str]) -> CsvRow:
    if len(line) > MAX_LINE:
        return CsvRow(number, {}, f"has {len(line)} bytes: at most {MAX_LINE}")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return CsvRow(number, {}, "is not in UTF-8")
    if _CONTROL.search(text):
        return CsvRow(number, {}, "has a control character in it")
    try:
        values = next(csv.reader([text], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return CsvRow(number, {}, 'is no CSV: a field begins with " and does not end with it in the same line')
    if len(values) != len(columns):
        return CsvRow(number, {}, f"has {len(values)} fields and the header {len(columns)}")
    return CsvRow(number, {name: value.strip() for name, value in zip(columns, values, strict=True) if value.strip()})
