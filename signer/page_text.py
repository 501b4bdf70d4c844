"""What stands printed on a page, and where: names, blanks and margins are found by it.

Text is compared without regard to Unicode form, case or spaces, so that a name is found whether its letters are composed (NFC),
decomposed (NFD) or something between, as PDFs made in Vietnam have them. Where a font lies about its letters (TCVN3, VNI) nothing
is found, and the caller is asked for a rectangle.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import subprocess
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from core.content import Content
from core.errors import Rejected
from signer import glyph_reader
from signer.pdf_place import View
from signer.stamps import Box

SECONDS: Final = 20
"""How long reading may take by the clock; what was not found by then is not there."""
_LINE_BYTES: Final = 8_000_000
_FARTHEST: Final = 1e6
"""In points: nothing stands further from a page's origin (a number that is none is not nearer either)."""
_DARKER: Final = 40
"""By so much of a grey value (of 255) print is darker than the paper, its lightest part: thin letters are grey when drawn small."""
_SPECKS: Final = 0.004
"""Of a blank place that may be dark all the same: dust on a scan."""
_SAME_LINE: Final = 2.0
_WORD_GAP: Final = 1.2
"""In points: closer letters belong to one word."""
_COLUMN_GAP: Final = 14.0
"""In points: what is further apart on one line are two pieces of text."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Glyph:
    """One character and where it stands, as the page is shown; ``base`` is the y of its base line."""

    text: str
    box: Box
    base: float


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text on one line."""

    text: str
    box: Box
    base: float
    first: int
    """Number of its first glyph on the page."""
    last: int


@dataclass(frozen=True, slots=True)
class Ink:
    """A page drawn small, as it is shown: a grey value for each pixel, rows from the top."""

    width: int
    height: int
    grey: bytes


@dataclass(frozen=True, slots=True)
class Unseen:
    """How many letters and digits of a page's own text cannot be seen, though they are printed."""

    covered: int
    """Beneath something that was drawn later."""
    faint: int
    """In the colour of what they stand on."""


class PageText:
    """The text of one page, and how it looks where that was asked for."""

    def __init__(
        self,
        number: int,
        size: tuple[float, float],
        glyphs: Sequence[Glyph],
        *,
        ink: Ink | None = None,
        unseen: Unseen | None = None,
        annotated: PageText | None = None,
    ) -> None:
        """``annotated``: the same with what its annotations show, where they were looked at and may show text."""
        self.number = number
        self.size = size
        self.glyphs = glyphs
        self.unseen = unseen
        self.annotated = annotated
        self._ink = ink

    def is_blank(self, box: Box) -> bool:
        """Whether next to nothing is drawn in ``box``; always so where the page was not drawn."""
        if self._ink is None:
            return True
        across, down = self._ink.width / self.size[0], self._ink.height / self.size[1]
        left, right = max(int(box[0] * across), 0), min(math.ceil(box[2] * across), self._ink.width)
        top, bottom = max(int((self.size[1] - box[3]) * down), 0), min(math.ceil((self.size[1] - box[1]) * down), self._ink.height)
        sums = self._dark_before
        dark = sum(sums[row][right] - sums[row][left] for row in range(top, bottom))
        return dark <= _SPECKS * max(right - left, 0) * max(bottom - top, 0)

    @cached_property
    def _dark_before(self) -> list[list[int]]:
        """For each row how many dark pixels stand left of each column."""
        if self._ink is None:
            return []
        width, grey = self._ink.width, self._ink.grey
        dark = sorted(grey)[len(grey) * 9 // 10] - _DARKER
        rows = (grey[at : at + width] for at in range(0, len(grey), width))
        return [list(accumulate((value < dark for value in row), initial=0)) for row in rows]

    def find(self, wanted: str) -> list[Span]:
        """Every place where ``wanted`` stands in whole words on one line, in the file's order."""
        folded, sources = self._folded
        pattern = "".join(letter for letter, _ in _fold([wanted]))
        found, at = [], folded.find(pattern) if pattern else -1
        while at >= 0:
            first, last = sources[at], sources[at + len(pattern) - 1]
            if self._on_one_line(first, last) and not self._joined(first - 1, first) and not self._joined(last, last + 1):
                found.append(self._span(first, last))
            at = folded.find(pattern, at + 1)
        return found

    @cached_property
    def runs(self) -> list[Span]:
        """The pieces of text, each a line or the part of one that lies in a column."""
        found, start = [], 0
        for at in range(1, len(self.glyphs) + 1):
            if at == len(self.glyphs) or not self._continues(at - 1, at):
                found.append(self._span(start, at - 1))
                start = at
        return found

    def run_of(self, span: Span) -> Span:
        """The piece of text ``span`` lies in."""
        return next(run for run in self.runs if run.first <= span.first <= run.last)

    def right_of(self, span: Span) -> list[Glyph]:
        """What stands right of ``span`` on its line, from left to right."""
        return sorted(
            (glyph for glyph in self.glyphs if abs(glyph.base - span.base) <= _SAME_LINE and glyph.box[0] >= span.box[2] - 0.5),
            key=lambda glyph: glyph.box[0],
        )

    def within(self, span: Span, window: Box) -> bool:
        """Whether the middle of ``span`` lies in ``window``: x0, y0, x1, y1 as parts of the page, from its top left corner."""
        x = (span.box[0] + span.box[2]) / 2 / self.size[0]
        y = 1 - (span.box[1] + span.box[3]) / 2 / self.size[1]
        return window[0] <= x <= window[2] and window[1] <= y <= window[3]

    @cached_property
    def _folded(self) -> tuple[str, list[int]]:
        pairs = _fold([glyph.text for glyph in self.glyphs])
        return "".join(letter for letter, _ in pairs), [source for _, source in pairs]

    def _on_one_line(self, first: int, last: int) -> bool:
        bases = [glyph.base for glyph in self.glyphs[first : last + 1]]
        return max(bases) - min(bases) <= _SAME_LINE

    def _joined(self, one: int, other: int) -> bool:
        """Whether two neighbours are letters of one word."""
        if not 0 <= one < other < len(self.glyphs):
            return False
        left, right = self.glyphs[one], self.glyphs[other]
        return (
            (left.text + right.text).isalnum() and abs(left.base - right.base) <= _SAME_LINE and self._gap(one, other) < _WORD_GAP
        )

    def _continues(self, one: int, other: int) -> bool:
        same = abs(self.glyphs[one].base - self.glyphs[other].base) <= _SAME_LINE
        return same and -_COLUMN_GAP < self._gap(one, other) < _COLUMN_GAP

    def _gap(self, one: int, other: int) -> float:
        return self.glyphs[other].box[0] - self.glyphs[one].box[2]

    def _span(self, first: int, last: int) -> Span:
        glyphs = self.glyphs[first : last + 1]
        boxes = [glyph.box for glyph in glyphs]
        box = min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes)
        text = unicodedata.normalize("NFC", "".join(glyph.text for glyph in glyphs))
        return Span(text, box, glyphs[0].base, first, last)


def read_text(
    document: Content,
    password: str | None,
    view: Callable[[int], View],
    *,
    first: int,
    last: int,
    most: int,
    drawn: bool = False,
    unseen: bool = False,
) -> Iterator[PageText]:
    """The text of the pages from ``first`` to ``last`` (from 1; 0: the last one), one by one, at most ``most`` of them.

    ``drawn``: with what can be seen of them; ``unseen``: with what cannot, as far as there is time. ``view`` tells how a page is
    shown. What cannot be read, or not in time, is left out: whoever looks for something there does not find it. Close the
    iterator to stop the reading.
    """
    with tempfile.TemporaryFile() as file:
        for chunk in document.chunks():
            file.write(chunk)
        file.flush()
        for line in _run(file.fileno(), password or "", (first, last, most, int(drawn), int(unseen))):
            page = _parse(line, view)
            if page is not None:
                yield page


def _run(descriptor: int, password: str, wanted: tuple[int, int, int, int, int]) -> Iterator[bytes]:
    command = [sys.executable, "-I", str(Path(glyph_reader.__file__)), str(descriptor), *map(str, wanted)]
    process = subprocess.Popen(  # noqa: S603 - our own program; what comes from outside are numbers
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, pass_fds=(descriptor,)
    )
    clock = threading.Timer(SECONDS, process.kill)
    clock.start()
    try:
        assert process.stdin is not None  # noqa: S101 - for the type checker: both were asked for
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(password.encode())
        process.stdin.close()
        while line := process.stdout.readline(_LINE_BYTES):
            yield line
        if process.wait() != 0:
            _log.warning("pdf_text_unread", extra={"status": process.returncode})
    except BrokenPipeError:
        _log.warning("pdf_text_unread", extra={"status": process.wait()})
    finally:
        clock.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _parse(line: bytes, view: Callable[[int], View]) -> PageText | None:
    """The page in one line of the reader's answer, or None for what is none: the process may have been taken over."""
    try:
        answer = json.loads(line)
        number = int(answer["page"])
        shown = view(number)
        over = answer.get("over")
        annotated = None if over is None else PageText(number, shown.size, _parse_glyphs(over, shown))
        ink, unseen = _parse_ink(answer.get("ink")), _parse_unseen(answer)
        return PageText(number, shown.size, _parse_glyphs(answer, shown), ink=ink, unseen=unseen, annotated=annotated)
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
        Rejected,
    ):  # Rejected: the file has no such page for us
        return None


def _parse_glyphs(answer: Any, shown: View) -> list[Glyph]:
    text, places = str(answer["text"]), [float(value) for value in answer["places"]]
    if len(places) != 6 * len(text) or not all(abs(value) < _FARTHEST for value in places):
        raise ValueError("not as many places as letters, or none that can be")
    glyphs = []
    for at, char in enumerate(text):
        x0, y0, x1, y1, x, y = places[6 * at : 6 * at + 6]
        glyphs.append(Glyph(char, shown.to_shown((x0, y0, x1, y1)), shown.point_shown(x, y)[1]))
    return glyphs


def _parse_ink(answer: Any) -> Ink | None:
    if answer is None:
        return None
    width, height, grey = int(answer[0]), int(answer[1]), base64.b64decode(answer[2], validate=True)
    if width < 1 or height < 1 or width * height != len(grey):
        raise ValueError("not as many pixels as it says")
    return Ink(width, height, grey)


def _parse_unseen(answer: Any) -> Unseen | None:
    covered, faint = answer.get("covered"), answer.get("faint")
    return None if covered is None or faint is None else Unseen(len(covered), len(faint))


def _fold(pieces: Sequence[str]) -> list[tuple[str, int]]:
    """(letter, number of the piece it is from): decomposed in canonical order, small, without spaces and invisible signs."""
    letters: list[tuple[str, int]] = []
    for number, piece in enumerate(pieces):
        for letter in unicodedata.normalize("NFD", piece.casefold()):
            if letter.isspace() or unicodedata.category(letter) in {"Cf", "Cc"}:
                continue
            rank = unicodedata.combining(letter)
            at = len(letters)
            while rank and at and unicodedata.combining(letters[at - 1][0]) > rank:
                at -= 1
            letters.insert(at, ("đ" if letter == "ð" else letter, number))  # U+00F0 stands in for it in old documents
    return letters
