"""What a visible signature is drawn with: text in an embedded font, pictures, frames, QR codes; and the plain stamp of them.

A :class:`Drawing` is data in points, upright as it will be seen; :func:`build_appearance` turns it into a form XObject. Colours
are calibrated ones (CalGray, CalRGB), which every part of PDF/A takes without asking what the file's output intent is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.x509.oid import NameOID
from PIL import Image
from pyhanko.pdf_utils.generic import (
    ArrayObject,
    DictionaryObject,
    FloatObject,
    IndirectObject,
    NumberObject,
    PdfObject,
    StreamObject,
    pdf_name,
)
from pyhanko.pdf_utils.writer import BasePdfFileWriter

from core.errors import Rejected
from signer.fonts import Subset, subset_font
from signer.rasters import colour_space, embed_image, grey_space

VIETNAM = timezone(timedelta(hours=7))

_FONT_SIZE: Final = 10.0
_SMALLEST: Final = 4.0
LEADING: Final = 1.15
"""From base line to base line, in sizes of the font."""
_MARGIN: Final = 2.0
_ROUNDING: Final = 0.01
_IMAGE_SHARE: Final = 0.35
"""Of the stamp's width, for the picture that stands left of text."""

Box = tuple[float, float, float, float]
Colour = tuple[float, float, float]
BLACK: Final[Colour] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as large as fits ``box``, in its middle; ``multiply``: as ink, what lies beneath stays readable."""

    image: Image.Image
    box: Box
    multiply: bool = False


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Lines broken between words, in the middle of the box's height, at ``size`` or as far below it as ``smallest`` allows."""

    text: str
    box: Box
    font: Path
    size: float = _FONT_SIZE
    smallest: float = _SMALLEST
    align: Literal["left", "center", "right"] = "left"
    colour: Colour = BLACK


@dataclass(frozen=True, slots=True)
class TextRun:
    """One piece of text from ``x`` on, on the base line ``y``."""

    text: str
    x: float
    y: float
    font: Path
    size: float
    colour: Colour = BLACK


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle's outline."""

    box: Box
    line: float
    colour: Colour = BLACK


@dataclass(frozen=True, slots=True)
class Modules:
    """The dark squares of a QR code, rows from the top, its quiet zone included; white behind them."""

    rows: tuple[tuple[bool, ...], ...]
    box: Box


Element = Picture | TextBlock | TextRun | Frame | Modules
Drawing = Sequence[Element]


def plain_stamp(text: str, image: Image.Image | None, font: Path, *, width: float, height: float) -> list[Element]:
    """The stamp of a caller's own making: text (lines ended by a line feed), a picture, or the picture left of the text."""
    drawing: list[Element] = []
    left = _MARGIN
    if image is not None:
        share = width * _IMAGE_SHARE if text else width
        drawing.append(Picture(image, (0, 0, share, height)))
        left = share + _MARGIN
    if text:
        drawing.append(TextBlock(text, (left, _MARGIN, width - _MARGIN, height - _MARGIN), font))
    return drawing


def default_text(certificate: x509.Certificate, at: datetime) -> str:
    """Who, for which agency, and when in Vietnam: what is drawn when the caller gives neither text nor picture."""
    lines = [("Ký bởi", _subject(certificate, NameOID.COMMON_NAME)), ("Cơ quan", _subject(certificate, NameOID.ORGANIZATION_NAME))]
    if lines[0][1] == lines[1][1]:
        lines.pop()
    lines.append(("Thời gian ký", format_time(at)))
    return "\n".join(f"{label}: {value}" for label, value in lines if value)


def format_time(at: datetime, pattern: str = "%d.%m.%Y %H:%M:%S %z") -> str:
    """The moment as Vietnamese stamps write it, zone included: ``15.04.2025 16:28:33 +07:00``; ``%z`` is ``+07:00``."""
    return at.astimezone(VIETNAM).strftime(pattern.replace("%z", "+07:00"))


def text_height(block: TextBlock) -> float:
    """How high the lines of ``block`` are at its size, broken to its width; raises Rejected("text", …) for what the font lacks."""
    text = unicodedata.normalize("NFC", block.text)
    font = _font(block.font, text)
    return len(_lines(text, font, (block.box[2] - block.box[0]) / block.size)) * block.size * LEADING


def text_width(text: str, font: Path, size: float) -> float:
    """The advance of ``text`` in points."""
    return _font(font, text).width(text) * size


def scaled(drawing: Drawing, by: float, x: float, y: float) -> list[Element]:
    """The drawing ``by`` times as large, with its lower left corner at ``x``, ``y``."""

    def moved(box: Box) -> Box:
        return box[0] * by + x, box[1] * by + y, box[2] * by + x, box[3] * by + y

    found: list[Element] = []
    for element in drawing:
        if isinstance(element, TextRun):
            found.append(replace(element, x=element.x * by + x, y=element.y * by + y, size=element.size * by))
        elif isinstance(element, TextBlock):
            found.append(replace(element, box=moved(element.box), size=element.size * by, smallest=element.smallest * by))
        elif isinstance(element, Frame):
            found.append(replace(element, box=moved(element.box), line=element.line * by))
        else:
            found.append(replace(element, box=moved(element.box)))
    return found


def build_appearance(
    drawing: Drawing, writer: BasePdfFileWriter, *, width: float, height: float, rotation: int, transparency: bool = True
) -> IndirectObject:
    """The drawing as a form XObject of ``width`` x ``height`` points, upright on a page shown turned by ``rotation`` degrees.

    Without ``transparency`` pictures have hard edges and nothing shines through them (PDF/A-1 forbids more). Raises
    Rejected("text", …) for a letter the font lacks, Rejected("rectangle", …) when text does not fit.
    """
    brush = _Brush(writer, transparency=transparency)
    operators = [brush.draw(element) for element in drawing]
    turned = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[rotation]
    form = StreamObject(
        DictionaryObject(
            {
                pdf_name("/Type"): pdf_name("/XObject"),
                pdf_name("/Subtype"): pdf_name("/Form"),
                pdf_name("/BBox"): ArrayObject([FloatObject(value) for value in (0, 0, round(width, 4), round(height, 4))]),
                pdf_name("/Matrix"): ArrayObject([NumberObject(value) for value in (*turned, 0, 0)]),
                pdf_name("/Resources"): brush.resources,
            }
        ),
        stream_data=b"\n".join(operators),
    )
    form.compress()
    return writer.add_object(form)


class _Brush:
    """Writes the operators of one form XObject and gathers the resources they name."""

    def __init__(self, writer: BasePdfFileWriter, *, transparency: bool) -> None:
        self._writer = writer
        self._transparency = transparency
        self._names: dict[tuple[str, object], bytes] = {}
        self.resources = DictionaryObject()

    def draw(self, element: Element) -> bytes:
        """The operators that draw one element."""
        if isinstance(element, Picture):
            return self._picture(element)
        if isinstance(element, TextBlock):
            return self._block(element)
        if isinstance(element, TextRun):
            text = unicodedata.normalize("NFC", element.text)
            font = _font(element.font, text)
            return self._text(font, element.size, [(element.x, element.y, text)], element.colour)
        if isinstance(element, Frame):
            x0, y0, x1, y1 = element.box
            outline = b"%.4f w %.4f %.4f %.4f %.4f re S" % (element.line, x0, y0, x1 - x0, y1 - y0)
            return b"q %b %b Q" % (self._ink(element.colour, stroke=True), outline)
        return self._modules(element)

    def _picture(self, picture: Picture) -> bytes:
        x0, y0, x1, y1 = picture.box
        image = picture.image
        scale = min((x1 - x0) / image.width, (y1 - y0) / image.height)
        wide, high = image.width * scale, image.height * scale
        embed = partial(embed_image, image, self._writer, transparency=self._transparency)
        name = self._resource("/XObject", id(image), embed)
        left, bottom = (x0 + x1 - wide) / 2, (y0 + y1 - high) / 2
        blend = b""
        if picture.multiply and self._transparency:
            blend = b"/%b gs " % self._resource("/ExtGState", "multiply", _multiply)
        return b"q %b%.4f 0 0 %.4f %.4f %.4f cm /%b Do Q" % (blend, wide, high, left, bottom, name)

    def _block(self, block: TextBlock) -> bytes:
        text = unicodedata.normalize("NFC", block.text)
        font = _font(block.font, text)
        x0, y0, x1, y1 = block.box
        size, lines = _fit(text, font, block, width=x1 - x0, height=y1 - y0)
        free = y1 - y0 - len(lines) * size * LEADING
        top = y1 - free / 2 - size * font.ascent / 1000
        slack = {"left": 0.0, "center": 0.5, "right": 1.0}[block.align]
        placed = []
        for at, line in enumerate(lines):
            placed.append((x0 + slack * (x1 - x0 - font.width(line) * size), top - at * size * LEADING, line))
        return self._text(font, size, placed, block.colour)

    def _text(self, font: Subset, size: float, placed: Sequence[tuple[float, float, str]], colour: Colour) -> bytes:
        name = self._resource("/Font", font.name, partial(font.embed, self._writer))
        shown = [b"1 0 0 1 %.4f %.4f Tm %b Tj" % (x, y, font.encode(line)) for x, y, line in placed if line]
        return b"\n".join([b"q %b BT /%b %.2f Tf" % (self._ink(colour), name, size), *shown, b"ET Q"])

    def _modules(self, modules: Modules) -> bytes:
        x0, y0, x1, y1 = modules.box
        count = len(modules.rows)
        step = min(x1 - x0, y1 - y0) / count
        dark = [
            b"%.4f %.4f %.4f %.4f re" % (x0 + column * step, y1 - (row + 1) * step, step, step)
            for row, cells in enumerate(modules.rows)
            for column, cell in enumerate(cells)
            if cell
        ]
        ground = b"%.4f %.4f %.4f %.4f re f" % (x0, y1 - count * step, count * step, count * step)
        return b"\n".join([b"q", self._ink((1.0, 1.0, 1.0)), ground, self._ink(BLACK), *dark, b"f Q"])

    def _ink(self, colour: Colour, *, stroke: bool = False) -> bytes:
        """The operators that set a colour for filling, or for drawing lines."""
        space, paint = (b"CS", b"SC") if stroke else (b"cs", b"sc")
        if len(set(colour)) == 1:
            name = self._resource("/ColorSpace", "grey", grey_space)
            return b"/%b %b %.3f %b" % (name, space, colour[0], paint)
        name = self._resource("/ColorSpace", "colour", colour_space)
        return b"/%b %b %.3f %.3f %.3f %b" % (name, space, *colour, paint)

    def _resource(self, kind: str, key: object, make: Callable[[], PdfObject]) -> bytes:
        """The name under which the resource of that kind and key stands, made when it is first asked for."""
        if (kind, key) not in self._names:
            entries = self.resources.setdefault(pdf_name(kind), DictionaryObject())
            name = self._names[kind, key] = b"%b%d" % (kind[1:2].encode(), len(entries))
            entries[pdf_name(f"/{name.decode()}")] = make()
        return self._names[kind, key]


def _multiply() -> DictionaryObject:
    return DictionaryObject({pdf_name("/Type"): pdf_name("/ExtGState"), pdf_name("/BM"): pdf_name("/Multiply")})


def _font(path: Path, text: str) -> Subset:
    return subset_font(path, text.replace("\n", " "))


def _lines(text: str, font: Subset, width: float) -> list[str]:
    return [line for given in text.split("\n") for line in _wrap(given.split(), font, width)]


def _fit(text: str, font: Subset, block: TextBlock, *, width: float, height: float) -> tuple[float, list[str]]:
    """The largest size the block allows at which the text fits, and its lines."""
    widest = max((font.width(word) for word in text.split()), default=0.0)
    size = block.size
    while size >= block.smallest:
        lines = _lines(text, font, width / size)
        if len(lines) * size * LEADING <= height + _ROUNDING and widest * size <= width + _ROUNDING:
            return size, lines
        size -= 0.5
    raise Rejected("rectangle", "the text does not fit into the stamp, even in small print: give a larger rectangle or less text")


def _wrap(words: list[str], font: Subset, width: float) -> list[str]:
    """Lines of at most ``width`` em, an overlong word on a line of its own; no words are one empty line."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.width(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _subject(certificate: x509.Certificate, name: x509.ObjectIdentifier) -> str:
    return ", ".join(str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(name))
