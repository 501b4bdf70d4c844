"""What the PDF verifier says, in both languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.errors import Malformed
from verifier.context import Evidence
from verifier.findings import error, info, warning
from verifier.pdf_structure import ByteRange
from verifier.verdict import Coverage, Finding, SubIndication, Text

FILE_UNREADABLE: Final = error(
    "FILE_UNREADABLE",
    "Tệp PDF hỏng, không đọc được, nhưng có mang chữ ký.",
    "The PDF is damaged and cannot be read, though it carries a signature.",
)
ORPHANED: Final = error(
    "SIGNATURE_UNREACHABLE",
    "Chữ ký này có trong tệp nhưng đã bị gỡ khỏi biểu mẫu của tài liệu.",
    "This signature is in the file, but the document's form no longer leads to it.",
)
PLACEHOLDER: Final = warning(
    "SIGNATURE_NOT_MADE",
    "Tệp đã chuẩn bị sẵn chỗ cho chữ ký nhưng chưa được ký.",
    "Room was made for a signature, but it was never signed.",
)
NOT_A_REVISION: Final = error(
    "PART_OF_FILE_SIGNED",
    "Chữ ký chỉ bao trùm một phần của tệp, không kết thúc ở cuối một phiên bản.",
    "The signature covers a part of the file that does not end where a revision ends.",
)
ONLY_MATERIAL: Final = info(
    "VALIDATION_MATERIAL_ADDED",
    "Sau chữ ký này chỉ có thêm dấu thời gian hoặc dữ liệu phục vụ kiểm tra; nội dung không đổi.",
    "After this signature only timestamps or validation material were added; the content is unchanged.",
)
TOO_MUCH: Final = error(
    "TOO_MANY_REVISIONS",
    "Tệp có quá nhiều phiên bản sau chữ ký để xem xét hết.",
    "There are more revisions after this signature than are looked at.",
)


def later_signatures(names: Sequence[str]) -> Finding:
    """Only further signatures (and validation material) came after."""
    listed = ", ".join(f"“{name}”" for name in names)
    return info(
        "SIGNED_AGAIN",
        f"Sau chữ ký này có thêm chữ ký hoặc dấu thời gian: {listed}; nội dung không đổi.",
        f"Signatures or timestamps were added after this one: {listed}; the content is unchanged.",
    )


def unreadable(name: str, finding: Finding) -> Evidence:
    """A signature of which nothing can be believed."""
    return Evidence(name=name, failure=SubIndication.FORMAT_FAILURE, findings=(finding,))


def not_read(problem: Malformed) -> Finding:
    """The signature's own bytes cannot be read."""
    return error(
        "SIGNATURE_UNREADABLE", f"Không đọc được chữ ký: {problem.detail}", f"The signature cannot be read: {problem.detail}"
    )


def not_understood(problem: Malformed) -> Finding:
    """The later revisions cannot be understood."""
    return error(
        "CHANGES_UNKNOWN",
        f"Không xác định được những gì đã thay đổi sau khi ký: {problem.detail}",
        f"What was changed after signing could not be determined: {problem.detail}",
    )


def byte_range_wrong(problem: str) -> Finding:
    """ByteRange does not say what it must."""
    return error("BYTE_RANGE", f"Phạm vi ký (ByteRange) không đúng: {problem}.", f"The signed range is wrong: {problem}.")


def left_over(extra: str) -> Finding:
    """Bytes outside of every revision."""
    return error(
        "BYTES_APPENDED", f"Có dữ liệu lạ được nối vào sau khi ký: {extra}.", f"Foreign data follow what was signed: {extra}."
    )


def field_locked(name: str) -> Finding:
    """A field the signature locked was touched."""
    return error(
        "LOCKED_FIELD_CHANGED",
        f"Trường “{name}” đã bị khóa bởi chữ ký này nhưng vẫn bị thay đổi.",
        f"The field “{name}” is locked by this signature and was changed.",
    )


def broken(failure: SubIndication) -> Finding:
    """Digest, signature value or form of the CMS is wrong."""
    vi, en = _BROKEN.get(failure, _BROKEN_OTHERWISE)
    return error(failure.value, vi, en)


_BROKEN_OTHERWISE: Final = ("Chữ ký không kiểm tra được.", "The signature could not be checked.")
_BROKEN: Final = {
    SubIndication.HASH_FAILURE: ("Nội dung đã bị thay đổi: mã băm không khớp.", "The content was changed: its digest differs."),
    SubIndication.SIG_CRYPTO_FAILURE: (
        "Giá trị chữ ký không đúng với khóa công khai trong chứng thư.",
        "The signature value does not verify with the certificate's public key.",
    ),
    SubIndication.FORMAT_FAILURE: (
        "Cấu trúc CMS của chữ ký không đúng quy cách của loại chữ ký này.",
        "The CMS structure is not what this kind of signature must be.",
    ),
    SubIndication.NO_SIGNING_CERTIFICATE_FOUND: (
        "Không có chứng thư của người ký, hoặc nó không phải chứng thư mà chữ ký đã khóa.",
        "The signing certificate is missing, or is not the one the signature is bound to.",
    ),
    SubIndication.CRYPTO_CONSTRAINTS_FAILURE: (
        "Chữ ký dùng thuật toán không được hỗ trợ.",
        "The signature uses an algorithm that is not supported.",
    ),
}


def describe(byte_range: ByteRange, revision: int | None, revisions: int, *, whole: bool) -> Coverage:
    """What the signature covers; ``revision`` counts from 0, None when it ends at none."""
    if whole:
        text = Text(vi="Toàn bộ tệp.", en="The whole file.")
    elif revision is None:
        text = Text(vi="Một phần của tệp.", en="A part of the file.")
    else:
        text = Text(
            vi=f"Toàn bộ phiên bản {revision + 1} trong {revisions} phiên bản của tệp.",
            en=f"The whole of revision {revision + 1} of the file's {revisions}.",
        )
    return Coverage(
        whole_file=whole,
        description=text,
        byte_range=byte_range.numbers,
        revision=None if revision is None else revision + 1,
        revisions=revisions,
    )
