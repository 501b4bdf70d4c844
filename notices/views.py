"""What the routes of this room take and give as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Attempt(BaseModel):
    """One try to deliver."""

    at: datetime
    problem: str | None = Field(description="Null when the recipient took it")


class DeliveryView(BaseModel):
    """An event on its way to one recipient."""

    id: int
    event: int = Field(description="The event's `id`, as webhooks get it")
    kind: str = Field(description="What happened: `certificate.issued`, `certificate.expiring` …")
    subject: str = Field(description="To what: a certificate's serial number")
    at: datetime = Field(description="When it happened")
    channel: Literal["webhook", "email"]
    recipient: str = Field(description="The webhook's name in the configuration, or an address")
    state: Literal["pending", "delivered", "dead"] = Field(description="`dead`: given up after too many attempts")
    next_at: datetime = Field(description="When a pending one is tried (again)")
    attempts: list[Attempt]


class DeliveryPage(BaseModel):
    """A page of deliveries, the newest first."""

    deliveries: list[DeliveryView]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class DeliveryQuery(BaseModel):
    """Which deliveries."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, description="Only those older than this: the `next` of the last page")
    state: Literal["pending", "delivered", "dead"] | None = None
    subject: str | None = Field(default=None, max_length=80, description="Only those about this: a serial number")
    limit: int = Field(default=100, ge=1, le=1000)


class ContactChange(BaseModel):
    """Where reminders go."""

    model_config = ConfigDict(extra="forbid")

    email: str | None = Field(max_length=254, description="An address; null for none")


class ContactView(BaseModel):
    """Where one subscriber or agency is reached."""

    owner: str = Field(description="`subscriber/HANDLE` or `agency/CODE`")
    email: str | None
