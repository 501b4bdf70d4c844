"""A program of its own: tells where each letter of a PDF's pages stands. ``signer/page_text.py`` runs it.

PDFium is native code and the file may be hostile, so it reads it in a process that holds nothing worth stealing, may write no
file, and has a bounded amount of memory and of processor time. It imports nothing of ours.

Arguments: the descriptor of the file, the first and the last page (from 1; 0 is the document's last) in the order in which they
are wanted, and the most pages. Standard input: the password, or nothing. Standard output: a line of JSON for each page:
``{"page": 3, "text": "…", "places": [x0, y0, x1, y1, x, y, …]}`` with the box and the origin of each character, in the page's
own coordinates. Exit status 3: PDFium does not read the file.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys

MEMORY = 1 << 30
"""Bytes of address space."""
SECONDS = 10
"""Of processor time."""
CHARACTERS = 20_000
"""The most of a page that is looked at."""


def main() -> int:
    """Read the pages asked for."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pypdfium2  # noqa: PLC0415 - within the limits

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    descriptor, first, last, most = map(int, sys.argv[1:])
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
            sys.stdout.write(json.dumps(_read(document[number - 1].get_textpage(), number)) + "\n")
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


if __name__ == "__main__":
    sys.exit(main())
