"""Errors to RFC 9457 problem documents: the only place that knows which HTTP status an error becomes."""

from __future__ import annotations

import json
import logging
import re
from typing import Any, Final, NoReturn

import falcon

from core import errors

MEDIA_TYPE: Final = "application/problem+json"
STATUS: Final[dict[type[errors.CondauError], int]] = {
    errors.Rejected: 422,
    errors.Malformed: 400,
    errors.MediaTypeRejected: 415,
    errors.TooLarge: 413,
    errors.Refused: 409,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
_log = logging.getLogger("condau.error")


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Make every error of ``app`` a problem document."""
    app.add_error_handler(Exception, _answer_bug)
    app.add_error_handler(falcon.HTTPError, _answer_http_error)
    app.add_error_handler(errors.CondauError, _answer_error)


def status_of(error: type[errors.CondauError]) -> int:
    """The HTTP status of an error type, its nearest ancestor's where it has none of its own."""
    return next(STATUS[kind] for kind in error.__mro__ if kind in STATUS)


def type_of(error: type[errors.CondauError]) -> str:
    """The problem type URI of an error type."""
    return "urn:condau:problem:" + re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


def title_of(error: type[errors.CondauError]) -> str:
    """The problem title: the first line of the error's docstring."""
    return (error.__doc__ or error.__name__).strip().partition("\n")[0]


def build_problem(error: errors.CondauError, request_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The problem document of an error and the header fields that go with it."""
    kind = type(error)
    body: dict[str, Any] = {"type": type_of(kind), "title": title_of(kind), "status": status_of(kind), "detail": error.detail}
    if isinstance(error, errors.Rejected):
        body["violations"] = [{"field": item.field, "message": item.message} for item in error.violations]
    if isinstance(error, errors.NotFound):
        body["violations"] = [{"field": error.field, "message": error.detail}]
    headers = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.TooMany | errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, errors.Unavailable):
        cause = repr(error.__cause__)
        _log.warning("unavailable", extra={"fields": {"request_id": request_id, "part": error.part, "cause": cause}})
    return {**body, "request_id": request_id}, headers


def build_bug(error: Exception, request_id: str, path: str) -> dict[str, Any]:
    """The problem document of a fault of ours, which is logged with its traceback."""
    _log.error("bug", exc_info=error, extra={"fields": {"request_id": request_id, "path": path}})
    detail = "this is a fault of ours; the request id finds it in the log"
    body = {"type": "urn:condau:problem:internal", "title": "Internal error", "status": 500, "detail": detail}
    return {**body, "request_id": request_id}


def _answer_error(req: falcon.Request, resp: falcon.Response, error: errors.CondauError, _: Any) -> None:
    body, headers = build_problem(error, req.context.request_id)
    for name, value in headers.items():
        resp.set_header(name, value)
    _send(req, resp, body)


def _answer_http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _: Any) -> None:
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)
    slug = re.sub(r"[^a-z]+", "-", (error.title or "error").lower().lstrip("0123456789 ")).strip("-")
    detail = error.description or f"{req.method} {req.path}"
    _send(req, resp, {"type": f"urn:condau:problem:{slug}", "title": error.title, "status": error.status_code, "detail": detail})


def _answer_bug(req: falcon.Request, resp: falcon.Response, error: Exception, _: Any) -> None:
    _send(req, resp, build_bug(error, req.context.request_id, req.path))


def _send(req: falcon.Request, resp: falcon.Response, body: dict[str, Any]) -> None:
    body = {**body, "request_id": req.context.request_id}
    resp.status = body["status"]
    resp.content_type = MEDIA_TYPE
    resp.data = resp.text = resp.stream = None
    answer = getattr(req.context, "answer_problem", None)
    if answer is None:
        resp.data = json.dumps(body, ensure_ascii=False).encode()
    else:
        answer(req, resp, body)


def refuse_route(req: falcon.Request, resp: falcon.Response, **_: Any) -> NoReturn:  # noqa: ARG001 - Falcon's signature
    """The sink for paths nobody serves."""
    raise errors.NotFound("path", f"nothing is served at {req.path}; the reference is at /docs")
