"""What a caller may say about a PDF signature: query parameters and JSON alike, and what the OpenAPI document shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Level = Literal["B-B", "B-T"]
"""AdES baseline levels (ETSI EN 319 142-1, EN 319 132-1): the signature alone, or with a timestamp over it."""

PadesLevel = Literal["B-B", "B-T", "B-LT", "B-LTA"]
"""The same, and on: with all that is needed to judge it later, and with a timestamp over all of that."""

Profile = Literal["plain", "person", "initial", "agency-issue", "appendix", "copy", "incoming", "comment", "portal"]
"""The acts of Nghị định 30/2020/NĐ-CP that are signed, each with its look; ``plain``: none of them."""
CopyKind = Literal["sao-y", "sao-luc", "trich-sao"]
"""Sao y, sao lục, trích sao (Nghị định 30/2020/NĐ-CP, article 25)."""

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
Rectangle = Annotated[str, AfterValidator(_check_rectangle)]

_GO_WITH: Final[dict[str, frozenset[str]]] = {
    "number": frozenset({"agency-issue", "appendix", "incoming"}),
    "issued_on": frozenset({"agency-issue", "incoming"}),
    "copy_kind": frozenset({"copy"}),
    "comment": frozenset({"comment"}),
    "printed_name": frozenset({"person", "agency-issue"}),
    "number_rectangle": frozenset({"agency-issue"}),
    "date_rectangle": frozenset({"agency-issue"}),
    "certify": frozenset({"plain"}),
    "lock": frozenset({"plain"}),
    "text": frozenset({"plain"}),
}
"""Options that mean something to some profiles only."""
_NEEDS: Final = {"appendix": "number", "copy": "copy_kind", "comment": "comment"}


class PdfOptions(BaseModel):
    """How a PDF is to be signed. The stamp is drawn as soon as one of page, rectangle, text or an image is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signer: str | None = Field(
        default=None,
        max_length=64,
        description="Whose key signs: a subscriber's handle or a certificate's serial number. Default: the only one you may use.",
    )
    level: PadesLevel = Field(
        default="B-LTA",
        description="B-B: the signature alone; B-T: with a timestamp over it; B-LT: with every certificate and revocation answer "
        "that is needed to judge it later; B-LTA: with a timestamp over all of that, fit for the archive.",
    )
    field: str | None = Field(
        default=None,
        max_length=200,
        description="Name of an empty signature field of the document to sign in. Default: a new one. With a profile its "
        "drawing goes into that field at its true size, smaller only as far as its look allows, never larger; of "
        "`agency-issue` the seal. Then neither page, rectangle nor printed_name is given.",
    )
    page: int | None = Field(default=None, ge=1, le=100_000, description="Page the stamp is drawn on, counted from 1. Default: 1.")
    rectangle: Rectangle | None = Field(
        default=None,
        description="Where the stamp is drawn: x0,y0,x1,y1 in points (1/72 inch) from the page's lower left corner. "
        "Default: 200 x 60 points at the page's top right. With a profile that looks for its place in the text (`person`, "
        "`initial`, `agency-issue`): where it goes when that is not found; with the others: in place of the look's own.",
    )
    text: Annotated[str, Field(max_length=1000), AfterValidator(_check_text)] | None = Field(
        default=None,
        description="Text of the stamp, lines ended by a line feed. Default: signer, agency and time; none when there is an image.",
    )
    reason: Line | None = Field(default=None, description="Why it is signed; kept in the signature dictionary.")
    location: Line | None = Field(default=None, description="Where it is signed; kept in the signature dictionary.")
    contact: Line | None = Field(default=None, description="How to reach the signer; kept in the signature dictionary.")
    profile: Profile = Field(
        default="plain",
        description="What the signature is, and so what it looks like and where it stands (Nghị định 30/2020/NĐ-CP, Phụ lục I): "
        "`person` (người có thẩm quyền), `initial` (ký nháy), `agency-issue` (số, ngày và dấu), `appendix` (phụ lục là tệp "
        "riêng), `copy` (sao y, sao lục, trích sao), `incoming` (dấu ĐẾN), `comment` (ý kiến chỉ đạo), `portal` (đăng lại trên "
        "cổng). `plain`: a stamp of the caller's own making, or none.",
    )
    number: Line | None = Field(
        default=None,
        description="Số, ký hiệu: `123/UBND-VP`. `agency-issue` writes it into the blank behind “Số:”, `appendix` into its "
        "line, `incoming` takes the number of arrival.",
    )
    issued_on: date | None = Field(
        default=None,
        description="Date of issue, `2025-04-15`, written into the blanks of “ngày … tháng … năm …”; with `incoming`: of arrival "
        "(default: today).",
    )
    copy_kind: CopyKind | None = Field(default=None, description="Which kind of copy `copy` makes.")
    comment: Annotated[str, Field(max_length=500), AfterValidator(_check_text)] | None = Field(
        default=None, description="What the leader remarks on an incoming document; lines ended by a line feed."
    )
    printed_name: Line | None = Field(
        default=None,
        description="The leader's name as it stands printed under the place of signature. Default: the certificate's common name "
        "(`person`); with `agency-issue` only needed where the leader's signature shows no picture, or several leaders signed.",
    )
    number_rectangle: Rectangle | None = Field(
        default=None, description="Where the number goes on page 1 when no blank behind “Số:” is found; as `rectangle`."
    )
    date_rectangle: Rectangle | None = Field(
        default=None, description="Where the date goes on page 1 when “ngày … tháng … năm …” is not found; as `rectangle`."
    )
    certify: Literal["nothing", "forms", "annotations"] | None = Field(
        default=None,
        description="Certify the document (DocMDP), as its first signature: afterwards may be changed `nothing`, or `forms` (and "
        "further signatures, visible ones only in fields it has), or `annotations` too. Default: an ordinary signature, which "
        "permits all that comes later.",
    )
    lock: Line | None = Field(
        default=None,
        description="Form fields that this signature locks (FieldMDP): their names with commas between, or `*` for all of them.",
    )
    qr: bool = Field(default=False, description="Draw a QR code beside it that leads to this signature's own page.")
    password: str | None = Field(default=None, max_length=127, repr=False, description="Password that opens an encrypted document.")
    secrecy: Line | None = Field(
        default=None, description="Its degree of secrecy, where it has one: a document marked MẬT, TỐI MẬT or TUYỆT MẬT is refused."
    )

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """The rectangle as four numbers (x0, y0, x1, y1), or None."""
        return None if self.rectangle is None else parse_rectangle(self.rectangle)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """What a profile needs, and what does not go with it: every violation at once."""
        found = list(self._violations())
        if found:
            raise ValidationError.from_exception_data("PdfOptions", found)
        return self

    def _violations(self) -> Iterator[InitErrorDetails]:
        for name, profiles in _GO_WITH.items():
            if getattr(self, name) is not None and self.profile not in profiles:
                yield _violation(
                    name, f"goes with the profile {' or '.join(sorted(profiles))}, not with {self.profile}: leave it out"
                )
        if self.field is not None and self.printed_name is not None:
            yield _violation("printed_name", "says where a new field goes: give either it, or field")
        if self.qr and self.profile == "plain":
            yield _violation("qr", "goes with an official profile: name one")
        needed = _NEEDS.get(self.profile)
        if needed is not None and not (getattr(self, needed) or "").strip():
            yield _violation(needed, f"the profile {self.profile} needs it")
        for name, what in (("number_rectangle", "number"), ("date_rectangle", "issued_on")):
            if getattr(self, name) is not None and getattr(self, what) is None:
                yield _violation(name, f"there is nothing to write there: give {what} as well")


def parse_rectangle(value: str) -> tuple[float, float, float, float]:
    """The four numbers of a rectangle that was checked already."""
    x0, y0, x1, y1 = map(float, value.split(","))
    return x0, y0, x1, y1


def _violation(field: str, message: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("profile", "{message}", {"message": message}), loc=(field,), input=None)
