"""``/healthz``: this process answers. ``/readyz``: everything it needs to do its work answers too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import falcon
from pydantic import BaseModel

from audit.log import Actor
from core.errors import CondauError, Unavailable
from web.operation import PUBLIC, operation, send_json

Check = Callable[[], None]
"""Returns when its part works, raises a CondauError that says why when not."""


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Every part the service depends on works."""

    status: Literal["ready"] = "ready"
    parts: list[str]


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
        failures = {name: failure for name, check in self._checks.items() if (failure := run_check(check)) is not None}
        if failures:
            raise Unavailable(next(iter(failures)), "; ".join(f"{name}: {detail}" for name, detail in failures.items()))
        send_json(resp, Readiness(parts=list(self._checks)))


def run_check(check: Check) -> str | None:
    """None when the part works, otherwise what is wrong with it."""
    try:
        check()
    except CondauError as error:
        return error.detail
    return None
