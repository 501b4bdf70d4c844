"""Secrecy marks are told from words, whatever their Unicode form, font encoding or alphabet."""

from __future__ import annotations

import unicodedata

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
