"""Numbers and symbols of documents (số và ký hiệu), as data. No effects here.

Nghị định 30/2020/NĐ-CP, article 15: numbers run from 01 on 1 January to 31 December; each kind of legal document and secret
documents have series of their own. Symbols of kinds: its Phụ lục III.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Final

from core.errors import Rejected

_ADMINISTRATIVE: Final = (
    *("NQ", "QĐ", "CT", "QC", "QyĐ", "TC", "TB", "HD", "CTr", "KH", "PA", "ĐA", "DA", "BC", "BB", "TTr", "HĐ"),
    *("CĐ", "BGN", "BTT", "GUQ", "GM", "GGT", "GNP", "PG", "PC", "PB", "SY", "SL", "TrS"),
)
_LEGAL: Final = ("L", "PL", "LCT", "NQ", "NĐ", "QĐ", "TT", "TTLT", "CT")
KINDS: Final = frozenset(_ADMINISTRATIVE + _LEGAL)
"""Symbols a kind of document is written with. A symbol that begins with none of them is an official letter's."""
LETTER: Final = "CV"
"""The kind of an official letter (công văn), whose symbol names the agency and the unit only."""
ALIKE: Final = str.maketrans({"Ð": "Đ", "ð": "đ"} | dict.fromkeys("\u00ad\u2010\u2011\u2012\u2013\u2212", "-"))
"""Letters and hyphens that look the same, as fonts, keyboards and word processors exchange them."""
_WRITTEN: Final = re.compile(r"(\d{1,6})/(?:((?:19|20)\d\d)/)?([^\W\d_][\w.&/-]{0,59})")
_SYMBOL: Final = re.compile(r"[^\W\d_][\w.&/-]{0,59}")


@dataclass(frozen=True, slots=True)
class Number:
    """``12/QĐ-UBND``, or with the year a legal document has in it, ``12/2026/QĐ-UBND``."""

    number: int
    symbol: str
    """In Unicode NFC."""
    year: int | None = None

    @property
    def legal(self) -> bool:
        """A legal document (văn bản quy phạm pháp luật): the year stands in its number."""
        return self.year is not None

    @property
    def text(self) -> str:
        """As it is written: below 10 with a zero in front."""
        year = "" if self.year is None else f"{self.year}/"
        return f"{self.number:02d}/{year}{self.symbol}"

    @property
    def kind(self) -> str:
        """The kind of document its symbol tells."""
        return kind_of(self.symbol)


def kind_of(symbol: str) -> str:
    """``QĐ`` of ``QĐ-UBND``; CV for a symbol that names no kind."""
    first = re.split(r"[-/]", symbol, maxsplit=1)[0]
    return first if first in KINDS else LETTER


def parse_number(text: str) -> Number:
    """What somebody wrote, in any Unicode form; raises Rejected for what is no number with a symbol."""
    found = _WRITTEN.fullmatch(_plain(text))
    if found is None or int(found[1]) == 0 or not _is_latin(found[3]):
        raise Rejected("number", f"{text[:80]!r} is no number with its symbol: write it like 12/QĐ-UBND, or 12/2026/QĐ-UBND")
    return Number(int(found[1]), found[3], None if found[2] is None else int(found[2]))


def parse_symbol(text: str) -> str:
    """A symbol alone (``QĐ-UBND``), in NFC; raises Rejected."""
    symbol = _plain(text)
    if not _SYMBOL.fullmatch(symbol) or not _is_latin(symbol):
        raise Rejected("symbol", "must begin with a letter and have at most 60 Latin letters, digits and - / . & without blanks")
    return symbol


def _plain(text: str) -> str:
    """In NFC, with one letter for those that look the same: a number that looks used is used."""
    return unicodedata.normalize("NFC", text).strip().translate(ALIKE)


def _is_latin(symbol: str) -> bool:
    return all(unicodedata.name(char, "").startswith("LATIN ") for char in symbol if char.isalpha())


def series_of(number: Number, *, one_series: bool, secret: bool = False) -> str:
    """The series the number is counted in: each kind of legal document has one, secret documents have theirs, and the
    administrative ones have one together where the agency decided so."""
    kind = number.kind
    administrative = "HC" if one_series else kind
    series = f"QPPL:{kind}" if number.legal else administrative
    return f"M:{series}" if secret else series


def check_year(number: Number, issued_on: date) -> None:
    """Raise Rejected when the year in the number is not that of the document's date."""
    if number.year is not None and number.year != issued_on.year:
        raise Rejected("number", f"{number.text} has the year {number.year} in it, and the document is of {issued_on.year}")
