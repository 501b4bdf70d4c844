"""Looks: what each official profile draws and where, as data (TOML) that an agency may replace by its own.

``signer/looks/*.toml`` hold the looks of Nghị định 30/2020/NĐ-CP, Phụ lục I. All measures are in millimetres, sizes of text in
points. docs/operations.md describes the format for those who write one.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import Rejected, Violation
from signer.options import CopyKind, Profile
from signer.rasters import InkColour
from signer.stamps import Colour, format_time

LOOK_BYTES: Final = 20_000
POINTS: Final = 72 / 25.4
"""In a millimetre."""

Source = Literal["signature", "initials", "seal", "logo"]
"""Which picture: of a person (signature, initials) or of an agency (seal, logo)."""

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_LONGEST_TIME: Final = 60

Millimetres = Annotated[float, Field(gt=0, le=1200)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Inset = Annotated[float, Field(ge=0, le=600)]
PointSize = Annotated[float, Field(ge=4, le=72)]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
Line = Annotated[str, Field(max_length=200)]

COLOURS: Final[dict[str, Colour]] = {"black": (0.0, 0.0, 0.0), "red": (0.8, 0.05, 0.05), "blue": (0.05, 0.15, 0.65)}
PLACEHOLDERS: Final = frozenset(
    {
        *("number", "date", "day", "month", "year", "time", "copy", "comment"),
        *("signer", "agency", "agency_capitals", "organization", "email", "verification_page", "code"),
    }
)
"""What a line of text may name in braces. A line in which a named value is empty is left out."""


class _Part(BaseModel):
    """Common to all parts of a look: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PictureElement(_Part):
    """A picture; ``width`` keeps a column of that width at the left for it, else it fills the mark."""

    kind: Literal["picture"]
    source: Source
    colour: InkColour = "any"
    blend: Literal["normal", "multiply"] = "normal"
    required: bool = True
    by_request: bool = True
    """Whether a request may bring its own."""
    width: Millimetres | None = None


class TextElement(_Part):
    """Lines of text; ``box`` is x0, y0, x1, y1 from the mark's lower left corner (default: all that pictures leave)."""

    kind: Literal["text"]
    lines: tuple[Line, ...] = Field(min_length=1, max_length=20)
    box: tuple[Inset, Inset, Inset, Inset] | None = None
    font: Literal["regular", "bold", "italic", "bold-italic"] = "regular"
    size: PointSize = 10.0
    smallest: PointSize | None = None
    align: Literal["left", "center", "right"] = "left"
    colour: Literal["black", "red", "blue"] = "black"


class FrameElement(_Part):
    """The outline of the mark."""

    kind: Literal["frame"]
    line: Millimetres = 0.3
    colour: Literal["black", "red", "blue"] = "black"


class QrElement(_Part):
    """A QR code that leads to the signature's own page: a square at the mark's upper left."""

    kind: Literal["qr"]


Element = Annotated[PictureElement | TextElement | FrameElement | QrElement, Field(discriminator="kind")]


class NamePlace(_Part):
    """In the middle between the signer's title and printed name."""

    at: Literal["name"]


class SignaturePlace(_Part):
    """Over the leader's signature: the right edge ``overlap`` of its width inside it, middles on one height."""

    at: Literal["signature"]
    overlap: Fraction = 1 / 3


class BlankPlace(_Part):
    """In the blank behind “Số:”, or the blanks of “ngày … tháng … năm …”, on page 1."""

    at: Literal["number", "date"]


class TextPlace(_Part):
    """Right of the last place where one of these texts stands, tried in this order."""

    at: Literal["text"]
    find: tuple[Line, ...] = Field(min_length=1, max_length=10)


class CornerPlace(_Part):
    """``x`` and ``y`` from a corner of the first or last page; beneath (or above) signatures that stand there already."""

    at: Literal["corner"]
    corner: Corner
    page: Literal["first", "last"] = "first"
    x: Inset = 15.0
    y: Inset = 7.0


class FreePlace(_Part):
    """The first place without print inside ``window`` of page 1: x0, y0, x1, y1 as parts of the page, from its top left."""

    at: Literal["free"]
    window: tuple[Fraction, Fraction, Fraction, Fraction]


Place = Annotated[NamePlace | SignaturePlace | BlankPlace | TextPlace | CornerPlace | FreePlace, Field(discriminator="at")]


class MarkLook(_Part):
    """One drawing. Without ``height`` it is as high as its picture or its text needs; ``width`` may be a picture's own."""

    name: str = Field(pattern="^[A-Z][A-Za-z]{0,19}$")
    place: Place
    width: Millimetres | None = None
    height: Millimetres | None = None
    shrink: Annotated[float, Field(ge=0.1, le=1)] = 1.0
    """How far it may be scaled down in a field that stands in the document and is smaller; 1: it has its true size or none."""
    element: tuple[Element, ...] = Field(min_length=1, max_length=20)


class Look(_Part):
    """What a profile draws; the first mark is the signature's own, the others go with it."""

    title: Line
    time: Line = "%d.%m.%Y %H:%M:%S %z"
    date: Line = "%d/%m/%Y"
    copy_kinds: dict[CopyKind, Line] = Field(default={"sao-y": "Sao y", "sao-luc": "Sao lục", "trich-sao": "Trích sao"})
    mark: tuple[MarkLook, ...] = Field(min_length=1, max_length=8)

    @property
    def sources(self) -> frozenset[Source]:
        """The pictures it draws."""
        return frozenset(part.source for mark in self.mark for part in mark.element if isinstance(part, PictureElement))


@functools.lru_cache(maxsize=256)
def parse_look(data: bytes) -> Look:
    """The look in a TOML file. Raises Rejected with every violation, each named by where it stands in the file."""
    if len(data) > LOOK_BYTES:
        raise Rejected("look", f"it has {len(data)} bytes: at most {LOOK_BYTES} are taken")
    try:
        look = Look.model_validate(tomllib.loads(data.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Rejected("look", f"it is no TOML in UTF-8: {error}") from error
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise Rejected.all([Violation(".".join(map(str, item["loc"])) or "look", item["msg"]) for item in found]) from error
    violations = [*_check_lines(look), *_check_sizes(look)]
    if violations:
        raise Rejected.all(violations)
    return look


@functools.cache
def built_in(name: str) -> bytes:
    """The TOML of a look that comes with the software."""
    return resources.files("signer").joinpath("looks", f"{name}.toml").read_bytes()


LOOK_NAMES: Final = (*(name for name in get_args(Profile) if name != "plain"), "qr")
"""Every look there is; ``qr`` is what ``qr=true`` adds to the others."""


def placeholders(line: str) -> list[str]:
    """What a line of text names in braces."""
    return _PLACEHOLDER.findall(line)


def fill_in(line: str, values: Mapping[str, str]) -> str | None:
    """The line with its values in it; None when one of them is empty, so that the line is to be left out."""
    if any(not values.get(name) for name in placeholders(line)):
        return None
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], line)


def _check_lines(look: Look) -> Iterator[Violation]:
    for at, mark in enumerate(look.mark):
        for part in mark.element:
            for line in part.lines if isinstance(part, TextElement) else ():
                for name in placeholders(line):
                    if name not in PLACEHOLDERS:
                        message = f"{{{name[:40]}}} is not known: there are {', '.join(sorted(PLACEHOLDERS))}"
                        yield Violation(f"mark.{at}.element.lines", message)
    for field in ("time", "date"):
        try:
            shown = format_time(datetime(2025, 4, 15, tzinfo=UTC), getattr(look, field))
        except ValueError:
            shown = ""
        if not shown.strip() or not shown.isprintable() or len(shown) > _LONGEST_TIME:
            yield Violation(field, "is no pattern for a moment: such as %d.%m.%Y %H:%M:%S %z")


def _check_sizes(look: Look) -> Iterator[Violation]:
    for at, mark in enumerate(look.mark):
        kinds = {part.kind for part in mark.element}
        if isinstance(mark.place, BlankPlace):
            if kinds != {"text"} or len(mark.element) != 1 or mark.width is not None or mark.height is not None:
                yield Violation(
                    f"mark.{at}", "what goes into a blank is one element of text, and as large as that: no width, no height"
                )
            continue
        if mark.width is None:
            yield Violation(f"mark.{at}.width", "is needed, in millimetres")
        if kinds & {"frame", "qr"} and mark.height is None:
            yield Violation(f"mark.{at}.height", "is needed, in millimetres, for a frame or a QR code")
        boxes = [part.box for part in mark.element if isinstance(part, TextElement) and part.box is not None]
        for x0, y0, x1, y1 in boxes:
            if not (x0 < x1 <= (mark.width or 0) and y0 < y1 <= (mark.height or 0)):
                yield Violation(
                    f"mark.{at}.element.box", "must be x0, y0, x1, y1 with x0 < x1, y0 < y1, inside the mark's width and height"
                )
