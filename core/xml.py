"""XML from strangers: read without DTD, entities or network, within bounds, and its elements found by Id.

Two parsers read every document. Expat goes first and only refuses: it stops at the first byte of a DOCTYPE, before any
declaration in it means anything, and counts depth and nodes before memory is spent on them. libxml2 then builds the tree,
and everything that is digested or shown comes from that one tree.
"""

from __future__ import annotations

from itertools import islice
from xml.parsers import expat

from lxml import etree
from lxml.etree import _Element as Element
from lxml.etree import _ElementTree as Tree

from core.errors import Malformed, Rejected, TooLarge

__all__ = ["Element", "Tree", "check_unique_ids", "copy_subtree", "elements_by_id", "parse_xml", "path_of"]

MAX_DEPTH = 200
"""Elements inside one another; libxml2 itself stops at 256."""
MAX_NODES = 1_000_000
"""Elements and attributes together: a node costs some 30 times the 4 bytes that ``<a/>`` takes to send."""
_ENCODINGS = {"utf-8", "utf-16", "us-ascii", "iso-8859-1"}  # those that both parsers know by themselves
_XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
_MAX_POSITION = 1000
_ID_NAMES = ("Id", "ID", "id", _XML_ID)
_WITH_ID = etree.XPath("//*[@Id or @ID or @id or @xml:id]")


class _Guard:
    """Expat's handlers: each raises for what is not read here."""

    def __init__(self) -> None:
        self._depth = 0
        self._nodes = 0

    def run(self, document: bytes) -> None:
        parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(document, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise Malformed("document", f"not well-formed XML ({error}): send the document as its program wrote it") from error

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0":
            raise Rejected("document", f"XML {version} is not read here: write it as XML 1.0")
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise Rejected("document", f"the encoding {encoding} is not read here: write it in UTF-8")

    def _doctype(self, *_: object) -> None:
        raise Rejected("document", "it has a document type declaration (DOCTYPE), which may hide or fetch content: remove it")

    def _start(self, _name: str, attributes: list[str]) -> None:
        self._depth += 1
        self._nodes += 1 + len(attributes) // 2
        if self._depth > MAX_DEPTH:
            raise Rejected("document", f"its elements lie more than {MAX_DEPTH} deep in one another: flatten it")
        if self._nodes > MAX_NODES:
            raise TooLarge("document", f"it has more than {MAX_NODES} elements and attributes: split it")

    def _end(self, _name: str) -> None:
        self._depth -= 1


def parse_xml(document: bytes) -> Tree:
    """The tree of ``document``: XML 1.0 in UTF-8, UTF-16, US-ASCII or ISO-8859-1, namespaces well-formed.

    Raises Malformed (not well-formed, or one text longer than libxml2's 10 MB), Rejected (DOCTYPE, another encoding or
    version, too deep) or TooLarge, each naming the field ``document``.
    """
    _Guard().run(document)
    try:
        return etree.fromstring(document, _parser()).getroottree()
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise Malformed("document", f"not well-formed XML ({error}): send the document as its program wrote it") from error


def copy_subtree(element: Element) -> Tree:
    """``element`` with all below it as a document of its own, every namespace that is in scope declared at its root.

    Written and read again: libxml2's canonical form of a subtree in place is wrong where a default namespace is inherited
    (it gives grandchildren an ``xmlns=""``), that of a whole document is right.
    """
    return etree.fromstring(etree.tostring(element, encoding="UTF-8", with_tail=False), _parser()).getroottree()


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, strip_cdata=False, collect_ids=False
    )


def elements_by_id(tree: Tree) -> dict[str, list[Element]]:
    """Every element that ``#value`` could mean, by value, where no DTD says which attributes are IDs: Id, ID, id, xml:id.

    A caller that means one element and finds two refuses. Values are compared, never pasted into an expression.
    """
    found: dict[str, list[Element]] = {}
    for element in _identified(tree):
        for value in {element.get(name) for name in _ID_NAMES} - {None}:
            found.setdefault(str(value), []).append(element)
    return found


def check_unique_ids(tree: Tree) -> None:
    """Raises Rejected (``document``) when two elements share an ``Id`` or ``xml:id``.

    Plain ``id`` is left alone: without a DTD it is data more often than an identifier, and nothing of ours refers to it.
    """
    seen: set[str] = set()
    for element in _identified(tree):
        for value in {element.get("Id"), element.get(_XML_ID)} - {None}:
            if value in seen:
                raise Rejected("document", f"two elements have the Id {value!r}: what a signature refers to must be unique")
            seen.add(str(value))


def _identified(tree: Tree) -> list[Element]:
    found = _WITH_ID(tree)
    return [element for element in found if isinstance(element, Element)] if isinstance(found, list) else []


def path_of(element: Element) -> str:
    """Where ``element`` is, for people: ``/HDon/DSCKS[2]/Signature``, local names only, numbered among equals."""
    steps = [_step(element), *(_step(ancestor) for ancestor in element.iterancestors())]
    return "/" + "/".join(reversed(steps))


def _step(element: Element) -> str:
    name = etree.QName(element).localname
    tag = str(element.tag)
    earlier = sum(1 for _ in islice(element.itersiblings(tag, preceding=True), _MAX_POSITION))
    if earlier == _MAX_POSITION:
        return f"{name}[>{_MAX_POSITION}]"  # counting costs time, and nobody reads such a number
    return f"{name}[{earlier + 1}]" if earlier or next(element.itersiblings(tag), None) is not None else name
