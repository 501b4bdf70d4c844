"""Reading a request's body: never more than the limit, never half of it."""

from __future__ import annotations

import io
import socket
import time
from typing import Any, Final, cast

import falcon
from falcon.media import MultipartFormHandler
from falcon.media.multipart import MultipartParseError

from core.errors import Malformed, Rejected, TooLarge

MULTIPART: Final = "multipart/form-data"
PATIENCE: Final = 20.0
"""Seconds a sender may stall before its request is given up: it holds a thread meanwhile."""
SLOWEST: Final = 50_000
"""Bytes a second below which a sender that does not stall is given up as well, once its patience is used up."""
_CHUNK: Final = 1 << 16
_OPTIONS_LIMIT: Final = 100_000
_PARTS_LIMIT: Final = 16


def media_type(req: falcon.Request) -> str:
    """The media type of the body in lower case, without parameters; empty when none is said."""
    return (req.content_type or "").partition(";")[0].strip().lower()


def read_body(req: falcon.Request, limit: int | None = None) -> bytes:
    """The whole body, which is kept in ``req.context.body`` as well.

    Raises TooLarge as soon as it is known to exceed ``limit`` or the server's own (``req.context.body_limit``), and
    Malformed when it ends before the length it announced, stalls or crawls.
    """
    most: int = min(req.context.body_limit, limit or req.context.body_limit)
    announced = req.content_length
    if announced is not None and announced > most:
        raise _too_large(most)
    if announced is None and not req.env.get("wsgi.input_terminated"):
        req.context.body = b""
        return b""  # neither a length nor chunks: by RFC 9112, section 6.3, there is no body
    stream = req.env["wsgi.input"] if announced is None else req.bounded_stream
    chunks: list[bytes] = []
    size = 0
    began = time.monotonic()
    connection: socket.socket | None = req.env.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(PATIENCE)
    try:
        while chunk := _read_some(stream, min(_CHUNK, most + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            if time.monotonic() - began > PATIENCE + size / SLOWEST:
                raise _cut_off()
    finally:
        if connection is not None:
            connection.settimeout(None)
    if announced is not None and size < announced:
        raise _cut_off()
    req.context.body = b"".join(chunks)
    return cast("bytes", req.context.body)


def _read_some(stream: Any, size: int) -> bytes:
    try:
        data: bytes = stream.read(size)
    except Exception as error:  # a connection lost or stalled is an OSError; for a broken chunk each server has its own type
        raise _cut_off() from error
    return data


def parse_multipart(req: falcon.Request, body: bytes, further: tuple[str, ...]) -> tuple[bytes, bytes | None, dict[str, bytes]]:
    """The parts ``document``, ``options`` (None when left out) and those named in ``further``; no others are taken."""
    found: dict[str, bytes] = {}
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_count = _PARTS_LIMIT
    try:
        form: Any = handler.deserialize(io.BytesIO(body), req.content_type, len(body))
        for part in form:
            name = part.name or ""
            if name not in ("document", "options", *further):
                raise Rejected(name or "part", f"not a part of this request; it takes document, options{_listed(further)}")
            if name in found:
                raise Rejected(name, "is given twice")
            found[name] = part.stream.read()
    except MultipartParseError as error:
        raise Malformed("body", f"not readable as {MULTIPART}: {error.description}") from error
    except falcon.HTTPError as error:
        raise Malformed("body", f"not readable as {MULTIPART}: {error.title}") from error
    if "document" not in found:
        raise Rejected("document", "the part named document is missing")
    options = found.pop("options", None)
    if options is not None and len(options) > _OPTIONS_LIMIT:
        raise TooLarge("options", f"at most {_OPTIONS_LIMIT} bytes")
    return found.pop("document"), options, found


def _listed(names: tuple[str, ...]) -> str:
    return "".join(f", {name}" for name in names)


def _too_large(most: int) -> TooLarge:
    return TooLarge("body", f"at most {most} bytes are taken")


def _cut_off() -> Malformed:
    return Malformed("body", "ended before the announced length, or came too slowly; nothing was done: send it again")
