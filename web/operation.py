"""Declaring a responder: who may call it, what it takes and what it gives.

One declaration is read three times: to let the caller in, to validate the request, and to write the OpenAPI document, so
none of them can say something else than the others. A responder without a declaration cannot be routed (``api.py`` refuses).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

import falcon
from pydantic import BaseModel, ValidationError

from audit.log import Actor
from core.errors import CondauError, MediaTypeRejected, Rejected, Violation
from registry.models import Role
from web.body import MULTIPART, keep_body, media_type, read_body, read_form
from web.idempotency import HEADER, StoredAnswers

JSON: Final = "application/json"
JSON_LIMIT: Final = 1_000_000
Model = TypeVar("Model", bound=BaseModel)
Responder = Callable[..., None]


class Audience(Enum):
    """Who may call without being known."""

    PUBLIC = "public"
    """Everybody; a key is not looked at."""
    OPEN = "open"
    """Everybody; who sends a key is known by it."""


PUBLIC: Final = Audience.PUBLIC
OPEN: Final = Audience.OPEN


class Document:
    """A body that is the document itself: bare, or as the part ``document`` of multipart/form-data beside ``options``.

    ``media_types``: those taken bare (``*/*``: any). ``parts``: names of further binary parts, handed over as
    ``parts: dict[str, bytes]``. ``limit``: bytes, where it is lower than the server's own. ``also``: a JSON model this
    operation takes in place of the document, by the request's Content-Type. ``spooled``: it may be larger than memory (up to
    ``server.document_limit``), and is handed over as ``document: Content``. ``large``: names of further parts that may be so as
    well, handed over as ``contents: dict[str, Content]``.
    """

    def __init__(
        self,
        *media_types: str,
        parts: tuple[str, ...] = (),
        large: tuple[str, ...] = (),
        limit: int | None = None,
        multipart: bool = True,
        also: type[BaseModel] | None = None,
        spooled: bool = False,
    ) -> None:
        self.media_types = media_types
        self.parts = parts
        self.large = large
        self.limit = limit
        self.multipart = multipart
        self.also = also
        self.spooled = spooled

    def takes(self, kind: str) -> bool:
        """Whether a bare body of media type ``kind`` is taken."""
        return "*/*" in self.media_types or kind in self.media_types


@dataclass(frozen=True, slots=True)
class Files:
    """A body of many files, which the responder reads as they arrive (:func:`web.files.read_files`); or a JSON model ``also``,
    by the request's Content-Type, which is handed over as ``body`` (None for files). ``json_limit``: bytes of that."""

    also: type[BaseModel]
    json_limit: int


@dataclass(frozen=True, slots=True)
class Operation:
    """What a responder declares of itself."""

    roles: frozenset[Role] | Audience
    summary: str
    tag: str
    description: str
    query: type[BaseModel] | None
    body: Document | Files | type[BaseModel] | None
    returns: type[BaseModel] | str | None
    status: int
    problems: tuple[type[CondauError], ...]
    idempotent: bool = False
    pending: type[BaseModel] | None = None


class Access(Protocol):
    """What the access middleware leaves in ``req.context.access``."""

    def admit(self, req: falcon.Request, roles: frozenset[Role] | Audience) -> Actor:
        """Who is asking; raises Unauthenticated or Forbidden."""
        ...


def operation(
    *,
    roles: Collection[Role] | Audience,
    summary: str,
    tag: str,
    description: str = "",
    query: type[BaseModel] | None = None,
    body: Document | Files | type[BaseModel] | None = None,
    returns: type[BaseModel] | str | None = None,
    status: int = 200,
    problems: tuple[type[CondauError], ...] = (),
    idempotent: bool = False,
    pending: type[BaseModel] | None = None,
) -> Callable[[Responder], Responder]:
    """Declare a responder method.

    It is called with ``(self, req, resp)``, the URI template's fields and, by keyword: ``actor`` always; ``options`` where
    ``query`` is given; ``document`` (and ``parts`` where the Document names some) or ``body`` by what ``body`` is. ``returns``
    is a model (JSON) or a media type; ``status`` the one of success; ``problems`` the errors worth listing in the reference.
    ``idempotent``: it honours an ``Idempotency-Key``; its actor then carries an origin, and its answer is kept in the database.
    ``pending``: what it answers with 202 where the act waits for approval.

    A resource for people has a method ``answer_problem(req, resp, problem)``, which answers with an error as they read it.
    """
    audience = roles if isinstance(roles, Audience) else frozenset(roles)
    declared = Operation(audience, summary, tag, description, query, body, returns, status, problems, idempotent, pending)

    def decorate(responder: Responder) -> Responder:
        @functools.wraps(responder)
        def respond(resource: Any, req: falcon.Request, resp: falcon.Response, **fields: Any) -> None:
            req.context.answer_problem = getattr(resource, "answer_problem", None)
            access: Access = req.context.access
            actor = access.admit(req, declared.roles)
            req.context.actor = actor
            resp.status = declared.status
            inputs = {**_inputs(req, declared), **fields}
            if declared.idempotent and req.get_header(HEADER) is not None:
                _respond_once(functools.partial(responder, resource, req, resp), req, resp, actor, inputs)
            else:
                responder(resource, req, resp, actor=actor, **inputs)

        vars(respond)["operation"] = declared
        return respond

    return decorate


def _respond_once(respond: Responder, req: falcon.Request, resp: falcon.Response, actor: Actor, inputs: dict[str, Any]) -> None:
    """Carry the request out under its Idempotency-Key, or answer as it was answered before. A refusal frees the key."""
    answers: StoredAnswers = req.context.answers
    attempt = answers.begin(req, resp, caller=actor.name, body=req.context.body_digest)
    if attempt is None:
        return
    try:
        respond(actor=dataclasses.replace(actor, origin=attempt.origin), **inputs)
    except CondauError as error:
        answers.give_up(attempt, error)
        raise
    answers.finish(attempt, resp)


def declared_operation(responder: Callable[..., Any]) -> Operation | None:
    """The declaration of a responder, or None for one without."""
    found = getattr(responder, "operation", None)
    return found if isinstance(found, Operation) else None


def send_json(resp: falcon.Response, model: BaseModel) -> None:
    """Answer with a model as JSON."""
    resp.content_type = JSON
    resp.text = model.model_dump_json()


def _inputs(req: falcon.Request, declared: Operation) -> dict[str, Any]:
    body = declared.body
    if body is None:
        return {} if declared.query is None else {"options": _parse_query(req, declared.query)}
    kind = media_type(req)
    if isinstance(body, Document):
        return _document_inputs(req, declared.query, body, kind)
    if isinstance(body, Files):
        return _files_inputs(req, declared.query, body, kind)
    if kind != JSON:
        raise MediaTypeRejected("Content-Type", f"send {JSON}, not {kind or 'nothing'}")
    inputs: dict[str, Any] = {"body": _parse_json(body, read_body(req, JSON_LIMIT))}
    if declared.query is not None:
        inputs["options"] = _parse_query(req, declared.query)
    return inputs


def _files_inputs(req: falcon.Request, query: type[BaseModel] | None, body: Files, kind: str) -> dict[str, Any]:
    if kind not in (JSON, MULTIPART):
        raise MediaTypeRejected("Content-Type", f"send {MULTIPART} or {JSON}, not {kind or 'nothing'}")
    inputs: dict[str, Any] = {} if query is None else {"options": _parse_query(req, query)}
    return {**inputs, "body": _parse_json(body.also, read_body(req, body.json_limit)) if kind == JSON else None}


def _document_inputs(req: falcon.Request, query: type[BaseModel] | None, body: Document, kind: str) -> dict[str, Any]:
    inputs: dict[str, Any] = {} if body.also is None else {"body": None}
    if kind == MULTIPART and body.multipart:
        form = read_form(req, body.parts, body.large, limit=body.limit, spooled=body.spooled)
        inputs["document"] = form.document if body.spooled else form.document.read(0, form.document.size)
        if body.parts:
            inputs["parts"] = form.parts
        if body.large:
            inputs["contents"] = form.contents
        if query is not None:
            inputs["options"] = _parse_json(query, form.options) if form.options is not None else _parse_query(req, query)
        return inputs
    if kind == JSON and body.also is not None:
        inputs = {"document": None, "body": _parse_json(body.also, read_body(req, JSON_LIMIT))}
        return inputs if query is None else {**inputs, "options": None}
    if not body.takes(kind):
        wanted = [*body.media_types, *([MULTIPART] if body.multipart else []), *([JSON] if body.also else [])]
        raise MediaTypeRejected("Content-Type", f"send {' or '.join(wanted)}, not {kind or 'nothing'}")
    if query is not None:
        inputs["options"] = _parse_query(req, query)
    inputs["document"] = keep_body(req) if body.spooled else read_body(req, body.limit)
    if body.parts:
        inputs["parts"] = {}
    if body.large:
        inputs["contents"] = {}
    return inputs


def _parse_query(req: falcon.Request, model: type[Model]) -> Model:
    try:
        return model.model_validate(req.params)
    except ValidationError as error:
        raise rejected(error) from error


def _parse_json(model: type[Model], data: bytes) -> Model:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise rejected(error) from error


def rejected(error: ValidationError) -> Rejected:
    """Every field pydantic found wrong, as one Rejected; the values themselves are left out, they may be secret."""
    violations = [
        Violation(".".join(str(step) for step in item["loc"]) or "body", item["msg"])
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Rejected.all(violations)
