"""Reading a request's body: never more than the limit, never half of it, and a large document into a file."""

from __future__ import annotations

import hashlib
import itertools
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import falcon
from falcon.media import MultipartFormHandler
from falcon.media.multipart import MultipartParseError

from core.content import Content
from core.errors import Malformed, Rejected, TooLarge, Unavailable

MULTIPART: Final = "multipart/form-data"
PATIENCE: Final = 20.0
"""Seconds a sender or reader may stall before its request is given up: it holds a thread meanwhile."""
SLOWEST: Final = 50_000
"""Bytes a second below which a sender that does not stall is given up as well, once its patience is used up."""
IN_MEMORY: Final = 1 << 20
"""Bytes of a document up to which it needs no file."""
_CHUNK: Final = 1 << 16
_OPTIONS_LIMIT: Final = 100_000
_PART_LIMIT: Final = 4_000_000
"""Bytes of each part beside a document that goes into a file."""
_PARTS_LIMIT: Final = 16


@dataclass(frozen=True, slots=True)
class Spool:
    """Where documents wait that are too large for memory: in files without a name, gone with the last who reads them."""

    folder: Path | None
    """Made when it is first needed; None is the system's own for temporary files."""
    limit: int
    """Bytes of such a document."""

    def keep(self, chunks: Iterator[bytes]) -> Content:
        """All of ``chunks``. Raises Unavailable when the disk takes no more, and whatever they raise."""
        held: list[bytes] = []
        size = 0
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size > IN_MEMORY:
                break
        else:
            return Content.of(b"".join(held))
        try:
            if self.folder is not None:
                self.folder.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                for chunk in itertools.chain(held, chunks):
                    file.write(chunk)
                return Content.of_file(file)
        except OSError as error:
            raise Unavailable("disk", "there is no room for a document of this size at the moment", retry_after=30) from error


class Upload:
    """A body as it arrives."""

    def __init__(self, req: falcon.Request, most: int) -> None:
        announced = req.content_length
        if announced is not None and announced > most:
            raise _too_large(most)
        self.left = most if announced is None else announced
        """No more bytes than this are to come."""
        self.digest = hashlib.sha256()
        """Over what was read."""
        self._most = most
        self._announced = announced
        self._size = 0
        if announced is not None:
            self._stream: Any = req.bounded_stream
        elif req.env.get("wsgi.input_terminated"):
            self._stream = req.env["wsgi.input"]
        else:
            self._stream = None  # neither a length nor chunks: by RFC 9112, section 6.3, there is no body

    def read(self, size: int = _CHUNK) -> bytes:
        """The next bytes, at most ``size`` and at most 64 KiB; none at the end.

        Raises TooLarge beyond the limit, Malformed when the body ends before the length it announced, stalls or crawls.
        """
        if self._stream is None:
            return b""
        try:
            data: bytes = self._stream.read(min(size, _CHUNK))
        except Exception as error:  # a connection lost or stalled is an OSError; for a broken chunk each server has its own type
            raise _cut_off() from error
        self._size += len(data)
        if self._size > self._most:
            raise _too_large(self._most)
        if not data and size and self._announced is not None and self._size < self._announced:
            raise _cut_off()
        self.digest.update(data)
        return data

    def chunks(self) -> Iterator[bytes]:
        """All that is still to come."""
        while chunk := self.read():
            yield chunk


def media_type(req: falcon.Request) -> str:
    """The media type of the body in lower case, without parameters; empty when none is said."""
    return (req.content_type or "").partition(";")[0].strip().lower()


def read_body(req: falcon.Request, limit: int | None = None) -> bytes:
    """The whole body.

    Raises TooLarge as soon as it is known to exceed ``limit`` or the server's own (``req.context.body_limit``), and
    Malformed as :meth:`Upload.read` does.
    """
    with receiving(req, min(req.context.body_limit, limit or req.context.body_limit)) as upload:
        return b"".join(upload.chunks())


def keep_body(req: falcon.Request) -> Content:
    """The whole body, which may be larger than memory: up to the limit of ``req.context.spool``; errors as there and above."""
    spool: Spool = req.context.spool
    with receiving(req, spool.limit) as upload:
        return spool.keep(upload.chunks())


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a multipart request."""

    document: Content
    options: bytes | None
    parts: dict[str, bytes]
    contents: dict[str, Content]
    """Those that may be larger than memory."""


def read_form(
    req: falcon.Request,
    further: tuple[str, ...],
    large: tuple[str, ...] = (),
    *,
    limit: int | None = None,
    spooled: bool = False,
) -> Form:
    """The parts ``document``, ``options`` (None when left out) and those named in ``further`` and ``large``; no others are taken.

    ``spooled``: the document, and the parts named in ``large``, may be larger than memory, as for :func:`keep_body`, which is the
    limit of all together; otherwise limits are those of :func:`read_body`. What the sender calls the document is then in
    ``req.context.document_name``: empty when it does not say.
    """
    spool: Spool = req.context.spool
    most = spool.limit + _PART_LIMIT if spooled else min(req.context.body_limit, limit or req.context.body_limit)
    found: dict[str, bytes] = {}
    kept: dict[str, Content] = {}
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_count = _PARTS_LIMIT
    with receiving(req, most) as upload, readable_form():
        form: Any = handler.deserialize(upload, req.content_type, upload.left + 1)  # type: ignore[arg-type]  # falcon wants IO and only reads
        for part in form:
            name = part.name or ""
            if name not in ("document", "options", *further, *large):
                taken = ", ".join(("document", "options", *further, *large))
                raise Rejected(name or "part", f"not a part of this request; it takes {taken}")
            if name in found or name in kept:
                raise Rejected(name, "is given twice")
            if name == "document":
                req.context.document_name = part.filename or ""
            if name == "document" or name in large:
                chunks = iter(lambda: part.stream.read(_CHUNK), b"")  # noqa: B023 - used up before the next part comes
                kept[name] = spool.keep(chunks) if spooled else Content.of(b"".join(chunks))
            else:
                found[name] = _read_part(name, part, _OPTIONS_LIMIT if name == "options" else _PART_LIMIT if spooled else most)
        for _ in upload.chunks():
            pass  # what follows the last part says nothing, but a body that ends too early is refused
    if "document" not in kept:
        raise Rejected("document", "the part named document is missing")
    return Form(kept.pop("document"), found.pop("options", None), found, kept)


def send_content(req: falcon.Request, resp: falcon.Response, content: Content, kind: str) -> None:
    """Answer with ``content``, in pieces; who takes them as slowly as a sender may not send is cut off."""
    resp.content_type = kind
    resp.set_stream(_paced(req.env.get("gunicorn.socket"), content), content.size)


def _paced(connection: socket.socket | None, content: Content) -> Iterator[bytes]:
    with _patiently(connection):
        yield from content.chunks()  # a chunk is 1 MiB, and each is to be gone within the time that sendall is given


@contextmanager
def receiving(req: falcon.Request, most: int) -> Iterator[Upload]:
    """The body as it arrives, up to ``most`` bytes; its digest is in ``req.context.body_digest`` when the block has ended."""
    upload = Upload(req, most)
    yield upload
    req.context.body_digest = upload.digest.digest()


def drain(req: falcon.Request) -> None:
    """Take in what is still being sent, for PATIENCE seconds or so: a browser reads no answer before it is rid of its body."""
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline and req.bounded_stream.read(_CHUNK):
            pass
    except Exception:  # noqa: BLE001 - for a broken connection each server has its own type, and the answer is under way anyhow
        return


@contextmanager
def _patiently(connection: socket.socket | None) -> Iterator[None]:
    """No wait on the connection lasts longer than PATIENCE."""
    if connection is not None:
        connection.settimeout(PATIENCE)
    try:
        yield
    finally:
        if connection is not None:
            connection.settimeout(None)


@contextmanager
def readable_form() -> Iterator[None]:
    """The edge around Falcon's parser."""
    try:
        yield
    except MultipartParseError as error:
        raise Malformed("body", f"not readable as {MULTIPART}: {error.description}") from error
    except UnicodeDecodeError as error:  # names of parts and files
        raise Malformed("body", f"not readable as {MULTIPART}: the header of a part is not in UTF-8") from error
    except falcon.HTTPError as error:
        raise Malformed("body", f"not readable as {MULTIPART}: {error.title}") from error


def _read_part(name: str, part: Any, most: int) -> bytes:
    data: bytes = part.stream.read(most + 1)
    if len(data) > most:
        raise TooLarge(name, f"at most {most} bytes")
    return data


def _too_large(most: int) -> TooLarge:
    return TooLarge("body", f"at most {most} bytes are taken")


def _cut_off() -> Malformed:
    return Malformed("body", "ended before the announced length, or came too slowly; nothing was done: send it again")
