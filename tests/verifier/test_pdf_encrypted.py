"""Encrypted files: the same signatures pass and the same changes are found as in files that are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer

from tests.verifier import test_pdf_attacks as attacks
from tests.verifier.authorities import Pki
from tests.verifier.files import plain_pdf, sign
from tests.verifier.judging import verify_pdf
from verifier.context import Context
from verifier.verdict import Indication

PASSWORD = "mo cua"


@pytest.fixture(scope="module")
def signed(pki: Pki) -> bytes:
    """Two pages, one form field, one signature, encrypted."""
    writer = copy_into_new_writer(PdfFileReader(io.BytesIO(plain_pdf(2, text_field=True))))
    writer.encrypt(owner_pass="chu nha", user_pass=PASSWORD)
    out = io.BytesIO()
    writer.write(out)
    return sign(out.getvalue(), pki, box=(300, 50, 500, 100), password=PASSWORD)


def update(pdf: bytes, change: Callable[[IncrementalPdfFileWriter], Any]) -> bytes:
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf), strict=False)
    writer.encrypt(PASSWORD)
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_signatures_one_after_another_pass(signed: bytes, pki: Pki, context: Context) -> None:
    document = sign(signed, pki, field="Second", box=(50, 50, 200, 100), password=PASSWORD)
    found = verify_pdf(document, context, PASSWORD).signatures
    assert [one.indication for one in found] == [Indication.TOTAL_PASSED] * 2


@pytest.mark.parametrize(
    "attack",
    [
        attacks.add_page,
        attacks.remove_page,
        attacks.overlay,
        attacks.rewrite_content,
        attacks.annotate,
        attacks.swap_appearance,
        attacks.swap_appearance_in_place,
        attacks.swap_stamp,
        attacks.move_stamp,
        attacks.swap_font,
        attacks.drop_form,
        attacks.drop_signature_field,
        attacks.open_action,
        attacks.empty_signature_field,
        attacks.borrow_signature,
        attacks.rotate,
        attacks.fill_in,
        attacks.redraw_fields,
        attacks.swap_form_font,
    ],
)
def test_a_change_after_signing_is_found(
    signed: bytes, context: Context, attack: Callable[[IncrementalPdfFileWriter], None]
) -> None:
    changed = update(signed, attack)
    (verdict,) = verify_pdf(changed, context, PASSWORD).signatures
    assert verdict.indication is not Indication.TOTAL_PASSED
    assert [finding for finding in (*verdict.changes, *verdict.findings) if finding.severity == "error"]
