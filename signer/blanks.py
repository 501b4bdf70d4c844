"""Number and date in the blanks that were left for them: “Số: …/UBND-VP” and “…, ngày … tháng … năm …” (cells 3 and 4).

What is printed there already is not written again; what contradicts it is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

from core.errors import Rejected
from signer.numbers import ALIKE
from signer.page_text import Glyph, PageText, Span
from signer.stamps import Box, TextRun, text_width

_NUMBER_WINDOW: Final = (0.0, 0.04, 0.55, 0.40)
_DATE_WINDOW: Final = (0.35, 0.04, 1.0, 0.40)
_GAP: Final = 2.0
_OPEN_END: Final = 110.0
"""In points: how much is taken for a blank that nothing ends."""
_COLUMN: Final = 60.0
"""In points: what stands further right belongs to another column."""
_SMALLEST: Final = 8.0
_IN_SYMBOL: Final = 20.0
"""In points: what is further apart behind the slash is no longer the symbol."""
_FILLERS: Final = " .…_·-"


@dataclass(frozen=True, slots=True)
class Writing:
    """What is still to be written on page 1: pieces of text in their places, as the page is shown."""

    runs: tuple[TextRun, ...]
    box: Box


@dataclass(frozen=True, slots=True)
class _Blank:
    """Room on a line: from x0 to x1, on the base line y."""

    x0: float
    x1: float
    y: float


def write_number(text: PageText, number: str, *, font: Path, size: float) -> Writing | None:
    """The number in the blank behind “Số:”; no runs when it is printed there, None when no blank it fits into is found.

    Raises Rejected("number", …) when another one is printed there, or another symbol behind the blank.
    """
    for label in text.find("Số"):
        run = text.run_of(label)
        if label.first != run.first or not text.within(label, _NUMBER_WINDOW):
            continue
        line = [glyph for glyph in _column(label, text.right_of(label)) if glyph.box[0] < text.size[0] * _NUMBER_WINDOW[2]]
        if line and line[0].text == ":":
            return _number_behind(line[0], line[1:], number, font=font, size=size)
    return None


def write_date(text: PageText, day: date, *, font: Path, size: float) -> Writing | None:
    """Day, month and year in their blanks; no runs when all are printed, None when no “ngày … tháng … năm” they fit into is found.

    Raises Rejected("issued_on", …) when another date is printed there.
    """
    for label in text.find("ngày"):
        if not text.within(label, _DATE_WINDOW):
            continue
        line = PageText(text.number, text.size, text.right_of(label))
        month, year = line.find("tháng"), line.find("năm")
        if month and year and month[0].last < year[0].first:
            return _date_behind(label, month[0], year[0], line, day, font=font, size=size)
    return None


def two_digits(number: int, *, below: int = 10) -> str:
    """How days below 10 and months below 3 are written in documents (Nghị định 30/2020/NĐ-CP, Phụ lục I): with a nought."""
    return f"{number:02}" if number < below else str(number)


def _number_behind(colon: Glyph, line: list[Glyph], number: str, *, font: Path, size: float) -> Writing | None:
    given = _plain(number)
    printed = _plain("".join(glyph.text for glyph in line)).strip(_FILLERS)
    digits, slash, symbol = printed.partition("/")
    digits = digits.strip(_FILLERS)
    if digits:
        if given.lstrip("0") not in {printed.lstrip("0"), digits.lstrip("0")}:  # printed before it was 07 to the register
            raise Rejected(
                "number",
                f"the document has a number already, {printed}, and it is not {given}: give that one, or correct the document",
            )
        return Writing((), colon.box)
    if slash and "/" in given and given.partition("/")[2] != symbol:
        raise Rejected(
            "number", f"the document's symbol is printed as /{symbol}, and the number given is {given}: one of them is wrong"
        )
    end = next((glyph.box[0] for glyph in line if glyph.text == "/"), None)
    written = given.partition("/")[0] if slash else given
    blank = _Blank(colon.box[2] + _GAP, colon.box[2] + _OPEN_END if end is None else end, colon.base)
    run = _fit(blank, written, font=font, size=size, centred=end is not None)
    return None if run is None else _writing([run], font)


def _date_behind(label: Span, month: Span, year: Span, line: PageText, day: date, *, font: Path, size: float) -> Writing | None:
    before, middle = line.glyphs[: month.first], line.glyphs[month.last + 1 : year.first]
    behind = _column(year, line.glyphs[year.last + 1 :])
    end = next((glyph.box[0] for glyph in behind if glyph.text not in _FILLERS and not glyph.text.isdigit()), year.box[2] + 40)
    parts = (
        (before, two_digits(day.day), _Blank(label.box[2], month.box[0], label.base)),
        (middle, two_digits(day.month, below=3), _Blank(month.box[2], year.box[0], label.base)),
        (behind, str(day.year), of_year := _Blank(year.box[2] + _GAP, end, label.base)),
    )
    runs = []
    for glyphs, written, blank in parts:
        digits = [glyph for glyph in glyphs if glyph.text.isdigit()]
        printed = "".join(glyph.text for glyph in digits)
        if printed and printed.lstrip("0") == written.lstrip("0"):  # as text: ² is a digit, and no number
            continue
        if printed and not (blank is of_year and written.startswith(printed)):  # năm 20... goes on
            raise Rejected("issued_on", f"the document has {printed[:20]} printed where {written} would go: give the date it has")
        room = replace(blank, x0=digits[-1].box[2]) if digits else blank
        run = _fit(room, written[len(printed) :], font=font, size=size, centred=blank is not of_year)
        if run is None:
            return None
        runs.append(run)
    return _writing(runs, font) if runs else Writing((), label.box)


def _fit(blank: _Blank, text: str, *, font: Path, size: float, centred: bool) -> TextRun | None:
    """The text in the blank, in smaller print where it must be; None where it does not fit."""
    room = blank.x1 - blank.x0
    while (width := text_width(text, font, size)) > room and size > _SMALLEST:
        size -= 0.5
    if width > room:
        return None
    return TextRun(text, blank.x0 + ((room - width) / 2 if centred else 0), blank.y, font, size)


def _writing(runs: list[TextRun], font: Path) -> Writing:
    right = max(run.x + text_width(run.text, font, run.size) for run in runs)
    size, base = max(run.size for run in runs), runs[0].y
    return Writing(tuple(runs), (min(run.x for run in runs), base - 0.3 * size, right, base + size))


def _column(label: Span, glyphs: Sequence[Glyph]) -> list[Glyph]:
    """Those glyphs that follow ``label`` without a jump to another column."""
    return list(_until_gap(label.box[2], glyphs))


def _until_gap(edge: float, glyphs: Sequence[Glyph]) -> Iterator[Glyph]:
    """A blank may be wide before what ends it; what is more than a column's gap away otherwise is another column."""
    allowed, slash = _OPEN_END, False
    for glyph in glyphs:
        wide = glyph.text == "/" or glyph.text in _FILLERS
        if glyph.box[0] - edge > (allowed if wide else min(allowed, _COLUMN)):
            return
        slash = slash or glyph.text == "/"
        allowed = _IN_SYMBOL if slash else _OPEN_END if glyph.text == ":" else _COLUMN
        edge = glyph.box[2]
        yield glyph


def _plain(text: str) -> str:
    """In composed form without spaces, to compare numbers by."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFC", text)).translate(ALIKE)
