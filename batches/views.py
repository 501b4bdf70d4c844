"""What the routes of batches take and give as JSON."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from signer.digests import DigestSignature, parse_digest
from signer.options import PadesLevel, PdfOptions

MOST_ITEMS: Final = 10_000
"""Of one batch."""
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/\\\ud800-\udfff]{1,255}")
State = Literal["ready", "working", "done", "failed", "cancelled"]


def check_name(value: str) -> str:
    """An item's name, which a client may want to call a file: no path. Raises ValueError."""
    if not _NAME.fullmatch(value) or value in (".", ".."):
        raise ValueError("a name is 1 to 255 characters, none of them a control character, / or \\, and is no folder")
    return value


Name = Annotated[str, AfterValidator(check_name)]


class BatchQuery(PdfOptions):
    """How the items are signed; digests know ``signer`` and ``level`` alone."""

    wait: int = Field(default=0, ge=0, le=20, description="Answer when the batch is done, or after so many seconds.")


class WaitQuery(BaseModel):
    """Whether to wait for the end."""

    model_config = ConfigDict(extra="forbid")

    wait: int = Field(default=0, ge=0, le=20, description="Answer when the batch is done, or after so many seconds.")


class DigestItem(BaseModel):
    """One digest of a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name | None = Field(default=None, description="What you know it by, different for each; default: its number in the list")
    digest: str = Field(max_length=128, description="As in `POST /v1/signatures/digest`")


class DigestBatch(BaseModel):
    """Digests to be signed, all made with the same hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["sha256", "sha384", "sha512"] = "sha256"
    items: list[DigestItem] = Field(min_length=1, max_length=MOST_ITEMS)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        for number, item in enumerate(self.items, start=1):
            try:
                parse_digest(item.digest, self.algorithm)
            except ValueError as error:
                raise ValueError(f"item {number}: {error}") from error
        return self


class BatchProgress(BaseModel):
    """How many items came how far."""

    total: int
    left: int = Field(description="Waiting or being signed")
    done: int
    failed: int


class BatchView(BaseModel):
    """A batch and how far it came."""

    id: int
    kind: Literal["pdf", "digest"]
    state: Literal["running", "done", "cancelled", "discarded"] = Field(
        description="`discarded`: its results were deleted, by you or because their time was up"
    )
    signer: str = Field(description="The signing certificate's serial number")
    level: PadesLevel
    progress: BatchProgress
    waits_for: str | None = Field(description="What is away at the moment, so that items wait")
    created_at: datetime
    finished_at: datetime | None
    keeps_until: datetime | None = Field(description="When its results are deleted; null while it runs")


class ItemProblem(BaseModel):
    """Why an item failed, or what it waits for."""

    error: str = Field(description="The last part of the problem type it would have been answered with, such as `conflict`")
    detail: str
    violations: list[dict[str, str]] = Field(default_factory=list)


class ItemView(BaseModel):
    """One item and what became of it."""

    number: int = Field(description="From 1, in the order they were sent")
    name: str
    digest: str = Field(description="SHA-256 of the document, or the digest that was sent; lower-case hex")
    size: int | None
    state: State
    level: PadesLevel | None = Field(description="Of a signed one: lower than asked for only where the service's policy lets it be")
    problem: ItemProblem | None
    result: DigestSignature | None = Field(default=None, description="Of a digest that is signed")


class ItemPage(BaseModel):
    """A page of items."""

    items: list[ItemView]
    next: int | None = Field(description="Pass as `after` for the next page; null at the end")


class ItemQuery(BaseModel):
    """Which items."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, lt=1 << 31, description="Only those with a higher number: the `next` of the last page")
    state: State | None = None
    limit: int = Field(default=100, ge=1, le=1000)


def fields_of(options: PdfOptions) -> dict[str, Any]:
    """What was said of how documents are signed, as it is kept with each item."""
    return options.model_dump(mode="json", exclude_unset=True, exclude={"wait"})
