"""The OpenAPI 3.1 document, built from the very declarations and types that admit and validate the requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from openapi_pydantic import (
    Components,
    Info,
    MediaType,
    OpenAPI,
    Parameter,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    SecurityScheme,
    Server,
)
from openapi_pydantic import Operation as ApiOperation
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel, Field

from core.errors import CondauError, Forbidden, MediaTypeRejected, Rejected, TooLarge, Unauthenticated, Unavailable
from web.body import MULTIPART
from web.idempotency import HEADER
from web.operation import JSON, PUBLIC, Audience, Document, Files, Operation, declared_operation
from web.problems import MEDIA_TYPE, status_of, title_of

SCHEME: Final = "apiKey"
_FIELD: Final = re.compile(r"\{(\w+)(?::\w+)?\}")


class ViolationView(BaseModel):
    """One thing wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """An error as RFC 9457 has it."""

    type: str = Field(description="A URN that names the kind of problem; stable")
    title: str
    status: int
    detail: str = Field(description="What is wrong this time, and the remedy")
    violations: list[ViolationView] = Field(default=[], description="Each field that is wrong")
    request_id: str = Field(description="Finds this request in the log")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One declared responder at its path: ``method`` in lower case."""

    path: str
    method: str
    operation: Operation


def endpoints_of(routes: Iterable[tuple[str, Any]]) -> Iterable[Endpoint]:
    """Every responder of the table with its declaration; raises TypeError for one that declares nothing."""
    for path, resource in routes:
        for name, responder in inspect.getmembers(resource, inspect.ismethod):
            if not name.startswith("on_"):
                continue
            declared = declared_operation(responder)
            if declared is None:
                raise TypeError(f"{path}: {type(resource).__name__}.{name} does not declare who may call it")
            yield Endpoint(path, name.removeprefix("on_"), declared)


def build_openapi(endpoints: Iterable[Endpoint], *, version: str, public_url: str) -> dict[str, Any]:
    """The document as JSON-ready values."""
    paths: dict[str, PathItem] = {}
    for endpoint in endpoints:
        template = _FIELD.sub(r"{\1}", endpoint.path)
        item = paths.setdefault(template, PathItem())
        setattr(item, endpoint.method, _describe(endpoint))
    scheme = SecurityScheme(type="http", scheme="bearer", description="An API key")
    document = OpenAPI(
        info=Info(title="Condau", version=version, summary="Certificates, signatures and time-stamps, every key in an HSM"),
        servers=[Server(url=public_url)],
        paths=paths,
        components=Components(securitySchemes={SCHEME: scheme}),
    )
    built = construct_open_api_with_schema_class(document)
    result: dict[str, Any] = built.model_dump(mode="json", by_alias=True, exclude_none=True)
    return result


def _describe(endpoint: Endpoint) -> ApiOperation:
    declared = endpoint.operation
    public = isinstance(declared.roles, Audience)
    callers = "everybody, without a key" if isinstance(declared.roles, Audience) else ", ".join(sorted(declared.roles))
    return ApiOperation(
        operationId=f"{endpoint.method}{re.sub(r'[^a-zA-Z0-9]+', '_', endpoint.path)}".rstrip("_"),
        tags=[declared.tag],
        summary=declared.summary,
        description=f"{declared.description}\n\nFor: {callers}.".strip(),
        parameters=_parameters(endpoint) or None,
        requestBody=_request_body(declared),
        responses=_responses(declared),
        security=[] if public else [{SCHEME: []}],
    )


def _parameters(endpoint: Endpoint) -> list[Parameter | Reference]:
    found: list[Parameter | Reference] = [
        Parameter.model_validate({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})
        for name in _FIELD.findall(endpoint.path)
    ]
    if endpoint.operation.idempotent:
        kept = "Sent again within 24 hours with the same key, the request is not carried out again: the first answer is given again"
        header = {"name": HEADER, "in": "header", "required": False, "schema": {"type": "string", "maxLength": 255}}
        found.append(Parameter.model_validate({**header, "description": kept}))
    query = endpoint.operation.query
    if query is None:
        return found
    schema = query.model_json_schema()
    for name, value in schema.get("properties", {}).items():
        own = {key: item for key, item in value.items() if key not in ("title", "description")}
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": _inline(own, schema)}
        found.append(Parameter.model_validate({**parameter, "description": value.get("description")}))
    return found


def _inline(value: Any, root: dict[str, Any]) -> Any:
    """A parameter's schema with its references to ``$defs`` replaced by what they name."""
    if isinstance(value, dict):
        if "$ref" in value:
            return _inline(root["$defs"][value["$ref"].rpartition("/")[2]], root)
        return {key: _inline(item, root) for key, item in value.items()}
    return [_inline(item, root) for item in value] if isinstance(value, list) else value


def _request_body(declared: Operation) -> RequestBody | None:
    body = declared.body
    if body is None:
        return None
    binary = Schema.model_validate({"type": "string", "format": "binary"})
    if isinstance(body, Files):
        many = Schema.model_validate({"type": "array", "items": binary})
        form = Schema.model_validate({"type": "object", "required": ["file"], "properties": {"file": many}})
        return RequestBody(required=True, content={MULTIPART: MediaType(schema=form), JSON: MediaType(schema=_model(body.also))})
    if not isinstance(body, Document):
        return RequestBody(required=True, content={JSON: MediaType(schema=_model(body))})
    content = {kind: MediaType(schema=binary) for kind in body.media_types}
    if body.multipart:
        parts: dict[str, Any] = dict.fromkeys(("document", *body.parts, *body.large), binary)
        if declared.query is not None:
            parts["options"] = _model(declared.query)
        form = Schema.model_validate({"type": "object", "required": ["document"], "properties": parts})
        content[MULTIPART] = MediaType(schema=form)
    if body.also is not None:
        content[JSON] = MediaType(schema=_model(body.also))
    return RequestBody(required=True, content=content)


def _responses(declared: Operation) -> dict[str, Response | Reference]:
    returns = declared.returns
    content: dict[str, MediaType] | None = None
    if isinstance(returns, str):
        content = {returns: MediaType(schema=Schema.model_validate({"type": "string", "format": "binary"}))}
    elif returns is not None:
        content = {JSON: MediaType(schema=_model(returns))}
    found: dict[str, Response | Reference] = {str(declared.status): Response(description="Done", content=content)}
    if declared.pending is not None:
        waits = {JSON: MediaType(schema=_model(declared.pending))}
        found["202"] = Response(description="Not done yet: it waits for the approval of somebody else", content=waits)
    kinds: set[type[CondauError]] = {Unavailable, *declared.problems}
    if declared.roles is not PUBLIC:
        kinds |= {Unauthenticated, Forbidden}
    if declared.body is not None:
        kinds |= {Rejected, TooLarge, MediaTypeRejected}
    elif declared.query is not None:
        kinds.add(Rejected)
    problem = {MEDIA_TYPE: MediaType(schema=_model(Problem))}
    for kind in sorted(kinds, key=status_of):
        found[str(status_of(kind))] = Response(description=title_of(kind), content=problem)
    return found


def _model(kind: type[BaseModel]) -> Schema:
    return PydanticSchema.model_validate({"schema_class": kind})
