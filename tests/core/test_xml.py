"""Reading XML safely, and the canonical forms that XML Signature is about."""

from __future__ import annotations

import pytest
from lxml import etree

from core.xml import elements_by_id, parse_xml, path_of
from core.xmldsig import CANONICALIZATIONS, EXCLUSIVE, INCLUSIVE, Fault, XmlSignatureError, canonicalize

C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
NESTED = (
    b'<a xmlns="urn:a" xmlns:p="urn:p" xml:lang="vi" xml:id="i"><b xml:space="preserve"><c><d p:x="1"/><e xmlns=""/></c></b></a>'
)


def test_every_kind_of_id_counts_and_values_are_only_compared() -> None:
    tree = parse_xml(b'<a id="1"><b ID="1" Id="1"/><c xml:id="1"/><d Id="\']|//*"/></a>')
    assert [element.tag for element in elements_by_id(tree)["1"]] == ["a", "b", "c"]
    assert [element.tag for element in elements_by_id(tree)["']|//*"]] == ["d"]


def test_a_path_numbers_equals_and_does_not_count_for_ever() -> None:
    tree = parse_xml(b"<a><b/><x:b xmlns:x='urn:x'/><b><c/></b>" + b"<d/>" * 1001 + b"</a>")
    root = tree.getroot()
    assert [path_of(element) for element in (root, root[0], root[1], root[2][0])] == ["/a", "/a/b[1]", "/a/b", "/a/b[2]/c"]
    assert path_of(root[-1]) == "/a/d[>1000]"


def test_a_subset_takes_along_what_canonical_xml_says_it_inherits() -> None:
    """Canonical XML 1.0 clause 2.4, 1.1 clause 2.4 (no xml:id), exclusive clause 3; the tree itself stays as it was."""
    tree = parse_xml(NESTED)
    element = tree.getroot()[0][0]
    inside = b'<d p:x="1"></d><e xmlns=""></e></c>'
    assert canonicalize(element, CANONICALIZATIONS[INCLUSIVE]) == (
        b'<c xmlns="urn:a" xmlns:p="urn:p" xml:id="i" xml:lang="vi" xml:space="preserve">' + inside
    )
    assert canonicalize(element, CANONICALIZATIONS[C14N11]) == (
        b'<c xmlns="urn:a" xmlns:p="urn:p" xml:lang="vi" xml:space="preserve">' + inside
    )
    assert canonicalize(element, CANONICALIZATIONS[EXCLUSIVE]) == (
        b'<c xmlns="urn:a"><d xmlns:p="urn:p" p:x="1"></d><e xmlns=""></e></c>'
    )
    assert etree.tostring(tree) == etree.tostring(parse_xml(NESTED))


def test_what_has_no_canonical_form_here_is_said_to_have_none() -> None:
    based = parse_xml(b'<a xml:base="http://example.org/"><b/></a>').getroot()[0]
    with pytest.raises(XmlSignatureError) as refused:
        canonicalize(based, CANONICALIZATIONS[C14N11])
    assert refused.value.fault is Fault.TRANSFORM_REFUSED
    with pytest.raises(XmlSignatureError, match="canonical"):
        canonicalize(parse_xml(b'<a xmlns="not-absolute"/>'), CANONICALIZATIONS[INCLUSIVE])
