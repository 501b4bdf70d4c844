"""Putting drawings on pages: the appearances of signature fields, and nothing but them (docs/adr/0024)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyhanko.pdf_utils.generic import DictionaryObject, StreamObject, TextStringObject, pdf_name

from signer.pdf_place import Place, new_place
from signer.pdf_update import Update, add_signature_field, entry, find_page
from signer.stamps import Box, Drawing, build_appearance

_ARCHIVE_PART = re.compile(rb"pdfaid:part\s*(?:=\s*[\"']|>\s*)(\d)")
_METADATA_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Mark:
    """One drawing of a signature: where it stands, as the page is shown, and what it is."""

    page: int
    """Counted from 1."""
    box: Box
    drawing: Drawing
    name: str
    """What its field is called, a number behind it: ``Seal`` becomes ``Seal1``."""
    tooltip: str
    """What it is, for a reader who does not see it (/TU)."""


def place_marks(update: Update, marks: Sequence[Mark]) -> list[Place]:
    """A new signature field for each mark, drawn; they are to share one signature, so that they stand or fall together."""
    places = []
    for mark in marks:
        page = find_page(update, mark.page)
        place = new_place(page.get_object(), mark.box, visible=True)
        add_signature_field(update, page, place.widget, name=mark.name)
        place.widget["/TU"] = TextStringObject(mark.tooltip)
        draw(update, place, mark.drawing)
        places.append(place)
    return places


def draw(update: Update, place: Place, drawing: Drawing) -> None:
    """Make ``drawing`` what the place shows."""
    width, height = place.size
    transparency = _takes_transparency(update)
    form = build_appearance(drawing, update, width=width, height=height, rotation=place.rotation, transparency=transparency)
    place.annotation["/AP"] = DictionaryObject({pdf_name("/N"): form})
    update.update_container(place.annotation)


def _takes_transparency(update: Update) -> bool:
    """Whether the file stays what it says it is with a soft mask in it.

    PDF/A-1 knows none (ISO 19005-1, 6.4). Later parts ask each page that has one for a blending colour space, unless the file
    has an output intent (ISO 19005-2, 6.2.10); and pages are not ours to change.
    """
    metadata = entry(update.root, "/Metadata")
    if not isinstance(metadata, StreamObject):
        return True
    found = _ARCHIVE_PART.search(metadata.data[:_METADATA_BYTES].replace(b"\0", b""))
    if found is None:
        return True
    intents = entry(update.root, "/OutputIntents") or ()
    return found.group(1) != b"1" and any(entry(intent, "/S") == "/GTS_PDFA1" for intent in intents)
