"""Where a signature goes in an XML document, so that what was signed before stays signed.

An enveloped signature leaves itself out of what it covers, and nothing else. So a second one put beside it would change
what the first one covers, while one put inside it (in a ds:Object, where XML Signature has room for anything) does not:
the first still covers the document as it was, and the second covers the document with the first in it. That is the order
in which a leader signs and then the agency seals.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.parsers import expat

from core.errors import Conflict, Rejected
from core.xml import Element
from core.xmldsig import DS, Fault, XmlSignatureError
from core.xmlsignature import Covered, SignedDocument, XmlSignature, read_signature

_OBJECT = (f'<ds:Object xmlns:ds="{DS}">', "</ds:Object>")
_SIGNATURE = f"{{{DS}}}Signature"
_BROKEN = {Fault.MALFORMED_SIGNATURE, Fault.AMBIGUOUS_REFERENCE, Fault.REFERENCE_NOT_FOUND, Fault.DIGEST_DIFFERS}


@dataclass(frozen=True, slots=True)
class Earlier:
    """A signature that the document carries already and whose digests are right."""

    signature: XmlSignature
    covered: list[Covered]

    def is_changed_by(self, parent: Element) -> bool:
        """Whether a new child of ``parent`` would change what this signature covers."""
        above = {parent, *parent.iterancestors()}
        left_out = self.signature.element in above
        touched = [item for item in self.covered if item.element is None or item.element in above]
        return any(not (item.reference.enveloped and left_out) for item in touched)


@dataclass(frozen=True, slots=True)
class Place:
    """The octets before and after the signature, in the document's own encoding (``codec``). All else stays as it was."""

    before: bytes
    after: bytes
    codec: str
    above: tuple[Element, ...]
    """The elements it lies in, the innermost first."""

    def fill(self, signature: bytes) -> bytes:
        """The document with ``signature`` (ASCII) put in."""
        return self.before + signature.decode("ascii").encode(self.codec) + self.after


def find_earlier(document: SignedDocument, *, but: Element | None = None) -> list[Earlier]:
    """The signatures of ``document`` (``but`` one) whose digests are right; one that is broken has nothing left to protect.

    Raises Conflict for one that cannot be checked here: who does not know what it covers cannot keep it whole.
    """
    found = []
    for element in document.signatures:
        if element is but:
            continue
        try:
            signature = read_signature(element)
            found.append(Earlier(signature, document.check_references(signature)))
        except XmlSignatureError as error:
            if error.fault not in _BROKEN:
                raise Conflict(
                    f"the document carries a signature that cannot be checked here ({error}), and might break by another"
                ) from error
    return found


def find_place(document: SignedDocument, target: Element, earlier: list[Earlier]) -> Place:
    """At the end of ``target`` where nothing signed is changed by it, else inside the latest signature that allows it.

    Raises Conflict when every place there is would break an earlier signature.
    """
    inside_signatures = [item.signature.element for item in reversed(earlier)]
    for parent in [target, *inside_signatures]:
        if not any(item.is_changed_by(parent) for item in earlier):
            return _end_of(document, parent)
    raise Conflict(
        "whatever place is chosen, one more signature would break one that the document carries: sign before it, or sign a copy"
    )


def _end_of(document: SignedDocument, parent: Element) -> Place:
    """The place before ``parent``'s end tag, in an Object of its own where ``parent`` is a signature."""
    octets, codec = document.octets, _codec(document)
    number = next(index for index, element in enumerate(document.tree.iter("*")) if element is parent)
    start, end = _extent(octets, number)
    before, after = octets[:end], octets[end:]
    slash = "/>".encode(codec)
    if not len(parent) and not parent.text and octets[start:end].endswith(slash):  # <name/>: give it an end tag
        name = f"{parent.prefix}:" if parent.prefix else ""
        tag = name + str(parent.tag).rpartition("}")[2]
        before, after = before[: -len(slash)] + ">".encode(codec), f"</{tag}>".encode(codec) + after
    if parent.tag == _SIGNATURE:
        before, after = before + _OBJECT[0].encode(codec), _OBJECT[1].encode(codec) + after
    return Place(before, after, codec, (parent, *parent.iterancestors()))


def _extent(octets: bytes, number: int) -> tuple[int, int]:
    """Where the element with this number (document order, from 0) starts, and where its end tag starts, in octets.

    For an element written as one tag the second is where that tag ends. Expat is asked because libxml2 keeps no offsets.
    """
    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    count, open_elements, extent = 0, [], None

    def start(_name: str, _attributes: list[str]) -> None:
        nonlocal count
        open_elements.append((count, parser.CurrentByteIndex))
        count += 1

    def end(_name: str) -> None:
        nonlocal extent
        index, offset = open_elements.pop()
        if index == number:
            extent = offset, parser.CurrentByteIndex

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(octets, True)
    if extent is None:
        raise Rejected("document", "it reads differently to two XML parsers: write it as UTF-8 without oddities")
    return extent


def _codec(document: SignedDocument) -> str:
    """The codec the document is written in, byte order and all."""
    if document.octets.startswith((b"\xff\xfe", b"<\x00")):
        return "utf-16-le"
    if document.octets.startswith((b"\xfe\xff", b"\x00<")):
        return "utf-16-be"
    return document.tree.docinfo.encoding or "utf-8"
