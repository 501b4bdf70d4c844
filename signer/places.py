"""Where a mark goes on the page: the rules of Phụ lục I, carried out by what stands there.

Every rule gives a page and a box as the page is shown, in points from its lower left corner, or None where it finds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from signer.layout import Layout, SignedField
from signer.looks import POINTS, CornerPlace, FreePlace, SignaturePlace, TextPlace
from signer.page_text import PageText, Span
from signer.stamps import Box

Size = tuple[float, float]
Spot = tuple[int, Box]

_NAME_WINDOW: Final = (0.45, 0.50, 0.97, 0.98)
"""Cell 7b, a little wider."""
_RANK_LETTERS: Final = 25
"""What may stand before the name on its line: a rank or a degree."""
_TITLE_WITHIN: Final = 200.0
"""In points above the name."""
_ROOM: Final = 25.0
"""In points: lines of a list, or rows of a table, are closer."""
_GAP: Final = 3.0
_CLEAR: Final = 5.0
"""In points: how far from print a free place is."""
_STEP: Final = 3 * POINTS
_LEADER: Final = "Person"
_NOT_LEADERS: Final = ("Initial", "Seal", "Number", "Date", "Appendix", "Copy", "Incoming", "Comment", "Portal", "Qr")
"""Fields of ours that are certainly not a leader's signature."""
_HEAD: Final = 0.25
"""Of the page's height from its top: no leader signs there."""


def at_name(layout: Layout, name: str, size: Size, page: int | None) -> Spot | None:
    """``NamePlace``: the middle between title and printed name, in the middle of the name and the rank before it.

    A name may stand in a list as well, or in an annex: where there is room to sign above it comes first, then where a leader
    signs, then the last page.
    """
    best: tuple[tuple[bool, bool], PageText, Span] | None = None
    for text in _texts(layout, page):
        for span in sorted((span for span in text.find(name) if _stands_alone(text, span)), key=lambda found: found.base):
            line = text.run_of(span)
            worth = _has_room(text, line), text.within(line, _NAME_WINDOW)
            if best is None or worth > best[0]:
                best = worth, text, line
        if best is not None and all(best[0]):
            break
    return None if best is None else _above_name(*best[1:], size)


def _above_name(text: PageText, name: Span, size: Size) -> Spot:
    width, height = size
    above = _title_above(text, name)
    top = name.box[3]
    middle = top + _GAP + height / 2 if above is None else (top + above.box[1]) / 2
    centre = (name.box[0] + name.box[2]) / 2
    box = centre - width / 2, middle - height / 2, centre + width / 2, middle + height / 2
    return text.number, _moved_inside(box, text.size)


def leader_of(layout: Layout, near: Spot | None = None) -> SignedField | None:
    """The leader's signature as it shows: the last one of ours, else the last that stands where a leader signs.

    ``near``: where a leader of that name signs; of several on that page the nearest is meant.
    """
    fields = layout.signatures
    leaders = [field for field in fields if field.name.startswith(_LEADER)]
    leaders = leaders or [field for field in fields if not field.name.startswith(_NOT_LEADERS) and not _in_head(layout, field)]
    if near is not None:
        here = [field for field in leaders if field.page == near[0]]
        leaders = sorted(here, key=lambda field: -_distance(field.box, near[1])) or leaders
    return leaders[-1] if leaders else None


def at_signature(rule: SignaturePlace, leader: Spot, size: Size) -> Spot:
    """``SignaturePlace``: over the left part of the leader's picture, the middles on one height."""
    page, (x0, y0, x1, y1) = leader
    right, middle = x0 + (x1 - x0) * rule.overlap, (y0 + y1) / 2
    return page, (right - size[0], middle - size[1] / 2, right, middle + size[1] / 2)


def at_text(layout: Layout, rule: TextPlace, size: Size, page: int | None) -> Spot | None:
    """``TextPlace``: right of the last such text, on its height."""
    texts = list(_texts(layout, page))
    for wanted in rule.find:
        for text in texts:
            spans = text.find(wanted)
            if spans:
                span = min(spans, key=lambda found: found.base)
                left, middle = span.box[2] + _GAP, (span.box[1] + span.box[3]) / 2
                box = left, middle - size[1] / 2, left + size[0], middle + size[1] / 2
                return text.number, _moved_inside(box, text.size)
    return None


def at_corner(layout: Layout, rule: CornerPlace, size: Size, page: int | None) -> Spot:
    """``CornerPlace``: moved on towards the page's middle while a signature stands there already."""
    number = page or (1 if rule.page == "first" else layout.last_page)
    width, height = layout.view(number).size
    x, y = rule.x * POINTS, rule.y * POINTS
    top, right = rule.corner.startswith("top"), rule.corner.endswith("right")
    left = width - x - size[0] if right else x
    bottom = height - y - size[1] if top else y
    taken = [field.box for field in layout.signatures if field.page == number]
    while (hit := first_hit((left, bottom, left + size[0], bottom + size[1]), taken)) is not None:
        bottom = hit[1] - _GAP - size[1] if top else hit[3] + _GAP
        taken.remove(hit)
    return number, (left, bottom, left + size[0], bottom + size[1])


def at_free(layout: Layout, rule: FreePlace, size: Size, page: int | None) -> Spot | None:
    """``FreePlace``: the place nearest to the window's top left corner where nothing is printed, drawn or signed."""
    text = layout.drawn(page or 1)
    width, height = text.size
    x0, y1 = rule.window[0] * width, (1 - rule.window[1]) * height
    across = int(((rule.window[2] - rule.window[0]) * width - size[0]) // _STEP)
    down = int(((rule.window[3] - rule.window[1]) * height - size[1]) // _STEP)
    taken = [run.box for run in text.runs] + [field.box for field in layout.signatures if field.page == text.number]
    tries = sorted(((i, j) for i in range(across + 1) for j in range(down + 1)), key=lambda step: step[0] ** 2 + step[1] ** 2)
    for i, j in tries:
        left, top = x0 + i * _STEP, y1 - j * _STEP
        box = left, top - size[1], left + size[0], top
        around = left - _CLEAR, top - size[1] - _CLEAR, left + size[0] + _CLEAR, top + _CLEAR
        if first_hit(box, taken, _CLEAR) is None and text.is_blank(around):
            return text.number, box
    return None


def in_rectangle(rectangle: Box, page: int | None, size: Size) -> Spot:
    """In the middle of a rectangle the caller gave, at its own size."""
    x, y = (rectangle[0] + rectangle[2]) / 2, (rectangle[1] + rectangle[3]) / 2
    return page or 1, (x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)


def _texts(layout: Layout, page: int | None) -> Iterable[PageText]:
    return layout.texts_from_the_end() if page is None else (layout.text(page),)


def _stands_alone(text: PageText, span: Span) -> bool:
    """Whether the name ends its piece of text, with no more than a rank before it: it is a signature's, not a sentence's."""
    run = text.run_of(span)
    return run.last == span.last and span.first - run.first <= _RANK_LETTERS


def _title_above(text: PageText, name: Span) -> Span | None:
    centre = (name.box[0] + name.box[2]) / 2
    above = [
        run for run in text.runs if run.box[0] <= centre <= run.box[2] and name.box[3] < run.box[1] < name.box[3] + _TITLE_WITHIN
    ]
    return min(above, key=lambda run: run.box[1], default=None)


def _has_room(text: PageText, name: Span) -> bool:
    """Whether somebody could sign above the name: nothing is printed there within a line or two."""
    x0, _, x1, top = name.box
    return not any(run.box[0] < x1 and x0 < run.box[2] and top - _GAP < run.box[1] < top + _ROOM for run in text.runs)


def _distance(one: Box, other: Box) -> float:
    """Between the middles of two boxes."""
    return math.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2


def _in_head(layout: Layout, field: SignedField) -> bool:
    return (field.box[1] + field.box[3]) / 2 > layout.view(field.page).size[1] * (1 - _HEAD)


def _moved_inside(box: Box, size: Size) -> Box:
    """The box moved as little as puts it on the page."""
    across = max(0.0, -box[0]) - max(0.0, box[2] - size[0])
    up = max(0.0, -box[1]) - max(0.0, box[3] - size[1])
    return box[0] + across, box[1] + up, box[2] + across, box[3] + up


def first_hit(box: Box, taken: Sequence[Box], gap: float = _GAP / 2) -> Box | None:
    """The first of ``taken`` that comes within ``gap`` of the box."""
    x0, y0, x1, y1 = box
    return next((one for one in taken if x1 + gap > one[0] and one[2] + gap > x0 and y1 + gap > one[1] and one[3] + gap > y0), None)
