"""The signatures of one XML document: found, read strictly, and their references digested (xmldsig-core1 clause 3.2).

    document = SignedDocument(octets)                  # Rejected for what is no readable XML
    for element in document.signatures:
        signature = read_signature(element)            # XmlSignatureError, here and below
        check_value(certificate, signature.method, signature.octets, signature.value)
        covered = document.check_references(signature) # the elements the digests were really computed over

What a reference covers is said from what was digested, never from what its URI looks like: an attacker moves the signed
element aside, leaves the URI alone, and puts something else where the reader looks.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hmac import compare_digest

from cryptography.hazmat.primitives import hashes
from lxml import etree

from core.errors import CondauError, TooLarge
from core.xml import Element, elements_by_id, parse_xml
from core.xmldsig import (
    CANONICALIZATIONS,
    DIGESTS,
    DS,
    ENVELOPED,
    EXCLUSIVE,
    INCLUSIVE,
    METHODS,
    Canonicalization,
    Fault,
    Method,
    XmlSignatureError,
    canonicalize,
)

MAX_SIGNATURES = 64
MAX_REFERENCES = 30
_WORK_PER_BYTE = 16
_WORK_FREE = 50_000_000


@dataclass(frozen=True, slots=True)
class Reference:
    """One ds:Reference, its algorithms already known to be among those listed in core.xmldsig."""

    uri: str
    """``""`` for the document, ``#id`` for an element; anything else is external."""
    type: str | None
    id: str | None
    enveloped: bool
    canonicalization: Canonicalization
    digest: hashes.HashAlgorithm
    value: bytes


@dataclass(frozen=True, slots=True)
class XmlSignature:
    """One ds:Signature as it was read. ``octets`` is the canonical SignedInfo, and the references are read from those octets."""

    element: Element
    octets: bytes
    method: Method
    references: tuple[Reference, ...]
    value: bytes
    value_element: Element
    certificates: tuple[bytes, ...]
    """Of KeyInfo/X509Data, DER as far as their base64 goes; nobody vouches for them yet."""
    objects: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class Covered:
    """What one reference covers: ``element`` and all below it but the signature itself; None for the document as a whole."""

    reference: Reference
    element: Element | None


class SignedDocument:
    """One document as it was handed in: ``octets`` and the ``tree`` read from them, which nothing here changes."""

    def __init__(self, octets: bytes) -> None:
        """Raises what core.xml.parse_xml raises, and TooLarge (``document``) for more than 64 signatures."""
        self.octets = octets
        self.tree = parse_xml(octets)
        self.signatures = list(self.tree.iter(f"{{{DS}}}Signature"))
        if len(self.signatures) > MAX_SIGNATURES:
            raise TooLarge("document", f"it has {len(self.signatures)} signatures; at most {MAX_SIGNATURES} are read")
        self._ids = elements_by_id(self.tree)
        self._work = _WORK_FREE + _WORK_PER_BYTE * len(octets)

    def element(self, uri: str) -> Element:
        """The one element ``#id`` means; XmlSignatureError when it is external, not there, or not the only one."""
        if not uri.startswith("#") or uri.startswith("#xpointer("):
            raise XmlSignatureError(Fault.EXTERNAL_REFERENCE, uri[:200])
        found = self._ids.get(uri[1:], [])
        if len(found) != 1:
            raise XmlSignatureError(Fault.AMBIGUOUS_REFERENCE if found else Fault.REFERENCE_NOT_FOUND, uri[:200])
        return found[0]

    def check_references(self, signature: XmlSignature) -> list[Covered]:
        """Digest what each reference means and compare; returns what they cover, in their order.

        Raises XmlSignatureError at the first that differs or cannot be digested.
        """
        without: SignedDocument | None = None
        covered = []
        for reference in signature.references:
            element = self.element(reference.uri) if reference.uri else None
            inside = element is None or element in signature.element.iterancestors()
            if reference.enveloped and inside:
                without = without or self._without(signature.element)
                octets = without.octets_of(reference)
            elif reference.enveloped and _within(element, signature.element):
                raise XmlSignatureError(Fault.DIGEST_DIFFERS, f"{reference.uri[:200]} is within what the transform leaves out")
            else:
                octets = self.octets_of(reference)
            self._spend(len(octets))
            if not compare_digest(_digest(reference.digest, octets), reference.value):
                raise XmlSignatureError(Fault.DIGEST_DIFFERS, f"URI={reference.uri[:200]!r}")
            covered.append(Covered(reference, element))
        return covered

    def octets_of(self, reference: Reference) -> bytes:
        """What ``reference`` means here, canonical; comments are never part of it (xmldsig-core1 clause 4.4.3.3)."""
        how = reference.canonicalization
        how = Canonicalization(how.exclusive, comments=False, second=how.second, prefixes=how.prefixes)
        return canonicalize(self.element(reference.uri) if reference.uri else self.tree, how)

    def _without(self, signature: Element) -> SignedDocument:
        """This document, read again, without one of its signatures: the enveloped-signature transform."""
        self._spend(len(self.octets))
        other = SignedDocument(self.octets)
        _remove(other.signatures[self.signatures.index(signature)])
        return other

    def _spend(self, octets: int) -> None:
        self._work -= octets
        if self._work < 0:
            raise XmlSignatureError(Fault.TOO_MUCH_WORK, f"{len(self.octets)} bytes")


def read_signature(element: Element) -> XmlSignature:
    """Read one ds:Signature: SignedInfo, SignatureValue, KeyInfo?, Object*, and nothing else at its top.

    Raises XmlSignatureError: MALFORMED_SIGNATURE, TOO_MANY_REFERENCES, TRANSFORM_REFUSED or ALGORITHM_REFUSED.
    """
    children = _children(element)
    names = [child.tag for child in children]
    if names[:2] != [_ds("SignedInfo"), _ds("SignatureValue")] or names.count(_ds("KeyInfo")) > 1:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, "Signature does not begin with SignedInfo and SignatureValue")
    rest = children[2:]
    key_info = rest.pop(0) if rest and rest[0].tag == _ds("KeyInfo") else None
    if any(child.tag != _ds("Object") for child in rest):
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, "Signature holds what does not belong there")
    octets = canonicalize(children[0], _canonicalization(_child(children[0], "CanonicalizationMethod")))
    method, references = _read_signed_info(octets)
    return XmlSignature(
        element=element,
        octets=octets,
        method=method,
        references=references,
        value=_decode(children[1]),
        value_element=children[1],
        certificates=_certificates(key_info),
        objects=tuple(rest),
    )


def _read_signed_info(octets: bytes) -> tuple[Method, tuple[Reference, ...]]:
    """Method and references out of the very octets that are signed, read again: no comment and no context is left in them."""
    try:
        root = parse_xml(octets).getroot()
    except CondauError as error:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, f"SignedInfo: {error.detail}") from error
    children = _children(root)
    names = [child.tag for child in children]
    if names[:2] != [_ds("CanonicalizationMethod"), _ds("SignatureMethod")] or set(names[2:]) != {_ds("Reference")}:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, "SignedInfo is not a method and references")
    if len(names) - 2 > MAX_REFERENCES:
        raise XmlSignatureError(Fault.TOO_MANY_REFERENCES, f"{len(names) - 2} references; at most {MAX_REFERENCES}")
    identifier = children[1].get("Algorithm", "")
    if identifier not in METHODS or len(children[1]):
        raise XmlSignatureError(Fault.ALGORITHM_REFUSED, f"SignatureMethod {identifier[:200]}")
    return METHODS[identifier], tuple(_read_reference(child) for child in children[2:])


def _read_reference(element: Element) -> Reference:
    enveloped, canonicalization = False, CANONICALIZATIONS[INCLUSIVE]
    transforms = element.find(_ds("Transforms"))
    steps = _children(transforms) if transforms is not None else []
    if steps and steps[0].get("Algorithm") == ENVELOPED:
        enveloped = True
        steps.pop(0)
    if steps:
        canonicalization = _canonicalization(steps.pop(0))
    if steps:
        raise XmlSignatureError(Fault.TRANSFORM_REFUSED, f"Transform {steps[0].get('Algorithm', '')[:200]} after another")
    identifier = _child(element, "DigestMethod").get("Algorithm", "")
    if identifier not in DIGESTS:
        raise XmlSignatureError(Fault.ALGORITHM_REFUSED, f"DigestMethod {identifier[:200]}")
    uri = element.get("URI")
    if uri is None:
        raise XmlSignatureError(Fault.REFERENCE_NOT_FOUND, "a Reference without URI")
    return Reference(
        uri=uri,
        type=element.get("Type"),
        id=element.get("Id"),
        enveloped=enveloped,
        canonicalization=canonicalization,
        digest=DIGESTS[identifier],
        value=_decode(_child(element, "DigestValue")),
    )


def _canonicalization(element: Element) -> Canonicalization:
    """The canonicalization an Algorithm attribute names, with the PrefixList below it."""
    identifier = element.get("Algorithm", "")
    if identifier not in CANONICALIZATIONS:
        raise XmlSignatureError(Fault.TRANSFORM_REFUSED, identifier[:200])
    how = CANONICALIZATIONS[identifier]
    listed = element.find(f"{{{EXCLUSIVE}}}InclusiveNamespaces")
    if listed is None or not how.exclusive:
        return how
    prefixes = tuple(listed.get("PrefixList", "").split())
    if "#default" in prefixes:  # libxml2 leaves out an xmlns="" here that others write: what it digests may not be what was signed
        raise XmlSignatureError(Fault.TRANSFORM_REFUSED, "InclusiveNamespaces #default")
    return Canonicalization(exclusive=True, comments=how.comments, prefixes=prefixes)


def _certificates(key_info: Element | None) -> tuple[bytes, ...]:
    """KeyInfo's certificates. KeyValue and everything else that could name a key without a certificate is ignored."""
    if key_info is None:
        return ()
    return tuple(_decode(item) for item in key_info.iterfind(f"{_ds('X509Data')}/{_ds('X509Certificate')}"))


def _children(element: Element) -> list[Element]:
    return [child for child in element if isinstance(child.tag, str)]


def _child(element: Element, name: str) -> Element:
    found = element.findall(_ds(name))
    if len(found) != 1:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, f"{len(found)} {name} in {etree.QName(element).localname}")
    return found[0]


def _decode(element: Element) -> bytes:
    """The base64 text of ``element``; a comment or an element in it would let two readers see two values."""
    name = etree.QName(element).localname
    if len(element):
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, f"{name} holds more than text")
    try:
        return base64.b64decode("".join((element.text or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, f"{name} is not base64") from error


def _digest(algorithm: hashes.HashAlgorithm, octets: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(octets)
    return digest.finalize()


def _within(element: Element | None, ancestor: Element) -> bool:
    return element is not None and (element is ancestor or ancestor in element.iterancestors())


def _remove(element: Element) -> None:
    """Take ``element`` out of its tree and leave the text that follows it."""
    parent, previous, tail = element.getparent(), element.getprevious(), element.tail or ""
    if parent is None:
        raise XmlSignatureError(Fault.REFERENCE_NOT_FOUND, "nothing is left of the document without the signature")
    if previous is not None:
        previous.tail = (previous.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    parent.remove(element)


def _ds(name: str) -> str:
    return f"{{{DS}}}{name}"
