"""An act that only counts, behind approvals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import falcon

from approvals import http
from approvals.service import Act, Approvals
from audit.log import Actor, AuditEntry
from core.db import Database
from core.settings import ApprovalsConfig
from registry import registry
from registry.clients import Clients
from registry.models import Role
from tests.conftest import Clock
from web import problems
from web.access import ApiKeys, Shell

ASKER = Actor("an-admin", "admin", "request-1")
OTHER = Actor("another-admin", "admin", "request-2")
THIRD = Actor("a-third-admin", "admin", "request-3")
ROLE = {"client": "somebody", "from": "auditor", "to": "admin"}


@dataclass
class Office:
    """The service over one database, and what was done."""

    database: Database
    clock: Clock
    config: ApprovalsConfig = field(default_factory=lambda: ApprovalsConfig(issue=("seal",), role=("*",)))
    done: list[tuple[dict[str, Any], Actor]] = field(default_factory=list)
    error: Exception | None = None

    def perform(self, payload: dict[str, Any], actor: Actor) -> dict[str, Any]:
        """Note it, and fail if a test wants so."""
        if self.error is not None:
            raise self.error
        self.done.append((payload, actor))
        return {"serial": "abc"}

    @property
    def clients(self) -> Clients:
        return Clients(database=self.database, now=self.clock)

    @property
    def approvals(self) -> Approvals:
        """As another process would have it."""
        acts = [
            Act("certificate.issue", ("issue",), self.perform, lambda payload: f"Cấp chứng thư {payload['profile']}"),
            Act("client.role", ("role",), self.clients.change_role, lambda payload: f"Đổi vai trò {payload['client']}"),
        ]
        return Approvals(database=self.database, now=self.clock, config=self.config, acts=acts)

    def ask(self, payload: dict[str, Any] | None = None, actor: Actor = ASKER) -> Any:
        """One request for a seal."""
        return self.approvals.ask("certificate.issue", {"seal"}, payload or {"profile": "seal", "tên": "Sở"}, actor)

    def log(self) -> list[AuditEntry]:
        with self.database.read() as db:
            return [entry for entry in db.query(AuditEntry).order_by(AuditEntry.id) if entry.action.startswith("approval.")]


def add_clients(database: Database, clock: Clock) -> dict[str, str]:
    """API keys by name."""
    with database.write() as db:
        named = {"an-admin": Role.ADMIN, "another-admin": Role.ADMIN, "somebody": Role.AUDITOR, "system": Role.CLIENT}
        return {name: registry.add_client(db, at=clock(), actor=ASKER, name=name, role=role) for name, role in named.items()}


def make_app(office: Office) -> Any:
    """The routes of this room behind the HTTP shell."""
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=office.database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/v1/approvals", http.ApprovalList(approvals=office.approvals))
    app.add_route("/v1/approvals/{identifier:int}", http.ApprovalDetail(approvals=office.approvals))
    app.add_route("/v1/approvals/{identifier:int}/approval", http.ApprovalConsent(approvals=office.approvals))
    app.add_route("/v1/approvals/{identifier:int}/rejection", http.ApprovalRejection(approvals=office.approvals))
    app.add_route("/v1/approvals/{identifier:int}/withdrawal", http.ApprovalWithdrawal(approvals=office.approvals))
    app.add_route("/v1/clients/{name}/role", http.ClientRole(clients=office.clients, approvals=office.approvals))
    return app
