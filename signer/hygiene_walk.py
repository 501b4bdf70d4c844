"""Looking at every object of a PDF once: what it does, what it refers to, and what nothing refers to."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.crypt import AuthStatus
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, StreamObject

from core.content import Content
from core.errors import Malformed, Rejected
from core.pdf_reader import BoundedReader
from signer.hygiene_findings import Finding, build_finding
from signer.pdf_update import entry, reading

Number = tuple[int, int]
MOST_OBJECTS: Final = 200_000
_DEPTH: Final = 60
_XMP_TEXT: Final = re.compile(rb"<rdf:li[^>]{0,200}>([^<]{1,500})</rdf:li>")
_PACKET: Final = 1 << 20
_MOST_TEXTS: Final = 1000
_KEPT: Final = 2000
"""Objects kept in memory while all are looked at."""
_ACTIONS: Final = {
    "/JavaScript": "JAVASCRIPT",
    "/Launch": "LAUNCH",
    **dict.fromkeys(("/SubmitForm", "/ImportData"), "SENDS_OR_LOADS_DATA"),
    **dict.fromkeys(("/GoToR", "/GoToE"), "GOES_TO_FILE"),
    **dict.fromkeys(("/Hide", "/SetOCGState"), "SHOWS_OR_HIDES"),
}
_MEDIA: Final = dict.fromkeys(("/Movie", "/Screen", "/RichMedia", "/3D"), "MEDIA")
"""Annotations that play something, from inside the file or from elsewhere."""


@dataclass(slots=True)
class Walk:
    """What was seen on the way."""

    reader: BoundedReader
    leads_to: dict[Number, set[Number]] = field(default_factory=dict)
    """Which objects each object names."""
    kinds: dict[Number, str] = field(default_factory=dict)
    """``/Catalog``, ``/Page``, ``/Form`` of those that are one."""
    codes: dict[str, dict[str, None]] = field(default_factory=dict)
    """Findings, each with the objects it is in, in the order they were met."""
    metadata: tuple[tuple[str, str], ...] = ()
    complete: bool = True
    pages: tuple[DictionaryObject, ...] = ()
    """In their order; where the page tree is broken, those that can be reached."""

    def note(self, code: str, number: Number | None) -> None:
        """Remember that an object shows ``code``."""
        self.codes.setdefault(code, {})
        if number is not None:
            self.codes[code][f"{number[0]} {number[1]}"] = None

    @property
    def findings(self) -> Iterator[Finding]:
        """One for each code."""
        for code, objects in self.codes.items():
            yield build_finding(code, tuple(objects))

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A look that may meet something unreadable: then not all was seen."""
        try:
            with reading():
                yield
        except Malformed:
            self.complete = False

    def reached(self) -> set[Number]:
        """The objects something leads to, from the trailer on."""
        found: set[Number] = set()
        waiting = list(self.leads_to.get(_TRAILER, ()))
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting += self.leads_to.get(number, ())
        return found


_TRAILER: Final = (0, -1)


def walk(document: Content, password: str | None) -> Walk:
    """Look at every object the file lists. Raises Malformed, or Rejected(``password``) where it is locked."""
    with reading():
        reader = BoundedReader(document, in_place=True)
        if reader.encrypted and reader.decrypt(password or "").status is AuthStatus.FAILED:
            raise Rejected("password", "the PDF is encrypted: give its password")
        seen = Walk(reader)
        _look(seen, reader.trailer_view, _TRAILER)
        seen.pages = tuple(_pages(reader.root))
    with seen.looking():
        _look_at_objects(seen)
    with seen.looking():
        _look_at_root(seen)
    with seen.looking():
        seen.metadata = tuple(_metadata(reader))
    return seen


def _look_at_objects(seen: Walk) -> None:
    for count, number in enumerate(_listed(seen.reader)):
        if count >= MOST_OBJECTS:
            seen.complete = False
            return
        if count % _KEPT == 0:
            seen.reader.resolved_objects.clear()
        value = _fetch(seen, number)
        if value is not None:
            _look(seen, value, number)


def _listed(reader: BoundedReader) -> Iterator[Number]:
    """The objects of all revisions, each once."""
    met: set[Number] = set()
    for revision in range(reader.xrefs.total_revisions):
        for reference in reader.xrefs.explicit_refs_in_revision(revision):
            number = (reference.idnum, reference.generation)
            if number not in met:
                met.add(number)
                yield number


def _fetch(seen: Walk, number: Number) -> Any:
    """The object as it is now; None for one that is free or cannot be read, which is told."""
    try:
        with reading():
            return seen.reader.get_object(generic.Reference(*number, pdf=seen.reader))  # type: ignore[no-untyped-call]
    except Malformed:
        seen.complete = False
        return None


def _look(seen: Walk, value: Any, number: Number) -> None:
    """Walk through one object's direct values."""
    refers = seen.leads_to.setdefault(number, set())
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, IndirectObject):
            refers.add((item.idnum, item.generation))
        elif depth > _DEPTH:
            seen.complete = False
        elif isinstance(item, DictionaryObject):
            _look_at_dictionary(seen, item, number)
            # the value of a signature leads nowhere, and is not encrypted in a file that is
            keys = [key for key in item if key != "/Contents" or "/ByteRange" not in item]
            waiting += [(item.raw_get(key), depth + 1) for key in keys]
        elif isinstance(item, ArrayObject):
            waiting += [(item.raw_get(place), depth + 1) for place in range(len(item))]


def _look_at_dictionary(seen: Walk, item: DictionaryObject, number: Number) -> None:
    action, kind, subtype = _name(item, "/S"), _name(item, "/Type"), _name(item, "/Subtype")
    if (action == "/Rendition" and "/JS" in item) or ("/JavaScript" in item and number != _TRAILER):
        seen.note("JAVASCRIPT", number)
    for name, codes in ((action, _ACTIONS), (subtype, _MEDIA)):
        if name in codes:
            seen.note(codes[name], number)
    outside = isinstance(item, StreamObject) and "/F" in item and kind != "/EmbeddedFile"
    if outside or "/OPI" in item or _name(item, "/FS") == "/URL":
        seen.note("EXTERNAL_STREAM", number)
    if subtype == "/Image" and "/Alternates" in item:
        seen.note("OTHER_IN_PRINT", number)
    if subtype == "/Form":
        seen.kinds[number] = "/Form"
        if "/Ref" in item:
            seen.note("REFERENCE_XOBJECT", number)
    if kind in ("/Catalog", "/Page"):
        seen.kinds[number] = kind


def _look_at_root(seen: Walk) -> None:
    """What only the catalog in force can say: forms and layers."""
    form = entry(seen.reader.root, "/AcroForm")
    if isinstance(form, DictionaryObject) and "/XFA" in form:
        seen.note("XFA", _number(form))
    layers = entry(seen.reader.root, "/OCProperties")
    if not isinstance(layers, DictionaryObject):
        return
    groups = entry(layers, "/OCGs")
    default = entry(layers, "/D")
    hidden = entry(default, "/OFF")
    shown = entry(default, "/ON")
    off_unless_named = entry(default, "/BaseState") == "/OFF"
    count = len(groups) if isinstance(groups, ArrayObject) else 0
    named = len(shown) if isinstance(shown, ArrayObject) else 0
    if (isinstance(hidden, ArrayObject) and len(hidden)) or (off_unless_named and named < count):
        seen.note("HIDDEN_LAYER", _number(layers))
    by_circumstance = entry(default, "/AS")
    if isinstance(by_circumstance, ArrayObject) and len(by_circumstance):
        seen.note("LAYER_BY_CIRCUMSTANCE", _number(layers))
    if count and not {"HIDDEN_LAYER", "LAYER_BY_CIRCUMSTANCE"} & seen.codes.keys():
        seen.note("LAYERS", _number(layers))


def _metadata(reader: BoundedReader) -> Iterator[tuple[str, str]]:
    """What the document says of itself: the information dictionary, and the texts of its XMP packet."""
    info = entry(reader.trailer_view, "/Info")
    for key in info if isinstance(info, DictionaryObject) else ():
        value = entry(info, key)
        if isinstance(value, str) and value:
            yield str(key).lstrip("/").lower(), str(value)[:2000]
    packet = entry(reader.root, "/Metadata")
    if isinstance(packet, StreamObject):
        for text in _XMP_TEXT.findall(packet.data[:_PACKET])[:_MOST_TEXTS]:
            yield "xmp", html.unescape(text.decode("utf-8", "replace"))


def annotation_texts(page: DictionaryObject) -> Iterator[str]:
    """The texts of a page's annotations and form fields, which are no part of its own text."""
    annotations = entry(page, "/Annots")
    for place in range(min(len(annotations), _MOST_TEXTS)) if isinstance(annotations, ArrayObject) else ():
        for key in ("/Contents", "/V"):
            value = entry(annotations[place], key)
            if isinstance(value, str):
                yield value[:2000]


def _pages(root: DictionaryObject) -> Iterator[DictionaryObject]:
    """The leaves of the page tree; its own count is not believed."""
    waiting, met = [(root.raw_get("/Pages"), 0)], set()
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, IndirectObject):
            if (item.idnum, item.generation) in met:
                continue
            met.add((item.idnum, item.generation))
            item = item.get_object()
        kids = entry(item, "/Kids")
        if isinstance(kids, ArrayObject) and depth <= _DEPTH:
            waiting += [(kids.raw_get(place), depth + 1) for place in reversed(range(len(kids)))]
        elif isinstance(item, DictionaryObject):
            yield item


def _name(item: DictionaryObject, key: str) -> str:
    value = entry(item, key)  # also where another object holds it, as viewers read it
    return str(value) if isinstance(value, generic.NameObject) else ""


def _number(item: DictionaryObject) -> Number | None:
    reference = item.container_ref
    return (reference.idnum, reference.generation) if isinstance(reference, generic.Reference) else None
