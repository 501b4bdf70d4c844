"""A signature field that stands in the document already: found by its name, checked, and where it is drawn."""

from __future__ import annotations

from typing import Final

from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, Reference

from core.errors import Conflict, Rejected
from signer.options import PdfOptions
from signer.pdf_permissions import is_locked
from signer.pdf_place import Place, place_of_field
from signer.pdf_update import Update, entry, pages, signature_fields

_HIDDEN: Final = 2 | 32
"""Hidden and NoView (ISO 32000-1, table 165)."""
_ELSEWHERE: Final = "leave field out, and a new one is put where the profile says"


def take_field(update: Update, options: PdfOptions) -> Place:
    """The empty field that ``options`` name, to be changed in this revision.

    Raises Rejected("field", …) for one that is not there or does not go with what else was asked, Conflict for one that is
    signed or that an earlier signature has locked.
    """
    if options.page is not None or options.rectangle is not None:
        raise Rejected("field", "a field has its own page and rectangle: give either the field, or page and rectangle")
    fields = {name: (reference, field) for name, reference, field in signature_fields(update.root)}
    if options.field not in fields:
        empty = sorted(name for name, (_, field) in fields.items() if entry(field, "/V") is None)
        known = f"its empty ones are {', '.join(map(repr, empty[:20]))}" if empty else "it has no empty one"
        raise Rejected("field", f"the document has no signature field named {options.field!r}: {known}")
    reference, field = fields[options.field]
    if entry(field, "/V") is not None:
        raise Conflict(f"the signature field {options.field!r} is signed already: name an empty one")
    if is_locked(update, options.field):
        raise Conflict(f"an earlier signature has locked the field {options.field!r}: sign in another one")
    update.mark_update(reference.reference)
    return place_of_field(field, _page_of(update, field))


def check_drawable(place: Place, name: str) -> None:
    """Whether what is drawn in the field is seen, as an official signature must be. Raises Rejected("field", …)."""
    if place.box is None:
        raise Rejected("field", f"the field {name!r} has no extent, and this profile draws: {_ELSEWHERE}")
    flags = entry(place.annotation, "/F")
    if isinstance(flags, int) and flags & _HIDDEN:
        raise Rejected("field", f"the field {name!r} is hidden, and this profile draws: {_ELSEWHERE}")


def _page_of(update: Update, field: DictionaryObject) -> DictionaryObject | None:
    """The page on which the field's annotation stands, also where it does not name it (/P is optional); None for none."""
    kids = entry(field, "/Kids")
    annotation = kids[0] if isinstance(kids, ArrayObject) and len(kids) == 1 else field
    named, own = entry(annotation, "/P"), annotation.container_ref
    if isinstance(named, DictionaryObject):
        return named
    for page in pages(update) if isinstance(own, Reference) else ():
        listed = entry(page.get_object(), "/Annots")
        items = listed.iterate() if isinstance(listed, ArrayObject) else ()
        if any(isinstance(item, IndirectObject) and item.reference == own for item in items):
            found: DictionaryObject = page.get_object()
            return found
    return None
