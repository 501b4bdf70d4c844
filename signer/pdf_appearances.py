"""/NeedAppearances: a form that asks viewers to draw its fields anew makes some of them draw no signature at all.

poppler puts what it generates for a field in the place of the field's appearance, and for a signature it generates nothing
(docs/adr/0006). So where nobody has signed yet, and every other field's appearance shows what the field holds, the first
signature's own revision takes the request back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from pyhanko.pdf_utils.generic import ArrayObject, BooleanObject, DictionaryObject, StreamObject

from signer.pdf_update import Update, entry, signature_fields, stream_data

_DEPTH: Final = 50
"""How deep a tree of fields may nest; real ones stay below ten."""
_MOST: Final = 5_000
"""Of more fields than this it is not found out what they show."""
_STRINGS: Final = re.compile(rb"\(((?:[^()\\]|\\.)*)\)|(?<!<)<([0-9A-Fa-f\s]*)>(?!>)", re.DOTALL)
"""Strings in a content stream, literal or hexadecimal; one with parentheses in it reads wrong, and then nothing is changed."""
_ESCAPED: Final = re.compile(rb"\\([0-7]{1,3}|\r\n|.)", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b"", b"\r": b"", b"\r\n": b""}


def settle_appearances(update: Update) -> None:
    """Take /NeedAppearances back where no earlier signature is there to forbid it and nothing looks different for it.

    To be called before this revision's signature has its value.
    """
    form = entry(update.root, "/AcroForm")
    if not entry(form, "/NeedAppearances") or "/Perms" in update.root:
        return
    if any(entry(field, "/V") is not None for _, _, field in signature_fields(update.root)):
        return
    for number, (kind, value, widget) in enumerate(_widgets(form)):
        if number >= _MOST or not _shows_what_it_holds(kind, value, widget):
            return
    form["/NeedAppearances"] = BooleanObject(False)
    update.update_container(form)


def _widgets(form: DictionaryObject) -> Iterator[tuple[Any, Any, DictionaryObject]]:
    """(/FT, /V, dictionary) of all that a form shows; type and value may be inherited (ISO 32000-1, 12.7.3.1)."""
    waiting = [(item, None, None, 0) for item in _items(entry(form, "/Fields"))]
    while waiting:
        field, kind, value, depth = waiting.pop()
        if not isinstance(field, DictionaryObject) or depth > _DEPTH:
            continue
        kind, value = entry(field, "/FT") or kind, entry(field, "/V") if "/V" in field else value
        kids = _items(entry(field, "/Kids"))
        waiting += [(kid, kind, value, depth + 1) for kid in kids]
        if not kids:
            yield kind, value, field


def _items(array: Any) -> list[Any]:
    return [item.get_object() for item in array] if isinstance(array, ArrayObject) else []


def _shows_what_it_holds(kind: Any, value: Any, widget: DictionaryObject) -> bool:
    """Whether a viewer that draws the field anew shows what its appearance shows; false where that is not certain."""
    if kind == "/Sig":
        return True
    drawn = entry(entry(widget, "/AP"), "/N")
    if kind == "/Btn":
        state = entry(widget, "/AS")
        chosen = value is None or state is None or state in ("/Off", value)
        return isinstance(drawn, DictionaryObject) and chosen
    if drawn is None:
        return not value and not entry(widget, "/MK")
    text = "" if value is None else value
    return isinstance(text, str) and isinstance(drawn, StreamObject) and _shown(drawn) == "".join(text.split())


def _shown(drawn: StreamObject) -> str | None:
    """The letters of an appearance without blanks, if its font has a simple encoding; None where it cannot be read."""
    content = stream_data(drawn)
    if content is None:
        return None
    found = bytearray()
    for literal, digits in _STRINGS.findall(content):
        hexadecimal = b"".join(digits.split()).decode()
        found += bytes.fromhex(hexadecimal + "0" * (len(hexadecimal) % 2)) if digits else _unescape(literal)
    return "".join(found.decode("latin-1").split())


def _unescape(literal: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        said = match[1]
        return bytes([int(said, 8) & 255]) if said.isdigit() and said[:1] < b"8" else _LETTERS.get(said, said)

    return _ESCAPED.sub(plain, literal)
