"""What the routes and commands of jobs take and give as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hsm.keys import KeySpec
from pki.status_views import RevocationReason


class JobQuery(BaseModel):
    """Whether the rows are only checked."""

    model_config = ConfigDict(extra="forbid")

    execute: bool = Field(default=False, description="Begin at once; without it the rows are only checked and shown")


class ReplacementRequest(BaseModel):
    """Whose certificates are replaced: exactly one of ``agency``, ``spki_sha256`` and ``profile``."""

    model_config = ConfigDict(extra="forbid")

    agency: str | None = Field(default=None, max_length=35, description="An agency's code")
    subtree: bool = Field(default=False, description="With agency: also those of every agency below it now")
    spki_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="A key")
    profile: str | None = Field(default=None, max_length=80)
    reason: RevocationReason = Field(default="superseded", description="Why the old ones are revoked")
    reference: str = Field(min_length=1, max_length=200, description="The written request the new ones are issued on")
    key: KeySpec = Field(default=KeySpec.P_256, description="The kind of the new keys")

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if sum(scope is not None for scope in (self.agency, self.spki_sha256, self.profile)) != 1:
            raise ValueError("give one of agency, spki_sha256 and profile")
        if self.subtree and self.agency is None:
            raise ValueError("subtree goes with agency")
        return self


class Progress(BaseModel):
    """How many rows are in which state."""

    total: int
    refused: int = Field(description="Found wrong by the check, and never tried")
    ready: int
    working: int
    done: int
    failed: int


class Estimate(BaseModel):
    """How long the rows that are left will take."""

    seconds: float
    rows_per_second: float
    measured: bool = Field(description="Whether the rate was measured, on earlier work; otherwise it is the configured bound")


class JobView(BaseModel):
    """A job and how far it came."""

    id: int
    kind: Literal["enrolment", "replacement"]
    state: Literal["checked", "running", "done", "cancelled"] = Field(
        description="`checked`: a dry run, nothing was done yet and nothing will be until it is executed"
    )
    options: dict[str, Any]
    rows_sha256: str = Field(description="SHA-256 over all rows: what an approval is bound to")
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Progress
    estimate: Estimate


class RowView(BaseModel):
    """One row and what became of it."""

    number: int = Field(description="The line of the CSV file, or the number of the certificate")
    input: dict[str, Any]
    state: Literal["refused", "ready", "working", "done", "failed"]
    serial: str | None = Field(description="The new certificate")
    detail: str


class RowPage(BaseModel):
    """A page of rows."""

    rows: list[RowView]
    next: int | None = Field(description="Pass as `after` for the next page; null at the end")


class RowQuery(BaseModel):
    """Which rows."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, lt=1 << 31, description="Only those with a higher number: the `next` of the last page")
    state: Literal["refused", "ready", "working", "done", "failed"] | None = None
    limit: int = Field(default=100, ge=1, le=1000)


class JobPage(BaseModel):
    """The newest jobs first."""

    jobs: list[JobView]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class JobListQuery(BaseModel):
    """Which jobs."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, description="Only those older than this: the `next` of the last page")
    limit: int = Field(default=20, ge=1, le=100)
