"""Where requests for timestamps come in, whichever way: limits, then the authority; and what is counted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from core.errors import CondauError, Unavailable
from core.metrics import Metrics
from tsa.authority import Ask, TimestampAuthority, refusal_of
from tsa.limits import Limits
from tsa.response import build_refused


class Reception:
    """In front of the authority for those who come over HTTP."""

    def __init__(self, *, authority: TimestampAuthority, limits: Limits, metrics: Metrics) -> None:
        self._authority = authority
        self._limits = limits
        self._metrics = metrics
        self.units = frozenset(unit.name for unit in authority.units.configured)

    def answer(self, ask: Ask, peer: str) -> bytes:
        """The TimeStampResp to one; raises TooMany, and NotFound for a unit that there is not."""
        (outcome,) = self.answer_all([ask], [peer])
        if isinstance(outcome, CondauError):
            raise outcome
        return outcome

    def answer_all(self, asked: Sequence[Ask], peers: Sequence[str]) -> list[bytes | CondauError]:
        """The TimeStampResp to each, or why it gets none; ``peers`` are the addresses they come from."""
        began = time.perf_counter()
        refused = [self._refuse(ask, peer) for ask, peer in zip(asked, peers, strict=True)]
        admitted = [ask for ask, refusal in zip(asked, refused, strict=True) if refusal is None]
        answers = iter(self._authority.respond_all(admitted))
        outcomes = [next(answers) if refusal is None else refusal for refusal in refused]
        took = time.perf_counter() - began
        self._metrics.seconds.observe_many(took, len(admitted))
        return outcomes

    def _refuse(self, ask: Ask, peer: str) -> bytes | CondauError | None:
        """None where the authority is to answer. That a quota cannot be read is an outage to the client, like any other."""
        try:
            self._limits.admit(ask.actor, peer)
        except Unavailable as away:
            refusal = refusal_of(away, ask.actor)
            self._metrics.requests.labels(refusal.failure.name).inc()
            return build_refused(refusal)
        except CondauError as error:
            self._metrics.requests.labels(type(error).__name__).inc()
            return error
        return None
