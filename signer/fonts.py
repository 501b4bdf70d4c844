"""The letters a stamp uses, embedded as a subset of a TrueType font (ISO 32000-1, 9.7 and 9.9).

Vietnamese in NFC has one glyph per letter, so nothing has to be shaped: each character is shown by its own glyph. pyHanko's
own font support is passed over because it takes a font's units for thousandths of an em, which those of Times-like fonts
are not.
"""

from __future__ import annotations

import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, NumberObject, StreamObject, pdf_name
from pyhanko.pdf_utils.writer import BasePdfFileWriter

from core.errors import Rejected, Unavailable

_ALWAYS = frozenset(map(chr, range(0x20, 0x7F)))
"""In every subset, so that stamps that differ in their time share one."""
_NEEDED = ["head", "hhea", "maxp", "hmtx", "loca", "glyf"]


@dataclass(frozen=True, slots=True)
class Subset:
    """A font program with the glyphs of some characters; every measure is in thousandths of an em."""

    name: str
    program: bytes
    glyphs: dict[str, int]
    widths: tuple[int, ...]
    """By glyph number."""
    ascent: int
    descent: int
    box: tuple[int, int, int, int]

    def width(self, text: str) -> float:
        """The advance of ``text`` in em."""
        return sum(self.widths[self.glyphs[char]] for char in text) / 1000

    def encode(self, text: str) -> bytes:
        """``text`` as the operand of Tj: two bytes per glyph, in hexadecimal."""
        return b"<%b>" % b"".join(b"%04X" % self.glyphs[char] for char in text)

    def embed(self, writer: BasePdfFileWriter) -> IndirectObject:
        """Put the font into the file; returns what goes into a /Font resource."""
        program = _stream(self.program, Length1=NumberObject(len(self.program)))
        descriptor = _dictionary(
            Type="/FontDescriptor",
            FontName=f"/{self.name}",
            Flags=NumberObject(4),  # symbolic: the glyphs are reached by number, not by a standard encoding
            FontBBox=ArrayObject(map(NumberObject, self.box)),
            ItalicAngle=NumberObject(0),
            Ascent=NumberObject(self.ascent),
            Descent=NumberObject(self.descent),
            CapHeight=NumberObject(self.ascent),
            StemV=NumberObject(80),
            FontFile2=writer.add_object(program),
            CIDSet=writer.add_object(_stream(self._cid_set())),  # PDF/A-1 asks for it (ISO 19005-1, 6.3.5)
        )
        system = DictionaryObject(
            {
                pdf_name("/Registry"): generic.pdf_string("Adobe"),
                pdf_name("/Ordering"): generic.pdf_string("Identity"),
                pdf_name("/Supplement"): NumberObject(0),
            }
        )
        descendant = _dictionary(
            Type="/Font",
            Subtype="/CIDFontType2",
            BaseFont=f"/{self.name}",
            CIDSystemInfo=system,
            CIDToGIDMap="/Identity",
            FontDescriptor=writer.add_object(descriptor),
            W=ArrayObject([NumberObject(0), ArrayObject(map(NumberObject, self.widths))]),
        )
        font = _dictionary(
            Type="/Font",
            Subtype="/Type0",
            BaseFont=f"/{self.name}",
            Encoding="/Identity-H",
            DescendantFonts=ArrayObject([writer.add_object(descendant)]),
            ToUnicode=writer.add_object(_stream(self._to_unicode())),
        )
        return writer.add_object(font)

    def _cid_set(self) -> bytes:
        """A bit for each glyph that is here, which is every one from 0 on."""
        count = len(self.widths)
        return (((1 << count) - 1) << (-count % 8)).to_bytes((count + 7) // 8, "big")

    def _to_unicode(self) -> bytes:
        pairs = [b"<%04X> <%b>" % (glyph, char.encode("utf-16-be").hex().encode()) for char, glyph in sorted(self.glyphs.items())]
        blocks = [pairs[start : start + 100] for start in range(0, len(pairs), 100)]
        body = b"\n".join(b"%d beginbfchar\n%b\nendbfchar" % (len(block), b"\n".join(block)) for block in blocks)
        return (
            b"/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
            b"/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
            b"/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def\n"
            b"1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n%b\n"
            b"endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend" % body
        )


def subset_font(path: Path, text: str) -> Subset:
    """The glyphs of ``path`` for the characters of ``text``.

    Raises Rejected("text", …) for characters the font has no glyph for, Unavailable when there is no such font.
    """
    return _subset(path, _ALWAYS | set(text))


@functools.lru_cache(maxsize=64)
def _subset(path: Path, chars: frozenset[str]) -> Subset:
    try:
        font = TTFont(path)
    except (OSError, TTLibError) as error:
        raise Unavailable("font", f"the font {path.name} for visible signatures is not installed") from error
    if "glyf" not in font:
        raise Unavailable("font", f"{path.name} has no TrueType outlines: name another font for visible signatures")
    missing = sorted(chars - {chr(code) for code in font.getBestCmap()})
    if missing:
        raise Rejected("text", f"the stamp's font has no sign for {', '.join(f'U+{ord(char):04X}' for char in missing[:10])}")
    name = next(str(record) for record in font["name"].names if record.nameID == 6)
    from fontTools import subset  # noqa: PLC0415 - 0.1 s, and no command draws; server.py has it

    cutter = subset.Subsetter(subset.Options(hinting=False, layout_features=[], notdef_outline=True))
    cutter.populate(text="".join(chars))
    cutter.subset(font)
    glyphs = {chr(code): font.getGlyphID(glyph) for code, glyph in font.getBestCmap().items() if chr(code) in chars}
    head = font["head"]

    def milli(units: int) -> int:
        return round(units * 1000 / int(head.unitsPerEm))

    for table in set(font.keys()) - {*_NEEDED, "GlyphOrder"}:
        del font[table]
    program = io.BytesIO()
    font.save(program)
    tag = "".join(chr(ord("A") + byte % 26) for byte in hashlib.sha256(program.getvalue()).digest()[:6])
    return Subset(
        name=f"{tag}+{name}",
        program=program.getvalue(),
        glyphs=glyphs,
        widths=tuple(milli(font["hmtx"][glyph][0]) for glyph in font.getGlyphOrder()),
        ascent=milli(font["hhea"].ascent),
        descent=milli(font["hhea"].descent),
        box=(milli(head.xMin), milli(head.yMin), milli(head.xMax), milli(head.yMax)),
    )


def _dictionary(**entries: generic.PdfObject | str) -> DictionaryObject:
    values = {key: pdf_name(value) if isinstance(value, str) else value for key, value in entries.items()}
    return DictionaryObject({pdf_name(f"/{key}"): value for key, value in values.items()})


def _stream(data: bytes, **entries: generic.PdfObject) -> StreamObject:
    stream = StreamObject(_dictionary(**entries), stream_data=data)
    stream.compress()
    return stream
