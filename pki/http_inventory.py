"""Routes of the inventory: the certificates exported, and counted. (The search itself is ``GET /v1/certificates``.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import falcon

from audit.log import Actor
from core.clock import Now
from core.db import Database
from pki.export import PAGE, format_csv, format_lines, parse_search, summarise
from pki.inventory import find_all
from pki.models import Certificate
from pki.summary import load_counts
from pki.views import CertificateCounts, ExportQuery
from registry.models import Role
from web.operation import operation, send_json

CSV_TYPE: Final = "text/csv"
LINES_TYPE: Final = "application/jsonl"
_READERS: Final = frozenset({Role.ADMIN, Role.AUDITOR})


class CertificateExport:
    """``/v1/certificates/export``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(
        roles=_READERS,
        summary="Export the certificates that a search finds",
        description="All of them, as CSV (UTF-8 with a byte order mark, as spreadsheets want it) or one JSON object a line.",
        tag="certificates",
        query=ExportQuery,
        returns=CSV_TYPE,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: ExportQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with a stream: no more than a page of it is in memory at once."""
        at = self._now()
        search = parse_search(options, at, limit=PAGE)
        found = find_all(self._database, search, at)
        first = next(found, None)  # what is wrong with the search shows before the answer begins
        rows = (summarise(row, at) for row in _with_first(first, found))
        resp.content_type = CSV_TYPE if options.format == "csv" else LINES_TYPE
        resp.downloadable_as = f"certificates.{options.format}"
        resp.stream = format_csv(rows) if options.format == "csv" else format_lines(rows)


class CertificateSummaries:
    """``/v1/certificates/summary``."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    @operation(
        roles=_READERS,
        summary="Count the certificates",
        description="By agency, profile and what they are worth. They are counted every quarter of an hour: `at` says when.",
        tag="certificates",
        returns=CertificateCounts,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the counts."""
        send_json(resp, load_counts(self._database, self._now()))


def _with_first(first: Certificate | None, others: Iterator[Certificate]) -> Iterator[Certificate]:
    if first is not None:
        yield first
    yield from others
