"""The document timestamp (ETSI EN 319 142-1, 5.4.3): a revision over all that was there, with an RFC 3161 token in its hole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, NumberObject, pdf_name

from core.content import Content
from signer.marks import draw_nothing
from signer.pdf_check import Ranges, byte_range_up_to
from signer.pdf_hole import Hole
from signer.pdf_update import Update, add_signature_field, find_page, set_signature_flags

StampDigest = Callable[[bytes], bytes]
"""The SHA-256 of something -> a TimeStampToken (DER) over it."""
_HASH: Final = hashes.SHA256()
_PRINT_LOCKED: Final = 132
"""Annotation flags: PDF/A wants Print on every annotation, also on one without extent."""


def stamp_document(update: Update, stamp: StampDigest, *, room: int) -> Content:
    """The document with everything that ``update`` adds and a timestamp over all of it, which has ``room`` bytes.

    Raises :class:`signer.pdf_hole.HoleTooSmall` for a longer one.
    """
    dictionary = DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/DocTimeStamp"),
            pdf_name("/Filter"): pdf_name("/Adobe.PPKLite"),
            pdf_name("/SubFilter"): pdf_name("/ETSI.RFC3161"),
        }
    )
    hole = Hole(room)
    hole.put_into(dictionary)
    widget = DictionaryObject({pdf_name("/Type"): pdf_name("/Annot"), pdf_name("/Subtype"): pdf_name("/Widget")})
    widget["/FT"], widget["/F"] = pdf_name("/Sig"), NumberObject(_PRINT_LOCKED)
    widget["/Rect"] = ArrayObject([NumberObject(0)] * 4)
    widget["/V"] = update.add_object(dictionary)
    draw_nothing(update, widget)
    add_signature_field(update, find_page(update, 1), widget, name="Timestamp")
    set_signature_flags(update)
    revision = hole.write(update)
    return revision.fill(stamp(revision.digest(_HASH)))


def check_document_timestamp(document: Content, original: Content, ranges: Ranges) -> None:
    """Read ``document`` as a stranger would: the timestamp behind ``original`` is found, and is over everything but itself.
    ``ranges``: what :func:`signer.pdf_check.read_byte_ranges` found in it.

    Raises Malformed when no reader will find it, ValueError for what only a mistake of ours can bring about. That its imprint is
    of those bytes is for the authority to see to, who was given their digest.
    """
    if not document.startswith(original):
        raise ValueError("the document handed in is not a prefix of the stamped one")
    before, after, _ = byte_range_up_to(document.size, ranges)
    if before <= original.size:
        raise ValueError("the ByteRange does not cover everything but the hole")
    digest = hashes.Hash(_HASH)
    for start, end in ((0, before), (after, document.size)):
        for chunk in document.chunks(start, end):
            digest.update(chunk)
    if digest.finalize() not in bytes.fromhex(document.read(before + 1, after - 1).decode("ascii")):
        raise ValueError("the timestamp is not over the document")
