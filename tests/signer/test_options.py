"""What goes together among the options of a PDF signature: every violation is told at once, each with its field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from signer.options import PdfOptions


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"profile": "appendix"}, ["number"]),
        ({"profile": "copy"}, ["copy_kind"]),
        ({"profile": "comment"}, ["comment"]),
        ({"profile": "comment", "comment": " \n"}, ["comment"]),
        ({"profile": "seal"}, ["profile"]),
        ({"number": "1/X", "issued_on": "2025-04-15", "qr": True}, ["issued_on", "number", "qr"]),
        ({"profile": "person", "text": "chữ", "certify": "forms", "comment": "ừ"}, ["certify", "comment", "text"]),
        ({"profile": "copy", "number": "1/X", "copy_kind": "photo"}, ["copy_kind"]),
        ({"profile": "copy", "number": "1/X"}, ["copy_kind", "number"]),
        (
            {"profile": "agency-issue", "number_rectangle": "1,2,3,4", "date_rectangle": "1,2,3,4"},
            ["date_rectangle", "number_rectangle"],
        ),
        ({"profile": "agency-issue", "number": "1/X", "issued_on": "15/4/2025"}, ["issued_on"]),
        ({"profile": "comment", "comment": "a\x07"}, ["comment"]),
        ({"profile": "person", "field": "Signature1", "printed_name": "Trần Văn Thử"}, ["printed_name"]),
    ],
)
def test_what_does_not_go_together_is_told_at_once(options: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(ValidationError) as refused:
        PdfOptions.model_validate(options)
    assert sorted(str(error["loc"][0]) for error in refused.value.errors()) == fields


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "person", "rectangle": "10,10,100,100", "page": 2},
        {"profile": "agency-issue", "number": "12/QĐ-UBND", "issued_on": "2025-04-15", "printed_name": "Trần Văn Thử", "qr": True},
        {"profile": "incoming", "number": "321"},
        {"profile": "portal"},
        {"profile": "person", "field": "Signature1"},
        {"text": "chữ của người gọi"},
    ],
)
def test_what_goes_together_is_taken(options: dict[str, Any]) -> None:
    assert PdfOptions.model_validate(options).profile == options.get("profile", "plain")
