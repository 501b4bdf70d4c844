"""The verification page for people: the form, the verdict, and what the QR code of a document leads to, rendered on the server.

Nothing of it needs a script, and nothing of it comes from elsewhere (docs/adr/0028).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal, Protocol
from urllib.parse import urlsplit

import jinja2
from cryptography import x509
from cryptography.x509.oid import NameOID

from core.content import Content
from verifier.page_views import Mark, Row, view_report
from verifier.page_words import LEVELS, PROBLEMS, PROFILES, Language, Words, show
from verifier.verdict import Conclusion, Report

Status = Literal["good", "suspended", "revoked", "expired", "unknown"]
_LANGUAGES: Final = (("vi", "Tiếng Việt"), ("en", "English"))
_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("verifier"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class SignatureOnPaper(Protocol):
    """What is known of the signature that a code on a document leads to, and fit for everybody."""

    @property
    def code(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def profile(self) -> str: ...
    @property
    def level(self) -> str: ...
    @property
    def number(self) -> str | None: ...
    @property
    def issued_on(self) -> date | None: ...
    @property
    def sha256(self) -> str:
        """Of the signed file as it left the house."""
        ...

    @property
    def size(self) -> int: ...
    @property
    def certificate(self) -> x509.Certificate: ...
    @property
    def status(self) -> Status:
        """Of the certificate now."""
        ...

    @property
    def since(self) -> datetime | None: ...


FindPage = Callable[[str], SignatureOnPaper | None]
"""By the code as somebody typed it."""


@dataclass(frozen=True, slots=True)
class Site:
    """Whose page it is."""

    url: str
    """``public_url``."""
    operator: str
    development: bool
    limit: int
    """Bytes of a document."""


class Pages:
    """Renders the pages of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def form(self, language: Language, signature: SignatureOnPaper | None = None) -> str:
        """The page to choose a file on; with a ``signature``, what its code stands for."""
        return self._render("verify.html", Words(language), _path(signature), signature=self._signature(signature, Words(language)))

    def result(
        self, language: Language, report: Report, document: Content, name: str, signature: SignatureOnPaper | None = None
    ) -> str:
        """The verdict on a ``document`` that somebody called ``name``; with a ``signature``, whether it is that one's file."""
        words = Words(language)
        return self._render(
            "verdict.html",
            words,
            _path(signature),
            result=view_report(report, name, words),
            signature=self._signature(signature, words),
            comparison=None if signature is None else _compare(signature, document, report, words),
        )

    def problem(self, language: Language, path: str, problem: dict[str, Any]) -> str:
        """An error (the problem document of RFC 9457) in words, with its remedy."""
        words = Words(language)
        kind = problem["type"].rpartition(":")[2]
        if any(item["field"] == "document" for item in problem.get("violations", ())) and kind == "rejected":
            kind = "missing"
        title, remedy = map(words.of, PROBLEMS.get(kind, PROBLEMS["other"]))
        return self._render(
            "problem.html", words, path, title=title, remedy=remedy, problem=problem, detail=show(problem["detail"])
        )

    def _signature(self, signature: SignatureOnPaper | None, words: Words) -> tuple[Row, ...] | None:
        return None if signature is None else tuple(_signature_rows(signature, words))

    def _render(self, template: str, words: Words, path: str, **values: Any) -> str:
        site, t = self._site, words
        parts = urlsplit(site.url)
        return _TEMPLATES.get_template(template).render(
            t=t,
            language=words.language,
            languages=[(one, name, f"{path}?lang={one}") for one, name in _LANGUAGES],
            path=path,
            site=site,
            address=f"{parts.scheme}://{parts.netloc}/",
            limit=words.size(site.limit).partition(" (")[0],
            **values,
        )


def _path(signature: SignatureOnPaper | None) -> str:
    return "/verify" if signature is None else f"/verify/{signature.code}"


def _signature_rows(signature: SignatureOnPaper, words: Words) -> list[Row]:
    subject = signature.certificate.subject
    names = [
        [show(str(item.value)) for item in subject.get_attributes_for_oid(oid)]
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
    ]
    signer, organisation = ", ".join(names[0]), ", ".join([*reversed(names[1]), *names[2]])
    rows = [Row(words("Người ký", "Signer"), signer or organisation)]
    if organisation not in ("", signer):
        rows.append(Row(words("Cơ quan, tổ chức", "Organisation"), organisation))
    if signature.profile in PROFILES:
        rows.append(Row(words("Việc ký", "What for"), words(*PROFILES[signature.profile])))
    arrival = signature.profile == "incoming"
    if signature.number is not None:
        label = words("Số đến", "Number of arrival") if arrival else words("Số, ký hiệu", "Document number")
        rows.append(Row(label, show(signature.number)))
    if signature.issued_on is not None:
        label = words("Ngày đến", "Date of arrival") if arrival else words("Ngày ban hành", "Date of issue")
        rows.append(Row(label, f"{signature.issued_on:%d/%m/%Y}"))
    rows.append(Row(words("Thời điểm ký", "Time of signing"), words.moment(signature.at)))
    rows.append(Row(words("Mức chữ ký", "Level"), signature.level, words(*LEVELS.get(signature.level, ("", "")))))
    rows.append(_status_row(signature, words))
    rows.append(Row(words("SHA-256 của tệp đã ký", "SHA-256 of the signed file"), signature.sha256, words.size(signature.size)))
    return rows


def _status_row(signature: SignatureOnPaper, words: Words) -> Row:
    since = words.moment(signature.since)
    said: dict[Status, tuple[str, str, Mark]] = {
        "good": ("còn hiệu lực", "valid", ""),  # no tick on this page: a copied code would get it too
        "suspended": (f"bị tạm dừng từ {since}", f"suspended since {since}", "open"),
        "revoked": (f"bị thu hồi từ {since}", f"revoked since {since}", "open"),
        "expired": (f"hết hạn từ {since}", f"expired since {since}", "open"),
        "unknown": (
            "do cơ quan khác cấp; tình trạng được xem khi kiểm tra tệp",
            "issued by another authority; its status is looked up when the file is checked",
            "open",
        ),
    }
    vi, en, mark = said[signature.status]
    note = ""
    if signature.status in ("revoked", "expired", "suspended"):
        note = words(
            "Chữ ký làm trước lúc đó có thể vẫn hợp lệ: hãy kiểm tra tệp.",
            "A signature from before may still be valid: check the file.",
        )
    return Row(words("Chứng thư hiện nay", "The certificate now"), words(vi, en), note, mark)


def _compare(signature: SignatureOnPaper, document: Content, report: Report, words: Words) -> Row:
    """Whether a file is the one that left the house under the code, or begins with it."""
    if report.digest_sha256 == signature.sha256:
        text = words(
            "Tệp này đúng từng byte là tệp đã ký mà mã trên văn bản dẫn tới.",
            "This is, byte for byte, the signed file that the code on the document leads to.",
        )
        return Row(words("Khớp với mã trên văn bản", "It is the document of this code"), text, mark="good")
    if document.size > signature.size and document.sha256(signature.size) == signature.sha256:
        text = words(
            "Phần đầu của tệp đúng từng byte là tệp đã ký; sau đó có phần ghi thêm (như chữ ký khác), được xem xét dưới đây.",
            "It begins with the signed file, byte for byte; what was added behind it (such as further signatures) is judged below.",
        )
        return Row(
            words("Khớp với mã trên văn bản", "It is the document of this code"),
            text,
            mark="good" if report.conclusion is Conclusion.VALID else "open",
        )
    text = words(
        "Đây KHÔNG phải tệp đã ký mà mã dẫn tới: là văn bản khác, hoặc đã bị sửa hay lưu lại. Chữ ký trong tệp (nếu có) được xem "
        "xét riêng dưới đây và không liên quan đến mã.",
        "This is NOT the signed file that the code leads to: it is another document, or was changed or saved anew. Signatures in "
        "it, if any, are judged below by themselves and have nothing to do with the code.",
    )
    return Row(words("KHÔNG khớp với mã trên văn bản", "It is NOT the document of this code"), text, mark="bad")
