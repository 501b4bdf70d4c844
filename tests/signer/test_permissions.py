"""Certification and locked fields: by request only, and then heeded by us and by others."""

from __future__ import annotations

import io
from pathlib import Path

import pikepdf
import pytest
from pydantic import ValidationError

from core.content import Content
from core.errors import Conflict, Rejected
from signer.extend import ExtendOptions
from signer.options import PdfOptions
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import add_empty_field, judge, make_pdf
from tests.signer.test_pdf import validate
from verifier.service import Verifier
from verifier.verdict import Conclusion

pytestmark = pytest.mark.one_database  # the signed document is looked at


def permission(document: bytes) -> int | None:
    """/P of the certification, as another reader finds it by way of the catalog."""
    with pikepdf.open(io.BytesIO(document)) as pdf:
        if "/Perms" not in pdf.Root:
            return None
        (reference,) = (one for one in pdf.Root.Perms.DocMDP.Reference if one.TransformMethod == "/DocMDP")
        return int(reference.TransformParams.P)


def test_nothing_is_certified_or_locked_unasked(house: House) -> None:
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(), CLIENT)
    assert permission(signed) is None
    assert b"/FieldMDP" not in signed


@pytest.mark.parametrize("level", ["B-B", "B-LTA"])
def test_a_final_document_stays_valid_and_takes_no_further_signature(house: House, tmp_path: Path, level: str) -> None:
    options = PdfOptions.model_validate({"level": level, "certify": "nothing"})
    signed = sign_pdf(house.signer, make_pdf(), options, CLIENT)
    assert permission(signed) == 1
    assert all(judge(tmp_path, signed))
    assert validate(house, signed, 0).bottom_line
    with pytest.raises(Conflict, match="against any further change"):
        sign_pdf(house.signer, signed, PdfOptions(), CLIENT)


@pytest.mark.parametrize(("wish", "stands"), [("forms", 2), ("annotations", 3)])
def test_a_certified_document_may_be_signed_again_but_not_certified(house: House, tmp_path: Path, wish: str, stands: int) -> None:
    options = PdfOptions.model_validate({"level": "B-B", "certify": wish})
    certified = sign_pdf(house.signer, make_pdf(), options, CLIENT)
    twice = sign_pdf(house.signer, certified, PdfOptions(level="B-B"), CLIENT)
    assert permission(twice) == stands
    assert judge(tmp_path, twice) == [True, True]
    assert validate(house, twice, 0).bottom_line
    assert validate(house, twice, 1).bottom_line
    with pytest.raises(Conflict, match="only a first signature"):
        sign_pdf(house.signer, twice, options, CLIENT)


@pytest.mark.parametrize("wish", ["forms", "annotations"])
def test_a_certified_document_shows_further_signatures_only_in_its_own_fields(house: House, wish: str) -> None:
    """What shows anywhere else would be held against the certification: an annotation can hide what was certified."""
    options = PdfOptions.model_validate({"certify": wish})
    certified = sign_pdf(house.signer, add_empty_field(make_pdf(), "Here"), options, CLIENT)
    with pytest.raises(Conflict, match="certified"):
        sign_pdf(house.signer, certified, PdfOptions(rectangle="100,100,300,200"), CLIENT)
    inside = sign_pdf(house.signer, certified, PdfOptions(field="Here"), CLIENT)
    assert conclusion(house, inside) is Conclusion.VALID


@pytest.mark.parametrize(("lock", "further"), [("*", False), ("Signature2", False), ("so", True)])
def test_a_signature_that_a_lock_would_hold_against_the_first_is_refused(house: House, lock: str, *, further: bool) -> None:
    locked = sign_pdf(house.signer, make_pdf(), PdfOptions(lock=lock), CLIENT)
    if not further:
        with pytest.raises(Conflict, match="locked"):
            sign_pdf(house.signer, locked, PdfOptions(), CLIENT)
    else:
        assert conclusion(house, sign_pdf(house.signer, locked, PdfOptions(), CLIENT)) is Conclusion.VALID


def test_the_archive_of_a_locked_document_is_renewed(house: House) -> None:
    """The lock leads to the catalog, and by that to the store, which every renewal replaces."""
    document = Content.of(sign_pdf(house.signer, make_pdf(), PdfOptions(lock="*"), CLIENT))
    for _ in range(2):
        document = house.extender().extend(document, ExtendOptions(), CLIENT)
    assert conclusion(house, document.read(0, document.size)) is Conclusion.VALID


def conclusion(house: House, document: bytes) -> Conclusion:
    return Verifier(database=house.database, now=house.now).verify(Content.of(document)).conclusion


def test_locked_fields_are_named_in_the_field_and_in_the_signature(house: House, tmp_path: Path) -> None:
    for lock, action, names in (("*", "/All", None), ("so, ngay", "/Include", ["so", "ngay"])):
        signed = sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-B", lock=lock), CLIENT)
        assert judge(tmp_path, signed) == [True]
        with pikepdf.open(io.BytesIO(signed)) as pdf:
            field = pdf.Root.AcroForm.Fields[0]
            parameters = field.V.Reference[0].TransformParams
            for said in (field.Lock, parameters):
                assert said.Action == action
                assert (None if names is None else [str(name) for name in said.Fields]) == names


def test_what_does_not_go_together_is_refused(house: House) -> None:
    with pytest.raises(Rejected, match="goes with a new signature field"):
        sign_pdf(house.signer, add_empty_field(make_pdf(), "Here"), PdfOptions(level="B-B", field="Here", lock="*"), CLIENT)
    with pytest.raises(Rejected, match="names no field"):
        sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-B", lock=" , "), CLIENT)
    with pytest.raises(ValidationError, match="goes with the profile plain"):
        PdfOptions(profile="person", certify="nothing")
