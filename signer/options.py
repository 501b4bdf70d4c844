"""What a caller may say about a PDF signature: query parameters and JSON alike, and what the OpenAPI document shows."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Level = Literal["B-B", "B-T"]
"""AdES baseline levels (ETSI EN 319 142-1, EN 319 132-1): the signature alone, or with a timestamp over it."""

_NUMBER = r"-?\d{1,5}(?:\.\d{1,4})?"
_RECTANGLE = re.compile(rf"{_NUMBER}(?:,{_NUMBER}){{3}}")


def _check_rectangle(value: str) -> str:
    if not _RECTANGLE.fullmatch(value):
        raise ValueError("must be x0,y0,x1,y1: four numbers in points, such as 360,700,560,760")
    x0, y0, x1, y1 = map(float, value.split(","))
    if not (x0 < x1 and y0 < y1):
        raise ValueError("must be x0,y0,x1,y1 with x0 < x1 and y0 < y1 (lower left, then upper right corner)")
    return value


def _check_text(value: str) -> str:
    unprintable = [char for char in value if not char.isprintable() and char != "\n"]
    if unprintable:
        raise ValueError(f"must be printable text with lines ended by a line feed; it holds U+{ord(unprintable[0]):04X}")
    return value


Line = Annotated[str, Field(max_length=200), AfterValidator(_check_text)]


class PdfOptions(BaseModel):
    """How a PDF is to be signed. The stamp is drawn as soon as one of page, rectangle, text or an image is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signer: str | None = Field(
        default=None,
        max_length=64,
        description="Whose key signs: a subscriber's handle or a certificate's serial number. Default: the only one you may use.",
    )
    level: Level = Field(default="B-T", description="B-B: the signature alone; B-T: with a timestamp over it.")
    field: str | None = Field(
        default=None, max_length=200, description="Name of an empty signature field of the document to sign in. Default: a new one."
    )
    page: int | None = Field(default=None, ge=1, le=100_000, description="Page the stamp is drawn on, counted from 1. Default: 1.")
    rectangle: Annotated[str, AfterValidator(_check_rectangle)] | None = Field(
        default=None,
        description="Where the stamp is drawn: x0,y0,x1,y1 in points (1/72 inch) from the page's lower left corner. "
        "Default: 200 x 60 points at the page's top right.",
    )
    text: Annotated[str, Field(max_length=1000), AfterValidator(_check_text)] | None = Field(
        default=None,
        description="Text of the stamp, lines ended by a line feed. Default: signer, agency and time; none when there is an image.",
    )
    reason: Line | None = Field(default=None, description="Why it is signed; kept in the signature dictionary.")
    location: Line | None = Field(default=None, description="Where it is signed; kept in the signature dictionary.")
    contact: Line | None = Field(default=None, description="How to reach the signer; kept in the signature dictionary.")
    password: str | None = Field(default=None, max_length=127, repr=False, description="Password that opens an encrypted document.")

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """The rectangle as four numbers (x0, y0, x1, y1), or None."""
        if self.rectangle is None:
            return None
        x0, y0, x1, y1 = map(float, self.rectangle.split(","))
        return x0, y0, x1, y1
