"""Secrecy marks are told from words, whatever their Unicode form, font encoding or alphabet."""

from __future__ import annotations

import io
import unicodedata

import pikepdf
import pytest

from core.content import Content
from core.errors import Rejected
from signer.hygiene import scan
from signer.secrecy import Mark, Piece, find_marks, find_marks_in_metadata, parse_secrecy, read_mark
from tests.signer.letters import Form, Line, letter, write_pdf
from tests.signer.pdfs import make_pdf
from tests.signer.test_hygiene import build


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("MẬT", "MẬT"),
        ("(MẬT)", "MẬT"),
        ("TỐI MẬT", "TỐI MẬT"),
        ("Tuyệt mật", "TUYỆT MẬT"),
        (unicodedata.normalize("NFD", "TUYỆT MẬT"), "TUYỆT MẬT"),
        ("MÂ\u0323T", "MẬT"),
        ("T Ố I  M Ậ T", "TỐI MẬT"),
        ("M\u200bẬ\u00adT", "MẬT"),
        ("МẬТ", "MẬT"),  # Cyrillic letters
        ("ＭẬＴ", "MẬT"),
        ("tèi mËt", "TỐI MẬT"),  # TCVN3
        ("TUYEÄT MAÄT", "TUYỆT MẬT"),  # VNI
        ("Độ mật: Tối mật", "TỐI MẬT"),
        ("ĐỘMẬT:MẬT", "MẬT"),
        ("M.Ậ.T", "MẬT"),
        ("mật.", None),
        ("bảo mật", None),
        ("BÍ MẬT NHÀ NƯỚC", None),
        ("MẬT KHẨU", None),
        ("MÃ HÓA VÀ BẢO MẬT", None),
        ("", None),
    ],
)
def test_a_mark_is_a_piece_of_its_own(text: str, mark: str | None) -> None:
    assert read_mark(text) == mark


def test_a_heading_that_goes_on_is_none() -> None:
    assert list(find_marks([Piece("QUY CHẾ BẢO", "1"), Piece("MẬT", "1")])) == []
    assert list(find_marks([Piece("QUYẾT ĐỊNH", "1"), Piece("MẬT", "1"), Piece("MẬT", "1")])) == [Mark("MẬT", "1")]


@pytest.mark.parametrize(
    "text",
    ["MẬT - Bản số: 01", "TUYỆT MẬT – KHÔNG SAO CHỤP", "MẬT (hết hạn 2030)", "TỐI MẬT Bản số 2", "MẬTBảnsố1", "Bản số: 02 - MẬT"],
)
def test_words_that_explain_a_mark_do_not_hide_it(text: str) -> None:
    assert len(list(find_marks([Piece(text, "1")]))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "BÍ - MẬT",
        "Hội nghị (Mật, Ong)",
        "BẢO MẬT - AN TOÀN",
        "Số: 12/MẬT-KH",
        "TÀI LIỆU MẬT",
        "DANH MỤC BÍ MẬT NHÀ NƯỚC ĐỘ TUYỆT MẬT, TỐI MẬT, MẬT",
        "PHÂN LOẠI: TUYỆT MẬT, TỐI MẬT, MẬT",
        "TỐI MẬT, MẬT CỦA NGÀNH Y TẾ",
        "Lưu: VT, MẬT",
    ],
)
def test_what_only_has_the_word_among_others_is_none(text: str) -> None:
    assert list(find_marks([Piece(text, "1")])) == []


def test_a_title_is_read_in_its_parts() -> None:
    assert list(find_marks_in_metadata("title", "[MẬT] Kế hoạch bảo mật - quý I")) == [Mark("MẬT", "title")]
    assert list(find_marks_in_metadata("title", "Kế hoạch bảo vệ bí mật nhà nước")) == []


@pytest.mark.parametrize(("said", "mark"), [(None, None), ("", None), ("thường", None), ("mật", "MẬT"), ("Tối Mật", "TỐI MẬT")])
def test_what_a_caller_states(said: str | None, mark: str | None) -> None:
    assert parse_secrecy(said) == mark


def test_a_degree_nobody_knows_is_refused() -> None:
    with pytest.raises(Rejected):
        parse_secrecy("hơi mật")


MARKED: list[Line] = [("bold", 13, 70, 706, "TỐI MẬT")]
WORDS: list[Line] = [
    ("regular", 13, 85, 560, "Quy chế bảo mật và bảo vệ bí mật nhà nước, mật khẩu của tài khoản."),
    ("regular", 13, 85, 545, "mật."),
]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_mark_on_a_page_is_found(form: Form) -> None:
    plain = [line for line in letter() if line[3] != 704]
    report = scan(Content.of(write_pdf([[*plain, *WORDS, *MARKED]], form=form)))
    assert [mark.text for mark in report.secrecy] == ["TỐI MẬT"]


def test_at_the_top_of_a_later_page_too_and_words_are_no_marks() -> None:
    report = scan(Content.of(write_pdf([[*letter(), *WORDS], letter(), [("bold", 13, 70, 790, "MẬT")]])))
    assert [(mark.text, mark.where) for mark in report.secrecy] == [("MẬT", "trang/page 3")]


@pytest.mark.parametrize("matrix", ["1 0 0 1 70 690", "0.7 0.7 -0.7 0.7 150 200", "0 1 -1 0 300 300"])
@pytest.mark.parametrize("where", ["page", "/Stamp", "/FreeText"])
def test_letters_aslant_or_spaced_and_in_the_drawing_of_a_stamp_are_read(where: str, matrix: str) -> None:
    """A watermark across the page; and a stamp whose text stands nowhere but in its appearance."""
    document = drawn_over(
        write_pdf([letter()]), write_pdf([[("bold", 20, 25 * at, 10, char) for at, char in enumerate("MẬT")]]), where, matrix
    )
    assert [mark.text for mark in scan(Content.of(document)).secrecy] == ["MẬT"]


def drawn_over(document: bytes, drawing: bytes, where: str, matrix: str) -> bytes:
    """The page of ``drawing`` put on the one of ``document``, or into an annotation of this kind."""
    pdf, other = pikepdf.open(io.BytesIO(document)), pikepdf.open(io.BytesIO(drawing))
    page, form = pdf.pages[0], pdf.copy_foreign(other.pages[0].as_form_xobject())
    if where == "page":
        page.Resources.XObject = pikepdf.Dictionary(Drawn=form)
        page.contents_add(pdf.make_stream(f"q {matrix} cm /Drawn Do Q".encode()))
    else:
        form.Matrix = [float(value) for value in matrix.split()]
        kind = pikepdf.Dictionary(Subtype=pikepdf.Name(where), Rect=[0, 0, 595, 842], F=4, AP=pikepdf.Dictionary(N=form))
        page.Annots = [pdf.make_indirect(kind)]
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()


def utf16(text: str) -> bytes:
    return b"<" + ("\ufeff" + text).encode("utf-16-be").hex().encode() + b">"


def test_in_annotations_fields_and_xmp_too() -> None:
    packet = "<x><rdf:li xml:lang='vi'>TUYỆT MẬT</rdf:li><rdf:li>bảo mật</rdf:li></x>".encode()
    stream = b"<</Type/Metadata/Length %d>>stream\n%b\nendstream" % (len(packet), packet)
    page = b"/Annots[<</Subtype/FreeText/Contents %b>><</Subtype/Widget/FT/Tx/V %b>>]" % (utf16("TỐI MẬT"), utf16("MẬT"))
    report = scan(Content.of(build(catalog=b"/Metadata 6 0 R", page=page, more={6: stream})))
    assert {(mark.text, mark.where) for mark in report.secrecy} == {
        ("TỐI MẬT", "trang/page 1"),
        ("MẬT", "trang/page 1"),
        ("TUYỆT MẬT", "xmp"),
    }


def test_where_there_is_no_text_that_is_said() -> None:
    blank = make_pdf().replace(b"Xin chao 1", b"          ")
    assert (scan(Content.of(blank)).text_seen, scan(Content.of(blank)).secrecy) == ("none", ())
