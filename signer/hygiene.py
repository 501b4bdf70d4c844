"""What is in a PDF that could change its looks after it is signed, and whether it bears a secrecy mark: a report, never an error.

Every object the file lists is looked at once, within a bound of objects, depth and time; what was not seen is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from core.content import Content
from core.errors import Malformed
from core.settings import HygieneConfig
from signer.hygiene_findings import Finding, Group, build_finding
from signer.hygiene_walk import Walk, annotation_texts, walk
from signer.page_text import PageText, Span, read_text
from signer.pdf_place import View, view_of
from signer.pdf_update import reading
from signer.secrecy import Mark, Piece, find_marks, find_marks_in_metadata
from signer.shadows import find_shadows
from signer.stamps import Box

TextSeen = Literal["read", "none", "unreadable"]
_MOST_PAGES: Final = 200
_A4: Final = View((0.0, 0.0, 595.0, 842.0), 0)
_SPREAD: Final = 2.5
"""How far apart letters of one word are at most, in widths or heights of the larger."""
_TOP: Final = 0.55
"""The part of a page, from its top, in which a secrecy mark stands."""


@dataclass(frozen=True, slots=True)
class HygieneReport:
    """What a look at a document gave."""

    findings: tuple[Finding, ...]
    secrecy: tuple[Mark, ...]
    text_seen: TextSeen
    """``none``: its pages hold no text (a scan), so that nobody can tell a secrecy mark; ``unreadable``: they cannot be read."""
    complete: bool
    """False: it has more objects or pages than were looked at."""
    pages: int

    def refused(self, config: HygieneConfig) -> list[Finding]:
        """The findings that stand against an official signature under this policy."""
        groups: set[Group] = {group for group in Group if getattr(config, group.value) == "refuse"}
        return [finding for finding in self.findings if finding.group in groups and finding.severity != "info"]


def scan(document: Content, *, password: str | None = None) -> HygieneReport:
    """The report on a PDF. Raises Malformed for what is no readable PDF, Rejected(``password``) where it is locked."""
    seen = walk(document, password)
    texts = _read_text(document, password, seen)
    marks = tuple(dict.fromkeys(_find_secrecy(texts, seen)))
    findings = list(dict.fromkeys([*seen.findings, *find_shadows(document, seen, texts)]))
    read = len(texts) >= len(seen.pages)
    findings += [] if seen.complete else [build_finding("NOT_ALL_SEEN")]
    findings += [] if read else [build_finding("NOT_ALL_READ" if texts else "TEXT_UNREADABLE")]
    return HygieneReport(
        findings=tuple(findings),
        secrecy=marks,
        text_seen=_text_seen(texts),
        complete=seen.complete and read,
        pages=len(seen.pages),
    )


def _read_text(document: Content, password: str | None, seen: Walk) -> list[PageText]:
    def view(number: int) -> View:
        try:
            with reading():
                return view_of(seen.pages[number - 1])
        except (Malformed, IndexError):
            return _A4  # PDFium reads a page tree that we do not: the page's own size is not known

    return list(read_text(document, password, view, first=1, last=0, most=_MOST_PAGES, unseen=True))


def _text_seen(texts: list[PageText]) -> TextSeen:
    if not texts:
        return "unreadable"
    return "read" if any(page.glyphs for page in texts) else "none"


def _find_secrecy(texts: list[PageText], seen: Walk) -> Iterator[Mark]:
    yield from find_marks(_top_pieces(texts))
    for number, page in enumerate(seen.pages[:_MOST_PAGES], start=1):
        lines: list[str] = []
        with seen.looking():
            lines += [line for text in annotation_texts(page) for line in text.splitlines()]
        yield from find_marks(Piece(line, f"trang/page {number}") for line in lines)
    for name, value in seen.metadata:
        yield from find_marks_in_metadata(name, value)


def _top_pieces(texts: list[PageText]) -> Iterator[Piece]:
    """What stands in the upper part of each page, and everything on the first, its annotations among it."""
    for page in (text.annotated or text for text in texts):
        for text, bottom in _pieces(page):
            if page.number == 1 or bottom >= page.size[1] * (1 - _TOP):
                yield Piece(text, f"trang/page {page.number}")


def _pieces(page: PageText) -> Iterator[tuple[str, float]]:
    """Each piece of text and its lower edge; then letters that stand apart and yet near one another: spaced out, or aslant."""
    yield from ((run.text, run.box[1]) for run in page.runs)
    word: list[Span] = []
    for run in [*page.runs, None]:
        lone = run is not None and len(run.text) == 1 and run.text.isalpha()
        if len(word) > 1 and not (lone and run is not None and _are_near(word[-1].box, run.box)):
            yield "".join(letter.text for letter in word), word[0].box[1]
        if run is None or not lone:
            word = []
        elif word and _are_near(word[-1].box, run.box):
            word.append(run)
        else:
            word = [run]


def _are_near(one: Box, other: Box) -> bool:
    apart = math.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2
    return apart <= _SPREAD * max(one[2] - one[0], one[3] - one[1], other[2] - other[0], other[3] - other[1])
