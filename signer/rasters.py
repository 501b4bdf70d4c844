"""Pictures: PNG bytes checked and turned into pixels, pixels turned into image XObjects (ISO 32000-1, 8.9).

A picture with transparency gets a soft mask. Where the file may not have one (PDF/A-1, or PDF/A without an output intent, whose
pages would need a blending colour space), it gets a stencil mask instead: each pixel is painted or is not.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from PIL import Image, ImageChops
from pyhanko.pdf_utils.generic import (
    ArrayObject,
    BooleanObject,
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

IMAGE_BYTES: Final = 3_500_000
IMAGE_PIXELS: Final = 16_000_000

InkColour = Literal["blue", "red", "any"]
"""What the drawn part of a picture has to be (Nghị định 30/2020/NĐ-CP, Phụ lục I): a person's signature blue, a seal red."""

_HUES: Final = {"blue": (140, 188), "red": (236, 18)}
"""From and to on Pillow's circle of 256 hues: 197° to 264°, and 332° to 25°."""
_DISTINCT: Final = 60
"""Saturation (of 255) from which a pixel has a hue worth counting."""
_SHARE: Final = 0.6
"""Of the visible pixels that must be of the colour, and (the rest of it) of the area that must be see-through at least."""
_SEE_THROUGH: Final = 0.1


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


def check_ink(image: Image.Image, colour: InkColour) -> None:
    """Whether it is a drawing in ``colour`` on a transparent ground. Raises Rejected("image", …) saying what to mend."""
    if colour == "any":
        return
    if image.mode != "RGBA" or _share(image.getchannel("A").point(lambda alpha: 255 * (alpha < 128))) < _SEE_THROUGH:
        raise Rejected(
            "image", "the picture has no transparent background: save it as a PNG with the paper cut out (alpha channel)"
        )
    visible = image.getchannel("A").point(lambda alpha: 255 * (alpha >= 128))
    drawn = visible.histogram()[255]
    if drawn == 0:
        raise Rejected("image", "the picture is transparent all over: there is nothing to draw")
    hue, saturation, _ = image.convert("RGB").convert("HSV").split()
    low, high = _HUES[colour]
    inside = (lambda value: 255 * (low <= value <= high)) if low < high else (lambda value: 255 * (value >= low or value <= high))
    coloured = ImageChops.multiply(hue.point(inside), saturation.point(lambda value: 255 * (value >= _DISTINCT)))
    share = ImageChops.multiply(coloured, visible).histogram()[255] / drawn
    if share < _SHARE:
        what = {"blue": "a person's signature is blue", "red": "a seal is red"}[colour]
        raise Rejected("image", f"only {share:.0%} of the picture is {colour}, and {what}: scan it in colour, or mend its colour")


def embed_image(image: Image.Image, writer: BasePdfFileWriter, *, transparency: bool) -> IndirectObject:
    """The pixels as an image XObject of ``writer``'s file."""
    entries: dict[str, PdfObject] = {"/ColorSpace": colour_space(), "/BitsPerComponent": NumberObject(8)}
    pixels = image
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        if transparency:
            mask = {"/ColorSpace": pdf_name("/DeviceGray"), "/BitsPerComponent": NumberObject(8)}
            entries["/SMask"] = writer.add_object(_image_object(alpha, mask))
            pixels = image.convert("RGB")
        else:
            stencil = alpha.point(lambda value: 255 * (value < 128)).convert("1")  # a set bit is left out (8.9.6.3)
            entries["/Mask"] = writer.add_object(_image_object(stencil, {"/ImageMask": BooleanObject(True)}))
            pixels = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return writer.add_object(_image_object(pixels, entries))


def colour_space() -> ArrayObject:
    """sRGB in the terms of CalRGB (ISO 32000-1, 8.6.5.3), adapted to D50: not every viewer adapts another white by itself."""
    matrix = (0.43607, 0.22250, 0.01393, 0.38506, 0.71688, 0.09710, 0.14308, 0.06062, 0.71417)
    return _calibrated("/CalRGB", Gamma=_numbers(2.2, 2.2, 2.2), Matrix=_numbers(*matrix))


def grey_space() -> ArrayObject:
    """The greys of sRGB (ISO 32000-1, 8.6.5.2)."""
    return _calibrated("/CalGray", Gamma=FloatObject(2.2))


def _calibrated(kind: str, **entries: PdfObject) -> ArrayObject:
    parameters = DictionaryObject({pdf_name(f"/{key}"): value for key, value in entries.items()})
    parameters["/WhitePoint"] = _numbers(0.9642, 1.0, 0.8249)
    return ArrayObject([pdf_name(kind), parameters])


def _numbers(*values: float) -> ArrayObject:
    return ArrayObject(map(FloatObject, values))


def _image_object(pixels: Image.Image, entries: dict[str, PdfObject]) -> StreamObject:
    every: dict[str, PdfObject] = {"/Type": pdf_name("/XObject"), "/Subtype": pdf_name("/Image")}
    every |= {"/Width": NumberObject(pixels.width), "/Height": NumberObject(pixels.height), **entries}
    stream = StreamObject(DictionaryObject({pdf_name(key): value for key, value in every.items()}), stream_data=pixels.tobytes())
    stream.compress()
    return stream


def _share(mask: Image.Image) -> float:
    return mask.histogram()[255] / (mask.width * mask.height)


@contextmanager
def _decoding() -> Iterator[None]:
    """The edge around Pillow, which raises OSError, SyntaxError, ValueError, struct.error, zlib.error, … on hostile bytes."""
    try:
        yield
    except Exception as error:
        raise Rejected("image", "the picture is not a PNG that can be read: send a PNG") from error
