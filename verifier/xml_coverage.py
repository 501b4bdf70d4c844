"""What an XML signature covers, said from the elements whose octets were digested.

Signature wrapping leaves every digest right: the signed element is moved aside and another stands where the application
looks. Only one thing makes that harmless without knowing the application: that the signed element is the document itself.
So anything less is partial coverage, which is never TOTAL-PASSED, even where a format means it so.
"""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

from core.xml import Element, path_of
from core.xmldsig import DS, EXCLUSIVE, XADES
from core.xmlsignature import Covered, SignedDocument, XmlSignature
from verifier.verdict import Coverage, Finding, Text
from verifier.xml_findings import COMMENT_IN_TEXT, PROCESSING_INSTRUCTION, partial_coverage, unsigned_content

_SIGNATURE = f"{{{DS}}}Signature"
_OBJECT = f"{{{DS}}}Object"
_OWN_NAMESPACES = {DS, XADES, EXCLUSIVE, "http://uri.etsi.org/01903/v1.4.1#", "http://www.w3.org/2009/xmldsig11#"}


def describe_coverage(
    document: SignedDocument, signature: XmlSignature, covered: Sequence[Covered]
) -> tuple[Coverage, tuple[Finding, ...]]:
    """What ``covered`` amounts to, and what stands against it: a finding of severity error forbids TOTAL-PASSED."""
    root = document.tree.getroot()
    signed = [root if item.element is None else item.element for item in covered]
    data = [element for element in signed if signature.element is root or not _is_part_of(element, signature.element)]
    paths = tuple(path_of(element) for element in data)
    whole = root in data or (signature.element is root and any(_in_object(element, signature) for element in data))
    findings = [] if whole else [partial_coverage(paths)]
    hidden = _find_unsigned(signature.element, signed)
    if hidden is not None:
        findings.append(unsigned_content(path_of(hidden)))
    if whole and all(item.element is not None for item in covered) and _has_instruction(root):
        findings.append(PROCESSING_INSTRUCTION)
    if any(_splits_text(comment) for comment in root.iter(etree.Comment)):
        findings.append(COMMENT_IN_TEXT)
    if whole:
        text = Text(vi="Toàn bộ tài liệu XML, trừ chính chữ ký.", en="The whole XML document but for the signature itself.")
    else:
        listed = ", ".join(paths) or "—"
        text = Text(vi=f"Chỉ một phần tài liệu: {listed}.", en=f"Only part of the document: {listed}.")
    return Coverage(whole_file=whole, description=text, elements=paths), tuple(findings)


def _find_unsigned(signature: Element, signed: Sequence[Element]) -> Element | None:
    """The first element below ``signature`` that is neither signed by it, nor a signature's own vocabulary, nor a signature.

    The enveloped-signature transform leaves all of it out, so it is where a second document could hide from the digest and
    still be found by an application that searches for elements by name.
    """
    waiting = list(signature)
    while waiting:
        element = waiting.pop()
        if not isinstance(element.tag, str) or element in signed or element.tag == _SIGNATURE:
            continue  # a nested signature has a verdict of its own
        if etree.QName(element).namespace not in _OWN_NAMESPACES or (element.tag == _OBJECT and _has_text(element)):
            return element
        waiting.extend(element)
    return None


def _has_text(element: Element) -> bool:
    return bool((element.text or "").strip()) or any((child.tail or "").strip() for child in element)


def _splits_text(comment: Element) -> bool:
    before, parent = comment.getprevious(), comment.getparent()
    text = before.tail if before is not None else parent.text if parent is not None else None
    return bool((text or "").strip() and (comment.tail or "").strip())


def _has_instruction(root: Element) -> bool:
    return any(
        isinstance(sibling, etree._ProcessingInstruction)  # noqa: SLF001 - lxml's only name for the type
        for preceding in (True, False)
        for sibling in root.itersiblings(preceding=preceding)
    )


def _is_part_of(element: Element, signature: Element) -> bool:
    return element is signature or signature in element.iterancestors()


def _in_object(element: Element, signature: XmlSignature) -> bool:
    """Whether it is (in) an Object of an enveloping signature, and not just the signature's own properties."""
    ours = f"{{{XADES}}}QualifyingProperties"
    return any(_is_part_of(element, item) for item in signature.objects) and all(
        ancestor.tag != ours for ancestor in element.iterancestors()
    )
