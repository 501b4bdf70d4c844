"""What may not happen to a signed PDF unnoticed. Each attack is done to a file that was valid, and must be named."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.writer import PageObject
from pyhanko.sign.fields import SigFieldSpec, append_signature_field

from core.errors import Malformed
from tests.verifier.authorities import NOW, Pki
from tests.verifier.files import N, byte_range, first_page, plain_pdf, sign, stamp_document, update
from tests.verifier.judging import verify_pdf
from verifier.context import Context
from verifier.verdict import Indication, SubIndication


@pytest.fixture(scope="module")
def signed(pki: Pki) -> bytes:
    """Two pages, one form field, one signature."""
    return sign(plain_pdf(2, text_field=True), pki, stamped_at=NOW - timedelta(hours=1), box=(300, 50, 500, 100))


def field_named(writer: IncrementalPdfFileWriter, name: str) -> Any:
    return next(one.get_object() for one in writer.root["/AcroForm"]["/Fields"] if one.get_object()["/T"] == name)


def stream(writer: IncrementalPdfFileWriter, data: bytes) -> Any:
    entries = {
        N("/Type"): N("/XObject"),
        N("/Subtype"): N("/Form"),
        N("/BBox"): generic.ArrayObject(map(generic.NumberObject, (0, 0, 200, 20))),
    }
    return writer.add_object(generic.StreamObject(entries, stream_data=data))


def add_page(writer: IncrementalPdfFileWriter) -> None:
    content = writer.add_object(generic.StreamObject(stream_data=b"BT ET"))
    writer.insert_page(PageObject(contents=content, media_box=(0, 0, 595, 842)))


def remove_page(writer: IncrementalPdfFileWriter) -> None:
    tree = writer.root["/Pages"]
    del tree["/Kids"][1]
    tree["/Count"] = generic.NumberObject(1)
    writer.mark_update(tree.container_ref)


def overlay(writer: IncrementalPdfFileWriter) -> None:
    page = first_page(writer)
    extra = writer.add_object(generic.StreamObject(stream_data=b"BT /F1 40 Tf 72 500 Td (900 ty dong) Tj ET"))
    page["/Contents"] = generic.ArrayObject([page.raw_get("/Contents"), extra])
    writer.mark_update(page.container_ref)


def rewrite_content(writer: IncrementalPdfFileWriter) -> None:
    reference = first_page(writer).raw_get("/Contents").reference
    writer.objects[(0, reference.idnum)] = generic.StreamObject(stream_data=b"BT /F1 40 Tf 72 500 Td (Khac) Tj ET")


def annotate(writer: IncrementalPdfFileWriter) -> None:
    page = first_page(writer)
    note = generic.DictionaryObject(
        {
            N("/Type"): N("/Annot"),
            N("/Subtype"): N("/FreeText"),
            N("/Rect"): generic.ArrayObject(map(generic.NumberObject, (70, 690, 300, 720))),
            N("/Contents"): generic.TextStringObject("phủ lên"),
            N("/AP"): generic.DictionaryObject({N("/N"): stream(writer, b"1 g 0 0 200 20 re f")}),
        }
    )
    page["/Annots"].append(writer.add_object(note))
    writer.mark_update(page.container_ref)


def swap_appearance(writer: IncrementalPdfFileWriter) -> None:
    """Shadow "replace": the value stays, what is shown does not."""
    field = field_named(writer, "amount")
    field["/AP"] = generic.DictionaryObject({N("/N"): stream(writer, b"BT /F1 12 Tf (900 dong) Tj ET")})
    writer.mark_update(field.container_ref)


def swap_appearance_in_place(writer: IncrementalPdfFileWriter) -> None:
    reference = field_named(writer, "amount")["/AP"].raw_get("/N").reference
    writer.objects[(0, reference.idnum)] = generic.StreamObject(
        field_named(writer, "amount")["/AP"]["/N"], stream_data=b"BT /F1 12 Tf (900 dong) Tj ET"
    )


def swap_stamp(writer: IncrementalPdfFileWriter) -> None:
    field = field_named(writer, "Signature1")
    field["/AP"] = generic.DictionaryObject({N("/N"): stream(writer, b"BT /F1 12 Tf (Bo truong) Tj ET")})
    writer.mark_update(field.container_ref)


def move_stamp(writer: IncrementalPdfFileWriter) -> None:
    field = field_named(writer, "Signature1")
    field["/Rect"] = generic.ArrayObject(map(generic.NumberObject, (0, 0, 595, 842)))
    writer.mark_update(field.container_ref)


def fill_in(writer: IncrementalPdfFileWriter) -> None:
    field = field_named(writer, "amount")
    field["/V"] = generic.TextStringObject("900 dong")
    writer.mark_update(field.container_ref)


def swap_font(writer: IncrementalPdfFileWriter) -> None:
    reference = first_page(writer)["/Resources"]["/Font"].raw_get("/F1").reference
    other = {N("/Type"): N("/Font"), N("/Subtype"): N("/Type1"), N("/BaseFont"): N("/Symbol")}
    writer.objects[(0, reference.idnum)] = generic.DictionaryObject(other)


def swap_form_font(writer: IncrementalPdfFileWriter) -> None:
    form = writer.root["/AcroForm"]
    form["/DR"]["/Font"]["/F1"] = writer.add_object(
        generic.DictionaryObject({N("/Type"): N("/Font"), N("/Subtype"): N("/Type1"), N("/BaseFont"): N("/Symbol")})
    )
    writer.update_root()


def redraw_fields(writer: IncrementalPdfFileWriter) -> None:
    writer.root["/AcroForm"]["/NeedAppearances"] = generic.BooleanObject(value=True)
    writer.update_root()


def drop_form(writer: IncrementalPdfFileWriter) -> None:
    del writer.root["/AcroForm"]
    writer.update_root()


def drop_signature_field(writer: IncrementalPdfFileWriter) -> None:
    fields = writer.root["/AcroForm"]["/Fields"]
    fields.remove(next(one for one in fields if one.get_object()["/T"] == "Signature1"))
    writer.update_root()


def open_action(writer: IncrementalPdfFileWriter) -> None:
    writer.root["/OpenAction"] = generic.DictionaryObject(
        {N("/S"): N("/JavaScript"), N("/JS"): generic.TextStringObject("app.alert(1)")}
    )
    writer.update_root()


def empty_signature_field(writer: IncrementalPdfFileWriter) -> None:
    append_signature_field(writer, SigFieldSpec("Fake", box=(50, 600, 400, 800)))


def borrow_signature(writer: IncrementalPdfFileWriter) -> None:
    """A field of the attacker's that shows something else, with the signature that is there as its value."""
    append_signature_field(writer, SigFieldSpec("Fake", box=(50, 600, 400, 800)))
    field = field_named(writer, "Fake")
    field["/V"] = field_named(writer, "Signature1").raw_get("/V")
    field["/AP"] = generic.DictionaryObject({N("/N"): stream(writer, b"1 g 0 0 200 20 re f")})


def rotate(writer: IncrementalPdfFileWriter) -> None:
    first_page(writer)["/Rotate"] = generic.NumberObject(180)
    writer.mark_update(first_page(writer).container_ref)


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (add_page, "PAGES_ADDED"),
        (remove_page, "PAGES_REMOVED"),
        (overlay, "PAGE_CONTENT_CHANGED"),
        (rewrite_content, "PAGE_CONTENT_CHANGED"),
        (annotate, "ANNOTATIONS_ADDED"),
        (swap_appearance, "APPEARANCE_REPLACED"),
        (swap_appearance_in_place, "APPEARANCE_REPLACED"),
        (swap_stamp, "APPEARANCE_REPLACED"),
        (move_stamp, "APPEARANCE_REPLACED"),
        (swap_font, "PAGE_RESOURCES_CHANGED"),
        (drop_form, "SIGNATURE_UNREACHABLE"),
        (drop_signature_field, "SIGNATURE_UNREACHABLE"),
        (open_action, "CATALOG_CHANGED"),
        (empty_signature_field, "FIELD_ADDED"),
        (borrow_signature, "SIGNATURE_BORROWED"),
        (rotate, "PAGE_RESOURCES_CHANGED"),
    ],
)
def test_a_change_after_signing_fails_and_is_named(
    signed: bytes, context: Context, attack: Callable[[IncrementalPdfFileWriter], None], named: str
) -> None:
    (verdict,) = verify_pdf(update(signed, attack), context).signatures
    assert (verdict.indication, verdict.sub_indication) == (Indication.TOTAL_FAILED, SubIndication.FORMAT_FAILURE)
    assert named in {finding.code for finding in (*verdict.changes, *verdict.findings)}


@pytest.mark.parametrize(("change", "named"), [(fill_in, "FIELD_VALUE_CHANGED"), (redraw_fields, None), (swap_form_font, None)])
def test_what_may_be_innocent_leaves_it_open_and_is_named(
    signed: bytes, context: Context, change: Callable[[IncrementalPdfFileWriter], None], named: str | None
) -> None:
    (verdict,) = verify_pdf(update(signed, change), context).signatures
    assert verdict.sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE
    assert named is None or named in {finding.code for finding in verdict.changes}


def test_an_attack_hidden_below_a_further_signature_is_found(signed: bytes, pki: Pki, context: Context) -> None:
    pdf = sign(update(signed, swap_appearance), pki, field="Second")
    first, second = verify_pdf(pdf, context).signatures
    assert first.indication is Indication.TOTAL_FAILED
    assert second.indication is Indication.TOTAL_PASSED


def test_an_attack_that_is_undone_later_is_still_told(signed: bytes, context: Context) -> None:
    """Every step is judged, not only the first and the last state."""
    pdf = update(
        update(signed, rotate),
        lambda writer: (first_page(writer).pop("/Rotate"), writer.mark_update(first_page(writer).container_ref)),
    )
    (verdict,) = verify_pdf(pdf, context).signatures
    assert verdict.indication is not Indication.TOTAL_PASSED


def test_a_document_timestamp_over_an_attack_does_not_heal_it(signed: bytes, pki: Pki, context: Context) -> None:
    pdf = stamp_document(update(signed, annotate), pki, NOW)
    found = verify_pdf(pdf, context)
    assert found.signatures[0].indication is Indication.TOTAL_FAILED
    assert found.timestamps[0].indication is Indication.TOTAL_PASSED


def test_another_signer_s_self_made_signature_spoils_the_file(signed: bytes, context: Context) -> None:
    """Sneaky signature: its stamp may lie over anything, so a file with it is only as good as that signature."""
    stranger = Pki()
    pdf = sign(signed, stranger, field="Second", box=(60, 680, 400, 720))
    assert [one.indication for one in verify_pdf(pdf, context).signatures] == [Indication.TOTAL_PASSED, Indication.INDETERMINATE]


def test_a_signature_that_was_never_put_in_spoils_the_file(signed: bytes, pki: Pki, context: Context) -> None:
    pdf = sign(signed, pki, field="Second", box=(60, 680, 400, 720))
    _, before, after, _ = byte_range(pdf, 1)
    pdf = pdf[: before + 1] + b"0" * (after - before - 2) + pdf[after - 1 :]
    assert verify_pdf(pdf, context).signatures[1].indication is Indication.TOTAL_FAILED


def test_a_placeholder_alone_is_no_signature(pki: Pki, context: Context) -> None:
    pdf = sign(plain_pdf(), pki)
    _, before, after, _ = byte_range(pdf)
    found = verify_pdf(pdf[: before + 1] + b"0" * (after - before - 2) + pdf[after - 1 :], context)
    assert found.signatures == ()
    assert [finding.code for finding in found.findings] == ["SIGNATURE_NOT_MADE"]


def test_a_changed_byte_is_a_changed_digest(signed: bytes, context: Context) -> None:
    (verdict,) = verify_pdf(signed.replace(b"(Page 1)", b"(Page 9)"), context).signatures
    assert (verdict.sub_indication, verdict.intact) == (SubIndication.HASH_FAILURE, False)


@pytest.mark.parametrize(
    "junk", [b"junk\n", b"\n99 0 obj\n<< >>\nendobj\n", b"\n99 0 obj\n<< >>\nendobj\nstartxref\n%d\n%%%%EOF\n"]
)
def test_bytes_that_form_no_revision_are_told(signed: bytes, context: Context, junk: bytes) -> None:
    """Incremental saving attack: a viewer that rebuilds the table would read them."""
    last = re.findall(rb"startxref\s+(\d+)", signed)[-1]
    junk = junk % int(last) if b"%d" in junk else junk
    (verdict,) = verify_pdf(signed + junk, context).signatures
    assert verdict.indication is Indication.TOTAL_FAILED
    assert {"BYTES_APPENDED"} & {finding.code for finding in verdict.changes}


def test_objects_behind_the_last_table_are_told(signed: bytes, context: Context) -> None:
    pdf = update(signed, lambda writer: writer.add_object(generic.NumberObject(1)))
    (verdict,) = verify_pdf(pdf + b"7 0 obj\n<< >>\nendobj\n" + pdf[pdf.rindex(b"startxref") :], context).signatures
    assert "BYTES_APPENDED" in {finding.code for finding in verdict.changes}


def test_white_space_at_the_end_is_nothing(signed: bytes, context: Context) -> None:
    assert verify_pdf(signed + b"\r\n\n", context).signatures[0].indication is Indication.TOTAL_PASSED


def test_a_cut_off_file_is_a_verdict(signed: bytes, context: Context) -> None:
    for keep in (len(signed) - 1, len(signed) - 200, len(signed) // 2, 400):
        try:
            found = verify_pdf(signed[:keep], context).signatures
        except Malformed:
            continue
        assert all(one.indication is not Indication.TOTAL_PASSED for one in found)


@pytest.mark.parametrize("position", range(4))
def test_a_moved_range_fails(signed: bytes, context: Context, position: int) -> None:
    numbers = byte_range(signed)
    text = re.search(rb"/ByteRange \[[^\]]*\] *", signed)
    assert text is not None
    for step in (-2, 2, 10):
        moved = [*numbers]
        moved[position] += step
        literal = (b"/ByteRange [%d %d %d %d]" % tuple(moved)).ljust(len(text.group()))
        assert len(literal) == len(text.group())
        (verdict,) = verify_pdf(signed.replace(text.group(), literal), context).signatures
        assert verdict.indication is Indication.TOTAL_FAILED
        assert not verdict.intact


def test_a_second_field_over_the_same_range_is_not_believed(signed: bytes, context: Context) -> None:
    def copy_field(writer: IncrementalPdfFileWriter) -> None:
        value = field_named(writer, "Signature1")["/V"]
        copy = writer.add_object(generic.DictionaryObject({key: value.raw_get(key) for key in value}))
        field = {N("/FT"): N("/Sig"), N("/T"): generic.TextStringObject("Copy"), N("/V"): copy}
        writer.root["/AcroForm"]["/Fields"].append(writer.add_object(generic.DictionaryObject(field)))
        writer.update_root()

    verdicts = verify_pdf(update(signed, copy_field), context).signatures
    assert len(verdicts) == 2
    assert all(one.indication is Indication.TOTAL_FAILED for one in verdicts)


def test_content_in_the_hole_fails(signed: bytes, context: Context) -> None:
    _, before, after, _ = byte_range(signed)
    padding = signed[before:after].rindex(b"0" * 64)
    spot = before + padding
    pdf = signed[:spot] + b"> /X (" + b"a" * 51 + b") /Y <" + signed[spot + 63 :]
    assert len(pdf) == len(signed)
    (verdict,) = verify_pdf(pdf, context).signatures
    assert verdict.indication is Indication.TOTAL_FAILED


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_never_pass_and_never_raise_anything_else(signed: bytes, context: Context, data: st.DataObject) -> None:
    _, before, after, _ = byte_range(signed)
    covered = st.one_of(st.integers(0, before - 1), st.integers(after, len(signed) - 1))
    position, bit = data.draw(covered), data.draw(st.integers(0, 7))
    try:
        found = verify_pdf(_flip(signed, position, bit), context)
    except Malformed:
        return
    assert all(one.indication is not Indication.TOTAL_PASSED for one in found.signatures)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_in_the_cms_are_a_verdict(signed: bytes, context: Context, data: st.DataObject) -> None:
    """Not every byte of a CMS is signed (its certificates are not); but whatever is flipped, there is a verdict."""
    _, before, _, _ = byte_range(signed)
    position, bit = data.draw(st.integers(before + 1, before + 2 * 4000)), data.draw(st.integers(0, 7))
    assert len(verify_pdf(_flip(signed, position, bit), context).signatures) == 1


def _flip(pdf: bytes, position: int, bit: int) -> bytes:
    return pdf[:position] + bytes([pdf[position] ^ 1 << bit]) + pdf[position + 1 :]


def test_many_signature_dictionaries_cost_a_bounded_time(context: Context) -> None:
    """Each claims a huge hole; only as many bytes are looked at as there are."""
    crowd = b"".join(b"/ByteRange [0 %d %d 9]" % (number, 900_000) for number in range(3000))
    with pytest.raises(Malformed):
        verify_pdf(b"%PDF-1.7\n" + crowd + b"<" + b"0" * 1_000_000 + b">", context)


@pytest.mark.parametrize("at", [0, 17, 4096])
def test_a_signature_out_of_reach_is_found_wherever_it_stands(
    signed: bytes, context: Context, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Also across the pieces in which a large file is searched."""
    monkeypatch.setattr("verifier.pdf_structure._PIECE", signed.index(b"/ByteRange") - at)
    (verdict,) = verify_pdf(update(signed, drop_form), context).signatures
    assert verdict.name.startswith("(offset")


def test_paths_that_double_at_every_object_cost_a_bounded_time(pki: Pki, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty objects with 2^50 ways through them, in a file somebody signed and changed: the analysis gives up and says so."""

    def grow(writer: IncrementalPdfFileWriter) -> None:
        last = writer.add_object(generic.DictionaryObject())
        for _ in range(50):
            last = writer.add_object(generic.DictionaryObject({N("/L"): last, N("/R"): last}))
        writer.root["/Maze"] = last
        writer.update_root()

    def touch_its_end(writer: IncrementalPdfFileWriter) -> None:
        end = writer.root["/Maze"]
        while "/L" in end:
            end = end["/L"]
        end["/X"] = generic.NumberObject(1)
        writer.mark_update(end.container_ref)

    monkeypatch.setattr("verifier.pdf_reader._MOST_VISITS", 20_000)
    pdf = update(sign(update(plain_pdf(), grow), pki), touch_its_end)
    (verdict,) = verify_pdf(pdf, context).signatures
    assert verdict.sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE
    assert verdict.intact
    assert [finding.code for finding in verdict.changes] == ["CHANGES_UNKNOWN"]
