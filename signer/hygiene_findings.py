"""What a hygiene scan may find, in both languages, by the group a policy is set for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Severity = Literal["info", "warning", "error"]


class Group(StrEnum):
    """What a policy is set for: the keys of ``[signer.hygiene]``."""

    JAVASCRIPT = "javascript"
    LAUNCH = "launch"
    XFA = "xfa"
    LAYERS = "layers"
    EXTERNAL = "external"
    SHADOW = "shadow"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Sentence:
    """The same in both languages."""

    vi: str
    en: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: ``objects`` are the numbers of the PDF objects it is in (``12 0``), at most ten."""

    code: str
    group: Group
    severity: Severity
    text: Sentence
    objects: tuple[str, ...] = ()


_KNOWN: Final[dict[str, tuple[Group, Severity, str, str]]] = {
    "JAVASCRIPT": (
        *(Group.JAVASCRIPT, "error"),
        "Tài liệu có mã JavaScript, có thể đổi nội dung hiển thị khi mở",
        "It holds JavaScript, which may change what is shown when it is opened",
    ),
    "LAUNCH": (
        *(Group.LAUNCH, "error"),
        "Tài liệu có lệnh chạy chương trình khác",
        "It holds an action that starts another program",
    ),
    "SENDS_OR_LOADS_DATA": (
        *(Group.LAUNCH, "warning"),
        "Tài liệu có lệnh gửi hoặc nạp dữ liệu biểu mẫu",
        "It holds an action that sends or loads form data",
    ),
    "XFA": (
        *(Group.XFA, "error"),
        "Tài liệu là biểu mẫu XFA, mỗi chương trình hiển thị một khác",
        "It is an XFA form, which each program shows in its own way",
    ),
    "HIDDEN_LAYER": (
        *(Group.LAYERS, "warning"),
        "Tài liệu có lớp nội dung đang ẩn, có thể bật lên sau khi ký",
        "It has a layer that is hidden now and can be shown after signing",
    ),
    "LAYER_BY_CIRCUMSTANCE": (
        *(Group.LAYERS, "warning"),
        "Tài liệu có lớp hiện hay ẩn tùy lúc xem, in hay xuất",
        "It has a layer that shows or hides by whether it is viewed, printed or exported",
    ),
    "LAYERS": (
        *(Group.LAYERS, "info"),
        "Tài liệu có các lớp nội dung, tất cả đang hiện",
        "It has layers, all of them shown",
    ),
    "SHOWS_OR_HIDES": (
        *(Group.LAYERS, "warning"),
        "Tài liệu có lệnh làm hiện hoặc ẩn lớp, trường, chú thích",
        "It holds an action that shows or hides layers, fields or annotations",
    ),
    "OTHER_IN_PRINT": (
        *(Group.LAYERS, "warning"),
        "Tài liệu có hình mà bản in có thể khác bản xem trên màn hình",
        "It has an image that may be printed as another than is seen",
    ),
    "MEDIA": (
        *(Group.EXTERNAL, "error"),
        "Tài liệu có phim, âm thanh hoặc mô hình 3D, hiển thị khác nhau tùy lúc và tùy chương trình",
        "It holds a film, sound or 3D model, which shows in its own way each time",
    ),
    "EXTERNAL_STREAM": (
        *(Group.EXTERNAL, "error"),
        "Một phần nội dung nằm ở tệp hoặc địa chỉ bên ngoài",
        "Part of its content is in a file or at an address outside",
    ),
    "REFERENCE_XOBJECT": (
        *(Group.EXTERNAL, "error"),
        "Tài liệu hiển thị trang của một tệp khác",
        "It shows the page of another file",
    ),
    "GOES_TO_FILE": (
        *(Group.EXTERNAL, "info"),
        "Tài liệu có liên kết mở tệp khác",
        "It has a link that opens another file",
    ),
    "SPARE_CATALOG": (
        *(Group.SHADOW, "error"),
        "Tài liệu chứa sẵn một mục lục gốc khác không dùng đến, dấu hiệu chuẩn bị tráo nội dung",
        "It holds a second catalog nothing leads to, as if prepared to be swapped in",
    ),
    "SPARE_PAGE": (
        *(Group.SHADOW, "warning"),
        "Tài liệu chứa trang không nằm trong cây trang",
        "It holds pages that the page tree does not lead to",
    ),
    "SPARE_DRAWING": (
        *(Group.SHADOW, "info"),
        "Tài liệu chứa hình vẽ không được dùng ở đâu",
        "It holds drawings that are used nowhere",
    ),
    "UNLISTED_VERSION": (
        *(Group.SHADOW, "error"),
        "Tài liệu chứa bản khác của một đối tượng mà bảng tham chiếu không nêu, dấu hiệu chuẩn bị tráo nội dung",
        "It holds another version of an object that no cross-reference lists, as if prepared to be swapped in",
    ),
    "EARLIER_VERSION": (
        *(Group.SHADOW, "info"),
        "Trang hoặc hình vẽ đã được thay bằng bản mới hơn trong tệp",
        "The file holds earlier versions of pages or drawings",
    ),
    "COVERED_TEXT": (
        *(Group.SHADOW, "warning"),
        "Có hình hoặc chú thích phủ lên chữ của trang; gỡ nó ra thì chữ bên dưới lộ ra",
        "An image or annotation covers text of a page; taken away, it shows what is beneath",
    ),
    "FAINT_TEXT": (
        *(Group.SHADOW, "warning"),
        "Trang có chữ cùng màu với nền nên không nhìn thấy",
        "It has text in the colour of what it stands on, which nobody sees",
    ),
    "UNSEEN_NOT_SOUGHT": (
        *(Group.SHADOW, "info"),
        "Chưa tìm hết chữ bị che hoặc cùng màu với nền",
        "Covered text and text in the colour of the paper was not looked for everywhere",
    ),
    "FIELD_SHOWS_OTHER": (
        *(Group.SHADOW, "warning"),
        "Trường biểu mẫu hiển thị khác với giá trị của nó",
        "A form field shows something else than its value",
    ),
    "NOT_ALL_SEEN": (
        *(Group.UNREADABLE, "error"),
        "Có đối tượng không đọc được hoặc tệp quá phức tạp nên chưa xem được hết; hãy xuất lại PDF từ bản gốc",
        "It has objects that cannot be read, or takes too long: not all of it was looked at; export the PDF again",
    ),
    "TEXT_UNREADABLE": (
        *(Group.UNREADABLE, "error"),
        "Không đọc được chữ của trang nào nên không biết có dấu mật hay không; hãy thử lại, hoặc xuất lại PDF từ bản gốc",
        "The text of no page could be read, so nobody can tell whether it bears a secrecy mark: try again, or export the PDF again",
    ),
    "NOT_ALL_READ": (
        *(Group.UNREADABLE, "info"),
        "Chưa đọc được chữ của mọi trang để tìm dấu mật",
        "The text of some pages was not read for secrecy marks",
    ),
}


def build_finding(code: str, objects: tuple[str, ...] = (), *, detail: str = "") -> Finding:
    """The finding with this code; ``detail`` stands behind both sentences."""
    group, severity, vi, en = _KNOWN[code]
    behind = f": {detail}" if detail else ""
    return Finding(code, group, severity, Sentence(f"{vi}{behind}.", f"{en}{behind}."), objects[:10])
