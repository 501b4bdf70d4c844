"""Signs that a PDF was prepared to show something else once it is signed (the shadow attacks of 2021: hide, replace, both).

What it holds and does not show: spare catalogs and pages, versions of objects that no cross-reference lists, content that lies
beneath an annotation or a picture, text in the colour of the paper, a form field whose drawing is not its value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, StreamObject

from core.content import Content
from signer.hygiene_findings import Finding, build_finding
from signer.hygiene_walk import Number, Walk
from signer.page_text import PageText
from signer.pdf_place import Box, view_of
from signer.pdf_update import entry

_HEADER: Final = re.compile(rb"(?<![0-9])([0-9]{1,10})[ \t\r\n]+([0-9]{1,5})[ \t\r\n]+obj\b")
_PIECE: Final = 1 << 20
_OVERLAP: Final = 64
_NEAR: Final = 1 << 16
_BLANKS: Final = 4
_MOST_HITS: Final = 20_000
_TRANSPARENT: Final = frozenset(
    {"/Link", "/Popup", "/Highlight", "/Underline", "/StrikeOut", "/Squiggly", "/Text", "/Ink", "/Line"}
)
_COVERED: Final = 0.8
_NOTABLE: Final = 3
"""Letters and digits of a page that cannot be seen; fewer say nothing."""
_HIDDEN: Final = 0x02
_SHOWN_STRING: Final = re.compile(rb"\(((?:\\.|[^\\()])*)\)\s*(?:Tj|'|\")")
_SPARE: Final = {"/Catalog": "SPARE_CATALOG", "/Page": "SPARE_PAGE", "/Form": "SPARE_DRAWING"}


def find_shadows(document: Content, seen: Walk, texts: Sequence[PageText]) -> Iterator[Finding]:
    """Everything of that kind in a document that was walked through; ``texts``: of its pages, where they were read."""
    yield from _spare(seen)
    unlisted: list[Number] = []
    replaced: list[Number] = []
    with seen.looking():
        unlisted += _unlisted(document, seen)
    with seen.looking():
        replaced += _replaced(seen)
    if unlisted:
        yield build_finding("UNLISTED_VERSION", tuple(f"{one} {other}" for one, other in unlisted))
    if replaced:
        yield build_finding("EARLIER_VERSION", tuple(f"{one} {other}" for one, other in replaced))
    for page in texts:
        if page.number <= len(seen.pages):
            yield from _covered(seen, seen.pages[page.number - 1], page)
        yield from _unseen(page)
    if any(page.unseen is None for page in texts):
        yield build_finding("UNSEEN_NOT_SOUGHT")
    yield from _fields(seen)


def _spare(seen: Walk) -> Iterator[Finding]:
    reached = seen.reached()
    found: dict[str, list[str]] = {}
    for number, kind in seen.kinds.items():
        if number not in reached:
            found.setdefault(_SPARE[kind], []).append(f"{number[0]} {number[1]}")
    for code, objects in found.items():
        yield build_finding(code, tuple(objects))


def _unlisted(document: Content, seen: Walk) -> Iterator[Number]:
    """Objects in the file's bytes that stand where no cross-reference points, of a number that is in use elsewhere."""
    listed = _positions(seen)
    starts = sorted(set(listed.values()) | set(_streams_of_references(seen)))
    used, known = {number for number, _ in listed}, set(starts)
    for count, (position, number) in enumerate(_headers(document)):
        if count >= _MOST_HITS:
            seen.complete = False
            return
        if number in used and not _is_listed(document, position, known) and not _within_stream(document, position, starts):
            yield number


def _is_listed(document: Content, position: int, known: Collection[int]) -> bool:
    """Whether a cross-reference points here, or to the blanks just before, as some programs write it."""
    return position in known or any(
        start in known and document.read(start, position).isspace() for start in range(position - _BLANKS, position)
    )


def _positions(seen: Walk) -> dict[tuple[Number, int], int]:
    """Where each object stands in each revision that lists it; those in object streams have no place of their own."""
    found = {}
    xrefs = seen.reader.xrefs
    for revision in range(xrefs.total_revisions):
        for reference in xrefs.explicit_refs_in_revision(revision):
            place = xrefs.get_historical_ref(reference, revision)
            if isinstance(place, int):
                found[(reference.idnum, reference.generation), revision] = place
    return found


def _streams_of_references(seen: Walk) -> Iterator[int]:
    """Where cross-reference streams stand: they need not list themselves."""
    xrefs = seen.reader.xrefs
    for revision in range(xrefs.total_revisions):
        yield xrefs.get_startxref_for_revision(revision)
        hybrid = xrefs.get_xref_data(revision).hybrid
        if hybrid is not None:
            yield hybrid.meta_info.start_location


def _replaced(seen: Walk) -> Iterator[Number]:
    """Contents of pages and drawings of which a later revision has another version."""
    drawn = {number for number, kind in seen.kinds.items() if kind == "/Form"}
    for page in seen.pages:
        contents = page.raw_get("/Contents") if "/Contents" in page else None
        parts = [contents] if isinstance(contents, IndirectObject) else []
        whole = entry(page, "/Contents")
        parts += whole.iterate() if isinstance(whole, ArrayObject) else []
        drawn |= {(part.idnum, part.generation) for part in parts if isinstance(part, IndirectObject)}
    times = Counter(number for number, _ in _positions(seen))
    yield from sorted(number for number in drawn if times[number] > 1)


def _headers(document: Content) -> Iterator[tuple[int, Number]]:
    begins = 0
    while begins < document.size:
        piece = document.read(begins, begins + _PIECE + _OVERLAP)
        for found in _HEADER.finditer(piece):
            if found.start() < _PIECE:
                yield begins + found.start(), (int(found[1]), int(found[2]))
        begins += _PIECE


def _within_stream(document: Content, position: int, starts: Sequence[int]) -> bool:
    """Whether it is only data of a stream, such as an attached PDF: between a listed object's ``stream`` and its end."""
    before = [start for start in starts if start < position]
    if not before:
        return False
    start = max(before[-1], position - _NEAR) if position - before[-1] <= _NEAR else before[-1]
    opened = document.read(start, min(start + _NEAR, position))
    at = opened.find(b"stream")
    if at < 0:
        return False
    closed = document.read(max(start + at + 6, position - (4 << 20)), position).find(b"endstream")
    return closed < 0


def _covered(seen: Walk, page: DictionaryObject, text: PageText) -> Iterator[Finding]:
    boxes: list[tuple[str, Box]] = []
    with seen.looking():
        view = view_of(page)
        boxes += [(number, view.to_shown(box)) for number, box in _opaque_annotations(page)]
    for number, box in boxes:
        if any(run.text.strip() and _share(run.box, box) >= _COVERED for run in text.runs):
            yield build_finding("COVERED_TEXT", (number,) if number else (), detail=f"trang/page {text.number}")


def _unseen(page: PageText) -> Iterator[Finding]:
    """What is printed and drawn over on the page itself, or drawn in the colour of the paper. A scan's text is not printed."""
    covered, faint = (0, 0) if page.unseen is None else (page.unseen.covered, page.unseen.faint)
    for code, count in (("COVERED_TEXT", covered), ("FAINT_TEXT", faint)):
        if count >= _NOTABLE:
            yield build_finding(code, detail=f"trang/page {page.number}")


def _opaque_annotations(page: DictionaryObject) -> Iterator[tuple[str, Box]]:
    """(object number, rectangle) of the annotations that draw over the page, a signature's own apart: a seal covers on purpose."""
    annotations = entry(page, "/Annots")
    for place in range(len(annotations)) if isinstance(annotations, ArrayObject) else ():
        annotation = annotations[place]
        if not isinstance(annotation, DictionaryObject) or entry(annotation, "/Subtype") in _TRANSPARENT:
            continue
        kind = entry(annotation, "/FT") or entry(entry(annotation, "/Parent"), "/FT")
        hidden = int(entry(annotation, "/F") or 0) & _HIDDEN
        rectangle = entry(annotation, "/Rect")
        if kind == "/Sig" or hidden or not isinstance(rectangle, ArrayObject) or len(rectangle) != 4:
            continue
        if not isinstance(entry(entry(annotation, "/AP"), "/N"), DictionaryObject):
            continue
        x0, y0, x1, y1 = (float(value) for value in rectangle)
        yield _number(annotation), (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _share(inner: Box, outer: Box) -> float:
    """How much of ``inner`` lies in ``outer``."""
    width = min(inner[2], outer[2]) - max(inner[0], outer[0])
    height = min(inner[3], outer[3]) - max(inner[1], outer[1])
    area = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 0.0


def _fields(seen: Walk) -> Iterator[Finding]:
    """Text fields that draw another text than their value, where both are plain letters."""
    different = []
    for page in seen.pages:
        with seen.looking():
            different += [number for number, field in _text_fields(page) if _shows_other(field)]
    if different:
        yield build_finding("FIELD_SHOWS_OTHER", tuple(different))


def _text_fields(page: DictionaryObject) -> Iterator[tuple[str, DictionaryObject]]:
    annotations = entry(page, "/Annots")
    for place in range(len(annotations)) if isinstance(annotations, ArrayObject) else ():
        annotation = annotations[place]
        kind = entry(annotation, "/FT") or entry(entry(annotation, "/Parent"), "/FT")
        if kind == "/Tx" and isinstance(annotation, DictionaryObject):
            yield _number(annotation), annotation


def _shows_other(field: DictionaryObject) -> bool:
    value: Any = entry(field, "/V")
    value = entry(entry(field, "/Parent"), "/V") if value is None else value
    drawing = entry(entry(field, "/AP"), "/N")
    if not isinstance(value, str) or not value.isascii() or not isinstance(drawing, StreamObject):
        return False
    shown = b"".join(re.sub(rb"\\([\\()])", rb"\1", piece) for piece in _SHOWN_STRING.findall(drawing.data))
    return bool(shown) and shown.isascii() and b"\\" not in shown and "".join(shown.decode().split()) != "".join(value.split())


def _number(item: DictionaryObject) -> str:
    reference = item.container_ref
    return f"{reference.idnum} {reference.generation}" if isinstance(reference, generic.Reference) else ""
