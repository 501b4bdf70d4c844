"""What an e-mail says, in Vietnamese and then in English."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

VIETNAM: Final = ZoneInfo("Asia/Ho_Chi_Minh")


@dataclass(frozen=True, slots=True)
class Letter:
    """Subject and text of an e-mail."""

    subject: str
    text: str


def write_letter(kind: str, payload: Mapping[str, Any]) -> Letter:
    """The letter about an event that goes by e-mail; KeyError for a kind that does not."""
    return _LETTERS[kind](payload)


def _expiring(payload: Mapping[str, Any]) -> Letter:
    end = datetime.fromisoformat(payload["not_after"]).astimezone(VIETNAM)
    day, hour = f"{end:%d/%m/%Y}", f"{end:%H:%M}"
    holder, serial, days = payload["name"], payload["serial"], payload["days_left"]
    vietnamese = (
        f"Chứng thư số của “{holder}” (số {serial}) sẽ hết hạn lúc {hour} ngày {day} (giờ Việt Nam), còn {days} ngày.\n"
        "Sau thời điểm đó không ký được bằng chứng thư này nữa; những chữ ký đã có dấu thời gian vẫn có giá trị.\n"
        "Đề nghị làm thủ tục gia hạn hoặc cấp chứng thư mới với người quản trị chứng thư số của cơ quan."
    )
    english = (
        f"The certificate of “{holder}” (serial number {serial}) expires at {hour} on {end:%Y-%m-%d} (Vietnam), in {days} days.\n"
        "It cannot be signed with after that; signatures that bear a time-stamp stay valid.\n"
        "Please ask your agency's certificate administrator for a renewal or a new certificate."
    )
    return Letter(f"Chứng thư số của {holder} sắp hết hạn ({day})", f"{vietnamese}\n\n-- \n{english}\n")


def _due(payload: Mapping[str, Any]) -> Letter:
    end = datetime.fromisoformat(payload["until"]).astimezone(VIETNAM)
    client, count = payload["client"], payload["documents"]
    vietnamese = (
        f"{count} tài liệu đã ký cho hệ thống “{client}” đến hạn đóng dấu thời gian lưu trữ tiếp theo.\n"
        f"Dấu thời gian sớm nhất trong số đó mất hiệu lực ngày {end:%d/%m/%Y}; sau đó khó chứng minh chữ ký còn giá trị.\n"
        "Danh sách: condau archive plan --days 0. Đóng dấu tiếp: condau archive renew THƯ-MỤC."
    )
    english = (
        f"{count} documents signed for “{client}” are due for their next archive time-stamp.\n"
        f"The first of their time-stamps loses its force on {end:%Y-%m-%d}; after that the signatures are hard to prove.\n"
        "List: condau archive plan --days 0. Renew: condau archive renew FOLDER."
    )
    return Letter(f"{count} tài liệu của {client} cần dấu thời gian lưu trữ", f"{vietnamese}\n\n-- \n{english}\n")


_LETTERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Letter]]] = {
    "certificate.expiring": _expiring,
    "archive.due": _due,
}
