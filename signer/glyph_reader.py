"""A program of its own: tells where each letter of a PDF's pages stands. ``signer/page_text.py`` runs it.

PDFium is native code and the file may be hostile, so it reads it in a process that holds nothing worth stealing, may write no
file, and has a bounded amount of memory and of processor time. It imports nothing of ours.

Arguments: the descriptor of the file, the first and the last page (from 1; 0 is the document's last) in the order in which they
are wanted, the most pages, 1 to have the pages drawn as well, and 1 to have text sought that cannot be seen. Standard input: the
password, or nothing. Standard output: a line of JSON for each page: ``{"page": 3, "text": "…", "places": [x0, y0, x1, y1, x, y,
…]}`` with the box and the origin of each character, in the page's own coordinates; of a drawn one also ``"ink": [width, height,
"…"]`` with a grey value for each pixel in base64, as it is shown; and ``"covered": […], "faint": […]``: the positions in the text
of characters that lie beneath something, or are of their background's colour, so that the page looks the same without them (null:
there was no time left), and where there are annotations that may say something ``"over": {"text": …, "places": …}``: the page with
them. Exit status 3: PDFium does not read the file.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

MEMORY = 1 << 30
"""Bytes of address space."""
SECONDS = 10
"""Of processor time."""
CHARACTERS = 20_000
"""The most of a page that is looked at."""
INK_SCALE = 0.25
"""Pixels to a point of a drawn page."""
INK_PIXELS = 400
"""The most of its longer side."""
UNSEEN_SECONDS = 4
"""Of processor time, after which no more is looked for what cannot be seen: the text of further pages is to be read still."""
PIXELS = 1600
"""The most of the longer side of a page drawn to see whether a text is seen; otherwise one to a point."""
COVERS = 300
"""The most things of a page, the largest, that may lie over a text."""
ANNOTATIONS = 1000
"""The most of a page that are looked at."""
DEPTH = 8
"""Of drawings within drawings."""
COVERED = 0.7
"""The part of a character that lies beneath what covers it."""
WHITE = 245
"""From this value on (of 255) a colour is taken for white, or what is missing from it for transparent."""
NOTICED = 7
"""A difference of grey values (of 255) that is not seen."""
SMALLEST = 3
"""Pixels: what is lower than that cannot be read."""


def main() -> int:
    """Read the pages asked for."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pypdfium2  # noqa: PLC0415 - within the limits

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    descriptor, first, last, most, drawn, unseen = map(int, sys.argv[1:])
    password = sys.stdin.read()
    try:
        document = pypdfium2.PdfDocument(os.fdopen(descriptor, "rb"), password=password or None)
    except pypdfium2.PdfiumError:
        return 3
    count = len(document)
    start, end = (min(number, count) or count for number in (first, last))
    step = 1 if start <= end else -1
    for number in list(range(start, end + step, step))[:most]:
        try:
            page = document[number - 1]
            textpage = page.get_textpage()
            indices, answer = _read(textpage, number)
            answer |= {"ink": _ink(page)} if drawn else {}
            answer |= _unseen(page, textpage, indices) | _with_annotations(document, page, number) if unseen else {}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        except pypdfium2.PdfiumError:
            continue  # a page that cannot be read has no text
    return 0


def _read(page: object, number: int) -> tuple[list[int], dict[str, object]]:
    """The characters that count, by their number for PDFium, and what is told of them."""
    from pypdfium2 import raw  # noqa: PLC0415 - within the limits

    left, right, bottom, top, x, y = (ctypes.c_double() for _ in range(6))
    text, places, indices = [], [], []
    for index in range(min(raw.FPDFText_CountChars(page), CHARACTERS)):
        code = raw.FPDFText_GetUnicode(page, index)
        if raw.FPDFText_IsGenerated(page, index) or code in range(0x21) or not code < 0x110000 or 0xD800 <= code < 0xE000:
            continue
        raw.FPDFText_GetCharBox(page, index, left, right, bottom, top)
        raw.FPDFText_GetCharOrigin(page, index, x, y)
        text.append(chr(code))
        indices.append(index)
        places += [round(value.value, 3) for value in (left, bottom, right, top, x, y)]
    return indices, {"page": number, "text": "".join(text), "places": places}


def _ink(page: Any) -> list[object]:
    width, height = page.get_size()
    bitmap = page.render(scale=min(INK_SCALE, INK_PIXELS / max(width, height)), grayscale=True, may_draw_forms=False)
    grey, stride = bytes(bitmap.buffer), bitmap.stride
    rows = [grey[row * stride : row * stride + bitmap.width] for row in range(bitmap.height)]
    return [bitmap.width, bitmap.height, base64.b64encode(b"".join(rows)).decode()]


def _with_annotations(document: Any, page: Any, number: int) -> dict[str, object]:
    """The page's text with that of its annotations, whose drawings PDFium reads no text in unless they are made part of it."""
    from pypdfium2 import raw  # noqa: PLC0415 - within the limits

    kinds = set()
    for at in range(min(raw.FPDFPage_GetAnnotCount(page), ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page, at)
        kinds.add(raw.FPDFAnnot_GetSubtype(annotation))
        raw.FPDFPage_CloseAnnot(annotation)
    if kinds <= {raw.FPDF_ANNOT_LINK, raw.FPDF_ANNOT_POPUP} or time.process_time() > UNSEEN_SECONDS:
        return {}
    if raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) != raw.FLATTEN_SUCCESS:
        return {}
    page.close()
    return {"over": _read(document[number - 1].get_textpage(), number)[1]}


class _Page:
    """What is drawn on a page, in the order in which it is."""

    def __init__(self, page: Any) -> None:
        from pypdfium2 import raw  # noqa: PLC0415 - within the limits

        self._raw = raw
        self._page = page
        self._kinds = (raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_SHADING)
        self.rank: dict[int, int] = {}
        """When each text is drawn, by its address."""
        self.covers: list[tuple[int, tuple[float, ...]]] = []
        """When and where something is drawn that is no text and has an area."""
        count = raw.FPDFPage_CountObjects(page)
        self._walk([raw.FPDFPage_GetObject(page, at) for at in range(count)], (1, 0, 0, 1, 0, 0), 0)
        self.covers = sorted(self.covers, key=lambda cover: _area(cover[1]), reverse=True)[:COVERS]

    def _walk(self, drawn: list[Any], matrix: tuple[float, ...], depth: int) -> None:
        raw = self._raw
        for item in drawn:
            rank, kind = len(self.rank) + len(self.covers), raw.FPDFPageObj_GetType(item)
            if kind == raw.FPDF_PAGEOBJ_TEXT:
                self.rank[_address(item)] = rank
            elif kind in self._kinds and self._is_filled(item, kind):
                self.covers.append((rank, _placed(self._bounds(item), matrix)))
            elif kind == raw.FPDF_PAGEOBJ_FORM and depth < DEPTH:
                own = raw.FS_MATRIX()
                raw.FPDFPageObj_GetMatrix(item, own)
                inner = [raw.FPDFFormObj_GetObject(item, at) for at in range(raw.FPDFFormObj_CountObjects(item))]
                self._walk(inner, _product((own.a, own.b, own.c, own.d, own.e, own.f), matrix), depth + 1)

    def _is_filled(self, item: Any, kind: int) -> bool:
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        return kind != self._raw.FPDF_PAGEOBJ_PATH or bool(
            self._raw.FPDFPath_GetDrawMode(item, fill, stroke) and fill.value != self._raw.FPDF_FILLMODE_NONE
        )

    def _bounds(self, item: Any) -> tuple[float, ...]:
        values = [ctypes.c_float() for _ in range(4)]
        self._raw.FPDFPageObj_GetBounds(item, *values)
        return tuple(value.value for value in values)

    def is_faint(self, text: Any) -> bool:
        """Whether it is drawn in white, or hardly drawn."""
        red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
        told = self._raw.FPDFPageObj_GetFillColor(text, red, green, blue, alpha)
        mode = self._raw.FPDFTextObj_GetTextRenderMode(text)
        white = min(red.value, green.value, blue.value) >= WHITE or alpha.value <= 255 - WHITE
        return bool(told) and mode in (self._raw.FPDF_TEXTRENDERMODE_FILL, self._raw.FPDF_TEXTRENDERMODE_FILL_CLIP) and white

    def is_meant_to_be_seen(self, text: Any) -> bool:
        """Whether it is printed at all: what a scan's text was recognised as is not."""
        mode = self._raw.FPDFTextObj_GetTextRenderMode(text)
        return mode not in (self._raw.FPDF_TEXTRENDERMODE_INVISIBLE, self._raw.FPDF_TEXTRENDERMODE_CLIP)

    def differing(self, texts: list[Any]) -> Iterator[Any]:
        """The page drawn with these texts, then without them."""
        scale = min(1.0, PIXELS / max(self._page.get_size()))
        for shown in (True, False):
            for text in texts:
                self._raw.FPDFPageObj_SetIsActive(text, shown)
            yield self._page.render(scale=scale, grayscale=True, may_draw_forms=False, draw_annots=False)

    def to_pixels(self, box: tuple[float, ...], bitmap: Any) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a box on the bitmap."""
        x, y = ctypes.c_int(), ctypes.c_int()
        corners = []
        for across, up in ((box[0], box[1]), (box[2], box[3])):
            self._raw.FPDF_PageToDevice(self._page, 0, 0, bitmap.width, bitmap.height, 0, across, up, x, y)
            corners.append((x.value, y.value))
        (xa, ya), (xb, yb) = corners
        return max(min(xa, xb), 0), max(min(ya, yb), 0), min(max(xa, xb), bitmap.width), min(max(ya, yb), bitmap.height)


def _unseen(page: Any, textpage: Any, indices: list[int]) -> dict[str, object]:
    from pypdfium2 import raw  # noqa: PLC0415 - within the limits

    not_sought: dict[str, object] = {"covered": None, "faint": None}
    if time.process_time() > UNSEEN_SECONDS:
        return not_sought
    drawn = _Page(page)
    chosen: dict[int, Any] = {}
    suspects: list[tuple[str, int, tuple[float, ...]]] = []
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    for position, index in enumerate(indices):
        if time.process_time() > UNSEEN_SECONDS:
            return not_sought
        text = raw.FPDFText_GetTextObject(textpage, index)
        if not text or not chr(raw.FPDFText_GetUnicode(textpage, index)).isalnum() or not drawn.is_meant_to_be_seen(text):
            continue
        raw.FPDFText_GetCharBox(textpage, index, left, right, bottom, top)
        box: tuple[float, ...] = (left.value, bottom.value, right.value, top.value)
        rank = drawn.rank.get(_address(text), 0)
        beneath = any(when > rank and _share(box, cover) >= COVERED for when, cover in drawn.covers)
        if beneath or drawn.is_faint(text):
            suspects.append(("covered" if beneath else "faint", position, box))
            chosen[_address(text)] = text
    found: dict[str, list[int]] = {"covered": [], "faint": []}
    if suspects:
        with_them, without_them = drawn.differing(list(chosen.values()))
        for kind, position, box in suspects:
            if _is_same(with_them, without_them, drawn.to_pixels(box, with_them)):
                found[kind].append(position)
    return dict(found)


def _is_same(one: Any, other: Any, box: tuple[int, int, int, int]) -> bool:
    """Whether nobody would see a difference there; False where it is too small to tell, or off the page."""
    left, top, right, bottom = box
    if right - left < 1 or bottom - top < SMALLEST:
        return False
    for row in range(top, bottom):
        at = row * one.stride
        before, after = bytes(one.buffer[at + left : at + right]), bytes(other.buffer[at + left : at + right])
        if before != after and max(abs(a - b) for a, b in zip(before, after, strict=True)) > NOTICED:
            return False
    return True


def _address(item: Any) -> int:
    return ctypes.cast(item, ctypes.c_void_p).value or 0


def _area(box: tuple[float, ...]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _share(inner: tuple[float, ...], outer: tuple[float, ...]) -> float:
    common: tuple[float, ...] = (max(inner[0], outer[0]), max(inner[1], outer[1]), min(inner[2], outer[2]), min(inner[3], outer[3]))
    area = _area(inner)
    return _area(common) / area if area > 0 else 0.0


def _product(first: tuple[float, ...], then: tuple[float, ...]) -> tuple[float, ...]:
    a, b, c, d, e, f = first
    p, q, r, s, t, u = then
    return a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u


def _placed(box: tuple[float, ...], matrix: tuple[float, ...]) -> tuple[float, ...]:
    a, b, c, d, e, f = matrix
    corners = [(a * x + c * y + e, b * x + d * y + f) for x in (box[0], box[2]) for y in (box[1], box[3])]
    across, up = [x for x, _ in corners], [y for _, y in corners]
    return min(across), min(up), max(across), max(up)


if __name__ == "__main__":
    sys.exit(main())
