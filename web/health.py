"""``/healthz``: this process answers. ``/readyz``: everything it needs to do its work answers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


class Readiness(BaseModel):
    """Every part the service depends on works."""

    status: Literal["ready"] = "ready"
    parts: dict[str, str] = Field(description="The parts that were tried, each with what it rests on where that is worth saying")


@dataclass(frozen=True, slots=True)
class PartHealth:
    """How one part fares: ``detail`` is what is wrong with it, or what it rests on."""

    works: bool
    detail: str


class Liveness:
    """``/healthz``."""

    @operation(roles=PUBLIC, summary="Is the process alive", tag="health", returns=Health)
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer without touching anything."""
        send_json(resp, Health())


class Ready:
    """``/readyz``: runs every check; a single failed one is a 503 that names it."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    @operation(roles=PUBLIC, summary="Can the service do its work", tag="health", returns=Readiness)
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with what works, or raise Unavailable with what does not."""
        parts = {name: run_check(check) for name, check in self._checks.items()}
        failures = [f"{name}: {part.detail}" for name, part in parts.items() if not part.works]
        if failures:
            raise Unavailable("readiness", "; ".join(failures))
        send_json(resp, Readiness(parts={name: part.detail for name, part in parts.items()}))


def run_check(check: Check) -> PartHealth:
    """The health of one part."""
    try:
        return PartHealth(True, check() or "")
    except CondauError as error:
        return PartHealth(False, error.detail)
