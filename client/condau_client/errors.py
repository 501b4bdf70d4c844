"""What can go wrong, by what the caller can do about it.

CondauError
├── Rejected          what was asked is not acceptable: ``violations`` says field by field why (400, 413, 415, 422)
├── Unauthenticated   the API key is missing or not known (401)
├── Forbidden         the key is known, and this is not its to do (403)
├── NotFound          what was named does not exist (404)
├── Conflict          its state does not allow this: a revoked certificate, a wrong hash (409)
├── Unavailable       the service, or a part of it, was away for longer than the patience given
├── ServiceFault      the service answered something it should not: report it with ``request_id``
└── DocumentError     the PDF cannot be signed, or not like this; nothing was sent
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with one field of a request."""

    field: str
    message: str


class CondauError(Exception):
    """The root of everything this library raises on purpose."""

    def __init__(self, detail: str, *, status: int = 0, request_id: str = "", violations: Sequence[Violation] = ()) -> None:
        """``status``: of the HTTP answer, 0 where there was none; ``request_id``: by which the service's log knows it."""
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.request_id = request_id
        self.violations = tuple(violations)

    def __str__(self) -> str:
        """The detail, every violation and the request id, for a log."""
        listed = "".join(f"; {item.field}: {item.message}" for item in self.violations if item.message != self.detail)
        return self.detail + listed + (f" (request {self.request_id})" if self.request_id else "")


class Rejected(CondauError):
    """What was asked is not acceptable."""


class Unauthenticated(CondauError):
    """The API key is missing or not known."""


class Forbidden(CondauError):
    """The API key is known, and this is not its to do."""


class NotFound(CondauError):
    """What was named does not exist."""


class Conflict(CondauError):
    """The state of what was named does not allow this."""


class Unavailable(CondauError):
    """The service, or a part of it, was away for longer than the patience given."""


class ServiceFault(CondauError):
    """The service answered something it should not."""


class DocumentError(CondauError):
    """The PDF cannot be signed, or not like this."""


_BY_STATUS: dict[int, type[CondauError]] = {
    400: Rejected,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Rejected,
    415: Rejected,
    422: Rejected,
    429: Unavailable,
    503: Unavailable,
}


def error_of(status: int, body: bytes) -> CondauError:
    """The error that an answer with this status and body (RFC 9457, where it is Condau's own) stands for."""
    try:
        problem: Any = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    listed = problem.get("violations")
    violations = [
        Violation(str(item.get("field", "")), str(item.get("message", "")))
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict)
    ]
    detail = str(problem.get("detail") or f"the service answered with HTTP {status}")
    kind = _BY_STATUS.get(status, ServiceFault)
    return kind(detail, status=status, request_id=str(problem.get("request_id") or ""), violations=violations)
