"""``/healthz``: this process answers. ``/readyz``: everything it needs to do its work answers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import falcon
from pydantic import BaseModel, Field

from audit.log import Actor
from core.errors import CondauError, Unavailable
from web.operation import PUBLIC, operation, send_json

Check = Callable[[], str | None]
"""Returns when its part works, with what is to be said of it, if anything; raises a CondauError that says why when not."""


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class PartHealth(BaseModel):
    """How one part fares."""

    status: Literal["ok", "failed"]
    detail: str = Field(description="What is wrong with it, or what it rests on where that is worth saying")


class Readiness(BaseModel):
    """The service can do its work; a part it can do without for a while may still have failed."""

    status: Literal["ready"] = "ready"
    parts: dict[str, PartHealth]


class Liveness:
    """``/healthz``."""

    @operation(roles=PUBLIC, summary="Is the process alive", tag="health", returns=Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer without touching anything."""
        send_json(resp, Health())


class Ready:
    """``/readyz``: runs every check; a failed one that all work needs is a 503 that names it."""

    def __init__(self, needed: Mapping[str, Check], further: Mapping[str, Check]) -> None:
        """``needed``: what nothing works without; ``further``: what only some of the work needs, which is told and no more."""
        self._needed = needed
        self._further = further

    @operation(roles=PUBLIC, summary="Can the service do its work", tag="health", returns=Readiness)
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the state of each part, or raise Unavailable with what is needed and fails."""
        parts = {name: run_check(check) for name, check in self._needed.items()}
        failures = [f"{name}: {part.detail}" for name, part in parts.items() if part.status == "failed"]
        if failures:
            raise Unavailable("readiness", "; ".join(failures))
        send_json(resp, Readiness(parts=parts | {name: run_check(check) for name, check in self._further.items()}))


def run_check(check: Check) -> PartHealth:
    """The health of one part."""
    try:
        return PartHealth(status="ok", detail=check() or "")
    except CondauError as error:
        return PartHealth(status="failed", detail=error.detail)
