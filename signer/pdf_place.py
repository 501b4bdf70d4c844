"""Where a signature stands on its page.

Callers mean the page as it is shown: turned by /Rotate, cut to its crop box, the origin at its lower left corner, in points of
1/72 inch whatever its /UserUnit. The file means the page as it was made. This is the only place that knows both.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, FloatObject, NumberObject, pdf_name

from core.errors import Malformed, Rejected
from signer.pdf_update import entry, inherited

Box = tuple[float, float, float, float]

_WIDTH, _HEIGHT, _EDGE = 200.0, 60.0, 20.0
_PRINT, _LOCKED = 4, 128
_LEAST_UNIT, _MOST_UNIT = 0.01, 75_000
"""Beyond these /UserUnit says nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A signature field on a page."""

    widget: DictionaryObject
    """The field dictionary."""
    annotation: DictionaryObject
    """What is drawn on the page: the field itself, or its only kid."""
    box: Box | None
    """In the file's own coordinates; None when nothing is to be drawn."""
    rotation: int
    unit: float = 1.0
    """Points to a unit of the file's coordinates."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height as shown, in points."""
        x0, y0, x1, y1 = self.box or (0, 0, 0, 0)
        width, height = (x1 - x0) * self.unit, (y1 - y0) * self.unit
        return (width, height) if self.rotation % 180 == 0 else (height, width)


@dataclass(frozen=True, slots=True)
class View:
    """A page as it is shown: how it is turned and which part of it is seen."""

    frame: Box
    rotation: int
    unit: float = 1.0
    """Points to a unit of the file's coordinates (/UserUnit)."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height as shown, in points."""
        width, height = (self.frame[2] - self.frame[0]) * self.unit, (self.frame[3] - self.frame[1]) * self.unit
        return (width, height) if self.rotation % 180 == 0 else (height, width)

    def to_file(self, box: Box) -> Box:
        """A rectangle as shown, in the file's coordinates."""
        return _span(self._to_file(box[0], box[1]), self._to_file(box[2], box[3]))

    def to_shown(self, box: Box) -> Box:
        """A rectangle of the file, as shown."""
        return _span(self.point_shown(box[0], box[1]), self.point_shown(box[2], box[3]))

    def point_shown(self, x: float, y: float) -> tuple[float, float]:
        """A point of the file, as shown."""
        x, y = x - self.frame[0], y - self.frame[1]
        width, height = self.frame[2] - self.frame[0], self.frame[3] - self.frame[1]
        u, v = {0: (x, y), 90: (y, width - x), 180: (width - x, height - y), 270: (height - y, x)}[self.rotation]
        return u * self.unit, v * self.unit

    def _to_file(self, u: float, v: float) -> tuple[float, float]:
        u, v = u / self.unit, v / self.unit
        width, height = self.frame[2] - self.frame[0], self.frame[3] - self.frame[1]
        x, y = {0: (u, v), 90: (width - v, u), 180: (width - u, height - v), 270: (v, height - u)}[self.rotation]
        return self.frame[0] + x, self.frame[1] + y


def view_of(page: DictionaryObject) -> View:
    """How ``page`` is shown; raises Malformed for one without a size."""
    return View(_frame(page), _rotation(page), _unit(page))


def new_place(page: DictionaryObject, box: Box | None, *, visible: bool) -> Place:
    """A widget for ``page``, at ``box`` (as shown; None: the top right corner) or of no extent when it is not ``visible``.

    Raises Rejected("rectangle", …) when the box does not lie on the page.
    """
    rotation, unit, own = 0, 1.0, None
    if visible:
        view = view_of(page)
        rotation, unit, (width, height) = view.rotation, view.unit, view.size
        if box is None:
            wide, high = min(_WIDTH, width), min(_HEIGHT, height)
            right, top = max(width - _EDGE, wide), max(height - _EDGE, high)
            box = (right - wide, top - high, right, top)
        if min(box) < 0 or box[2] > width + 0.01 or box[3] > height + 0.01:
            raise Rejected("rectangle", f"it leaves the page, which is {width:g} x {height:g} points as shown")
        own = view.to_file(box)
    widget = DictionaryObject(
        {
            pdf_name("/FT"): pdf_name("/Sig"),
            pdf_name("/Type"): pdf_name("/Annot"),
            pdf_name("/Subtype"): pdf_name("/Widget"),
            pdf_name("/F"): NumberObject(_PRINT | _LOCKED),
            pdf_name("/Rect"): ArrayObject([FloatObject(round(value, 4)) for value in own or (0, 0, 0, 0)]),
        }
    )
    return Place(widget, widget, own, rotation, unit)


def place_of_field(field: DictionaryObject, page: DictionaryObject | None = None) -> Place:
    """Where a field that stands in the document is drawn; ``page``: the one it is on, by default the one it names.

    Upright on the page as it is shown, or turned as the field's author wants it (/MK /R: ISO 32000-1, table 189).
    """
    kids = entry(field, "/Kids")
    annotation = kids[0] if isinstance(kids, ArrayObject) and len(kids) == 1 else field
    box = parse_box(entry(annotation, "/Rect"))
    if box is None or box[0] == box[2] or box[1] == box[3]:
        return Place(field, annotation, None, 0)
    page = page or entry(annotation, "/P")
    rotation, unit = (_rotation(page), _unit(page)) if isinstance(page, DictionaryObject) else (0, 1.0)
    wished = entry(entry(annotation, "/MK"), "/R")
    if isinstance(wished, int) and wished % 90 == 0:
        rotation = int(wished) % 360
    return Place(field, annotation, box, rotation, unit)


def _rotation(page: DictionaryObject) -> int:
    value = inherited(page, "/Rotate")
    return int(value) % 360 if isinstance(value, (int, Decimal)) and value % 90 == 0 else 0


def _unit(page: DictionaryObject) -> float:
    """Points to a unit of the page's coordinates (ISO 32000-1, table 30; it is not inherited)."""
    value = entry(page, "/UserUnit")
    return float(value) if isinstance(value, (int, Decimal)) and _LEAST_UNIT <= value <= _MOST_UNIT else 1.0


def _frame(page: DictionaryObject) -> Box:
    """The part of the page that is shown: crop box within media box (ISO 32000-1, 14.11.2)."""
    media = parse_box(inherited(page, "/MediaBox"))
    if media is None or media[0] >= media[2] or media[1] >= media[3]:
        raise Malformed("document", "the page has no size (no valid /MediaBox)")
    crop = parse_box(inherited(page, "/CropBox")) or media
    common = max(media[0], crop[0]), max(media[1], crop[1]), min(media[2], crop[2]), min(media[3], crop[3])
    return common if common[0] < common[2] and common[1] < common[3] else media


def _span(one: tuple[float, float], other: tuple[float, float]) -> Box:
    (xa, ya), (xb, yb) = one, other
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def parse_box(value: object) -> Box | None:
    """A rectangle of the file (ISO 32000-1, 7.9.5), its lower left corner first; None where it is none."""
    if not isinstance(value, ArrayObject) or len(value) != 4:
        return None
    numbers = [item.get_object() for item in value]
    if not all(isinstance(number, (int, Decimal)) for number in numbers):
        return None
    xa, ya, xb, yb = map(float, numbers)
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)
