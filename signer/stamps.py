"""What a visible signature looks like: text in an embedded font, a picture, or the picture beside the text."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID
from PIL import Image
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, FloatObject, IndirectObject, StreamObject, pdf_name
from pyhanko.pdf_utils.images import pil_image
from pyhanko.pdf_utils.writer import BasePdfFileWriter

from core.errors import Rejected
from signer.fonts import Subset, subset_font

VIETNAM = timezone(timedelta(hours=7))
IMAGE_BYTES = 3_500_000
IMAGE_PIXELS = 16_000_000

_FONT_SIZE = 10.0
_SMALLEST = 4.0
_LEADING = 1.15
_MARGIN = 2.0
_IMAGE_SHARE = 0.35
"""Of the stamp's width, for the picture that stands left of text."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is drawn: ``text`` (lines ended by a line feed), ``image`` (PNG), or both; ``font`` is a TrueType or OpenType file."""

    text: str
    image: Image.Image | None
    font: Path


def parse_image(data: bytes) -> Image.Image:
    """The PNG as RGB or RGBA pixels. Raises Rejected("image", …) for anything else, or for too much of it."""
    if len(data) > IMAGE_BYTES:
        raise Rejected("image", f"the picture has {len(data)} bytes: at most {IMAGE_BYTES} are taken")
    with _decoding():
        image = Image.open(io.BytesIO(data), formats=["PNG"])
    if image.width * image.height > IMAGE_PIXELS:
        raise Rejected("image", f"the picture has {image.width} x {image.height} pixels: at most {IMAGE_PIXELS} are taken")
    if image.mode.startswith(("I", "F")):
        raise Rejected("image", "the picture has 16 bits per pixel: save it with 8 bits per channel")
    with _decoding():
        image.load()
        transparent = "transparency" in image.info or image.mode.endswith("A")
        return image.convert("RGBA" if transparent else "RGB")


def default_text(certificate: x509.Certificate, at: datetime) -> str:
    """Who, for which agency, and when in Vietnam: what is drawn when the caller gives neither text nor picture."""
    lines = [("Ký bởi", _subject(certificate, NameOID.COMMON_NAME)), ("Cơ quan", _subject(certificate, NameOID.ORGANIZATION_NAME))]
    if lines[0][1] == lines[1][1]:
        lines.pop()
    lines.append(("Thời gian ký", format_time(at)))
    return "\n".join(f"{label}: {value}" for label, value in lines if value)


def format_time(at: datetime) -> str:
    """The moment as Vietnamese stamps write it, zone included: ``15.04.2025 16:28:33 +07:00``."""
    return at.astimezone(VIETNAM).strftime("%d.%m.%Y %H:%M:%S +07:00")


def build_appearance(stamp: Stamp, writer: BasePdfFileWriter, *, width: float, height: float, rotation: int) -> IndirectObject:
    """The stamp as a form XObject of ``width`` x ``height`` points, upright on a page shown turned by ``rotation`` degrees.

    Raises Rejected("text", …) for a letter the font lacks, Rejected("rectangle", …) when the text does not fit.
    """
    resources = DictionaryObject()
    drawing, left = [], _MARGIN
    if stamp.image is not None:
        share = width * _IMAGE_SHARE if stamp.text else width
        drawing.append(_draw_image(stamp.image, writer, resources, width=share, height=height))
        left = share + _MARGIN if stamp.text else _MARGIN
    if stamp.text:
        drawing.append(_draw_text(stamp, writer, resources, left=left, width=width - left - _MARGIN, height=height))
    turned = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[rotation]
    form = StreamObject(
        DictionaryObject(
            {
                pdf_name("/Type"): pdf_name("/XObject"),
                pdf_name("/Subtype"): pdf_name("/Form"),
                pdf_name("/BBox"): ArrayObject([FloatObject(value) for value in (0, 0, round(width, 4), round(height, 4))]),
                pdf_name("/Matrix"): ArrayObject([generic.NumberObject(value) for value in (*turned, 0, 0)]),
                pdf_name("/Resources"): resources,
            }
        ),
        stream_data=b"\n".join(drawing),
    )
    form.compress()
    return writer.add_object(form)


@contextmanager
def _decoding() -> Iterator[None]:
    """The edge around Pillow, which raises OSError, SyntaxError, ValueError, struct.error, zlib.error, … on hostile bytes."""
    try:
        yield
    except Exception as error:
        raise Rejected("image", "the picture is not a PNG that can be read: send a PNG") from error


def _draw_image(
    image: Image.Image, writer: BasePdfFileWriter, resources: DictionaryObject, *, width: float, height: float
) -> bytes:
    scale = min(width / image.width, height / image.height)
    wide, high = image.width * scale, image.height * scale
    resources["/XObject"] = DictionaryObject({pdf_name("/Image"): pil_image(image, writer)})
    return b"q %.4f 0 0 %.4f %.4f %.4f cm /Image Do Q" % (wide, high, (width - wide) / 2, (height - high) / 2)


def _draw_text(
    stamp: Stamp, writer: BasePdfFileWriter, resources: DictionaryObject, *, left: float, width: float, height: float
) -> bytes:
    text = unicodedata.normalize("NFC", stamp.text)
    font = subset_font(stamp.font, text.replace("\n", " "))
    size, lines = _fit(text, font, width=width, height=height - 2 * _MARGIN)
    resources["/Font"] = DictionaryObject({pdf_name("/Text"): font.embed(writer)})
    free = height - len(lines) * size * _LEADING
    top = height - free / 2 - size * font.ascent / 1000
    shown = [b"1 0 0 1 %.4f %.4f Tm %b Tj" % (left, top - at * size * _LEADING, font.encode(line)) for at, line in enumerate(lines)]
    return b"\n".join([b"BT 0 g /Text %.2f Tf" % size, *shown, b"ET"])


def _fit(text: str, font: Subset, *, width: float, height: float) -> tuple[float, list[str]]:
    """The largest size up to 10 points at which the text, broken between words, fits; and its lines."""
    widest = max((font.width(word) for word in text.split()), default=0.0)
    size = _FONT_SIZE
    while size >= _SMALLEST:
        lines = [line for given in text.split("\n") for line in _wrap(given.split(), font, width / size)]
        if len(lines) * size * _LEADING <= height and widest * size <= width:
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
