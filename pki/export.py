"""Certificates as lists have them: what was searched for, and rows as JSON lines and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from pki.inventory import Search, standing_of
from pki.models import Certificate
from pki.views import CertificateFilter, CertificateQuery, CertificateSummary

PAGE: Final = 1000
"""How many are read at once where all of them are wanted."""


def parse_search(wanted: CertificateFilter, at: datetime, *, limit: int | None = None) -> Search:
    """What was asked for, as the inventory takes it; ``limit`` instead of a query's own."""
    expiring = wanted.expiring_days is not None
    return Search(
        agency=wanted.agency,
        subscriber=wanted.subscriber,
        profile=wanted.profile,
        standing="valid" if expiring else wanted.standing,
        state=wanted.state,
        expires_from=at if expiring else wanted.expires_from,
        expires_before=at + timedelta(days=wanted.expiring_days or 0) if expiring else wanted.expires_before,
        spki_sha256=wanted.spki_sha256,
        key_in_hsm=wanted.key_in_hsm,
        serial=wanted.serial,
        text=wanted.text,
        limit=limit or (wanted.limit if isinstance(wanted, CertificateQuery) else PAGE),
        cursor=wanted.cursor if isinstance(wanted, CertificateQuery) else None,
    )


def summary_fields(row: Certificate, at: datetime) -> dict[str, object]:
    """The fields of a CertificateSummary, as they are at ``at``."""
    return {
        "serial": row.serial,
        "profile": row.profile,
        "subscriber": row.subscriber.handle if row.subscriber else None,
        "agency": row.agency.code if row.agency else None,
        "subject": row.subject,
        "issuer": row.authority.name,
        "state": row.state,
        "standing": standing_of(row, at),
        "spki_sha256": row.spki_sha256,
        "key_in_hsm": row.key_label is not None,
        "not_before": row.not_before,
        "not_after": row.not_after,
        "revoked_at": row.revoked_at,
        "revocation_reason": row.revocation_reason,
    }


def summarise(row: Certificate, at: datetime) -> CertificateSummary:
    """The certificate as a list has it."""
    return CertificateSummary.model_validate(summary_fields(row, at))


def format_lines(rows: Iterator[CertificateSummary]) -> Iterator[bytes]:
    """One JSON object a line."""
    for row in rows:
        yield row.model_dump_json().encode() + b"\n"


def format_csv(rows: Iterator[CertificateSummary]) -> Iterator[bytes]:
    """A heading and a line for each; a cell that a spreadsheet would take for a formula is made text by an apostrophe."""
    names = list(CertificateSummary.model_fields)
    yield b"\xef\xbb\xbf" + _line(names)
    for row in rows:
        values = row.model_dump(mode="json")
        yield _line(["" if values[name] is None else str(values[name]) for name in names])


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow([f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells])
    return text.getvalue().encode()
