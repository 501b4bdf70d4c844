"""RFC 3161, 3.4: time-stamping over HTTP; and the record of it for auditors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import falcon
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor
from core.db import Database
from core.errors import CondauError, NotFound, Rejected, TooMany
from core.settings import Config
from registry.models import Role
from tsa.authority import Ask
from tsa.policy import LANGUAGES, render_policy
from tsa.reception import Reception
from tsa.records import TimestampView, find_timestamps, timestamp_with_serial
from tsa.request import QUERY_LIMIT
from tsa.response import build_granted
from web.express_shell import Call
from web.operation import OPEN, PUBLIC, Document, operation, send_json
from web.pages import render_document, send_page

QUERY_TYPE: Final = "application/timestamp-query"
REPLY_TYPE: Final = "application/timestamp-reply"
_JSON: Final = "application/json"
TST_TYPE: Final = "application/vnd.etsi.timestamp-token"
_BY_SUFFIX: Final = {"tsr": REPLY_TYPE, "tst": TST_TYPE}
_QUERY: Final = Document(QUERY_TYPE, limit=QUERY_LIMIT, multipart=False)


class Timestamps:
    """``/tsa``: open to everybody inside the network; the policy asked for chooses the unit."""

    def __init__(self, *, reception: Reception) -> None:
        self._reception = reception

    @operation(
        roles=OPEN,
        summary="Time-stamp a digest (RFC 3161)",
        description="A TimeStampReq in, a TimeStampResp out, both DER. A refusal is a TimeStampResp too, with HTTP status 200.",
        tag="time-stamps",
        body=_QUERY,
        returns=REPLY_TYPE,
        problems=(TooMany,),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, document: bytes) -> None:
        """Answer one query."""
        resp.data = self._reception.answer(Ask(document, actor), req.remote_addr)
        resp.content_type = REPLY_TYPE


class UnitTimestamps:
    """``/tsa/{unit}``: the same of one unit."""

    def __init__(self, *, reception: Reception) -> None:
        self._reception = reception

    @operation(
        roles=OPEN,
        summary="Time-stamp a digest with a certain unit (RFC 3161)",
        description="As `/tsa`, by the unit of this name; a request for another policy than the unit's is refused.",
        tag="time-stamps",
        body=_QUERY,
        returns=REPLY_TYPE,
        problems=(NotFound, TooMany),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, document: bytes, unit: str) -> None:
        """Answer one query."""
        resp.data = self._reception.answer(Ask(document, actor, unit), req.remote_addr)
        resp.content_type = REPLY_TYPE


class ExpressTimestamps:
    """Both paths on the express lane; implements :class:`web.express_shell.ExpressService`."""

    reply_type = REPLY_TYPE
    audience = OPEN

    def __init__(self, *, reception: Reception) -> None:
        self._reception = reception
        self._units = {"/tsa": None} | {f"/tsa/{name}": name for name in reception.units}

    def takes(self, path: str, kind: str) -> bool:
        """Queries to a unit that there is."""
        return kind == QUERY_TYPE and path in self._units

    def answer_calls(self, calls: Sequence[Call]) -> list[bytes | CondauError]:
        """The TimeStampResp to each."""
        asked = [Ask(call.body, call.actor, self._units[call.path]) for call in calls]
        return self._reception.answer_all(asked, [call.peer for call in calls])


class PolicyOptions(BaseModel):
    """In which language."""

    model_config = ConfigDict(extra="forbid")

    lang: Literal["vi", "en"] = "vi"


class PolicyPage:
    """``/tsa/policy``: the policy and practice statement, to read."""

    def __init__(self, *, config: Config) -> None:
        pages = {language: render_policy(config, language) for language in LANGUAGES}
        self._pages = {language: render_document(text, language=language, path="/tsa/policy") for language, text in pages.items()}

    @operation(
        roles=PUBLIC,
        summary="The TSA policy and practice statement",
        tag="time-stamps",
        query=PolicyOptions,
        returns="text/html",
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: PolicyOptions) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer the page."""
        send_page(resp, self._pages[options.lang])


class TimestampQuery(BaseModel):
    """Which timestamps: one of ``serial`` and ``imprint``."""

    model_config = ConfigDict(extra="forbid")

    serial: str | None = Field(default=None, max_length=80, description="serialNumber in hex")
    imprint: str | None = Field(default=None, max_length=128, pattern="^[0-9A-Fa-f]+$", description="The stamped digest in hex")
    before: int | None = Field(default=None, ge=1, description="The `next` of the last page")
    limit: int = Field(default=100, ge=1, le=1000)


class TimestampPage(BaseModel):
    """A page of recorded timestamps."""

    timestamps: list[TimestampView]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class RecordedTimestamps:
    """``/v1/timestamps``: found by what was stamped or by serial number."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @operation(
        roles={Role.AUDITOR},
        summary="Find recorded timestamps by serial number or imprint, newest first",
        tag="time-stamps",
        query=TimestampQuery,
        returns=TimestampPage,
        problems=(Rejected,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: TimestampQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        if (options.serial is None) == (options.imprint is None):
            raise Rejected("serial", "give the serial number or the imprint, one of the two")
        with self._database.read() as db:
            found = find_timestamps(db, serial=options.serial, imprint=options.imprint, before=options.before, limit=options.limit)
        views = [TimestampView.of(row) for row in found]
        send_json(resp, TimestampPage(timestamps=views, next=found[-1].id if len(found) == options.limit else None))


class RecordedTimestamp:
    """``/v1/timestamps/{serial}``: one of them; with ``.tsr`` or ``.tst`` after the serial number its DER."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    @operation(
        roles={Role.AUDITOR},
        summary="Read one recorded timestamp",
        description=(
            f"JSON; or DER, by `Accept` or by a suffix of the serial number: `.tsr` (`{REPLY_TYPE}`) is a TimeStampResp, which "
            f"`openssl ts` reads, `.tst` (`{TST_TYPE}`, ETSI EN 319 422, Annex C) the bare TimeStampToken."
        ),
        tag="time-stamps",
        returns=TimestampView,
        problems=(NotFound,),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, serial: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with it."""
        number, _, suffix = serial.partition(".")
        kind = _BY_SUFFIX[suffix] if suffix in _BY_SUFFIX else req.client_prefers([_JSON, REPLY_TYPE, TST_TYPE])
        with self._database.read() as db:
            row = timestamp_with_serial(db, number if suffix in _BY_SUFFIX else serial)
        if kind == REPLY_TYPE:
            resp.data, resp.content_type = build_granted(row.der), REPLY_TYPE
        elif kind == TST_TYPE:
            resp.data, resp.content_type = row.der, TST_TYPE
        else:
            send_json(resp, TimestampView.of(row))
