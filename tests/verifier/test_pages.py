"""The verification page: what it says in either language, what hostile input makes of it, and what it never does."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import falcon
import pytest
from cryptography import x509
from falcon import testing
from lxml import html

from core.db import Database
from core.errors import Unavailable
from tests.verifier.authorities import NOW, Pki, issue
from tests.verifier.files import encrypted_pdf, plain_pdf, sign, stamp_document
from tests.verifier.test_service import verifier as verifier  # noqa: PLC0414 - the fixture
from tests.verifier.test_timestamps import DATA, token
from verifier.http_pages import Counter, SignaturePage, VerificationForm
from verifier.page_views import MOST_CARDS, view_report
from verifier.page_words import PROBLEMS, Words, show
from verifier.pages import Site, Status
from verifier.service import Verifier
from verifier.verdict import Conclusion, Indication, Report, SignatureVerdict, Text
from web import problems
from web.access import ApiKeys, Shell

LIMIT = 2_000_000
CODE = "0123456789ABCDEFGHJK"
SITE = Site("https://kyso.thu-nghiem.example", "Sở Thử Nghiệm", development=False, limit=LIMIT)


@dataclass(frozen=True)
class OnPaper:
    """A signature that a code leads to."""

    certificate: x509.Certificate
    sha256: str
    size: int
    code: str = CODE
    at: datetime = NOW
    profile: str = "agency-issue"
    level: str = "B-LTA"
    number: str | None = "12/QĐ-UBND"
    issued_on: date | None = date(2025, 4, 5)
    status: Status = "good"
    since: datetime | None = None


class Page:
    """An answer, read as a browser would."""

    def __init__(self, answer: testing.Result) -> None:
        self.status = answer.status_code
        self.headers = answer.headers
        self.source = answer.text
        self.tree: Any = html.fromstring(answer.text)

    @property
    def text(self) -> str:
        return " ".join(self.tree.find("body").text_content().split())

    @property
    def banners(self) -> list[tuple[str, str]]:
        """Mark and heading of each."""
        found = self.tree.xpath("//div[contains(@class, 'banner')]")
        return [(one.get("class").split()[1], one.xpath("string(.//h1|.//h2)")) for one in found]

    def rows(self, label: str) -> list[str]:
        """What stands beside a label, wherever it comes."""
        found = self.tree.xpath("//dl/div")
        return [" ".join(one.find("dd").text_content().split()) for one in found if one.xpath("string(dt)") == label]


class Desk:
    """The pages behind the HTTP shell."""

    def __init__(self, verifier: Verifier, database: Database) -> None:
        self.papers: dict[str, OnPaper] = {}
        counter = Counter(verifier=verifier, find=self.papers.get, site=SITE, threads=8)
        app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=LIMIT)])
        problems.install(app)
        app.add_route("/verify", VerificationForm(counter))
        app.add_route("/verify/{code}", SignaturePage(counter))
        self.client = testing.TestClient(app)

    def get(self, path: str) -> Page:
        return Page(self.client.simulate_get(path))

    def post(self, document: bytes, path: str = "/verify", *, name: bytes = b"van-ban.pdf", **others: bytes) -> Page:
        """As a browser sends the form, whose other inputs were left empty."""
        parts = [(b'document"; filename="' + name, document)]
        parts += [(key.encode() + (b'"; filename="' if key == "data" else b""), value) for key, value in others.items()]
        body = b"".join(b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part for part in parts)
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        return Page(self.client.simulate_post(path, body=body + b"--b--\r\n", headers=kind))


@pytest.fixture
def desk(verifier: Verifier, database: Database) -> Desk:
    return Desk(verifier, database)


# -- the form -------------------------------------------------------------------------------------------------------------


def test_the_form_works_without_a_script_and_loads_nothing_of_others(desk: Desk) -> None:
    for path, language, title in (("/verify", "vi", "Kiểm tra chữ ký số"), ("/verify?lang=en", "en", "Verify a digital signature")):
        page = desk.get(path)
        assert (page.status, page.tree.get("lang"), page.tree.xpath("string(//h1)")) == (200, language, title)
        form = page.tree.get_element_by_id("check")
        assert (form.get("method"), form.get("enctype")) == ("post", "multipart/form-data")
        assert form.get("action") == f"/verify?lang={language}"
        labelled = {label.get("for") for label in page.tree.xpath("//label")}
        assert {item.get("id") for item in page.tree.xpath("//input[not(@type='hidden')]")} == labelled
        loaded = page.tree.xpath("//@src | //link/@href")
        assert loaded
        assert all(re.fullmatch(r"/static/[a-z]+\.(css|js|svg)", address) for address in loaded)
        assert not page.tree.xpath("//style | //script[not(@src)] | //@style | //@*[starts-with(name(), 'on')]")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert "https://kyso.thu-nghiem.example/" in page.text


def test_an_address_with_what_others_added_still_opens(desk: Desk) -> None:
    assert desk.get("/verify?utm_source=zalo&fbclid=x").status == 200


# -- verdicts -------------------------------------------------------------------------------------------------------------


def test_a_valid_file_tells_who_when_and_that_nothing_was_changed(desk: Desk, pki: Pki) -> None:
    page = desk.post(sign(plain_pdf(), pki, stamped_at=NOW - timedelta(hours=1)))
    assert page.banners == [("good", "Hợp lệ")]
    assert page.rows("Người ký") == ["Nguyễn Văn Thử"]
    assert page.rows("Cơ quan, tổ chức") == ["Cơ quan thử nghiệm"]
    assert page.rows("Thời điểm ký")[0].startswith(Words("vi").moment(NOW - timedelta(hours=1)))
    assert "+07:00 Có dấu thời gian chứng minh" in page.rows("Thời điểm ký")[0]
    assert page.rows("Thay đổi sau khi ký") == ["Không có"]
    assert page.rows("Tình trạng thu hồi")[0].startswith("Chưa bị thu hồi")
    assert page.rows("Nơi cấp và quản lý chứng thư") == ["Cơ quan thử nghiệm"]
    assert page.rows("Tên tệp") == ["van-ban.pdf"]
    assert page.rows("Indication") == ["TOTAL-PASSED", "TOTAL-PASSED"]
    assert page.tree.xpath("//details//dt[bdi='Indication']")
    english = desk.post(sign(plain_pdf(), pki), "/verify?lang=en")
    assert english.banners == [("good", "Valid")]
    assert english.rows("Time of signing")[0].endswith("no valid time-stamp proves it.")


def test_a_changed_file_says_so_and_praises_nothing(desk: Desk, pki: Pki) -> None:
    signed = stamp_document(sign(plain_pdf(), pki), pki, NOW)
    page = desk.post(signed.replace(b"(Page 1)", b"(Page 2)"))
    assert page.banners == [("bad", "Không hợp lệ")]
    assert page.rows("Nội dung đã ký")[0].startswith("Không xác nhận được")
    assert page.rows("Thay đổi sau khi ký") == []
    assert page.rows("Tên ghi trong chứng thư")[0].startswith("Nguyễn Văn Thử Chữ ký không khớp")
    assert "Đừng tin văn bản này" in page.text


def test_a_stranger_s_name_is_shown_as_what_it_is_a_claim(desk: Desk, pki: Pki) -> None:
    page = desk.post(sign(plain_pdf(), pki, signer=issue("Ủy ban nhân dân tỉnh Thử Nghiệm")))
    assert page.banners == [("open", "Chưa đủ căn cứ")]
    assert page.rows("Người ký") == []
    assert "Chưa có cơ quan cấp nào được tin cậy ở đây xác nhận tên này." in page.rows("Tên ghi trong chứng thư")[0]
    assert page.rows("Tình trạng thu hồi") == ["CHƯA KIỂM TRA ĐƯỢC chứng thư có bị thu hồi hay không"]


def test_files_without_signature_junk_and_locked_ones_each_say_what_is_the_matter(desk: Desk, pki: Pki) -> None:
    assert desk.post(plain_pdf()).banners == [("open", "Không có chữ ký số")]
    junk = desk.post(b"\0\1\2")
    assert junk.banners == [("bad", "Không hợp lệ")]
    assert "Không đọc được tệp: tệp bị hỏng" in junk.text
    locked = sign(encrypted_pdf("mở"), pki, password="mở")
    assert desk.post(locked, password=b"", data=b"").banners == [("open", "Chưa đủ căn cứ")]
    assert desk.post(locked, password="mở".encode()).banners == [("good", "Hợp lệ")]


def test_a_time_stamp_is_compared_with_the_file_it_is_for(desk: Desk, pki: Pki) -> None:
    assert desk.post(token(pki), data=DATA).banners == [("good", "Hợp lệ")]
    assert desk.post(token(pki), data=b"other").banners == [("bad", "Không hợp lệ")]
    alone = desk.post(token(pki), data=b"")
    assert alone.rows("Dữ liệu") == ["Chưa đối chiếu: hãy gửi kèm tệp mà dấu thời gian đóng cho"]


def test_every_mark_comes_with_words(desk: Desk, pki: Pki) -> None:
    """Colour and sign are beside the words, never instead of them, and a reader of the screen is not told of the signs."""
    page = desk.post(sign(plain_pdf(), pki))
    for image in page.tree.xpath("//svg"):
        assert image.get("aria-hidden") == "true"
        assert image.getparent().text_content().strip()


# -- hostile input --------------------------------------------------------------------------------------------------------


def test_hostile_names_are_only_text(desk: Desk, pki: Pki) -> None:
    signer = pki.issue("<script>alert(1)</script>\u202egnp.&quot;'\u0301\u0301\u0301\u0301")
    page = desk.post(sign(plain_pdf(), pki, signer=signer), name=("<img src=x onerror=y>\u202e" + "x" * 5000).encode())
    assert page.status == 200
    assert not page.tree.xpath("//script[not(@src)] | //img | //@onerror")
    assert "\u202e" not in page.source
    assert page.rows("Người ký")[0].startswith("<script>alert(1)</script>[U+202E]gnp.")
    assert len(page.rows("Tên tệp")[0]) < 200
    assert page.rows("Tên tệp")[0].startswith("<img src=x onerror=y>[U+202E]xxx")


def test_what_others_wrote_is_cut_and_made_visible() -> None:
    assert show("Ủy ban nhân dân") == "Ủy ban nhân dân"
    assert show("U\u0309y ban\u00a0nha\u0302n da\u0302n") == "Ủy ban nhân dân"
    assert show("a\u200bb\u2066c\x00d\ue000") == "a[U+200B]b[U+2066]c[U+0000]d[U+E000]"
    assert show("a" + "\u0301" * 40).count("\u0301") <= 2
    assert len(show("dài " * 10_000)) < 320


def test_moments_nobody_lives_to_see_are_written_all_the_same() -> None:
    words = Words("vi")
    assert words.moment(datetime(2025, 4, 15, 9, 28, 33, tzinfo=UTC)) == "15/04/2025 16:28:33 +07:00"
    assert words.moment(datetime.max.replace(tzinfo=UTC)).startswith("9999-12-31")
    assert words.moment(datetime.min.replace(tzinfo=UTC))
    assert words.moment(None) == ""


def test_a_file_with_thousands_of_signatures_is_a_page_of_bounded_length() -> None:
    one = SignatureVerdict(name="x", indication=Indication.TOTAL_FAILED, message=Text(vi="v", en="e"), intact=False)
    report = Report(
        format="pdf",
        verified_at=NOW,
        digest_sha256="00",
        size=1,
        conclusion=Conclusion.INVALID,
        indication=Indication.TOTAL_FAILED,
        message=Text(vi="v", en="e"),
        signatures=(one,) * 5000,
    )
    view = view_report(report, "x", Words("vi"))
    assert (len(view.cards), view.left_out) == (MOST_CARDS, 5000 - MOST_CARDS)
    assert "5000 không hợp lệ" in view.message


# -- problems -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["vi", "en"])
def test_problems_are_pages_with_a_remedy_in_words(desk: Desk, language: str) -> None:
    large = desk.post(bytes(LIMIT + 5_000_000), f"/verify?lang={language}")
    empty = desk.post(b"", f"/verify?lang={language}", data=b"", password=b"")
    unknown = desk.get(f"/verify/{CODE}?lang={language}")
    bad = desk.client.simulate_post(f"/verify?lang={language}", body=b"x", headers={"Content-Type": "text/plain"})
    for page, status, kind in (
        (large, 413, "too-large"),
        (empty, 422, "missing"),
        (unknown, 404, "not-found"),
        (Page(bad), 415, "other"),
    ):
        title, remedy = PROBLEMS[kind]
        assert page.status == status
        assert page.headers["content-type"].startswith("text/html")
        assert page.banners == [("open", getattr(title, language))]
        assert getattr(remedy, language) in page.text
        assert page.tree.get_element_by_id("check") is not None
        assert page.tree.get("lang") == language


def test_parts_whose_header_is_no_text_are_refused_as_a_page(desk: Desk) -> None:
    page = desk.post(b"x", name=b"\xff\xfe\xc3.pdf")
    assert (page.status, page.banners) == (400, [("open", "Không nhận được trọn tệp")])


def test_a_fault_of_ours_is_a_page_with_the_request_id(desk: Desk, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Report:
        raise ZeroDivisionError("internals")

    monkeypatch.setattr(verifier, "verify", fail)
    page = desk.post(b"%PDF-")
    assert (page.status, page.banners) == (500, [("open", "Có lỗi ở phía hệ thống")])
    assert page.rows("Mã yêu cầu") == [page.headers["x-request-id"]]
    assert "internals" not in page.source


def test_a_service_that_is_busy_says_when_to_come_back(desk: Desk, verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Report:
        raise Unavailable("database", "it is away", retry_after=7)

    monkeypatch.setattr(verifier, "verify", away)
    page = desk.post(b"%PDF-")
    assert (page.status, page.banners, page.headers["retry-after"]) == (503, [("open", "Hệ thống đang bận")], "7")


# -- what a code leads to -------------------------------------------------------------------------------------------------


@pytest.fixture
def paper(desk: Desk, pki: Pki) -> bytes:
    """A signed file, under CODE."""
    signed = sign(plain_pdf(), pki)
    desk.papers[CODE] = OnPaper(pki.signer.certificate, hashlib.sha256(signed).hexdigest(), len(signed))
    return signed


def test_a_code_tells_what_was_signed_and_that_this_proves_nothing_yet(desk: Desk, paper: bytes) -> None:
    page = desk.get(f"/verify/{CODE}")
    assert page.rows("Người ký") == ["Nguyễn Văn Thử"]
    assert page.rows("Số, ký hiệu") == ["12/QĐ-UBND"]
    assert page.rows("Ngày ban hành") == ["05/04/2025"]
    assert page.rows("Việc ký") == ["Ban hành văn bản: số, ngày và dấu của cơ quan"]
    assert page.rows("Chứng thư hiện nay") == ["còn hiệu lực"]
    assert hashlib.sha256(paper).hexdigest() in page.rows("SHA-256 của tệp đã ký")[0]
    assert page.banners == [("open", "Như vậy chưa đủ để tin văn bản")]
    assert not page.tree.xpath("//*[contains(@class, 'good')]")
    assert page.tree.get_element_by_id("check").get("action") == f"/verify/{CODE}?lang=vi"


def test_the_file_in_hand_is_held_against_the_code(desk: Desk, paper: bytes, pki: Pki) -> None:
    assert desk.post(paper, f"/verify/{CODE}").banners[0] == ("good", "Khớp với mã trên văn bản")
    further = sign(paper, pki, field="Signature2")
    assert desk.post(further, f"/verify/{CODE}").banners[0] == ("good", "Khớp với mã trên văn bản")
    added = desk.post(further + b"\n% more", f"/verify/{CODE}").banners
    assert added == [("open", "Khớp với mã trên văn bản"), ("bad", "Không hợp lệ")]
    other = sign(plain_pdf(2), pki)
    assert desk.post(other, f"/verify/{CODE}").banners == [("bad", "KHÔNG khớp với mã trên văn bản"), ("good", "Hợp lệ")]
    assert desk.post(paper[:-1], f"/verify/{CODE}?lang=en").banners[0] == ("bad", "It is NOT the document of this code")
    forged = paper.replace(b"(Page 1)", b"(Page 2)")
    assert [mark for mark, _ in desk.post(forged, f"/verify/{CODE}").banners] == ["bad", "bad"]


@pytest.mark.usefixtures("paper")
def test_a_certificate_that_lost_its_force_is_said_to_have(desk: Desk) -> None:
    at = Words("vi").moment(NOW)
    for status, said in (
        ("revoked", f"bị thu hồi từ {at}"),
        ("suspended", f"bị tạm dừng từ {at}"),
        ("expired", f"hết hạn từ {at}"),
    ):
        desk.papers[CODE] = replace(desk.papers[CODE], status=status, since=NOW)  # type: ignore[arg-type]  # one of its words
        assert desk.get(f"/verify/{CODE}").rows("Chứng thư hiện nay")[0].startswith(said)


@pytest.mark.usefixtures("paper")
def test_an_arrival_is_told_as_one_and_hostile_numbers_are_only_text(desk: Desk) -> None:
    desk.papers[CODE] = replace(desk.papers[CODE], profile="incoming", number="<b>321\u202e", issued_on=None)
    assert desk.get(f"/verify/{CODE}").rows("Số đến") == ["<b>321[U+202E]"]


@pytest.mark.usefixtures("paper")
def test_a_code_typed_from_the_paper_leads_to_its_page(desk: Desk) -> None:
    answer = desk.client.simulate_get("/verify", params={"code": CODE, "lang": "en"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/verify/{CODE}?lang=en")
    assert desk.get("/verify?code=UNKNOWN").status == 404
