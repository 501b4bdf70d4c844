"""Putting drawings on pages: the appearances of signature fields, and nothing but them (docs/adr/0024)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, NumberObject, StreamObject, TextStringObject, pdf_name
from pyhanko.pdf_utils.misc import PdfError

from core.errors import Rejected
from signer.pdf_permissions import check_new_field
from signer.pdf_place import Place, new_place
from signer.pdf_update import Update, add_signature_field, entry, find_page
from signer.stamps import Box, Drawing, build_appearance

_ARCHIVE_NAMESPACE = b"http://www.aiim.org/pdfa/ns/id/"
_ARCHIVE_PART = re.compile(rb":part(?:\s[^<>]{0,300}?)?(?:=\s*[\"']|>\s*)(\d)")
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
    option: str = "rectangle"
    """The caller's option that says where it stands, or would: what is to be changed when it does not fit there."""


def place_marks(update: Update, marks: Sequence[Mark]) -> list[Place]:
    """A new signature field for each mark, drawn; they are to share one signature, so that they stand or fall together.

    Raises Rejected naming a mark's ``option`` for one that does not fit into its place or onto its page.
    """
    places = []
    for mark in marks:
        try:
            places.append(_place_mark(update, mark))
        except Rejected as error:
            if error.violations[0].field != "rectangle":
                raise
            raise Rejected(mark.option, error.detail) from error
    return places


def _place_mark(update: Update, mark: Mark) -> Place:
    page = find_page(update, mark.page)
    place = new_place(page.get_object(), mark.box, visible=True)
    add_signature_field(update, page, place.widget, name=mark.name)
    check_new_field(update, place.widget, visible=True)
    place.widget["/TU"] = TextStringObject(mark.tooltip)
    draw(update, place, mark.drawing)
    return place


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
    part = _archive_part(update)
    intents = entry(update.root, "/OutputIntents") or ()
    return part is None or (part != 1 and any(entry(intent, "/S") == "/GTS_PDFA1" for intent in intents))


def draw_nothing(update: Update, widget: DictionaryObject) -> None:
    """Give a field that shows nothing an empty appearance where PDF/A-1 wants one (ISO 19005-1, 6.9); later parts do not."""
    if _archive_part(update) != 1 or "/AP" in widget:
        return
    form = StreamObject({pdf_name("/Type"): pdf_name("/XObject"), pdf_name("/Subtype"): pdf_name("/Form")}, stream_data=b"")
    form["/BBox"] = ArrayObject([NumberObject(0)] * 4)
    widget["/AP"] = DictionaryObject({pdf_name("/N"): update.add_object(form)})


def _archive_part(update: Update) -> int | None:
    """Which part of ISO 19005 (PDF/A) the file says it keeps to."""
    try:
        metadata = entry(update.root, "/Metadata")
        packet = metadata.data[:_METADATA_BYTES].replace(b"\0", b"") if isinstance(metadata, StreamObject) else b""
    except PdfError:
        return None  # metadata that nobody can read says nothing, and is no reason not to sign
    found = _ARCHIVE_PART.search(packet) if _ARCHIVE_NAMESPACE in packet else None
    return None if found is None else int(found[1])
