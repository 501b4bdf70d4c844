"""From evidence to verdict, the same way for every format (EN 319 102-1 clauses 5.2 and 5.5, condensed)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from verifier.algorithms import weak_digest
from verifier.certificates import Judgement, Purpose, judge_certificate
from verifier.context import Context, Evidence
from verifier.findings import error, warning
from verifier.verdict import (
    Conclusion,
    Finding,
    Indication,
    Severity,
    SignatureVerdict,
    SubIndication,
    Text,
    Timestamp,
)

_CLOCK_TOLERANCE: Final = timedelta(minutes=5)


def conclude(evidence: Evidence, context: Context) -> SignatureVerdict:
    """Weigh one signature: what its reader found, then certificate, time and revocation.

    The moment that counts is the best signature time: the earliest timestamp that is TOTAL-PASSED; where there is none,
    the moment of verification. A certainty (TOTAL-FAILED) goes before what more evidence could mend (INDETERMINATE).
    """
    proven_at = best_signature_time(evidence.timestamps)
    failures: list[SubIndication] = [] if evidence.failure is None else [evidence.failure]
    findings = list(evidence.findings)
    judged = None
    if evidence.certificate is None:
        failures.append(SubIndication.NO_SIGNING_CERTIFICATE_FOUND)
    else:
        judged = judge_certificate(
            evidence.certificate,
            context,
            purpose=Purpose.SIGNING,
            at=proven_at or context.now,
            proven=proven_at is not None,
            hints=evidence.certificates,
            crls=evidence.crls,
            ocsps=evidence.ocsps,
        )
        findings += judged.findings
        if judged.failure is not None:
            failures.append(judged.failure)
    for problem, finding in (*_check_algorithm(evidence), *_check_claim(evidence, judged, proven_at, context.now)):
        findings.append(finding)
        if problem is not None:
            failures.append(problem)
    if any(change.severity is Severity.ERROR for change in evidence.changes):
        failures.append(SubIndication.SIG_CONSTRAINTS_FAILURE)
    failures.sort(key=lambda one: one.indication is not Indication.TOTAL_FAILED)  # stable: the first of each kind stays first
    return _verdict(evidence, judged, failures[0] if failures else None, proven_at, findings)


def best_signature_time(timestamps: Sequence[Timestamp]) -> datetime | None:
    """genTime of the earliest TOTAL-PASSED timestamp, or None."""
    passed = [one.generated_at for one in timestamps if one.indication is Indication.TOTAL_PASSED and one.generated_at is not None]
    return min(passed, default=None)


def _verdict(
    evidence: Evidence, judged: Judgement | None, sub: SubIndication | None, proven_at: datetime | None, findings: Sequence[Finding]
) -> SignatureVerdict:
    indication = Indication.TOTAL_PASSED if sub is None else sub.indication
    return SignatureVerdict(
        name=evidence.name,
        indication=indication,
        sub_indication=sub,
        message=explain(indication, sub),
        signer=None if judged is None else judged.signer,
        signer_reason=evidence.reason,
        level=_level(evidence) if evidence.baseline else None,
        digest_algorithm=evidence.digest_algorithm,
        signature_algorithm=evidence.signature_algorithm,
        claimed_at=evidence.claimed_at,
        proven_at=proven_at,
        intact=evidence.intact,
        chain=None if judged is None else judged.chain,
        coverage=evidence.coverage,
        changes=evidence.changes,
        timestamps=evidence.timestamps,
        findings=tuple(findings),
    )


def _level(evidence: Evidence) -> str:
    """What the signature carries, whether it holds or not."""
    if not any(one.intact for one in evidence.timestamps):
        return "B-B"
    if not evidence.complete:
        return "B-T"
    return "B-LTA" if evidence.archived else "B-LT"


def _check_algorithm(evidence: Evidence) -> list[tuple[SubIndication | None, Finding]]:
    name = evidence.digest_algorithm
    if name is None or not weak_digest(name):
        return []
    text = error(
        "WEAK_DIGEST",
        f"Chữ ký dùng hàm băm {name.upper()}, không còn an toàn và không được chấp nhận (Thông tư 15/2025/TT-BKHCN, Phụ lục I).",
        f"The signature uses {name.upper()}, which is broken and no longer accepted.",
    )
    return [(SubIndication.CRYPTO_CONSTRAINTS_FAILURE, text)]


def _check_claim(
    evidence: Evidence, judged: Judgement | None, proven_at: datetime | None, now: datetime
) -> list[tuple[SubIndication | None, Finding]]:
    """The signer's own clock, held against what is known: it proves nothing, but must not contradict."""
    found: list[tuple[SubIndication | None, Finding]] = []
    claimed = evidence.claimed_at
    if evidence.certificate is not None and not evidence.bound:
        found.append((None, _NOT_BOUND))
    if any(one.indication is not Indication.TOTAL_PASSED for one in evidence.timestamps):
        found.append((None, _TIMESTAMP_NOT_PASSED))
    if claimed is None:
        return found
    if claimed > (proven_at or now) + _CLOCK_TOLERANCE:
        found.append((None, _CLAIMED_TOO_LATE))
    if proven_at is None and judged is not None and not judged.signer.not_before <= claimed <= judged.signer.not_after:
        found.append((SubIndication.SIG_CONSTRAINTS_FAILURE, _CLAIMED_OUTSIDE))
    return found


_NOT_BOUND: Final = warning(
    "CERTIFICATE_NOT_BOUND",
    "Chữ ký không khóa chứng thư của người ký bằng thuộc tính signingCertificate.",
    "No signed attribute binds the signing certificate.",
)
_TIMESTAMP_NOT_PASSED: Final = warning(
    "TIMESTAMP_NOT_PASSED",
    "Có dấu thời gian chưa xác nhận được, nên không dùng để chứng minh thời điểm ký.",
    "A timestamp did not pass and is not used as proof of the signing time.",
)
_CLAIMED_TOO_LATE: Final = warning(
    "CLAIMED_TIME_TOO_LATE",
    "Thời điểm ký do người ký khai muộn hơn thời điểm chữ ký chắc chắn đã tồn tại: đồng hồ của máy ký sai.",
    "The claimed signing time is later than a moment at which the signature surely existed: the signer's clock is wrong.",
)
_CLAIMED_OUTSIDE: Final = error(
    "CLAIMED_TIME_OUTSIDE_VALIDITY",
    "Thời điểm ký do người ký khai nằm ngoài thời hạn hiệu lực của chứng thư.",
    "The claimed signing time lies outside the certificate's validity.",
)

_REASONS: Final[dict[SubIndication, tuple[str, str]]] = {
    SubIndication.FORMAT_FAILURE: (
        "cấu trúc chữ ký hoặc tài liệu không đúng, hoặc tài liệu đã bị thay đổi sau khi ký",
        "the structure of the signature or the document is wrong, or the document was changed after signing",
    ),
    SubIndication.HASH_FAILURE: ("nội dung đã bị thay đổi sau khi ký", "the content was changed after signing"),
    SubIndication.SIG_CRYPTO_FAILURE: (
        "giá trị chữ ký không đúng với chứng thư",
        "the signature value does not match the certificate",
    ),
    SubIndication.REVOKED: ("chứng thư đã bị thu hồi trước khi ký", "the certificate had been revoked before signing"),
    SubIndication.EXPIRED: ("chứng thư đã hết hạn khi ký", "the certificate had expired when it was signed"),
    SubIndication.NOT_YET_VALID: ("chứng thư chưa có hiệu lực khi ký", "the certificate was not yet valid when it was signed"),
    SubIndication.SIG_CONSTRAINTS_FAILURE: (
        "chữ ký hoặc thay đổi sau khi ký không theo quy định đang áp dụng",
        "the signature, or a change after it, is not within the rules applied",
    ),
    SubIndication.CHAIN_CONSTRAINTS_FAILURE: ("chứng thư không dành cho mục đích này", "the certificate is not meant for this use"),
    SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE: ("chuỗi chứng thư không hợp lệ", "the certificate chain is not valid"),
    SubIndication.CRYPTO_CONSTRAINTS_FAILURE: ("thuật toán quá yếu hoặc không rõ", "an algorithm is too weak or unknown"),
    SubIndication.TIMESTAMP_ORDER_FAILURE: ("thứ tự các dấu thời gian mâu thuẫn", "the timestamps contradict each other in order"),
    SubIndication.NO_SIGNING_CERTIFICATE_FOUND: ("không tìm thấy chứng thư của người ký", "the signing certificate was not found"),
    SubIndication.NO_CERTIFICATE_CHAIN_FOUND: (
        "chứng thư không thuộc cơ quan cấp nào được tin cậy ở đây",
        "the certificate leads to no authority trusted here",
    ),
    SubIndication.REVOKED_NO_POE: (
        "chứng thư đã bị thu hồi, và không có dấu thời gian chứng minh chữ ký có trước khi thu hồi",
        "the certificate is revoked, and no timestamp proves that the signature existed before",
    ),
    SubIndication.REVOKED_CA_NO_POE: ("chứng thư của cơ quan cấp đã bị thu hồi", "an authority's certificate is revoked"),
    SubIndication.OUT_OF_BOUNDS_NO_POE: (
        "thời điểm xét nằm ngoài thời hạn của chứng thư, và không có bằng chứng về thời điểm ký",
        "the moment lies outside the certificate's validity, and nothing proves when it was signed",
    ),
    SubIndication.TRY_LATER: (
        "chưa biết được tình trạng thu hồi của chứng thư",
        "the revocation status is not known at the moment",
    ),
    SubIndication.SIGNED_DATA_NOT_FOUND: ("không có dữ liệu đã ký để đối chiếu", "the signed data are not at hand"),
}
_HEADINGS: Final = {
    Indication.TOTAL_PASSED: ("Chữ ký hợp lệ", "The signature is valid"),
    Indication.TOTAL_FAILED: ("Chữ ký không hợp lệ", "The signature is not valid"),
    Indication.INDETERMINATE: (
        "Chưa đủ căn cứ để kết luận chữ ký hợp lệ",
        "There is not enough evidence to call the signature valid",
    ),
}


def explain(indication: Indication, sub: SubIndication | None) -> Text:
    """One signature's verdict as a sentence."""
    vi, en = _HEADINGS[indication]
    if sub is None:
        return Text(vi=f"{vi}.", en=f"{en}.")
    why_vi, why_en = _REASONS[sub]
    return Text(vi=f"{vi}: {why_vi}.", en=f"{en}: {why_en}.")


def summarize(verdicts: Sequence[SignatureVerdict | Timestamp]) -> tuple[Conclusion, Indication, SubIndication | None]:
    """The verdict on the whole: the worst of its parts; a file with none of them is UNSIGNED."""
    if not verdicts:
        return Conclusion.UNSIGNED, Indication.INDETERMINATE, None
    for indication, conclusion in (
        (Indication.TOTAL_FAILED, Conclusion.INVALID),
        (Indication.INDETERMINATE, Conclusion.INDETERMINATE),
    ):
        for verdict in verdicts:
            if verdict.indication is indication:
                return conclusion, indication, verdict.sub_indication
    return Conclusion.VALID, Indication.TOTAL_PASSED, None
