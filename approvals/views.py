"""What the routes of approvals take and give as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["pending", "executing", "executed", "failed", "rejected", "withdrawn", "expired"]


class VoteView(BaseModel):
    """Who approved, and when."""

    name: str
    at: datetime


class ApprovalView(BaseModel):
    """An act that waits for approval, or what became of it."""

    id: int
    kind: str = Field(description="What is to be done, such as `certificate.issue`")
    summary: str = Field(description="The same in a Vietnamese sentence, made from the payload")
    payload: dict[str, Any] = Field(description="Exactly what will be carried out")
    payload_sha256: str = Field(description="SHA-256 of the payload's canonical JSON (sorted keys, no blanks, UTF-8)")
    state: State
    needed: int = Field(description="How many approvals it takes")
    approvals: list[VoteView]
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    detail: str = Field(description="Why it was rejected, or why it could not be carried out")
    result: dict[str, Any] | None = Field(description="What carrying it out gave, such as the certificate's serial number")


class ApprovalPage(BaseModel):
    """A page of approvals, the newest first."""

    approvals: list[ApprovalView]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class ApprovalQuery(BaseModel):
    """Which approvals."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, description="Only those older than this: the `next` of the last page")
    state: State | None = None
    limit: int = Field(default=100, ge=1, le=1000)


class Consent(BaseModel):
    """Consent to exactly one payload."""

    model_config = ConfigDict(extra="forbid")

    payload_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="The hash of what was looked at")


class Refusal(BaseModel):
    """Why not."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=1000)


class RoleChange(BaseModel):
    """The role a caller is to have."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["client", "admin", "auditor"]


class RoleView(BaseModel):
    """The role a caller has now."""

    name: str
    role: str
