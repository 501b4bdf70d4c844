"""XAdES-B-B and B-T (ETSI EN 319 132-1), enveloped, in three steps: prepare the signature, sign it, finish the document.

The signature is built as a small XML document of its own, canonicalised exclusively, so that its octets do not depend on
where it ends up, and is then put between the document's octets: not one of those is written again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from lxml import etree

from core.errors import Conflict, Rejected
from core.xml import Element, check_unique_ids, parse_xml
from core.xmldsig import DS, Fault, XmlSignatureError, check_value, raw_ecdsa
from core.xmlsignature import SignedDocument, read_signature
from pki.certificates import Identity
from signer.xades import add_timestamp, build_signature, data_reference, set_value, signed_octets
from signer.xml_options import XmlOptions
from signer.xml_place import Place, find_earlier, find_place

_ID = re.compile(r"[\w.:-]+")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signature without its value, and the place it is for."""

    place: Place
    signature: bytes
    """ds:Signature as a document of its own, in ASCII."""
    octets: bytes
    """The canonical SignedInfo: what the key signs."""
    certificate: x509.Certificate
    earlier: int
    """How many signatures the document carries whose digests are right."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature with its value as XML Signature writes it (ECDSA: r and s side by side), still without timestamp."""

    prepared: Prepared
    value: bytes


def prepare(document: bytes, options: XmlOptions, *, identity: Identity, at: datetime) -> Prepared:
    """Build the signature over ``document``, or over the one element ``options`` names, and find its place.

    ``at`` becomes the SigningTime. Raises Malformed, TooLarge or Rejected naming ``document`` for what cannot be read safely
    or has no canonical form, Rejected naming ``element`` for an Id that no single element has, and Conflict when one more
    signature would break one that is there.
    """
    opened = SignedDocument(document)
    check_unique_ids(opened.tree)
    target = _target(opened, options.element)
    earlier = find_earlier(opened)
    place = find_place(opened, target, earlier)
    uri = "" if options.element is None else f"#{options.element}"
    reference = data_reference(uri, enveloped=target in place.above, certificate=identity.certificate)
    emptied = place.fill(b"")
    base = opened if emptied == document else SignedDocument(emptied)
    try:
        octets = base.octets_of(reference)
    except XmlSignatureError as error:
        raise Rejected("document", f"it has no canonical form ({error.what}): name its namespaces by absolute URIs") from error
    chain = [item for item in identity.chain if item.subject != item.issuer]  # a trust anchor comes from elsewhere or not at all
    name = f"id-{secrets.token_hex(12)}"
    signature = build_signature(name, reference, octets, certificate=identity.certificate, chain=chain, at=at)
    return Prepared(place, etree.tostring(signature), signed_octets(signature), identity.certificate, len(earlier))


def sign(prepared: Prepared, use_key: Callable[[bytes], bytes]) -> Signed:
    """Have the key sign: ``use_key`` turns the octets to be signed into a signature value (ECDSA as the DER of r and s)."""
    value = use_key(prepared.octets)
    key = prepared.certificate.public_key()
    return Signed(prepared, raw_ecdsa(value, key.curve) if isinstance(key, ec.EllipticCurvePublicKey) else value)


def finish(signed: Signed, stamp: Callable[[bytes], bytes] | None) -> bytes:
    """The signed document, checked; with a timestamp over the SignatureValue when ``stamp`` is given (level B-T).

    ``stamp`` turns data into the DER of a TimeStampToken over their SHA-256, and may raise Unavailable. Raises Conflict
    when a signature that was there no longer holds, XmlSignatureError (a ValueError) for what only a mistake of ours, or
    of the token, can bring about.
    """
    prepared = signed.prepared
    signature = parse_xml(prepared.signature).getroot()
    set_value(signature, signed.value)
    if stamp is not None:
        add_timestamp(signature, stamp)
    result = prepared.place.fill(etree.tostring(signature))
    _check_output(result, prepared, name=signature.get("Id", ""))
    return result


def _target(document: SignedDocument, name: str | None) -> Element:
    if name is None:
        return document.tree.getroot()
    try:
        element = document.element(f"#{name}")
    except XmlSignatureError as error:
        several = error.fault is Fault.AMBIGUOUS_REFERENCE
        raise Rejected("element", f"{'more than one' if several else 'no'} element has the Id {name!r}") from error
    if not _ID.fullmatch(name):
        raise Rejected("element", f"{name!r} cannot stand in a reference: an Id is letters, digits, and . _ : -")
    if any(ancestor.tag == f"{{{DS}}}Signature" for ancestor in (element, *element.iterancestors())):
        raise Rejected("element", f"{name!r} is part of a signature: name an element of the document")
    return element


def _check_output(result: bytes, prepared: Prepared, *, name: str) -> None:
    """Read ``result`` as a stranger would: our signature holds with the certificate's key, and so does each that did before."""
    document = SignedDocument(result)
    element = document.element(f"#{name}")
    signature = read_signature(element)
    if signature.octets != prepared.octets:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, "SignedInfo reads differently in its place")
    check_value(prepared.certificate, signature.method, signature.octets, signature.value)
    document.check_references(signature)
    if len(find_earlier(document, but=element)) != prepared.earlier:
        raise Conflict("one more signature would break one that the document carries: sign in another order")
