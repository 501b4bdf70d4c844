"""Signature wrapping: the families XSW1 to XSW8 ("On Breaking SAML", USENIX Security 2012), made from documents we signed.

The signed element is kept, so that every digest stays right, and something else stands where an application would look.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from core.db import Database
from core.xml import Element
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.house import House, furnish, open_house
from tests.software_keys import SoftwareKeys
from tests.xml_tools import DS, INNER, SIMPLE, judge, sign, signature_in, sole, take_out, xmlsec1_accepts
from verifier.verdict import Indication, SubIndication

pytestmark = pytest.mark.one_database  # the verdict on a document


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With a house in it for a test that begins in one."""
    return databases.furnished(furnish) if "house" in request.fixturenames else databases.plain()


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    """A house with an officer, P-256."""
    return open_house(database, keys, clock)


# What an attacker has: the signature, the signed element without it, and an evil twin of that element.


def parts(signed: bytes) -> tuple[Element, Element, Element]:
    signature = signature_in(signed)
    root = signature.getroottree().getroot()
    take_out(signature)
    original = root if root.tag == "HoSo" else root[0]
    evil = copy.deepcopy(original)
    evil.set("Id", "evil")
    evil[1].text = "999"
    return signature, original, evil


def add_object(signature: Element, *content: Element) -> None:
    holder = etree.SubElement(signature, f"{{{DS}}}Object")
    holder.extend(content)


def xsw1(signature: Element, original: Element, evil: Element) -> Element:
    """The evil twin is the root and holds the signature, which holds the original."""
    add_object(signature, original)
    evil.append(signature)
    return evil


def xsw2(signature: Element, original: Element, evil: Element) -> Element:
    """The evil twin is the root; original and signature stand side by side in it."""
    evil.extend([original, signature])
    return evil


def xsw3(signature: Element, original: Element, evil: Element) -> Element:
    """Under one parent: first the evil twin, then the original with its signature."""
    parent = etree.Element("Goi")
    original.append(signature)
    parent.extend([evil, original])
    return parent


def xsw4(signature: Element, original: Element, evil: Element) -> Element:
    """Under one parent the evil twin, and in it the original with its signature."""
    parent = etree.Element("Goi")
    original.append(signature)
    evil.append(original)
    parent.append(evil)
    return parent


def xsw5(signature: Element, original: Element, evil: Element) -> Element:
    """The signature stays in the evil twin; the original follows behind."""
    parent = etree.Element("Goi")
    evil.append(signature)
    parent.extend([evil, original])
    return parent


def xsw6(signature: Element, original: Element, evil: Element) -> Element:
    """The evil twin holds the signature, and that the original, below one parent."""
    parent = etree.Element("Goi")
    add_object(signature, original)
    evil.append(signature)
    parent.append(evil)
    return parent


def xsw7(signature: Element, original: Element, evil: Element) -> Element:
    """The original hides in an extension that applications skip."""
    parent = etree.Element("Goi")
    extension = etree.SubElement(parent, "MoRong")
    original.append(signature)
    extension.append(original)
    parent.append(evil)
    return parent


def xsw8(signature: Element, original: Element, evil: Element) -> Element:
    """The original hides in an Object of a second Signature element, beside the evil twin."""
    parent = etree.Element("Goi")
    second = etree.SubElement(parent, f"{{{DS}}}Signature")
    original.append(signature)
    add_object(second, original)
    parent.append(evil)
    return parent


FAMILIES: list[Callable[[Element, Element, Element], Element]] = [xsw1, xsw2, xsw3, xsw4, xsw5, xsw6, xsw7, xsw8]


@pytest.mark.interop
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("document", [SIMPLE, INNER], ids=["root", "element"])
def test_a_wrapped_signature_is_never_valid(
    house: House, tmp_path: Path, document: bytes, family: Callable[[Element, Element, Element], Element]
) -> None:
    signed = sign(house, document, element="hs-1")
    assert sole(house, signed).intact
    wrapped = etree.tostring(family(*parts(signed)))
    verdicts = judge(house, wrapped)
    assert Indication.TOTAL_PASSED not in {verdict.indication for verdict in verdicts}
    if family not in (xsw1, xsw6, xsw8):  # elsewhere the digest is right, which is all that xmlsec1 looks at
        assert xmlsec1_accepts(tmp_path, house, wrapped, ids=("HoSo",))
        assert [verdict.coverage and verdict.coverage.whole_file for verdict in verdicts] == [False]


def test_the_same_document_unwrapped_is_valid(house: House) -> None:
    assert sole(house, sign(house, SIMPLE, element="hs-1")).indication is Indication.TOTAL_PASSED


@pytest.mark.parametrize("family", FAMILIES)
def test_a_signature_over_the_whole_document_breaks_when_wrapped(
    house: House, family: Callable[[Element, Element, Element], Element]
) -> None:
    wrapped = etree.tostring(family(*parts(sign(house, SIMPLE))))
    assert {verdict.indication for verdict in judge(house, wrapped)} == {Indication.TOTAL_FAILED}


def test_content_hidden_in_the_signature_is_found(house: House) -> None:
    """The enveloped transform leaves the signature out, so an Object in it changes no digest."""
    for hidden in (b"<HoSo Id='evil'><Tien>999</Tien></HoSo>", b"999"):
        forged = sign(house, SIMPLE).replace(
            b"</ds:Signature>", b"<ds:Object><Evil xmlns=''>%s</Evil></ds:Object></ds:Signature>" % hidden
        )
        verdict = sole(house, forged)
        assert (verdict.intact, verdict.sub_indication) == (True, SubIndication.SIG_CONSTRAINTS_FAILURE)
        assert "UNSIGNED_CONTENT_IN_SIGNATURE" in {finding.code for finding in verdict.findings}
