"""What could change a document's looks later is found, named by object, and hostile files end in a report or a type."""

from __future__ import annotations

import contextlib
import time

import pytest

from core.content import Content
from core.errors import Malformed, Rejected
from core.settings import HygieneConfig
from signer import hygiene
from signer.hygiene import HygieneReport, scan
from signer.page_text import PageText
from tests.signer.pdfs import make_pdf

TEXT = b"BT /F 18 Tf 100 600 Td (Noi dung cu the) Tj ET"
BASE = {
    1: b"<</Type/Catalog/Pages 2 0 R%b>>",
    2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>%b>>",
    4: b"<</Length %d>>stream\n%b\nendstream" % (len(TEXT), TEXT),
    5: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
}


def build(catalog: bytes = b"", page: bytes = b"", more: dict[int, bytes] | None = None, unlisted: bytes = b"") -> bytes:
    """A PDF with these entries in its catalog and page, further objects, and bytes no cross-reference lists."""
    objects = {**BASE, 1: BASE[1] % catalog, 3: BASE[3] % page, **(more or {})}
    out, where = bytearray(b"%PDF-1.7\n"), {}
    for number, body in objects.items():
        where[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    out += unlisted
    start, size = len(out), max(objects) + 1
    rows = b"".join(b"%010d 00000 n \n" % where[n] if n in where else b"0000000000 65535 f \n" for n in range(size))
    out += b"xref\n0 %d\n%btrailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, rows, size, start)
    return bytes(out)


def look(document: bytes) -> HygieneReport:
    return scan(Content.of(document))


def codes(document: bytes) -> list[str]:
    return [finding.code for finding in look(document).findings]


STREAM = b"<</Type/XObject/Subtype/Form/BBox[0 0 300 60]%b/Length 4>>stream\nq Q \nendstream"
STAMP = b"/Annots[<</Type/Annot/Subtype/%b/Rect[90 580 400 640]/AP<</N 6 0 R>>%b>>]"


@pytest.mark.parametrize(
    ("expected", "parts"),
    [
        ([], {}),
        (["JAVASCRIPT"], {"catalog": b"/OpenAction<</S/JavaScript/JS(app.alert\\(1\\))>>"}),
        (
            ["JAVASCRIPT"],
            {"catalog": b"/Names<</JavaScript<</Names[(a) 6 0 R]>>>>", "more": {6: b"<</S/JavaScript/JS 7 0 R>>", 7: b"(x)"}},
        ),
        (["JAVASCRIPT"], {"page": b"/AA<</O<</S/JavaScript/JS(x)>>>>"}),
        (["JAVASCRIPT"], {"catalog": b"/OpenAction<</S 6 0 R/JS(x)>>", "more": {6: b"/JavaScript"}}),
        (["MEDIA"], {"page": b"/Annots[<</Type/Annot/Subtype/RichMedia/Rect[0 0 9 9]>>]"}),
        (["EXTERNAL_STREAM"], {"catalog": b"/X<</Type/Filespec/FS/URL/F(http://x/v.mp4)>>"}),
        (["SHOWS_OR_HIDES"], {"page": b"/AA<</O<</S/SetOCGState/State[/OFF 6 0 R]>>>>"}),
        (["LAUNCH"], {"catalog": b"/OpenAction<</S/Launch/F(calc.exe)>>"}),
        (["SENDS_OR_LOADS_DATA"], {"catalog": b"/OpenAction<</S/SubmitForm/F(http://x)>>"}),
        (["GOES_TO_FILE"], {"catalog": b"/OpenAction<</S/GoToR/F(other.pdf)/D[0/Fit]>>"}),
        (["XFA"], {"catalog": b"/AcroForm<</Fields[]/XFA 6 0 R>>", "more": {6: b"(x)"}}),
        (["HIDDEN_LAYER"], {"catalog": b"/OCProperties<</OCGs[6 0 R]/D<</OFF[6 0 R]>>>>", "more": {6: b"<</Type/OCG/Name(a)>>"}}),
        (
            ["HIDDEN_LAYER"],
            {"catalog": b"/OCProperties<</OCGs[6 0 R]/D<</BaseState/OFF>>>>", "more": {6: b"<</Type/OCG/Name(a)>>"}},
        ),
        (
            ["LAYER_BY_CIRCUMSTANCE"],
            {"catalog": b"/OCProperties<</OCGs[6 0 R]/D<</AS[<</Event/Print>>]>>>>", "more": {6: b"<</Type/OCG>>"}},
        ),
        (["LAYERS"], {"catalog": b"/OCProperties<</OCGs[6 0 R]/D<<>>>>", "more": {6: b"<</Type/OCG/Name(a)>>"}}),
        (["EXTERNAL_STREAM"], {"page": b"/X 6 0 R", "more": {6: STREAM % b"/F<</FS/URL/F(http://x/y)>>"}}),
        (["REFERENCE_XOBJECT"], {"page": b"/X 6 0 R", "more": {6: STREAM % b"/Ref<</F(other.pdf)/Page 0>>"}}),
        (["SPARE_CATALOG"], {"more": {6: b"<</Type/Catalog/Pages 2 0 R>>"}}),
        (["SPARE_PAGE"], {"more": {6: b"<</Type/Page/MediaBox[0 0 9 9]>>"}}),
        (["SPARE_DRAWING"], {"more": {6: STREAM % b""}}),
        (["UNLISTED_VERSION"], {"unlisted": b"4 0 obj\n<</Length 0>>stream\n\nendstream\nendobj\n"}),
        ([], {"page": b"/X 6 0 R", "more": {6: b"<</Length 22>>stream\n4 0 obj <<>> endobj   \nendstream"}}),
        (["COVERED_TEXT"], {"page": STAMP % (b"Stamp", b""), "more": {6: STREAM % b""}}),
        ([], {"page": STAMP % (b"Highlight", b""), "more": {6: STREAM % b""}}),
        ([], {"page": STAMP % (b"Stamp", b"/F 2"), "more": {6: STREAM % b""}}),
        ([], {"page": STAMP % (b"Widget", b"/FT/Sig/T(a)"), "more": {6: STREAM % b""}}),
    ],
)
def test_what_is_found(expected: list[str], parts: dict[str, object]) -> None:
    assert codes(build(**parts)) == expected  # type: ignore[arg-type]


def test_a_field_that_shows_something_else_than_its_value() -> None:
    drawing = b"<</Subtype/Form/BBox[0 0 99 20]/Length 35>>stream\nBT /F 9 Tf 2 2 Td (1 000 000) Tj ET\nendstream"
    page = b"/Annots[<</Subtype/Widget/FT/Tx/T(a)/V(%b)/Rect[1 1 9 9]/AP<</N 6 0 R>>>>]"
    assert codes(build(page=page % b"9 000 000", more={6: drawing})) == ["FIELD_SHOWS_OTHER"]
    assert codes(build(page=page % b"1 000 000", more={6: drawing})) == []


def test_findings_name_their_objects_and_both_languages() -> None:
    (finding,) = look(build(catalog=b"/OpenAction 6 0 R", more={6: b"<</S/JavaScript/JS(x)>>"})).findings
    assert (finding.objects, finding.severity, finding.group) == (("6 0",), "error", "javascript")
    assert "JavaScript" in finding.text.vi
    assert "JavaScript" in finding.text.en


def test_policy_decides_and_what_only_informs_is_never_refused() -> None:
    report = look(build(catalog=b"/OpenAction<</S/JavaScript/JS(x)>>/X<</S/GoToR/F(a)>>", more={6: b"<</Type/Catalog>>"}))
    assert [finding.code for finding in report.refused(HygieneConfig())] == ["JAVASCRIPT"]
    strict = HygieneConfig(javascript="report", shadow="refuse")
    assert [finding.code for finding in report.refused(strict)] == ["SPARE_CATALOG"]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"%PDF-1.7",
        make_pdf()[:-40],
        build(more={2: b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 1>>"}),
        build(more={2: b"<</Type/Pages/Kids 2 0 R>>"}),
        build(catalog=b"/X " + nested(3000)),
        build(more={6: b"6 0 R", 7: b"<</Length 7 0 R>>stream\nx\nendstream"}),
        build(page=b"/Annots 3 0 R/MediaBox(x)"),
        build(more={number: b"[%d 0 R %d 0 R]" % (number + 1, number + 1) for number in range(10, 60)}),
        build(catalog=b"/AcroForm 1 0 R/OCProperties[1 2]/Names 9 0 R"),
        build(unlisted=b"4 0 obj " * 20_000),
    ],
)
def test_hostile_files_end_in_a_report_or_a_type_and_soon(document: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(Malformed, Rejected):
        look(document)
    assert time.process_time() - began < 10


def test_what_cannot_be_looked_at_is_told_and_refused_for_official_documents() -> None:
    report = look(build(page=b"/X 6 0 R", more={6: b"<</Broken"}))
    assert [finding.code for finding in report.refused(HygieneConfig())] == ["NOT_ALL_SEEN"]
    assert not report.complete


def test_a_document_whose_text_nobody_can_read_is_not_taken_for_one_without_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hygiene, "read_text", lambda *_, **__: iter(()))
    report = look(build())
    assert report.text_seen == "unreadable"
    assert [finding.code for finding in report.refused(HygieneConfig())] == ["TEXT_UNREADABLE"]


IMAGE = (
    b"<</Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8/ColorSpace/DeviceGray%b/Length 1>>stream\n\xc0\nendstream"
)
SEE_THROUGH = (
    b"<</Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8/ColorSpace/DeviceGray/Length 1>>stream\n%b\nendstream"
)
WORDS = b"BT /F 18 Tf 100 600 Td (Noi dung cu the) Tj ET "
OVER_IT = b"q 200 0 0 30 95 595 cm /I Do Q "
ELSEWHERE = b"q 200 0 0 30 95 300 cm /I Do Q "


def draw(content: bytes, *, image: bytes = b"", mask: bytes = b"\xff", form: bytes = b"", matrix: bytes = b"1 0 0 1 0 0") -> bytes:
    """A page with this content, which may draw the image I (``mask``: its opacity) and the form X."""
    things = {
        3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources 8 0 R>>",
        4: b"<</Length %d>>stream\n%b\nendstream" % (len(content), content),
        6: IMAGE % (image or (b"/SMask 7 0 R" if mask != b"\xff" else b"")),
        8: b"<</Font<</F 5 0 R>>/XObject<</I 6 0 R/X 9 0 R>>/ExtGState<</G<</ca 0.4>>/M<</BM/Multiply>>>>>>",
        9: b"<</Subtype/Form/BBox[0 0 2000 2000]/Matrix[%b]/Resources 8 0 R/Length %d>>stream\n%b\nendstream"
        % (matrix, len(form), form),
    }
    if mask != b"\xff":
        things[7] = SEE_THROUGH % mask
    return build(more=things)


@pytest.mark.parametrize(
    ("expected", "document"),
    [
        (["COVERED_TEXT"], draw(WORDS + OVER_IT)),
        (["COVERED_TEXT"], draw(WORDS + b"1 1 1 rg 90 590 220 40 re f ")),
        (["COVERED_TEXT"], draw(WORDS + b"0 g 90 590 60 40 re f ")),  # the first word
        (["COVERED_TEXT"], draw(WORDS + b"/X Do ", form=OVER_IT)),
        (["COVERED_TEXT"], draw(b"/X Do ", form=WORDS + OVER_IT, matrix=b"0.5 0 0 0.5 20 20")),
        (["COVERED_TEXT"], draw(WORDS + b"q 0.5 0 0 0.5 0 0 cm /X Do Q ", form=b"q 400 0 0 60 190 1190 cm /I Do Q ")),
        (["COVERED_TEXT"], draw(WORDS + b"q 595 0 0 842 0 0 cm /I Do Q ")),  # beneath a whole page
        (["FAINT_TEXT"], draw(b"1 1 1 rg " + WORDS)),
        (["FAINT_TEXT"], draw(b"1 1 1 RG 1 1 1 rg " + WORDS + ELSEWHERE)),
        ([], draw(WORDS + ELSEWHERE)),
        ([], draw(OVER_IT + WORDS)),  # a picture behind the text
        ([], draw(b"0 g 90 590 220 40 re f 1 1 1 rg " + WORDS)),  # white on black
        ([], draw(b"3 Tr " + WORDS + OVER_IT)),  # what a scan was recognised as
        ([], draw(b"3 Tr " + WORDS + b"q 595 0 0 842 0 0 cm /I Do Q ")),
        ([], draw(WORDS + OVER_IT, mask=b"\x50")),  # a seal: the letters show through
        ([], draw(WORDS + b"/G gs " + b"0 g 90 590 220 40 re f ")),
        ([], draw(WORDS + b"/M gs " + b"1 1 0 rg 90 590 220 40 re f ")),  # a marker pen
        ([], draw(WORDS + b"90 590 220 40 re S ")),  # a frame
        ([], draw(WORDS + b"0 g 90 597 220 1 re f ")),  # a line
    ],
)
def test_printed_text_that_nobody_sees_is_found_and_nothing_else_is_taken_for_it(expected: list[str], document: bytes) -> None:
    assert codes(document) == expected


def test_where_there_was_no_time_to_look_for_unseen_text_that_is_told_and_never_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hygiene, "read_text", lambda *_, **__: iter([PageText(1, (595, 842), [])]))
    report = look(build())
    assert [finding.code for finding in report.findings] == ["UNSEEN_NOT_SOUGHT"]
    assert report.refused(HygieneConfig(shadow="refuse")) == []
