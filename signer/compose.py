"""From a look and a document to what is drawn where: the marks of one signature."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import segno
from PIL import Image

from core.errors import Rejected
from signer import places
from signer.blanks import Writing, write_date, write_number
from signer.layout import Layout
from signer.looks import (
    COLOURS,
    POINTS,
    BlankPlace,
    CornerPlace,
    FrameElement,
    FreePlace,
    Look,
    MarkLook,
    NamePlace,
    PictureElement,
    QrElement,
    SignaturePlace,
    Source,
    TextElement,
    fill_in,
)
from signer.marks import Mark
from signer.options import PdfOptions, parse_rectangle
from signer.pdf_update import Update
from signer.stamps import Box, Drawing, Element, Frame, Modules, Picture, TextBlock, TextRun, scaled, text_height, text_width
from signer.verification_pages import PageDraft

_DEFAULT_LEADER: Final = (45.0 * POINTS, 18.0 * POINTS)
"""The extent of a leader's picture where the file has none to go by."""
_COLUMN_GAP: Final = 2.0
"""In millimetres, between a picture and the text beside it."""
_SMALLEST: Final = 8.0
_ROUNDING: Final = 0.001


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A picture to draw; ``width`` is its real width in millimetres where it is known."""

    image: Image.Image
    width: float | None


@dataclass(frozen=True, slots=True)
class Act:
    """Everything about a signature's looks but the document: the look, what its lines name, its pictures, what the caller asked."""

    look: Look
    options: PdfOptions
    values: Mapping[str, str]
    """By placeholder (:data:`signer.looks.PLACEHOLDERS`); the empty ones may be missing."""
    pictures: Mapping[Source, KeptPicture]
    font: Path
    """The regular one; bold and italic stand beside it."""
    qr: Look | None = None
    page: PageDraft | None = None
    """The page its QR code leads to, at ``verification_url``."""
    verification_url: str = ""


def compose(update: Update, act: Act) -> list[Mark]:
    """The marks of ``act`` on the document behind which ``update`` goes; the first is the signature's own, and is not among them
    where the caller named a field for it.

    Raises Rejected naming the option that would help where a place is not found, something does not fit or a picture is missing.
    """
    composer = _Composer(Layout(update, act.options.password), act)
    looks = [(look, act.options.box if at == 0 else None) for at, look in enumerate(act.look.mark)]
    looks += [(look, None) for look in act.qr.mark] if act.qr is not None else []
    marks = [composer.mark(look, rectangle) for look, rectangle in looks[0 if act.options.field is None else 1 :]]
    return [mark for mark in marks if mark is not None]


def compose_in_field(update: Update, act: Act, size: places.Size) -> Drawing:
    """The first mark of ``act`` in a field of this width and height, as shown and in points.

    At its true size, text broken to the field's width; in a smaller field as much smaller as the look's ``shrink`` lets it be,
    never larger. Raises Rejected("field", …) for one that is too small, and as :func:`compose`.
    """
    return _Composer(Layout(update, act.options.password), act).in_field(act.look.mark[0], size)


class _Composer:
    """Sizes, places and draws the marks of one act."""

    def __init__(self, layout: Layout, act: Act) -> None:
        self._layout = layout
        self._act = act

    def mark(self, look: MarkLook, rectangle: Box | None) -> Mark | None:
        """The mark, or None when what it would write is printed already or was not given."""
        if isinstance(look.place, BlankPlace):
            return self._in_blank(look, look.place)
        size = self._size(look, rectangle)
        page, box = self._spot(look, size, rectangle)
        return Mark(page, box, self._drawing(look, size), look.name, self._act.look.title)

    def in_field(self, look: MarkLook, size: places.Size) -> Drawing:
        """The mark in the middle of a field; text alone from its top on, as in a rectangle."""
        natural = self._size(look, (0, 0, max(size[0], self._widest_word(look)), size[1]))
        if not natural[1]:
            return []  # its only picture is one that need not be there, and is not
        scale = min(1.0, size[0] / natural[0], size[1] / natural[1])
        if scale < look.shrink - _ROUNDING:
            wide, high = (value * look.shrink / POINTS for value in natural)
            raise Rejected(
                "field",
                f"it is {size[0] / POINTS:.1f} x {size[1] / POINTS:.1f} mm, and {look.name} of this profile takes {wide:.1f} x "
                f"{high:.1f} mm at least: enlarge it in the document, or leave field out",
            )
        wide, high = natural[0] * scale, natural[1] * scale
        text_alone = look.height is None and all(isinstance(part, TextElement) for part in look.element)
        y = size[1] - high if text_alone else (size[1] - high) / 2
        return scaled(self._drawing(look, natural), scale, (size[0] - wide) / 2, y)

    def _spot(self, look: MarkLook, size: places.Size, rectangle: Box | None) -> places.Spot:
        rule, page = look.place, self._act.options.page
        assert not isinstance(rule, BlankPlace)  # noqa: S101 - for the type checker: mark() sees to those
        if isinstance(rule, (CornerPlace, FreePlace)):
            if rectangle is not None:
                return self._instead(look, size, rectangle)
            spot = (
                places.at_corner(self._layout, rule, size, page)
                if isinstance(rule, CornerPlace)
                else places.at_free(self._layout, rule, size, page)
            )
            remedy = "the page has no room without print for it: give page and rectangle"
        elif isinstance(rule, SignaturePlace):
            spot = self._over_leader(rule, size)
            remedy = "no leader's signature shows on the document: give the leader's printed_name, or page and rectangle"
        elif isinstance(rule, NamePlace):
            name = self._act.options.printed_name or self._act.values["signer"]
            spot = places.at_name(self._layout, name, size, page)
            remedy = f"{name!r} is not found printed under a place to sign (or its font does not say which letters it shows): "
            remedy += "give printed_name as it is printed, or page and rectangle"
        else:
            spot = places.at_text(self._layout, rule, size, page)
            remedy = f"none of {', '.join(map(repr, rule.find))} is found in the text: give page and rectangle"
        if spot is None and rectangle is not None:
            spot = places.in_rectangle(rectangle, page, size)
        if spot is None:
            raise Rejected("rectangle", remedy)
        return spot

    def _instead(self, look: MarkLook, size: places.Size, rectangle: Box) -> places.Spot:
        """In the caller's rectangle: text from its top on, everything else in its middle."""
        if look.height is None:
            return self._act.options.page or 1, (rectangle[0], rectangle[3] - size[1], rectangle[0] + size[0], rectangle[3])
        return places.in_rectangle(rectangle, self._act.options.page, size)

    def _over_leader(self, rule: SignaturePlace, size: places.Size) -> places.Spot | None:
        name, page = self._act.options.printed_name, self._act.options.page
        named = None if name is None else places.at_name(self._layout, name, _DEFAULT_LEADER, page)
        leader = places.leader_of(self._layout, named)
        spot = named if leader is None else (leader.page, self._layout.picture_of(leader))
        return None if spot is None else places.at_signature(rule, spot, size)

    def _in_blank(self, look: MarkLook, rule: BlankPlace) -> Mark | None:
        part = next(part for part in look.element if isinstance(part, TextElement))
        font, options = self._font(part), self._act.options
        text = self._layout.text(1)
        writing: Writing | None
        if rule.at == "number":
            if options.number is None:
                return None
            writing = write_number(text, options.number, font=font, size=part.size)
            rectangle, field, what = (
                options.number_rectangle,
                "number_rectangle",
                "“Số:” with a free and wide enough blank behind it",
            )
        else:
            if options.issued_on is None:
                return None
            writing = write_date(text, options.issued_on, font=font, size=part.size)
            rectangle, field, what = (
                options.date_rectangle,
                "date_rectangle",
                "“ngày … tháng … năm …” with free and wide enough blanks",
            )
        if writing is None or self._is_signed_over(writing):
            if rectangle is None:
                raise Rejected(field, f"{what} is not found on page 1: give {field}")
            box = parse_rectangle(rectangle)
            block = self._block(look, part, (0, 0, box[2] - box[0], box[3] - box[1]), smallest=_SMALLEST)
            return Mark(1, box, [block], look.name, self._act.look.title, option=field)
        if not writing.runs:
            return None
        x0, y0 = writing.box[:2]
        drawing = [TextRun(run.text, run.x - x0, run.y - y0, run.font, run.size, COLOURS[part.colour]) for run in writing.runs]
        return Mark(1, writing.box, drawing, look.name, self._act.look.title)

    def _is_signed_over(self, writing: Writing) -> bool:
        """Whether an earlier signature shows where it would go, and so fills the blank."""
        shown = [field.box for field in self._layout.signatures if field.page == 1]
        return bool(writing.runs) and places.first_hit(writing.box, shown, 0) is not None

    def _size(self, look: MarkLook, rectangle: Box | None) -> places.Size:
        """Width and height in points."""
        pictures = [(part, picture) for part in look.element if (picture := self._picture(part)) is not None]
        alone = [picture for part, picture in pictures if isinstance(part, PictureElement) and part.width is None]
        width = (look.width or 0) * POINTS
        if len(alone) == 1 and alone[0].width is not None:
            width = alone[0].width * POINTS
        if look.height is not None:
            return width, look.height * POINTS
        if rectangle is not None and not pictures:
            width = rectangle[2] - rectangle[0]
        heights = [0.0]
        for part, picture in pictures:
            across = part.width * POINTS if isinstance(part, PictureElement) and part.width is not None else width
            heights.append(across * picture.image.height / picture.image.width)
        texts = [self._block(look, part, (self._left(look), 0, width, 0)) for part in look.element if isinstance(part, TextElement)]
        heights += map(text_height, texts)
        return width, max(heights)

    def _widest_word(self, look: MarkLook) -> float:
        blocks = [self._block(look, part, (0, 0, 0, 0)) for part in look.element if isinstance(part, TextElement)]
        return max((text_width(word, block.font, block.size) for block in blocks for word in block.text.split()), default=0.0)

    def _left(self, look: MarkLook) -> float:
        """What columns of pictures take from the mark's width."""
        columns = [part.width for part in look.element if isinstance(part, PictureElement) and part.width and self._picture(part)]
        return sum((column + _COLUMN_GAP) * POINTS for column in columns)

    def _drawing(self, look: MarkLook, size: places.Size) -> Drawing:
        drawing: list[Element] = []
        width, height = size
        column = 0.0
        for part in look.element:
            if isinstance(part, TextElement):
                box = (self._left(look), 0.0, width, height) if part.box is None else tuple(value * POINTS for value in part.box)
                drawing.append(self._block(look, part, (box[0], box[1], box[2], box[3]), smallest=part.smallest))
            elif isinstance(part, FrameElement):
                inset = part.line * POINTS / 2
                drawing.append(Frame((inset, inset, width - inset, height - inset), part.line * POINTS, COLOURS[part.colour]))
            elif isinstance(part, QrElement):
                drawing.append(Modules(_qr_rows(self._act.verification_url), (0, 0, width, height)))
            elif (picture := self._picture(part)) is not None:
                wide = width if part.width is None else part.width * POINTS
                drawing.append(Picture(picture.image, (column, 0, column + wide, height), multiply=part.blend == "multiply"))
                column += 0 if part.width is None else wide + _COLUMN_GAP * POINTS
        return drawing

    def _block(self, look: MarkLook, part: TextElement, box: Box, smallest: float | None = None) -> TextBlock:
        lines = [line for pattern in part.lines if (line := fill_in(pattern, self._act.values)) is not None]
        if not lines:
            raise Rejected("profile", f"the look has nothing to say in {look.name}: the values its lines name are not known here")
        least = part.size if smallest is None else smallest
        text = unicodedata.normalize("NFC", "\n".join(lines))
        return TextBlock(text, box, self._font(part), part.size, least, part.align, COLOURS[part.colour])

    def _picture(self, part: object) -> KeptPicture | None:
        if not isinstance(part, PictureElement):
            return None
        found = self._act.pictures.get(part.source)
        if found is None and part.required:
            raise Rejected(
                "image", f"no {_NAMES[part.source]} is kept here: keep one ({_REMEDIES[part.source]}), or send it as the part image"
            )
        return found

    def _font(self, part: TextElement) -> Path:
        style = {"regular": "Regular", "bold": "Bold", "italic": "Italic", "bold-italic": "BoldItalic"}[part.font]
        return self._act.font.with_name(self._act.font.name.replace("Regular", style))


def _qr_rows(url: str) -> tuple[tuple[bool, ...], ...]:
    """The code with its quiet zone of four modules (ISO/IEC 18004), a quarter of it expendable or so (level M)."""
    code = segno.make(url, error="m", micro=False)
    return tuple(tuple(bool(cell) for cell in row) for row in code.matrix_iter(border=4))


_NAMES: Final[dict[Source, str]] = {
    "signature": "picture of the signer's signature",
    "initials": "picture of the signer's initials",
    "seal": "picture of the agency's seal",
    "logo": "picture of the agency's logo",
}
_REMEDIES: Final[dict[Source, str]] = {
    "signature": "PUT /v1/subscribers/{handle}/signature-image",
    "initials": "PUT /v1/subscribers/{handle}/initials-image",
    "seal": "PUT /v1/agencies/{code}/seal",
    "logo": "PUT /v1/agencies/{code}/logo",
}
