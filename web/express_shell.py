"""What surrounds every request on the express lane: its id, who asks, its errors as problems, its log line.

The same as :class:`web.access.Shell` and :mod:`web.problems` do on the general way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from audit.log import Actor
from core.errors import CondauError
from web import problems
from web.access import ApiKeys, choose_request_id, log_requests
from web.express import ExpressRequest, Head, answer_start, encode_answer
from web.operation import Audience

_SAFETY: Final = {"X-Content-Type-Options": "nosniff"}


class Call(NamedTuple):
    """A request whose caller is known; ``peer`` is the address it came from."""

    path: str
    body: bytes
    actor: Actor
    peer: str


class ExpressService(Protocol):
    """A room's side of the lane."""

    @property
    def reply_type(self) -> str:
        """The media type of what :meth:`answer_calls` gives."""

    @property
    def audience(self) -> Audience:
        """Who may call; of the public no key is looked at."""

    def takes(self, path: str, kind: str) -> bool:
        """Whether a request to ``path`` with a body of media type ``kind`` (as sent) is for this room; always the same."""
        ...

    def answer_calls(self, calls: Sequence[Call]) -> Sequence[bytes | CondauError]:
        """The body of each answer, or the error it ends in. Called from several threads, with one call at least."""
        ...


class ExpressShell:
    """Implements :class:`web.express.ExpressHandler` around the rooms' services."""

    def __init__(self, *, services: Sequence[ExpressService], access: ApiKeys) -> None:
        """No two services take the same request."""
        self._services = services
        self._access = access

    def route(self, path: str, kind: str) -> int | None:
        """See :class:`web.express.ExpressHandler`."""
        return next((number for number, service in enumerate(self._services) if service.takes(path, kind)), None)

    def answer(self, requests: Sequence[ExpressRequest], *, keep: bool) -> list[bytes]:
        """See :class:`web.express.ExpressHandler`; a fault of ours is a problem 500 and in the log."""
        by_route: dict[int, list[int]] = {}
        for number, request in enumerate(requests):
            by_route.setdefault(request.head.route, []).append(number)
        answers = [b""] * len(requests)
        for route, numbers in by_route.items():
            made = self._answer_for(self._services[route], [requests[number] for number in numbers], keep=keep)
            for number, answer in zip(numbers, made, strict=True):
                answers[number] = answer
        return answers

    def _answer_for(self, service: ExpressService, requests: Sequence[ExpressRequest], *, keep: bool) -> list[bytes]:
        began = time.perf_counter()
        callers = [self._identify(service.audience, request.head) for request in requests]
        calls = [
            Call(request.head.path, request.body, caller, request.peer)
            for request, (caller, _) in zip(requests, callers, strict=True)
            if isinstance(caller, Actor)
        ]
        outcomes = iter(_answer_calls(service, calls))
        granted = b"%sX-Content-Type-Options: nosniff\r\nContent-Type: %s\r\n" % (
            answer_start(200, keep=keep),
            service.reply_type.encode("ascii"),
        )
        answers = list[bytes]()
        ended: dict[tuple[str, int, str | None], list[str]] = {}
        for request, (caller, request_id) in zip(requests, callers, strict=True):
            client = caller.name if isinstance(caller, Actor) else None
            outcome = next(outcomes) if isinstance(caller, Actor) else caller
            if isinstance(outcome, bytes):
                status = 200
                own = f"X-Request-Id: {request_id}\r\nContent-Length: {len(outcome)}\r\n\r\n".encode("ascii")
                answers.append(b"".join((granted, own, outcome)))
            else:
                status, answer = _build_problem(outcome, request_id, request.head.path, keep=keep)
                answers.append(answer)
            ended.setdefault((request.head.path, status, client), []).append(request_id)
        took = time.perf_counter() - began
        for (path, status, client), request_ids in ended.items():
            log_requests("POST", path, status, took, request_ids=request_ids, client=client)
        return answers

    def _identify(self, audience: Audience, head: Head) -> tuple[Actor | CondauError, str]:
        """Who asks, or why nobody may know, and the id of the request."""
        request_id = choose_request_id(head.headers.get("x-request-id"))
        key = None if audience is Audience.PUBLIC else head.headers.get("authorization")
        try:
            return self._access.identify(key, request_id), request_id
        except CondauError as error:
            return error, request_id


def _answer_calls(service: ExpressService, calls: Sequence[Call]) -> Sequence[bytes | Exception]:
    if not calls:
        return []
    try:
        return service.answer_calls(calls)
    except Exception as error:  # noqa: BLE001 - a bug must not end the thread: it is logged with its traceback
        return [error] * len(calls)


def _build_problem(error: Exception, request_id: str, path: str, *, keep: bool) -> tuple[int, bytes]:
    if isinstance(error, CondauError):
        problem, further = problems.build_problem(error, request_id)
    else:
        problem, further = problems.build_bug(error, request_id, path), {}
    headers = {"X-Request-Id": request_id, **_SAFETY, **further, "Content-Type": problems.MEDIA_TYPE}
    status: int = problem["status"]
    return status, encode_answer(status, headers, json.dumps(problem, ensure_ascii=False).encode(), keep=keep)
