"""``/healthz``: this process answers. ``/readyz``: everything it needs to do its work answers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import falcon
from pydantic import BaseModel

from audit.log import Actor
from core.errors import CondauError, Unavailable
from web.operation import PUBLIC, operation, send_json

Check = Callable[[], str | None]
"""Returns when its part works, with what is to be said of it, if anything; raises a CondauError that says why when not."""


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class PartHealth(BaseModel):
    """One part the service depends on."""

    status: Literal["ok", "failed"]
    detail: str = ""


class Readiness(BaseModel):
    """Whether the service can do its work, part by part."""

    status: Literal["ready", "not ready"]
    parts: dict[str, PartHealth]


class Liveness:
    """``/healthz``."""

    @operation(roles=PUBLIC, summary="Is the process alive", tag="health", returns=Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer without touching anything."""
        send_json(resp, Health())


class Ready:
    """``/readyz``: runs every check; a single failed one answers 503."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    @operation(roles=PUBLIC, summary="Can the service do its work", tag="health", returns=Readiness, problems=(Unavailable,))
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the state of each part."""
        parts = {name: run_check(check) for name, check in self._checks.items()}
        ready = all(part.status == "ok" for part in parts.values())
        if not ready:
            resp.status = 503
            resp.set_header("Retry-After", "1")
        send_json(resp, Readiness(status="ready" if ready else "not ready", parts=parts))


def run_check(check: Check) -> PartHealth:
    """The health of one part."""
    try:
        return PartHealth(status="ok", detail=check() or "")
    except CondauError as error:
        return PartHealth(status="failed", detail=error.detail)
