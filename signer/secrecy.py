"""Secrecy marks (MẬT, TỐI MẬT, TUYỆT MẬT) told from the words bí mật and bảo mật. Pure: text in, marks out.

A mark is a line or box of its own (Nghị định 26/2020/NĐ-CP, article 2; Thông tư 24/2020/TT-BCA), in capitals, maybe with something
behind a dash, in brackets, or with the copy's number ("Bản số"); or what a label such as "Độ mật:" says. It is read in any Unicode
form, with blanks between its letters, in look-alike letters of other alphabets, and in the two font encodings of before Unicode
(TCVN3 and VNI), whose text extraction gives other letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from core.errors import Rejected

_MARKS: Final = {"TUYỆTMẬT": "TUYỆT MẬT", "TỐIMẬT": "TỐI MẬT", "MẬT": "MẬT"}
_LEGACY: Final = {
    "TUYÖTMËT": "TUYỆT MẬT",
    "TÈIMËT": "TỐI MẬT",
    "MËT": "MẬT",
    "TUYEÄTMAÄT": "TUYỆT MẬT",
    "TOÁIMAÄT": "TỐI MẬT",
    "MAÄT": "MẬT",
}
"""TCVN3, whose fonts of capitals use the codes of small letters, and VNI; compared in capitals."""
_LOOKALIKES: Final = str.maketrans("МТАІЕОУΜΤΑΙΕΟΥ", "MTAIEOYMTAIEOY")
_LABEL: Final = re.compile(r"(?:(?:MỨC|DẤUCHỈ)?ĐỘ|DẤU)MẬT[:;.\-–]?(TUYỆTMẬT|TỐIMẬT|MẬT)")
"""Without blanks: text read from a page has none."""
_APART: Final = re.compile(r"[-–—()\[\]{}|;:]|(?=BẢN SỐ|BẢNSỐ)", re.IGNORECASE)
"""What parts a mark from words that explain it; not the comma, by which headings list the degrees."""
_COPY: Final = re.compile(r"\W*(?:BẢN ?SỐ)?\W*\d*\W*")
"""The copy's number, which may come first."""
_BETWEEN: Final = re.compile(r"[\s._·•*]+")
"""What letters are spaced with."""
_LEADS_ON: Final = ("BẢO", "BÍ", "CƠ", "KÍN", "THÂN", "ĐỘ")
"""What the line above ends with where the heading only goes on: bảo/mật, bí/mật, cơ/mật."""
_OPEN: Final = frozenset({"", "KHÔNG", "THƯỜNG", "NONE"})


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text with nothing beside it: a line, or a column's part of one."""

    text: str
    where: str
    """For people: ``page 3``, ``title``."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark found: ``text`` is one of MẬT, TỐI MẬT, TUYỆT MẬT."""

    text: str
    where: str


def find_marks(pieces: Iterable[Piece]) -> Iterator[Mark]:
    """The marks among pieces that come in reading order, each with its place once."""
    above, told = "", set()
    for piece in pieces:
        words = _clean(piece.text)
        whole = read_mark(words)
        first = next((part for part in _APART.split(words) if not _COPY.fullmatch(part.upper())), "")
        mark = whole or (read_mark(first) if first.isupper() else None)
        goes_on = above.endswith(_LEADS_ON) and mark == "MẬT"
        above = words.upper()
        if mark is not None and not goes_on and (mark, piece.where) not in told:
            told.add((mark, piece.where))
            yield Mark(mark, piece.where)


def find_marks_in_metadata(name: str, value: str) -> Iterator[Mark]:
    """The marks in a title or another entry of the document's information, where it stands between punctuation."""
    parts = re.split(r"[\[\](){}|;,:/\n\r–—]|\s-\s", value)
    yield from find_marks(Piece(part, name) for part in parts)


def read_mark(text: str) -> str | None:
    """The mark that this text is, whole; None for anything else."""
    words = _clean(text)
    label = _LABEL.fullmatch(words.upper().replace(" ", ""))
    if label is not None:
        return _MARKS[label[1]]
    bare = re.sub(r"^[^\w]+|[^\w]+$", "", words)
    joined = _BETWEEN.sub("", bare)
    legacy = _LEGACY.get(joined.upper())
    if legacy is not None:
        return legacy
    return _MARKS.get(joined.upper()) if joined[:1].isupper() else None  # "mật" is the end of a sentence that was wrapped


def parse_secrecy(value: str | None) -> str | None:
    """What a caller states: a mark, or None for an open document; raises Rejected for anything else."""
    if value is None or _clean(value).upper() in _OPEN:
        return None
    mark = read_mark(_clean(value).upper())
    if mark is None:
        raise Rejected("secrecy", f"{value[:40]!r} is none of MẬT, TỐI MẬT, TUYỆT MẬT; leave it out for an open document")
    return mark


def _clean(text: str) -> str:
    """One Unicode form, no invisible characters, letters of the Latin alphabet, single blanks."""
    visible = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Cc") or char.isspace())
    return " ".join(unicodedata.normalize("NFKC", visible).translate(_LOOKALIKES).split())
