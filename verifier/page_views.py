"""A report as the verification page shows it: rows of label and sentence, each with a mark, the technical ones apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from verifier.page_words import LEVELS, PLAINER, REASONS, Words, show
from verifier.verdict import (
    Conclusion,
    Finding,
    Indication,
    Report,
    Revocation,
    Severity,
    SignatureVerdict,
    Signer,
    Timestamp,
)

Mark = Literal["", "good", "open", "bad"]
"""``open``: undetermined, or worth a warning. Each is shown by a sign, a colour and words."""

MOST_CARDS: Final = 60
"""Signatures and time-stamps on one page. A file with more is judged whole, and the page says how many it leaves out."""
_MOST_FINDINGS: Final = 20
_MARKS: Final[dict[Indication, Mark]] = {
    Indication.TOTAL_PASSED: "good",
    Indication.INDETERMINATE: "open",
    Indication.TOTAL_FAILED: "bad",
}
_WEIGHTS: Final[dict[Severity, Mark]] = {Severity.INFO: "", Severity.WARNING: "open", Severity.ERROR: "bad"}
_STATES: Final[dict[Conclusion, Mark]] = {
    Conclusion.VALID: "good",
    Conclusion.INDETERMINATE: "open",
    Conclusion.UNSIGNED: "open",
    Conclusion.INVALID: "bad",
}
_TITLES: Final = {
    Conclusion.VALID: ("Hợp lệ", "Valid"),
    Conclusion.INDETERMINATE: ("Chưa đủ căn cứ", "Undetermined"),
    Conclusion.UNSIGNED: ("Không có chữ ký số", "No digital signature"),
    Conclusion.INVALID: ("Không hợp lệ", "Not valid"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One thing known."""

    label: str
    value: str
    note: str = ""
    mark: Mark = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A finding."""

    text: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Card:
    """One signature or time-stamp."""

    heading: str
    mark: Mark
    verdict: str
    rows: tuple[Row, ...]
    notices: tuple[Notice, ...]
    technical: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A whole report."""

    mark: Mark
    title: str
    message: str
    cards: tuple[Card, ...]
    left_out: int
    notices: tuple[Notice, ...]
    file: tuple[Row, ...]
    technical: tuple[Row, ...]


def view_report(report: Report, name: str, words: Words) -> Result:
    """The report on a file that somebody called ``name``."""
    cards = [_signature(one, at, len(report.signatures), words) for at, one in enumerate(report.signatures[:MOST_CARDS], 1)]
    room = MOST_CARDS - len(cards)
    cards += [_timestamp(one, words) for one in report.timestamps[:room]]
    rows = [
        Row(words("Tên tệp", "File"), show(name, most=120) or words("(không có tên)", "(without a name)")),
        Row(words("Dung lượng", "Size"), words.size(report.size)),
        Row("SHA-256", report.digest_sha256),
        Row(words("Kiểm tra lúc", "Checked at"), words.moment(report.verified_at)),
    ]
    technical: list[tuple[str, str | None]] = [
        ("Format", report.format),
        ("Indication", report.indication),
        ("Sub-indication", report.sub_indication),
    ]
    technical += [(item.code, words.of(item.text)) for item in report.findings[:_MOST_FINDINGS]]
    return Result(
        mark=_STATES[report.conclusion],
        title=words(*_TITLES[report.conclusion]),
        message=_summary(report, words),
        cards=tuple(cards),
        left_out=len(report.signatures) + len(report.timestamps) - len(cards),
        notices=_notices([item for item in report.findings if item.code != "NO_SIGNATURE"], words),
        file=tuple(rows),
        technical=_plain(technical),
    )


def _summary(report: Report, words: Words) -> str:
    """How many there are, and how many of them are to blame for the verdict."""
    parts: list[SignatureVerdict | Timestamp] = [*report.signatures, *report.timestamps]
    failed, passed = (
        sum(one.indication is indication for one in parts) for indication in (Indication.TOTAL_FAILED, Indication.TOTAL_PASSED)
    )
    signatures, stamps = len(report.signatures), len(report.timestamps)
    kinds = [words(f"{signatures} chữ ký", f"{signatures} signature{_s(signatures)}")] if signatures else []
    kinds += [words(f"{stamps} dấu thời gian", f"{stamps} time-stamp{_s(stamps)}")] if stamps else []
    count = words("Tệp có ", "The file has ") + words(" và ", " and ").join(kinds)
    if report.conclusion is Conclusion.UNSIGNED:
        return words("Đã đọc được tệp; tệp không mang chữ ký số nào.", "The file was read; it carries no digital signature.")
    if not parts:
        return words("Không kiểm tra được tệp này.", "This file could not be checked.")
    alone = len(parts) == 1
    if report.conclusion is Conclusion.VALID:
        return words(f"{count}, {'' if alone else 'tất cả đều '}hợp lệ.", f"{count}; {'it is' if alone else 'all are'} valid.")
    if report.conclusion is Conclusion.INVALID:
        which = ("", "it is") if alone else (f"{failed} ", f"{failed} {'is' if failed == 1 else 'are'}")
        return words(
            f"{count}, {which[0]}không hợp lệ. Đừng tin văn bản này.", f"{count}; {which[1]} not valid. Do not trust this document."
        )
    undecided = len(parts) - passed
    return words(
        f"{count}, {'' if alone else f'{undecided} '}chưa kết luận được. Lý do ghi ở dưới.",
        f"{count}; {'it' if alone else undecided} could not be decided. The reason is given below.",
    )


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _signature(one: SignatureVerdict, at: int, count: int, words: Words) -> Card:
    number = "" if count == 1 else f" {at}/{count}"
    heading = words("Chữ ký", "Signature") + number
    rows = [*_signer_rows(one, words), *_time_rows(one, words), *_content_rows(one, words), *_certificate_rows(one, words)]
    if one.level is not None:
        rows.append(Row(words("Mức chữ ký", "Level"), one.level, words(*LEVELS[one.level])))
    return Card(
        heading=heading,
        mark=_MARKS[one.indication],
        verdict=words.of(one.message),
        rows=tuple(rows),
        notices=_notices([item for item in one.findings if item.severity is not Severity.INFO], words),
        technical=tuple(_signature_technical(one, words)),
    )


def _signer_rows(one: SignatureVerdict, words: Words) -> Iterator[Row]:
    """Who it is: by name only where the signature holds and leads to an authority that is trusted here."""
    if one.signer is None:
        yield Row(words("Người ký", "Signer"), words("không xác định được", "unknown"), mark="open")
        return
    known = one.intact and one.chain is not None and one.chain.anchor is not None
    name = show(one.signer.common_name or one.signer.subject)
    if known:
        yield Row(words("Người ký", "Signer"), name)
    else:
        note = words(
            "Chưa có cơ quan cấp nào được tin cậy ở đây xác nhận tên này.",
            "No authority trusted here confirms this name.",
        )
        if not one.intact:
            note = words(
                "Chữ ký không khớp, nên không thể coi là người này đã ký.",
                "The signature does not fit: this is no proof of who made it.",
            )
        yield Row(words("Tên ghi trong chứng thư", "Name in the certificate"), name, note, "open")
    if one.signer.organization and one.signer.organization != one.signer.common_name:
        yield Row(words("Cơ quan, tổ chức", "Organisation"), show(one.signer.organization))
    if one.signer_reason:
        yield Row(words("Lý do ký", "Reason given"), show(one.signer_reason))


def _time_rows(one: SignatureVerdict, words: Words) -> Iterator[Row]:
    label = words("Thời điểm ký", "Time of signing")
    if one.proven_at is not None:
        note = words("Có dấu thời gian chứng minh chữ ký đã có vào lúc này.", "A time-stamp proves that it existed at this moment.")
        yield Row(label, words.moment(one.proven_at), note, "good" if one.intact else "")
    elif one.claimed_at is not None:
        note = words(
            "Theo đồng hồ của người ký; không có dấu thời gian hợp lệ để chứng minh.",
            "By the signer's own clock; no valid time-stamp proves it.",
        )
        yield Row(label, words.moment(one.claimed_at), note, "open")
    else:
        yield Row(label, words("không ghi", "not stated"), mark="open")


def _content_rows(one: SignatureVerdict, words: Words) -> Iterator[Row]:
    label = words("Nội dung đã ký", "What was signed")
    covered = "" if one.coverage is None else words.of(one.coverage.description)
    if one.intact:
        yield Row(label, words("Còn nguyên vẹn", "Unchanged"), covered, "good")
    else:
        yield Row(label, words("Không xác nhận được là còn nguyên vẹn", "Cannot be confirmed to be unchanged"), covered, "bad")
    changes = words("Thay đổi sau khi ký", "Changed since")
    # of a signature that does not hold, what was allowed afterwards would only sound like praise
    told = [change for change in one.changes if one.intact or change.severity is Severity.ERROR]
    for change in told[:_MOST_FINDINGS]:
        yield Row(changes, words.of(change.text), mark=_WEIGHTS[change.severity] or "good")
    if one.intact and not one.changes:
        yield Row(changes, words("Không có", "Nothing"), mark="good")


def _certificate_rows(one: SignatureVerdict, words: Words) -> Iterator[Row]:
    if one.signer is None:
        return
    yield _revocation_row(None if one.chain is None else one.chain.certificates[0].revocation, words)
    issuer = show(one.signer.issuing_organization or one.signer.issuer)
    label = words("Nơi cấp và quản lý chứng thư", "Certificate issued and managed by")
    if one.chain is not None and one.chain.anchor is not None:
        yield Row(label, issuer)
    else:
        note = words(
            "Tự ghi như vậy; không phải nơi cấp được tin cậy ở đây.", "So it says; it is no authority that is trusted here."
        )
        yield Row(label, issuer, note, "open")
    yield Row(words("Hiệu lực chứng thư", "Certificate valid"), _period(one.signer, words))


def _revocation_row(status: Revocation | None, words: Words) -> Row:
    label = words("Tình trạng thu hồi", "Revocation")
    if status is None or status.status == "unknown":
        value = words("CHƯA KIỂM TRA ĐƯỢC chứng thư có bị thu hồi hay không", "It could NOT be checked whether it was revoked")
        return Row(label, value, mark="open")
    why = "" if status.reason not in REASONS else f" ({words(*REASONS[status.reason])})"
    since = words.moment(status.revoked_at)
    if status.status == "revoked":
        verb = words("Bị tạm dừng", "Suspended") if status.reason == "certificateHold" else words("Đã bị thu hồi", "Revoked")
        return Row(label, f"{verb} {words('từ', 'since')} {since}{why}", mark="bad")
    later = words(f"Sau đó bị thu hồi, từ {since}{why}.", f"Revoked later, since {since}{why}.") if since else ""
    value = words("Chưa bị thu hồi vào lúc ", "Not revoked at ") + words.moment(status.at)
    return Row(label, value, later, "good")


def _period(signer: Signer, words: Words) -> str:
    first, last = (words.moment(at).partition(" ")[0] for at in (signer.not_before, signer.not_after))
    return words(f"từ {first} đến {last}", f"from {first} to {last}")


def _timestamp(one: Timestamp, words: Words) -> Card:
    heading = words("Dấu thời gian", "Time-stamp")
    if one.kind == "document":
        heading = words("Dấu thời gian của cả tệp", "Time-stamp of the whole file")
    verdicts = {
        "good": ("Dấu thời gian hợp lệ.", "The time-stamp is valid."),
        "open": ("Chưa đủ căn cứ để kết luận dấu thời gian hợp lệ.", "There is not enough evidence to call the time-stamp valid."),
        "bad": ("Dấu thời gian không hợp lệ.", "The time-stamp is not valid."),
    }
    mark = _MARKS[one.indication]
    rows = [Row(words("Thời điểm", "Moment"), words.moment(one.generated_at) or words("không đọc được", "unreadable"), mark=mark)]
    if one.authority is not None:
        rows.append(Row(words("Nơi cấp", "Made by"), show(one.authority.common_name or one.authority.subject)))
    intact = {
        True: Row(words("Dữ liệu", "Data"), words("Còn nguyên vẹn", "Unchanged"), mark="good"),
        False: Row(words("Dữ liệu", "Data"), words("Không khớp", "They do not match"), mark="bad"),
        None: Row(
            words("Dữ liệu", "Data"),
            words("Chưa đối chiếu: hãy gửi kèm tệp mà dấu thời gian đóng cho", "Not compared: send the file it stamps along"),
            mark="open",
        ),
    }
    rows.append(intact[one.intact])
    return Card(
        heading=heading,
        mark=mark,
        verdict=words(*verdicts[mark]),
        rows=tuple(rows),
        notices=_notices([item for item in one.findings if item.severity is not Severity.INFO], words),
        technical=tuple(_timestamp_technical(one, words)),
    )


def _signature_technical(one: SignatureVerdict, words: Words) -> Iterator[Row]:
    chain = () if one.chain is None else one.chain.certificates
    yield from _plain(
        [
            ("Indication", one.indication),
            ("Sub-indication", one.sub_indication),
            ("Name", one.name),
            ("Subject", None if one.signer is None else one.signer.subject),
            ("Issuer", None if one.signer is None else one.signer.issuer),
            ("Serial", None if one.signer is None else one.signer.serial),
            ("Trust domain", None if one.chain is None else one.chain.domain),
            ("Revocation", _source(chain[0].revocation, words) if chain else None),
            *((f"Chain {at}", f"{item.subject} ({item.serial})") for at, item in enumerate(chain[:_MOST_FINDINGS])),
            ("Digest", one.digest_algorithm),
            ("Signature algorithm", one.signature_algorithm),
            ("Claimed at", words.moment(one.claimed_at)),
            ("ByteRange", None if one.coverage is None or one.coverage.byte_range is None else str(one.coverage.byte_range)),
            ("Elements", None if one.coverage is None else ", ".join(one.coverage.elements[:_MOST_FINDINGS])),
        ]
    )
    for stamp in one.timestamps[:_MOST_FINDINGS]:
        for row in _timestamp_technical(stamp, words):
            yield Row(f"Time-stamp: {row.label}", row.value)
    for item in one.findings[:_MOST_FINDINGS]:
        yield Row(item.code, words.of(item.text))


def _source(status: Revocation | None, words: Words) -> str | None:
    if status is None or status.source is None:
        return None
    return f"{status.source}, thisUpdate {words.moment(status.published_at)}"


def _timestamp_technical(one: Timestamp, words: Words) -> Iterator[Row]:
    yield from _plain(
        [
            ("kind", one.kind),
            ("indication", one.indication),
            ("sub-indication", one.sub_indication),
            ("genTime", words.moment(one.generated_at)),
            ("authority", None if one.authority is None else one.authority.subject),
            ("serial", one.serial),
            ("policy", one.policy),
            ("digest", one.digest_algorithm),
            ("imprint", one.imprint),
        ]
    )
    for item in one.findings[:_MOST_FINDINGS]:
        yield Row(item.code, words.of(item.text))


def _plain(pairs: Sequence[tuple[str, str | None]]) -> tuple[Row, ...]:
    return tuple(Row(label, show(value)) for label, value in pairs if value)


def _notices(findings: Sequence[Finding], words: Words) -> tuple[Notice, ...]:
    """Those in whose place the page has a plainer word say the rest among the technical details."""
    return tuple(Notice(words.of(PLAINER.get(item.code, item.text)), _WEIGHTS[item.severity]) for item in findings[:_MOST_FINDINGS])
