"""``/metrics``: what Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import falcon

from audit.log import Actor
from core.metrics import TEXT
from registry.models import Role
from web.operation import PUBLIC, operation

_READERS: Final = (Role.AUDITOR, Role.ADMIN)


class MetricsText:
    """For auditors and admins: rates and refusals tell strangers what they need not know."""

    def __init__(self, *, render: Callable[[], bytes]) -> None:
        self._render = render

    @operation(roles=_READERS, summary="Counters for Prometheus", tag="health", returns="text/plain")
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer the counters of all workers."""
        self._send(resp)

    def _send(self, resp: falcon.Response) -> None:
        resp.content_type = TEXT
        resp.data = self._render()


class OpenMetricsText(MetricsText):
    """For everybody who reaches the service, where ``metrics.open`` says so."""

    @operation(roles=PUBLIC, summary="Counters for Prometheus", tag="health", returns="text/plain")
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer the counters of all workers."""
        self._send(resp)
