"""A document as somebody who puts a signature on it sees it: its pages, what is printed on them, where it is signed already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, Reference, StreamObject

from signer.page_text import PageText, read_text
from signer.pdf_place import Place, View, parse_box, place_of_field, view_of
from signer.pdf_update import Update, entry, find_page, pages, signature_fields, stream_data
from signer.stamps import Box

_PAGES_SEARCHED: Final = 40
_ROUNDING: Final = 0.5
_REAL: Final = rb"(-?\d{1,9}(?:\.\d{0,9})?)"
_PLACED: Final = re.compile(rb"(?<!\S)" + rb" 0 0 ".join([_REAL, b" ".join([_REAL] * 3)]) + rb" cm\s+/\w+ Do\b")
"""A picture upright, as signing programs write it: how wide and high it is, and where."""
_DRAWN: Final = 10.0
"""In points: a field smaller than this is not seen."""


@dataclass(frozen=True, slots=True)
class SignedField:
    """A signature that shows on a page: the field's name, and where it is drawn, as the page is shown."""

    name: str
    page: int
    box: Box
    place: Place


class Layout:
    """The pages of the document an update goes behind."""

    def __init__(self, update: Update, password: str | None) -> None:
        self._update = update
        self._password = password
        self._views: dict[int, View] = {}
        self._texts: dict[int, PageText] = {}

    def view(self, page: int) -> View:
        """How a page (from 1) is shown. Raises Rejected("page", …)."""
        if page not in self._views:
            self._views[page] = view_of(find_page(self._update, page).get_object())
        return self._views[page]

    @property
    def last_page(self) -> int:
        """The number of pages."""
        return len(self._numbers)

    def text(self, page: int) -> PageText:
        """What is printed on one page; empty when it cannot be read."""
        if page not in self._texts:
            found = list(self._read(page, page, 1))
            self._texts[page] = found[0] if found else PageText(page, self.view(page).size, ())
        return self._texts[page]

    def drawn(self, page: int) -> PageText:
        """The same with what can be seen on the page: pictures, rules, a scan."""
        found = list(self._read(page, page, 1, drawn=True))
        return found[0] if found else PageText(page, self.view(page).size, ())

    def texts_from_the_end(self) -> Iterator[PageText]:
        """What is printed on the last pages, the last first; at most 40 are read."""
        return self._read(0, 1, _PAGES_SEARCHED)

    @cached_property
    def signatures(self) -> list[SignedField]:
        """The signatures that show, in the order in which they were made."""
        found = []
        for name, _, field in signature_fields(self._update.root):
            value = entry(field, "/V")
            place = place_of_field(field)
            if not isinstance(value, DictionaryObject) or place.box is None:
                continue
            number = self._page_of(place.annotation)
            box = None if number is None else self.view(number).to_shown(place.box)
            if number is not None and box is not None and min(box[2] - box[0], box[3] - box[1]) >= _DRAWN:
                found.append((_signed_up_to(value), SignedField(name, number, box, place)))
        return [field for _, field in sorted(found, key=lambda item: item[0])]

    def picture_of(self, field: SignedField) -> Box:
        """Where in a signed field its pictures are, as the page is shown; all of it where that does not stand plainly in its
        appearance. A field that was in the document may be larger than what is drawn in its middle."""
        form, view = entry(entry(field.place.annotation, "/AP"), "/N"), self.view(field.page)
        x0, y0, x1, y1 = field.box
        frame = parse_box(entry(form, "/BBox"))
        if not isinstance(form, StreamObject) or frame is None or field.place.rotation != view.rotation:
            return field.box
        if max(abs(one - other) for one, other in zip(frame, (0, 0, x1 - x0, y1 - y0), strict=True)) > _ROUNDING:
            return field.box
        found = [tuple(map(float, numbers)) for numbers in _PLACED.findall(stream_data(form) or b"")]
        if not found or min(min(one[:2]) for one in found) <= 0:
            return field.box
        left, bottom = min(x for _, _, x, _ in found), min(y for _, _, _, y in found)
        right, top = max(x + wide for wide, _, x, _ in found), max(y + high for _, high, _, y in found)
        shown = max(x0, x0 + left), max(y0, y0 + bottom), min(x1, x0 + right), min(y1, y0 + top)
        return shown if shown[0] < shown[2] and shown[1] < shown[3] else field.box

    def _page_of(self, annotation: DictionaryObject) -> int | None:
        """The number of the page it names, or else of the one that lists it: /P is optional."""
        page = annotation.raw_get("/P") if "/P" in annotation else None
        if isinstance(page, IndirectObject):
            return self._numbers.get((page.idnum, page.generation))
        own = annotation.container_ref
        return self._listed.get((own.idnum, own.generation)) if isinstance(own, Reference) else None

    @cached_property
    def _listed(self) -> dict[tuple[int, int], int]:
        """On which page each annotation is."""
        found = {}
        for number, page in enumerate(pages(self._update), start=1):
            listed = entry(page.get_object(), "/Annots")
            for item in listed.iterate() if isinstance(listed, ArrayObject) else ():
                if isinstance(item, IndirectObject):
                    found[item.idnum, item.generation] = number
        return found

    @cached_property
    def _numbers(self) -> dict[tuple[int, int], int]:
        return {(page.idnum, page.generation): number for number, page in enumerate(pages(self._update), start=1)}

    def _read(self, first: int, last: int, most: int, *, drawn: bool = False) -> Iterator[PageText]:
        return read_text(self._update.document, self._password, self.view, first=first, last=last, most=most, drawn=drawn)


def _signed_up_to(signature: DictionaryObject) -> int:
    numbers = entry(signature, "/ByteRange")
    if not isinstance(numbers, ArrayObject) or len(numbers) != 4 or not all(isinstance(number, int) for number in numbers):
        return 0
    return int(numbers[2]) + int(numbers[3])
