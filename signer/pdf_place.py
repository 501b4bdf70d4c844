"""Where a signature stands on its page.

Callers mean the page as it is shown: turned by /Rotate, cut to its crop box, the origin at its lower left corner. The file
means the page as it was made. This is the only place that knows both.
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

    @property
    def size(self) -> tuple[float, float]:
        """Width and height as shown."""
        x0, y0, x1, y1 = self.box or (0, 0, 0, 0)
        return (x1 - x0, y1 - y0) if self.rotation % 180 == 0 else (y1 - y0, x1 - x0)


def new_place(page: DictionaryObject, box: Box | None, *, visible: bool) -> Place:
    """A widget for ``page``, at ``box`` (as shown; None: the top right corner) or of no extent when it is not ``visible``.

    Raises Rejected("rectangle", …) when the box does not lie on the page.
    """
    rotation, own = 0, None
    if visible:
        rotation, frame = _rotation(page), _frame(page)
        width, height = _shown_size(frame, rotation)
        if box is None:
            wide, high = min(_WIDTH, width), min(_HEIGHT, height)
            right, top = max(width - _EDGE, wide), max(height - _EDGE, high)
            box = (right - wide, top - high, right, top)
        if min(box) < 0 or box[2] > width + 0.01 or box[3] > height + 0.01:
            raise Rejected("rectangle", f"it leaves the page, which is {width:g} x {height:g} points as shown")
        own = _to_file(box, frame, rotation)
    widget = DictionaryObject(
        {
            pdf_name("/FT"): pdf_name("/Sig"),
            pdf_name("/Type"): pdf_name("/Annot"),
            pdf_name("/Subtype"): pdf_name("/Widget"),
            pdf_name("/F"): NumberObject(_PRINT | _LOCKED),
            pdf_name("/Rect"): ArrayObject([FloatObject(round(value, 4)) for value in own or (0, 0, 0, 0)]),
        }
    )
    return Place(widget, widget, own, rotation)


def place_of_field(field: DictionaryObject) -> Place:
    """Where a field that stands in the document is drawn."""
    kids = entry(field, "/Kids")
    annotation = kids[0] if isinstance(kids, ArrayObject) and len(kids) == 1 else field
    box = _parse_box(entry(annotation, "/Rect"))
    page = annotation.raw_get("/P").get_object() if "/P" in annotation else None
    if box is None or box[0] == box[2] or box[1] == box[3]:
        return Place(field, annotation, None, 0)
    return Place(field, annotation, box, _rotation(page) if isinstance(page, DictionaryObject) else 0)


def _rotation(page: DictionaryObject) -> int:
    value = inherited(page, "/Rotate")
    return int(value) % 360 if isinstance(value, (int, Decimal)) and value % 90 == 0 else 0


def _frame(page: DictionaryObject) -> Box:
    """The part of the page that is shown: crop box within media box (ISO 32000-1, 14.11.2)."""
    media = _parse_box(inherited(page, "/MediaBox"))
    if media is None or media[0] >= media[2] or media[1] >= media[3]:
        raise Malformed("document", "the page has no size (no valid /MediaBox)")
    crop = _parse_box(inherited(page, "/CropBox")) or media
    common = max(media[0], crop[0]), max(media[1], crop[1]), min(media[2], crop[2]), min(media[3], crop[3])
    return common if common[0] < common[2] and common[1] < common[3] else media


def _shown_size(frame: Box, rotation: int) -> tuple[float, float]:
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    return (width, height) if rotation % 180 == 0 else (height, width)


def _to_file(box: Box, frame: Box, rotation: int) -> Box:
    corners = [_point(box[0], box[1], frame, rotation), _point(box[2], box[3], frame, rotation)]
    (xa, ya), (xb, yb) = corners
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def _point(u: float, v: float, frame: Box, rotation: int) -> tuple[float, float]:
    """A point of the page as shown, in the file's coordinates; the page is shown turned clockwise by ``rotation``."""
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    x, y = {0: (u, v), 90: (width - v, u), 180: (width - u, height - v), 270: (v, height - u)}[rotation]
    return frame[0] + x, frame[1] + y


def _parse_box(value: object) -> Box | None:
    if not isinstance(value, ArrayObject) or len(value) != 4:
        return None
    numbers = [item.get_object() for item in value]
    if not all(isinstance(number, (int, Decimal)) for number in numbers):
        return None
    xa, ya, xb, yb = map(float, numbers)
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)
