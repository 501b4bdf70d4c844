"""Looks and pictures over HTTP: what an agency's signatures are drawn with."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import falcon
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor
from core.errors import Conflict, NotFound, Rejected
from registry.models import Role
from signer.gallery import Gallery
from signer.look_models import AgencyLook, SignaturePicture
from signer.looks import LOOK_BYTES, Source
from signer.rasters import IMAGE_BYTES
from web.operation import Document, operation, send_json

_PNG: Final = "image/png"
_TOML: Final = "application/toml"
_READERS: Final = {Role.ADMIN, Role.AUDITOR}
_PROBLEMS: Final = (NotFound, Rejected, Conflict)


class KeptVersion(BaseModel):
    """One version of a look or a picture."""

    name: str = Field(description="Which look (`person`, `agency-issue`, …) or picture (`seal`, `signature`, …).")
    version: int = Field(description="Counted from 1; the newest counts.")
    at: datetime
    sha256: str = Field(description="Of the file as it was handed in, lower-case hex.")
    width: float | None = Field(default=None, description="Of a picture: how wide the real thing is, in millimetres.")


class KeptLooks(BaseModel):
    """The looks that are an agency's own."""

    looks: list[KeptVersion]


class PictureQuery(BaseModel):
    """How large the real thing is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: float = Field(gt=0, description="How wide it is in millimetres; of a seal the diameter.")


class _Resource:
    """What every resource here is made of."""

    def __init__(self, *, gallery: Gallery) -> None:
        self._gallery = gallery


class AgencyLooks(_Resource):
    """``/v1/agencies/{code}/looks``."""

    @operation(roles=_READERS, summary="List an agency's own looks", tag="looks", returns=KeptLooks, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the newest version of each."""
        send_json(resp, KeptLooks(looks=[_look(row) for row in self._gallery.looks(code)]))


class AgencyLookResource(_Resource):
    """``/v1/agencies/{code}/looks/{name}``."""

    @operation(
        roles=_READERS,
        summary="Read a look in force at an agency",
        tag="looks",
        description="The agency's own, or the one that comes with the software: a start for writing one's own.",
        returns=_TOML,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, name: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the TOML."""
        resp.data = self._gallery.look(code, name)
        resp.content_type = _TOML

    @operation(
        roles={Role.ADMIN},
        summary="Give an agency its own look of a profile",
        tag="looks",
        description="A new version, from the next signature on. `name` is a profile, or `qr`. The format is in docs/operations.md.",
        body=Document(_TOML, "text/plain", limit=LOOK_BYTES, multipart=False),
        returns=KeptVersion,
        problems=_PROBLEMS,
    )
    def on_put(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, name: str, document: bytes) -> None:
        """Keep it."""
        send_json(resp, _look(self._gallery.keep_look(code, name, document, actor)))


class AgencyPicture(_Resource):
    """``/v1/agencies/{code}/seal`` and ``…/logo``."""

    def __init__(self, *, gallery: Gallery, source: Source) -> None:
        super().__init__(gallery=gallery)
        self._source = source

    @operation(roles=_READERS, summary="Read an agency's seal or logo", tag="looks", returns=_PNG, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the PNG."""
        _send_picture(resp, self._gallery.picture(code, self._source))

    @operation(
        roles={Role.ADMIN},
        summary="Keep an agency's seal or logo",
        tag="looks",
        description="A PNG with a transparent background (a seal in red), and how wide the real one is. A new version counts from "
        "the next signature on.",
        query=PictureQuery,
        body=Document(_PNG, limit=IMAGE_BYTES, multipart=False),
        returns=KeptVersion,
        problems=_PROBLEMS,
    )
    def on_put(
        self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, document: bytes, options: PictureQuery
    ) -> None:
        """Keep it."""
        send_json(resp, _picture(self._gallery.keep_picture(code, self._source, document, options.width, actor)))


class SubscriberPicture(_Resource):
    """``/v1/subscribers/{handle}/signature-image`` and ``…/initials-image``."""

    def __init__(self, *, gallery: Gallery, source: Source) -> None:
        super().__init__(gallery=gallery)
        self._source = source

    @operation(roles=_READERS, summary="Read the picture of somebody's signature", tag="looks", returns=_PNG, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the PNG."""
        _send_picture(resp, self._gallery.picture(handle, self._source))

    @operation(
        roles={Role.ADMIN},
        summary="Keep the picture of somebody's signature",
        tag="looks",
        description="A PNG in blue with a transparent background, and how wide the real one is. A new version counts from the next "
        "signature on.",
        query=PictureQuery,
        body=Document(_PNG, limit=IMAGE_BYTES, multipart=False),
        returns=KeptVersion,
        problems=_PROBLEMS,
    )
    def on_put(
        self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str, document: bytes, options: PictureQuery
    ) -> None:
        """Keep it."""
        send_json(resp, _picture(self._gallery.keep_picture(handle, self._source, document, options.width, actor)))


def _send_picture(resp: falcon.Response, row: SignaturePicture) -> None:
    resp.data = row.png
    resp.content_type = _PNG


def _look(row: AgencyLook) -> KeptVersion:
    return KeptVersion(name=row.name, version=row.version, at=row.at, sha256=row.sha256)


def _picture(row: SignaturePicture) -> KeptVersion:
    return KeptVersion(name=row.source, version=row.version, at=row.at, sha256=row.sha256, width=row.width)
