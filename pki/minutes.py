"""The minutes of a ceremony: what was done and the hashes of what came of it, to print, read out and sign."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pki.ceremony import Definition, Outcome

_KINDS: Final = {
    "root": ("Tạo cơ quan chứng thực gốc", "Creating a root authority"),
    "issuing-ca": ("Tạo cơ quan chứng thực cấp phát", "Creating an issuing authority"),
    "cross-certificate": ("Chứng thực chéo một cơ quan chứng thực", "Cross-certifying an authority"),
    "tsa": ("Cấp chứng thư cho dịch vụ dấu thời gian", "Certifying a time-stamping unit"),
    "ocsp": ("Cấp chứng thư cho dịch vụ kiểm tra trạng thái trực tuyến (OCSP)", "Certifying an OCSP responder"),
    "crl": ("Ban hành danh sách thu hồi (CRL)", "Issuing a CRL"),
}
_FACTS: Final = {
    "name": ("Tên chủ thể", "Subject"),
    "issuer": ("Tên cơ quan cấp", "Issuer"),
    "serial": ("Số hiệu (hệ 16)", "Serial number (hex)"),
    "not_before": ("Hiệu lực từ", "Valid from"),
    "not_after": ("Hiệu lực đến", "Valid until"),
    "key_sha256": ("SHA-256 của khóa công khai", "SHA-256 of the public key"),
    "certificate_sha256": ("SHA-256 của chứng thư", "SHA-256 of the certificate"),
    "number": ("Số của CRL", "CRL number"),
    "entries": ("Số chứng thư bị thu hồi", "Revoked certificates"),
    "this_update": ("Ban hành lúc", "Issued at"),
    "next_update": ("Ban hành lần sau trước", "Next one before"),
    "crl_sha256": ("SHA-256 của CRL", "SHA-256 of the CRL"),
}


def build_plan(definition: Definition) -> str:
    """What executing the definition would do, Vietnamese first."""
    vi, en = _KINDS[definition.kind]
    lines = [f"{vi} / {en}", f"  Căn cứ / Reference: {definition.reference}"]
    parts = {
        "Tên / Name": definition.name,
        "Cơ quan cấp / Issuer": definition.issuer,
        "Thiết bị khóa / Token": definition.token or ("mặc định / default" if definition.key else ""),
        "Loại khóa / Key": definition.key or "",
        "Thời hạn (ngày) / Days": str(definition.days or ""),
        "Chủ thể / Subject": "" if definition.subject is None else definition.subject.rfc4514_string(),
        "Được chứng thực / Certified": "" if definition.certificate is None else definition.certificate.subject.rfc4514_string(),
        "SHA-256": definition.sha256,
    }
    lines += [f"  {name}: {value}" for name, value in parts.items() if value]
    return "\n".join(lines)


def build_minutes(outcome: Outcome, *, at: datetime, actor: str, version: str) -> str:
    """The minutes in Markdown, Vietnamese first; each hash in groups of four to be read out."""
    definition = outcome.definition
    vi, en = _KINDS[definition.kind]
    lines = [
        f"# Biên bản: {vi}",
        f"Minutes: {en}",
        "",
        f"* Nội dung / Title: {definition.title}",
        f"* Căn cứ / Reference: {definition.reference}",
        f"* Thời điểm (UTC) / Time: {at:%Y-%m-%d %H:%M:%S}",
        f"* Người thao tác / Operator: {actor}",
        f"* Phần mềm / Software: Condau {version}",
        f"* SHA-256 của tệp kịch bản / of the definition: `{_grouped(definition.sha256)}`",
        "",
        "## Kết quả / Result",
        "",
        "| Mục / Item | Giá trị / Value |",
        "| --- | --- |",
    ]
    for name, value in outcome.facts.items():
        in_vietnamese, in_english = _FACTS[name]
        shown = f"`{_grouped(value)}`" if name.endswith("sha256") else value.replace("|", "\\|")
        lines.append(f"| {in_vietnamese} / {in_english} | {shown} |")
    lines += [
        "",
        "Những người ký tên đã đối chiếu các giá trị trên màn hình với biên bản này.",
        "The undersigned have compared the values on the screen with these minutes.",
        "",
        "| Vai trò / Role | Họ tên / Name | Chữ ký / Signature |",
        "| --- | --- | --- |",
        *(f"| {role} | | |" for role in definition.roles),
        "",
    ]
    return "\n".join(lines)


def _grouped(digits: str) -> str:
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
