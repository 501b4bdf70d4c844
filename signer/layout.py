"""A document as somebody who puts a signature on it sees it: its pages, what is printed on them, where it is signed already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject

from signer.page_text import PageText, read_text
from signer.pdf_place import View, place_of_field, view_of
from signer.pdf_update import Update, entry, find_page, pages, signature_fields
from signer.stamps import Box

_PAGES_SEARCHED: Final = 40
_DRAWN: Final = 10.0
"""In points: a field smaller than this is not seen."""


@dataclass(frozen=True, slots=True)
class SignedField:
    """A signature that shows on a page: the field's name, and where it is drawn, as the page is shown."""

    name: str
    page: int
    box: Box


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
            page = place.annotation.raw_get("/P") if "/P" in place.annotation else None
            if not isinstance(value, DictionaryObject) or place.box is None or not isinstance(page, IndirectObject):
                continue
            number = self._numbers.get((page.idnum, page.generation))
            box = None if number is None else self.view(number).to_shown(place.box)
            if number is not None and box is not None and min(box[2] - box[0], box[3] - box[1]) >= _DRAWN:
                found.append((_signed_up_to(value), SignedField(name, number, box)))
        return [field for _, field in sorted(found, key=lambda item: item[0])]

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
