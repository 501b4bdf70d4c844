"""What surrounds every request on the express lane: its id, who asks, its errors as problems, its log line.

The same as :class:`web.access.Shell` and :mod:`web.problems` do on the general way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from audit.log import Actor
from core.errors import CondauError
from web import problems
from web.access import ApiKeys, choose_request_id, log_request
from web.express import ExpressAnswer, ExpressRequest

_SAFETY: Final = {"X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose caller is known; ``peer`` is the address it came from."""

    path: str
    body: bytes
    actor: Actor
    peer: str


class ExpressService(Protocol):
    """A room's side of the lane."""

    reply_type: str

    def takes(self, path: str, kind: str) -> bool:
        """See :class:`web.express.ExpressHandler`."""
        ...

    def answer_calls(self, calls: Sequence[Call]) -> Sequence[bytes | CondauError]:
        """The body of each answer, or the error it ends in. Called from several threads."""
        ...


class ExpressShell:
    """Implements :class:`web.express.ExpressHandler` around one room's service."""

    def __init__(self, *, service: ExpressService, access: ApiKeys) -> None:
        self._service = service
        self._access = access
        self.takes = service.takes

    def answer(self, requests: Sequence[ExpressRequest]) -> list[ExpressAnswer]:
        """See :class:`web.express.ExpressHandler`."""
        began = time.perf_counter()
        ids = [choose_request_id(request.headers.get("x-request-id")) for request in requests]
        callers = [self._identify(request, request_id) for request, request_id in zip(requests, ids, strict=True)]
        calls = [
            Call(request.path, request.body, caller, request.peer)
            for request, caller in zip(requests, callers, strict=True)
            if isinstance(caller, Actor)
        ]
        outcomes = iter(self._service.answer_calls(calls))
        answers = []
        for request, request_id, caller in zip(requests, ids, callers, strict=True):
            answer = self._build(next(outcomes) if isinstance(caller, Actor) else caller, request_id)
            actor = caller if isinstance(caller, Actor) else None
            took = time.perf_counter() - began
            log_request("POST", request.path, answer.status, took, request_id=request_id, actor=actor)
            answers.append(answer)
        return answers

    def _identify(self, request: ExpressRequest, request_id: str) -> Actor | CondauError:
        try:
            return self._access.identify(request.headers.get("authorization"), request_id)
        except CondauError as error:
            return error

    def _build(self, outcome: bytes | CondauError, request_id: str) -> ExpressAnswer:
        headers: Mapping[str, str] = {"X-Request-Id": request_id, **_SAFETY}
        if isinstance(outcome, bytes):
            return ExpressAnswer(200, {**headers, "Content-Type": self._service.reply_type}, outcome)
        problem, further = problems.build_problem(outcome, request_id)
        body = json.dumps(problem, ensure_ascii=False).encode()
        return ExpressAnswer(problem["status"], {**headers, **further, "Content-Type": problems.MEDIA_TYPE}, body)
