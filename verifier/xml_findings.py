"""What can be wrong with an XML signature, in the words of EN 319 102-1 and of people."""

from __future__ import annotations

from typing import Final

from core.xmldsig import Fault, XmlSignatureError
from verifier.findings import error, info, warning
from verifier.verdict import Finding, SubIndication

SUB_INDICATIONS: Final = {
    Fault.MALFORMED_SIGNATURE: SubIndication.FORMAT_FAILURE,
    Fault.TOO_MANY_REFERENCES: SubIndication.FORMAT_FAILURE,
    Fault.AMBIGUOUS_REFERENCE: SubIndication.FORMAT_FAILURE,
    Fault.TOO_MUCH_WORK: SubIndication.SIG_CONSTRAINTS_FAILURE,
    Fault.EXTERNAL_REFERENCE: SubIndication.SIGNED_DATA_NOT_FOUND,
    Fault.REFERENCE_NOT_FOUND: SubIndication.SIGNED_DATA_NOT_FOUND,
    Fault.TRANSFORM_REFUSED: SubIndication.SIG_CONSTRAINTS_FAILURE,
    Fault.ALGORITHM_REFUSED: SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
    Fault.DIGEST_DIFFERS: SubIndication.HASH_FAILURE,
    Fault.VALUE_WRONG: SubIndication.SIG_CRYPTO_FAILURE,
}
_SENTENCES: Final = {
    Fault.MALFORMED_SIGNATURE: ("Cấu trúc chữ ký XML không đúng", "The XML signature is not built as it must be"),
    Fault.TOO_MANY_REFERENCES: ("Chữ ký có quá nhiều tham chiếu", "The signature has too many references"),
    Fault.AMBIGUOUS_REFERENCE: (
        "Nhiều phần tử có cùng Id mà chữ ký tham chiếu",
        "More than one element has the Id the signature refers to",
    ),
    Fault.TOO_MUCH_WORK: ("Kiểm tra chữ ký này tốn quá nhiều tài nguyên", "Checking this signature costs too much"),
    Fault.EXTERNAL_REFERENCE: (
        "Chữ ký tham chiếu dữ liệu ngoài tài liệu; dữ liệu đó không được tải về",
        "The signature refers to data outside the document, which are not fetched",
    ),
    Fault.REFERENCE_NOT_FOUND: ("Không có dữ liệu mà chữ ký tham chiếu", "What the signature refers to is not there"),
    Fault.TRANSFORM_REFUSED: ("Phép biến đổi không được chấp nhận", "A transform is not accepted"),
    Fault.ALGORITHM_REFUSED: ("Thuật toán không được chấp nhận với khóa này", "An algorithm is not accepted, or not with this key"),
    Fault.DIGEST_DIFFERS: ("Nội dung đã bị thay đổi sau khi ký", "The content was changed after signing"),
    Fault.VALUE_WRONG: ("Giá trị chữ ký không đúng với chứng thư", "The signature value does not match the certificate"),
}


def fault_finding(problem: XmlSignatureError) -> Finding:
    """The finding for what the reader of the signature ran into."""
    vi, en = _SENTENCES[problem.fault]
    return error(problem.fault.value, f"{vi} ({problem.what}).", f"{en} ({problem.what}).")


def partial_coverage(paths: tuple[str, ...]) -> Finding:
    """The signature holds, and part of the document is not under it."""
    listed = ", ".join(paths) or "—"
    return error(
        "PARTIAL_COVERAGE",
        f"Chữ ký chỉ bao phủ một phần tài liệu ({listed}); phần còn lại không được ký và có thể do người khác đưa vào.",
        f"The signature covers only part of the document ({listed}); the rest is not signed and may be somebody else's.",
    )


def unsigned_content(path: str) -> Finding:
    """Something hides in the signature element that neither it nor another signature answers for."""
    return error(
        "UNSIGNED_CONTENT_IN_SIGNATURE",
        f"Bên trong chữ ký có nội dung không được ký ({path}).",
        f"Inside the signature there is content that is not signed ({path}).",
    )


UNSIGNED_PROPERTIES: Final = error(
    "PROPERTIES_NOT_SIGNED",
    "Chữ ký không bao phủ SignedProperties của chính nó; thời điểm ký và chứng thư ghi trong đó không đáng tin.",
    "The signature does not cover its own SignedProperties; the time and certificate they state mean nothing.",
)
OTHER_CERTIFICATE: Final = error(
    "SIGNING_CERTIFICATE_DIFFERS",
    "Thuộc tính SigningCertificate của chữ ký chỉ một chứng thư khác.",
    "The signature's SigningCertificate property names another certificate.",
)
PROCESSING_INSTRUCTION: Final = warning(
    "PROCESSING_INSTRUCTION_NOT_COVERED",
    "Chỉ thị xử lý ngoài phần tử gốc (ví dụ xml-stylesheet) không được ký; đừng dựa vào cách hiển thị của nó.",
    "A processing instruction outside the root element (such as xml-stylesheet) is not signed: do not rely on how it displays.",
)
COMMENT_IN_TEXT: Final = warning(
    "COMMENT_IN_TEXT",
    "Có chú thích XML nằm giữa đoạn văn bản; chú thích không được ký, và phần mềm đọc cẩu thả có thể chỉ lấy nửa đoạn.",
    "A comment stands within a text. Comments are not signed, and a careless reader may take half of the text for all of it.",
)
ZONELESS_TIME: Final = info(
    "TIME_WITHOUT_ZONE",
    "Thời điểm ký không ghi múi giờ; được hiểu là giờ Việt Nam (UTC+7).",
    "The claimed signing time has no zone; it is read as Vietnamese time (UTC+7).",
)
