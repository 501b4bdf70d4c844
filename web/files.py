"""A body of many files: read part by part as it arrives, never all of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import falcon
from falcon.media import MultipartFormHandler

from core.errors import Rejected, TooLarge
from web.body import readable_form, receiving

_CHUNK: Final = 1 << 16
_OPTIONS_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A part ``file``: ``name`` as the client gave it (never a path of ours), ``options`` the part of that name right before it."""

    name: str
    options: bytes | None
    chunks: Iterator[bytes]
    """The file itself, to be used up before the next is asked for."""


def read_files(req: falcon.Request, *, limit: int, most: int, file_limit: int) -> Iterator[ReceivedFile]:
    """The files of a multipart request, one after the other: at most ``most`` of them, ``limit`` bytes in all, each ``file_limit``.

    Raises Rejected for parts of other names, TooLarge, and Malformed for what is no multipart body or ends too early.
    """
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_count = 2 * most + 2
    options: bytes | None = None
    count = 0
    with receiving(req, limit) as upload, readable_form():
        form: Any = handler.deserialize(upload, req.content_type, upload.left + 1)  # type: ignore[arg-type]  # falcon wants IO and only reads
        for part in form:
            if part.name == "options":
                options = part.stream.read(_OPTIONS_LIMIT + 1)
                if len(options) > _OPTIONS_LIMIT:
                    raise TooLarge("options", f"at most {_OPTIONS_LIMIT} bytes")
                continue
            if part.name != "file":
                raise Rejected(part.name or "part", "not a part of this request; it takes file, and before each its options")
            count += 1
            if count > most:
                raise TooLarge("file", f"at most {most} files are taken at once: part the batch")
            yield ReceivedFile(part.filename or "", options, _chunks(part, file_limit))
            options = None
        if options is not None:
            raise Rejected("options", "stand before the file they are for, and after these comes none")
        for _ in upload.chunks():
            pass  # what follows the last part says nothing, but a body that ends too early is refused


def _chunks(part: Any, limit: int) -> Iterator[bytes]:
    size = 0
    with readable_form():
        while chunk := part.stream.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise TooLarge("file", f"at most {limit} bytes for one document")
            yield chunk
