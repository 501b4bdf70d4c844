"""What the verification page says beside the report's own sentences, in both languages, and how it writes what others wrote."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from registry.agencies import VIETNAM
from verifier.verdict import Text

Language = Literal["vi", "en"]

_LONGEST: Final = 300
_INVISIBLE: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MARKS: Final = 2
"""Combining marks that one letter may bear in Unicode NFC; more only climb over other lines."""

REASONS: Final = {
    "keyCompromise": ("lộ khóa bí mật", "the private key was exposed"),
    "cACompromise": ("lộ khóa của cơ quan cấp", "the authority's key was exposed"),
    "affiliationChanged": ("thay đổi thông tin hoặc nơi công tác", "the holder's details or post changed"),
    "superseded": ("đã thay bằng chứng thư khác", "replaced by another certificate"),
    "cessationOfOperation": ("chấm dứt hoạt động", "no longer in use"),
    "certificateHold": ("tạm dừng", "suspended"),
    "privilegeWithdrawn": ("không còn quyền", "the right was withdrawn"),
    "aACompromise": ("lộ khóa của cơ quan cấp thuộc tính", "the attribute authority's key was exposed"),
}
"""Reason codes of RFC 5280, 5.3.1; the rest say nothing to a reader."""
LEVELS: Final = {
    "B-B": ("chỉ có chữ ký, không có dấu thời gian", "the signature alone, without a time-stamp"),
    "B-T": ("có dấu thời gian", "with a time-stamp"),
    "B-LT": ("có dấu thời gian và dữ liệu để kiểm tra về sau", "with a time-stamp and all that is needed to check it later"),
    "B-LTA": ("đủ để lưu trữ lâu dài", "fit for long-term archiving"),
}
PROFILES: Final = {
    "person": ("Chữ ký của người có thẩm quyền", "The competent person's signature"),
    "initial": ("Ký nháy", "Initials"),
    "agency-issue": ("Ban hành văn bản: số, ngày và dấu của cơ quan", "Issuing the document: number, date and the agency's seal"),
    "appendix": ("Chữ ký số của cơ quan trên phụ lục", "The agency's signature on an appendix"),
    "copy": ("Chữ ký số của cơ quan trên bản sao", "The agency's signature on a copy"),
    "incoming": ("Tiếp nhận văn bản đến", "Receipt of an incoming document"),
    "comment": ("Ý kiến chỉ đạo", "A leader's instruction"),
    "portal": ("Đăng tải trên cổng thông tin", "Publication on the portal"),
}
PLAINER: Final = {
    "UNREADABLE": Text(
        vi="Không đọc được tệp: tệp bị hỏng, hoặc không phải PDF, XML hay dấu thời gian.",
        en="The file cannot be read: it is damaged, or neither PDF nor XML nor a time-stamp.",
    ),
}
"""In place of findings whose text is for those who know the format."""
PROBLEMS: Final = {
    "missing": (
        Text(vi="Chưa có tệp nào", en="No file was chosen"),
        Text(
            vi="Bạn chưa chọn tệp, hoặc tệp rỗng. Hãy chọn tệp đã ký rồi bấm “Kiểm tra”.",
            en="No file was chosen, or it is empty. Choose the signed file, then press “Check”.",
        ),
    ),
    "too-large": (
        Text(vi="Tệp quá lớn", en="The file is too large"),
        Text(
            vi="Tệp vượt quá dung lượng trang này nhận. Hãy gửi tệp nhỏ hơn, hoặc nhờ đơn vị vận hành kiểm tra giúp.",
            en="The file is larger than this page takes. Send a smaller one, or ask the operator to check it.",
        ),
    ),
    "malformed": (
        Text(vi="Không nhận được trọn tệp", en="The file did not arrive whole"),
        Text(
            vi="Đường truyền bị ngắt hoặc quá chậm, hay yêu cầu không đọc được. Hãy gửi lại tệp.",
            en="The connection broke or was too slow, or the request cannot be read. Send it again.",
        ),
    ),
    "not-found": (
        Text(vi="Không có mã này ở đây", en="There is no such code here"),
        Text(
            vi="Mã bị gõ sai, hoặc không do hệ thống này in ra: hãy đối chiếu từng ký tự, và đối chiếu địa chỉ in cạnh mã QR với "
            "địa chỉ của trang này. Nếu đều đúng thì đừng tin văn bản giấy; hãy hỏi cơ quan ban hành.",
            en="It was mistyped, or this service did not print it: compare it letter by letter, and the address beside the QR code "
            "with that of this page. If both are right, do not trust the paper; ask the issuing agency.",
        ),
    ),
    "unavailable": (
        Text(vi="Hệ thống đang bận", en="The service is busy"),
        Text(
            vi="Hiện có quá nhiều yêu cầu, hoặc một bộ phận của hệ thống đang tạm dừng. Hãy thử lại sau ít giây.",
            en="There are too many requests, or a part of the service is away. Try again in some seconds.",
        ),
    ),
    "internal": (
        Text(vi="Có lỗi ở phía hệ thống", en="Something failed on our side"),
        Text(
            vi="Lỗi không phải do bạn và chưa có kết luận nào về tệp. Hãy báo cho đơn vị vận hành kèm mã yêu cầu.",
            en="It is not your fault, and says nothing about the file. Tell the operator the request id.",
        ),
    ),
    "other": (
        Text(vi="Yêu cầu không được chấp nhận", en="The request was not accepted"),
        Text(
            vi="Trang này không nhận yêu cầu như vậy. Hãy quay lại, chọn tệp và gửi bằng mẫu của trang.",
            en="This page does not take such a request. Go back, choose a file and send it with the form.",
        ),
    ),
}
"""By the last part of the problem's type: title and remedy."""


class Words:
    """One language's way to say things; a moment is always in Vietnamese time, and says so."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, vi: str, en: str) -> str:
        """The sentence in this language."""
        return vi if self.language == "vi" else en

    def of(self, text: Text) -> str:
        """A sentence of the report."""
        return show(self(text.vi, text.en), most=1000)

    def moment(self, at: datetime | None) -> str:
        """``15/04/2025 16:28:33 +07:00``; empty for None."""
        if at is None:
            return ""
        try:
            return at.astimezone(VIETNAM).strftime("%d/%m/%Y %H:%M:%S +07:00")
        except (OverflowError, ValueError):  # the last hours of the year 9999, which somebody may well claim
            return at.isoformat(" ")

    def size(self, count: int) -> str:
        """``1,4 MB (1.432.112 byte)``, with the separators of the language."""
        unit, scale = next(((name, most) for name, most in (("MB", 10**6), ("kB", 10**3)) if count >= most), ("", 1))
        exact = f"{count:,} byte{self('', '' if count == 1 else 's')}"
        text = f"{count / scale:.1f} {unit} ({exact})".replace(".0 ", " ") if unit else exact
        return text.translate(str.maketrans(",.", ".,")) if self.language == "vi" else text


def show(text: str, *, most: int = _LONGEST) -> str:
    """What somebody else wrote, so that it cannot pretend to be something of ours.

    What cannot be seen, or turns the direction of what follows, is named (``[U+202E]``); what is long is cut in the middle.
    """
    text = unicodedata.normalize("NFC", text[: 100 * most])
    if len(text) > most:
        text = f"{text[: most * 2 // 3]} […] {text[-most // 4 :]}"
    return "".join(_seen(text))


def _seen(text: str) -> Iterator[str]:
    for marks, run in itertools.groupby(text, lambda char: unicodedata.category(char) in {"Mn", "Me"}):
        for char in itertools.islice(run, _MARKS if marks else None):
            category = unicodedata.category(char)
            if category in _INVISIBLE:
                yield " " if char in "\n\t" else f"[U+{ord(char):04X}]"
            else:
                yield " " if category == "Zs" else char
