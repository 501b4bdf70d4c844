"""PAdES-B-B and B-T (ETSI EN 319 142-1) in three steps: prepare the document, sign its digest, finish the document.

Only the first and the last see the document. The middle one needs its digest and a key, so that a caller who keeps the
document to itself can do the other two where the document is.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from PIL import Image
from pyhanko.pdf_utils.generic import DictionaryObject, pdf_date, pdf_name, pdf_string

from core.cms import ID_DATA, CmsSigner, encode_certificates
from core.content import Content
from pki.certificates import Identity
from signer.compose import Act, compose, compose_in_field
from signer.marks import draw, draw_nothing, place_marks
from signer.options import PdfOptions
from signer.pdf_appearances import settle_appearances
from signer.pdf_check import Ranges, check_output
from signer.pdf_field import check_drawable, take_field
from signer.pdf_hole import Hole, HoleTooSmall, Revision
from signer.pdf_permissions import apply_lock, certify, check_new_field, request_lock
from signer.pdf_place import Place, new_place
from signer.pdf_update import (
    Update,
    add_signature_field,
    check_not_final,
    find_page,
    open_update,
    reading,
    set_signature_flags,
)
from signer.rasters import parse_image
from signer.stamps import VIETNAM, default_text, plain_stamp

TIMESTAMP_ROOM = 6144
"""Bytes kept for a timestamp while none has been seen."""
_TIMESTAMP_HEADERS = 64
"""What stands around it in the CMS: an attribute's type and lengths, and lengths that grow."""


class TimestampTooBig(Exception):
    """The CMS does not fit what was reserved; ``timestamp`` is the size in bytes of the timestamp that was to go in."""

    def __init__(self, timestamp: int) -> None:
        super().__init__(f"no room for a timestamp of {timestamp} bytes")
        self.timestamp = timestamp


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document with an empty signature behind it, and the digest that is to be signed."""

    revision: Revision
    """The document and what goes behind it."""
    digest: bytes
    """Over everything but the hole and its angle brackets, with the hash that goes with the signer's key."""
    password: str | None
    update: Update
    """Ready for a further revision, once what became of this one is committed to it."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A CAdES signature over a document's digest, still without timestamp: the signed attributes and the value over them."""

    identity: Identity
    attributes: bytes
    value: bytes
    digest: bytes


def prepare(
    document: Content,
    options: PdfOptions,
    *,
    identity: Identity,
    at: datetime,
    image: bytes | None = None,
    timestamp_room: int = TIMESTAMP_ROOM,
    font: Path,
    act: Act | None = None,
) -> Prepared:
    """Add a signature field (or take the one named), draw its stamp, reserve the hole and compute the digest.

    ``at`` becomes /M, in Vietnamese time; ``image`` is a PNG. With an ``act`` it is drawn as that says, in as many fields as its
    look has marks (the first may be the one named), all of them with this one signature as their value (docs/adr/0024). Raises
    Malformed for what is no readable PDF, Rejected naming the option that does not go with the document, Conflict for one that
    allows no further signature.
    """
    picture = None if image is None or act is not None else parse_image(image)
    room = _room(identity) + (timestamp_room + _TIMESTAMP_HEADERS if options.level != "B-B" else 0)
    update = open_update(document, options.password)
    with reading():
        check_not_final(update)
        signature = _signature_dictionary(options, identity, at)
        hole = Hole(room)
        hole.put_into(signature)
        if act is None:
            places = [_plain_place(update, options, identity=identity, at=at, picture=picture, font=font)]
        else:
            places = _official_places(update, options, act)
        if any(place.box is not None for place in places):
            settle_appearances(update)
        value = update.add_object(signature)
        for place in places:
            place.widget["/V"] = value
        if act is None:
            request_lock(options, places[0].widget)
        apply_lock(update, places[0].widget, signature)
        certify(update, options, signature, value)
        set_signature_flags(update)
        revision = hole.write(update)
    digest = revision.digest(cms_signer(identity.certificate).hash_algorithm)
    return Prepared(revision, digest, options.password, update)


def sign(digest: bytes, identity: Identity, use_key: Callable[[bytes], bytes]) -> Signed:
    """Sign a document's digest: ``use_key`` turns the DER of the signed attributes into the signature value.

    The signing time is not among them: PAdES states it in /M (ETSI EN 319 142-1, 6.3).
    """
    attributes = cms_signer(identity.certificate).build_attributes(content_type=ID_DATA, message_digest=digest)
    return Signed(identity, attributes, use_key(attributes), digest)


def finish(prepared: Prepared, signed: Signed, stamp: Callable[[bytes], bytes] | None) -> Content:
    """The signed document, checked by reading it again. ``stamp`` makes it B-T: it returns a timestamp over the bytes it is given.

    Raises TimestampTooBig when the timestamp is bigger than was prepared for.
    """
    document = fill(prepared, signed, None if stamp is None else stamp(signed.value))
    check(prepared, signed, document)
    return document


def fill(prepared: Prepared, signed: Signed, timestamp: bytes | None) -> Content:
    """The same unchecked, for who goes on behind it and then checks all at once."""
    der = build_cms(signed.identity, signed.attributes, signed.value, timestamp)
    try:
        return prepared.revision.fill(der)
    except HoleTooSmall as error:
        raise TimestampTooBig(len(timestamp or b"")) from error


def check(prepared: Prepared, signed: Signed, document: Content, ranges: Ranges | None = None) -> None:
    """As :func:`signer.pdf_check.check_output`, whose ``ranges`` these are."""
    check_output(
        document,
        prepared.revision.original,
        certificate=signed.identity.certificate,
        password=prepared.password,
        earlier=prepared.update.prev,
        ranges=ranges,
    )


@functools.lru_cache(maxsize=256)
def cms_signer(certificate: x509.Certificate) -> CmsSigner:
    """The CMS builder for a certificate, kept between documents."""
    return CmsSigner(certificate)


def _signature_dictionary(options: PdfOptions, identity: Identity, at: datetime) -> DictionaryObject:
    signature = DictionaryObject(
        {
            pdf_name("/Type"): pdf_name("/Sig"),
            pdf_name("/Filter"): pdf_name("/Adobe.PPKLite"),
            pdf_name("/SubFilter"): pdf_name("/ETSI.CAdES.detached"),
            pdf_name("/M"): pdf_date(at.astimezone(VIETNAM)),
        }
    )
    names = identity.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    stated = {
        "/Name": str(names[0].value) if names else None,
        "/Reason": options.reason,
        "/Location": options.location,
        "/ContactInfo": options.contact,
    }
    for key, text in stated.items():
        if text:
            signature[key] = pdf_string(unicodedata.normalize("NFC", text))
    return signature


def _plain_place(
    update: Update, options: PdfOptions, *, identity: Identity, at: datetime, picture: Image.Image | None, font: Path
) -> Place:
    """The field to sign in, with a stamp of the caller's own making drawn in it where one is to be seen."""
    place = _place(update, options, visible=picture is not None)
    if place.box is None:
        draw_nothing(update, place.widget)
    else:
        text = default_text(identity.certificate, at) if options.text is None and picture is None else options.text
        width, height = place.size
        draw(update, place, plain_stamp(text or "", picture, font, width=width, height=height))
    return place


def _official_places(update: Update, options: PdfOptions, act: Act) -> list[Place]:
    """The fields that share the signature, drawn: the one named by the caller for the first mark, new ones for the others."""
    places = []
    if options.field is not None:
        place = take_field(update, options)
        check_drawable(place, options.field)
        draw(update, place, compose_in_field(update, act, place.size))
        places.append(place)
    return [*places, *place_marks(update, compose(update, act))]


def _place(update: Update, options: PdfOptions, *, visible: bool) -> Place:
    """The field to sign in: a new one, or the empty one named by the caller."""
    if options.field is None:
        page = find_page(update, options.page or 1)
        visible = visible or any(value is not None for value in (options.page, options.rectangle, options.text))
        place = new_place(page.get_object(), options.box, visible=visible)
        add_signature_field(update, page, place.widget)
        check_new_field(update, place.widget, visible=place.box is not None)
        return place
    return take_field(update, options)


def _room(identity: Identity) -> int:
    """Bytes of the largest CMS without timestamp that can come: all of it is known but how long the signature value is."""
    key = identity.certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        longest = key.key_size // 8
    elif isinstance(key, ec.EllipticCurvePublicKey):
        longest = 2 * ((key.key_size + 7) // 8 + 1) + 7  # SEQUENCE of two INTEGERs, each perhaps with a leading zero
    else:
        longest = 64
    cms = cms_signer(identity.certificate)
    attributes = cms.build_attributes(content_type=ID_DATA, message_digest=bytes(cms.hash_algorithm.digest_size))
    return len(build_cms(identity, attributes, bytes(longest), None))


def build_cms(identity: Identity, attributes: bytes, value: bytes, timestamp: bytes | None) -> bytes:
    """Detached SignedData with the signer's certificate and its issuers, the root left to whoever trusts it."""
    chain = [issuer for issuer in identity.chain if issuer.subject != issuer.issuer]
    certificates = encode_certificates([identity.certificate, *chain])
    cms = cms_signer(identity.certificate)
    return cms.build_signed_data(
        attributes, value, content_type=ID_DATA, content=None, certificates=certificates, timestamp=timestamp
    )
