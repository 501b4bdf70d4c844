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


_LETTERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Letter]]] = {"certificate.expiring": _expiring}
