"""Routes of the registry: what an auditor reads of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import falcon
from pydantic import BaseModel, ConfigDict, Field

from audit import log
from audit.log import Actor
from core.db import Database
from registry.models import Role
from web.operation import operation, send_json


class AuditQuery(BaseModel):
    """Which entries: newest first."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, description="Only entries with an id below this: the `next` of the last page")
    subject: str | None = Field(default=None, max_length=400, description="Only entries about this serial number, label or name")
    limit: int = Field(default=100, ge=1, le=1000)


class AuditEntryView(BaseModel):
    """One line of the audit log."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    actor: str
    role: str
    request_id: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditPage(BaseModel):
    """A page of the audit log."""

    entries: list[AuditEntryView]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class AuditEntries:
    """``/v1/audit-entries``."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @operation(roles={Role.AUDITOR}, summary="Read the audit log, newest first", tag="audit", query=AuditQuery, returns=AuditPage)
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor, options: AuditQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        with self._database.read() as db:
            found = log.entries(db, before=options.before, subject=options.subject, limit=options.limit)
            views = [AuditEntryView.model_validate(entry) for entry in found]
        last = views[-1].id if len(views) == options.limit else None
        send_json(resp, AuditPage(entries=views, next=last))
