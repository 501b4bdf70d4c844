"""The API reference: the OpenAPI document as JSON, and as a page to read."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

import falcon
import jinja2
from markupsafe import Markup, escape

from audit.log import Actor
from web.markdown import render_markdown
from web.operation import PUBLIC, operation

_CSP = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_LANGUAGES = (("vi", "Tiếng Việt"), ("en", "English"))

Document = Callable[[], dict[str, Any]]
"""Builds the OpenAPI document, JSON-ready. Nobody calls it before somebody wants to read: it takes half a second, which is a
third of what a worker needs to come back after a crash."""


class Reference:
    """``/v1/openapi.json``."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @functools.cached_property
    def _json(self) -> bytes:
        return json.dumps(self._document(), ensure_ascii=False).encode()

    @operation(roles=PUBLIC, summary="This reference as an OpenAPI 3.1 document", tag="reference", returns="application/json")
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer the document."""
        resp.content_type = "application/json"
        resp.data = self._json


class ReferencePage:
    """``/docs``: the same document, rendered on the server; the page loads nothing but its own style sheet."""

    def __init__(self, document: Document) -> None:
        self._document = document

    @functools.cached_property
    def _html(self) -> str:
        document = self._document()
        operations: dict[str, list[dict[str, Any]]] = {}
        for path, item in document["paths"].items():
            for method, described in item.items():
                operations.setdefault(described["tags"][0], []).append({"path": path, "method": method.upper(), **described})
        page = _templates().get_template("docs.html")
        return page.render(info=document["info"], operations=operations, schemas=document["components"].get("schemas", {}))

    @operation(roles=PUBLIC, summary="This reference as a page", tag="reference", returns="text/html")
    def on_get(self, _req: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer the page."""
        send_page(resp, self._html)


def render_document(text: str, *, language: str, path: str) -> str:
    """A document of ours, in Markdown, as a page; ``path?lang=`` leads to the other languages."""
    languages = [(one, name, f"{path}?lang={one}") for one, name in _LANGUAGES]
    title = text.partition("\n")[0].lstrip("# ")
    page = _templates().get_template("document.html")
    return page.render(language=language, title=title, body=render_markdown(text), languages=languages)


def send_page(resp: falcon.Response, html: str, *, script: bool = False) -> None:
    """Answer with a page that loads nothing but our style sheets and, with ``script``, our scripts from ``/static``."""
    resp.content_type = "text/html; charset=utf-8"
    resp.set_header("Content-Security-Policy", f"{_CSP}; script-src 'self'" if script else _CSP)
    resp.text = html


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _mark_code
    return environment


def _mark_code(text: str) -> Markup:
    """Text as HTML, with what stands between backticks as code."""
    return Markup(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before
