"""Why a certificate is revoked: the legal grounds of Nghị định 68/2024/NĐ-CP, article 17, and the CRLReasons that tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from core.errors import Rejected

HOLD: Final = "certificateHold"
REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)
"""The CRLReasons of RFC 5280, 5.3.1 that are final; certificateHold is a suspension, removeFromCRL only tells of its end."""
BLOCKING: Final = ("keyCompromise", "cACompromise", "aACompromise")
"""Reasons after which a key is certified for nobody any more, and nothing certified over it stands."""


class Ground(StrEnum):
    """What happened, in the terms of the law."""

    EXPIRED = "expired"
    KEY_EXPOSED = "key-exposed"
    DEVICE_LOST = "device-lost"
    AUTHORITIES_REQUEST = "authorities-request"
    AGENCY_REQUEST = "agency-request"
    POST_CHANGED = "post-changed"
    RETIRED = "retired"
    DIED = "died"
    ORGANISATION_ENDED = "organisation-ended"
    SERVICE_ENDED = "service-ended"
    CONTENT_CHANGED = "content-changed"
    ISSUER_COMPROMISED = "issuer-compromised"


@dataclass(frozen=True, slots=True)
class GroundMeaning:
    """A ground in words, and the CRLReasons that fit it: the first is taken where none is given."""

    vietnamese: str
    english: str
    reasons: tuple[str, ...]


MEANINGS: Final = {
    Ground.EXPIRED: GroundMeaning(
        "Chứng thư chữ ký số hết thời hạn sử dụng", "The certificate's term has ended", ("cessationOfOperation", "superseded")
    ),
    Ground.KEY_EXPOSED: GroundMeaning(
        "Khóa bí mật bị lộ hoặc nghi bị lộ", "The private key is exposed, or may be", ("keyCompromise", "aACompromise")
    ),
    Ground.DEVICE_LOST: GroundMeaning(
        "Thiết bị lưu khóa bí mật bị thất lạc", "The device that holds the private key is lost", ("keyCompromise",)
    ),
    Ground.AUTHORITIES_REQUEST: GroundMeaning(
        "Theo yêu cầu của cơ quan tiến hành tố tụng hoặc cơ quan an ninh",
        "At the request of prosecution, police or security",
        ("privilegeWithdrawn", "unspecified"),
    ),
    Ground.AGENCY_REQUEST: GroundMeaning(
        "Theo văn bản của cơ quan, tổ chức quản lý trực tiếp thuê bao",
        "At the written request of the managing agency",
        ("privilegeWithdrawn", "cessationOfOperation", "affiliationChanged", "superseded", "unspecified"),
    ),
    Ground.POST_CHANGED: GroundMeaning(
        "Thuê bao thay đổi vị trí công tác, thông tin trong chứng thư không còn phù hợp",
        "The subscriber moved post and the certificate no longer fits",
        ("affiliationChanged", "privilegeWithdrawn"),
    ),
    Ground.RETIRED: GroundMeaning(
        "Thuê bao nghỉ hưu hoặc thôi việc", "The subscriber retired or left", ("affiliationChanged", "cessationOfOperation")
    ),
    Ground.DIED: GroundMeaning("Thuê bao từ trần", "The subscriber died", ("cessationOfOperation",)),
    Ground.ORGANISATION_ENDED: GroundMeaning(
        "Cơ quan, tổ chức giải thể, chia, tách hoặc sáp nhập",
        "The organisation was dissolved, split or merged",
        ("cessationOfOperation", "affiliationChanged"),
    ),
    Ground.SERVICE_ENDED: GroundMeaning(
        "Thiết bị, dịch vụ, phần mềm ngừng hoạt động", "The device, service or software has ceased", ("cessationOfOperation",)
    ),
    Ground.CONTENT_CHANGED: GroundMeaning(
        "Thay đổi nội dung chứng thư hoặc đã có chứng thư thay thế",
        "Its content changed, or another certificate replaces it",
        ("superseded", "affiliationChanged"),
    ),
    Ground.ISSUER_COMPROMISED: GroundMeaning(
        "Khóa bí mật của cơ quan cấp chứng thư bị lộ hoặc nghi bị lộ",
        "The issuing authority's private key is exposed, or may be",
        ("cACompromise",),
    ),
}


def choose_reason(reason: str | None, ground: Ground | None) -> str:
    """The CRLReason of a revocation: as given, or the first that fits the ground. Rejected where the two contradict."""
    if ground is None:
        return reason or "unspecified"
    fitting = MEANINGS[ground].reasons
    if reason is not None and reason not in fitting:
        raise Rejected("reason", f"{reason} does not fit the ground {ground.value}: give {' or '.join(fitting)}, or leave it out")
    return reason or fitting[0]
