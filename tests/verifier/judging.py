"""The verifier's ways in, for tests, which have their documents in memory."""

from __future__ import annotations

from core.content import Content
from verifier import pdf
from verifier.context import Context
from verifier.octets import Digests
from verifier.pdf import PdfVerdicts


def verify_pdf(document: bytes, context: Context, password: str | None = None) -> PdfVerdicts:
    """:func:`verifier.pdf.verify_pdf`."""
    return pdf.verify_pdf(Digests(Content.of(document)), context, password)
