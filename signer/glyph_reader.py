"""A program of its own: tells where each letter of a PDF's pages stands. ``signer/page_text.py`` runs it.

PDFium is native code and the file may be hostile, so it reads it in a process that holds nothing worth stealing, may write no
file, and has a bounded amount of memory and of processor time. It imports nothing of ours.

Arguments: the descriptor of the file, the first and the last page (from 1; 0 is the document's last) in the order in which they
are wanted, the most pages, and 1 to have the pages drawn as well. Standard input: the password, or nothing. Standard output: a
line of JSON for each page: ``{"page": 3, "text": "…", "places": [x0, y0, x1, y1, x, y, …]}`` with the box and the origin of each
character, in the page's own coordinates; of a drawn one also ``"ink": [width, height, "…"]`` with a grey value for each pixel in
base64, as it is shown. Exit status 3: PDFium does not read the file.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import sys
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


def main() -> int:
    """Read the pages asked for."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pypdfium2  # noqa: PLC0415 - within the limits

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    descriptor, first, last, most, drawn = map(int, sys.argv[1:])
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
            answer = _read(page.get_textpage(), number)
            sys.stdout.write(json.dumps({**answer, "ink": _ink(page)} if drawn else answer) + "\n")
            sys.stdout.flush()
        except pypdfium2.PdfiumError:
            continue  # a page that cannot be read has no text
    return 0


def _read(page: object, number: int) -> dict[str, object]:
    from pypdfium2 import raw  # noqa: PLC0415 - within the limits

    left, right, bottom, top, x, y = (ctypes.c_double() for _ in range(6))
    text, places = [], []
    for index in range(min(raw.FPDFText_CountChars(page), CHARACTERS)):
        code = raw.FPDFText_GetUnicode(page, index)
        if raw.FPDFText_IsGenerated(page, index) or code in range(0x21) or not code < 0x110000 or 0xD800 <= code < 0xE000:
            continue
        raw.FPDFText_GetCharBox(page, index, left, right, bottom, top)
        raw.FPDFText_GetCharOrigin(page, index, x, y)
        text.append(chr(code))
        places += [round(value.value, 3) for value in (left, bottom, right, top, x, y)]
    return {"page": number, "text": "".join(text), "places": places}


def _ink(page: Any) -> list[object]:
    width, height = page.get_size()
    bitmap = page.render(scale=min(INK_SCALE, INK_PIXELS / max(width, height)), grayscale=True, may_draw_forms=False)
    grey, stride = bytes(bitmap.buffer), bitmap.stride
    rows = [grey[row * stride : row * stride + bitmap.width] for row in range(bitmap.height)]
    return [bitmap.width, bitmap.height, base64.b64encode(b"".join(rows)).decode()]


if __name__ == "__main__":
    sys.exit(main())
