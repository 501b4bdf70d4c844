"""The room's door: bytes in, a report out. Needs no key and no login, asks no network, and hostile bytes are a verdict too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import Malformed, Rejected, TooLarge
from pki.trust import load_trust
from verifier.conclusion import summarize
from verifier.context import Context
from verifier.findings import error, warning
from verifier.octets import Digests, Octets, sha256
from verifier.pdf_reader import NeedsPassword
from verifier.reading import reading
from verifier.timestamp_query import TimestampQuery
from verifier.timestamps import parse_timestamp, verify_timestamp
from verifier.verdict import Conclusion, Finding, Indication, Report, SignatureVerdict, SubIndication, Text, Timestamp
from verifier.xml import verify_xml

Format = Literal["pdf", "xml", "timestamp", "unknown"]
_PDF_HEADER_WITHIN: Final = 1024
_LARGEST: Final[dict[Format, int]] = {"xml": 100_000_000, "timestamp": 10_000_000}
"""Bytes of what is held in memory."""
_BYTE_ORDER_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Verifier:
    """Judges signed PDF and XML documents and RFC 3161 timestamps against the authorities this service knows."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    def verify(
        self,
        document: Content,
        *,
        data: Content | None = None,
        query: TimestampQuery | None = None,
        password: str | None = None,
    ) -> Report:
        """The report on ``document``; ``data``: what a timestamp handed in by itself stamps; ``query``: the request for it.

        ``password`` opens an encrypted PDF. A PDF may be larger than memory. Raises TooLarge for XML above 100 MB and a timestamp
        above 10 MB, which are held in memory, and Unavailable while the database is away; whatever else is wrong, the report says.
        """
        with self._database.read() as db:
            trust = load_trust(db)
        context = Context(trust=trust, now=self._now())
        kind = sniff(document.read(0, _PDF_HEADER_WITHIN))
        held = _held(kind, document)
        digests = Digests(document)
        try:
            with reading("document"):
                outcome = _judge(kind, digests, held, _Beside(data, query, password), context)
        except NeedsPassword:
            outcome = _Outcome(verdict=(Conclusion.INDETERMINATE, Indication.INDETERMINATE, None), findings=(_ENCRYPTED,))
        except Rejected as problem:
            outcome = _Outcome(
                verdict=(Conclusion.INVALID, Indication.TOTAL_FAILED, SubIndication.FORMAT_FAILURE),
                findings=(_unreadable(problem),),
            )
        conclusion, indication, sub = outcome.verdict or summarize((*outcome.signatures, *outcome.timestamps))
        return Report(
            format=kind,
            verified_at=context.now,
            digest_sha256=sha256(digests),
            size=document.size,
            conclusion=conclusion,
            indication=indication,
            sub_indication=sub,
            message=_MESSAGES[conclusion],
            signatures=outcome.signatures,
            timestamps=outcome.timestamps,
            findings=outcome.findings,
        )


@dataclass(frozen=True, slots=True)
class _Beside:
    """What came beside the document."""

    data: Content | None
    query: TimestampQuery | None
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """``verdict`` overrides the summary of the parts."""

    signatures: tuple[SignatureVerdict, ...] = ()
    timestamps: tuple[Timestamp, ...] = ()
    findings: tuple[Finding, ...] = ()
    verdict: tuple[Conclusion, Indication, SubIndication | None] | None = None


def sniff(beginning: bytes) -> Format:
    """What the first 1024 bytes say it is; the media type a client sends along is not asked."""
    if b"%PDF-" in beginning:
        return "pdf"
    start = beginning.lstrip()
    if start.startswith((b"<", *_BYTE_ORDER_MARKS)):
        return "xml"
    return "timestamp" if start.startswith(b"\x30") else "unknown"


def _judge(kind: Format, digests: Digests, held: bytes, beside: _Beside, context: Context) -> _Outcome:
    if kind == "pdf":
        from verifier.pdf import verify_pdf  # noqa: PLC0415 - 0.3 s with all of pyHanko, which no command needs; server.py has it

        found = verify_pdf(digests, context, beside.password)
        unsigned = () if found.signatures or found.timestamps else (_NO_SIGNATURE,)
        return _Outcome(found.signatures, found.timestamps, (*found.findings, *unsigned))
    if kind == "xml":
        verdicts = tuple(verify_xml(held, context))
        return _Outcome(verdicts, findings=() if verdicts else (_NO_SIGNATURE,))
    if kind == "timestamp":
        token = parse_timestamp(held)
        stamped = None if beside.data is None else Octets.whole(beside.data)
        return _Outcome(timestamps=(verify_timestamp(token, stamped, context, kind="detached", asked=beside.query),))
    raise Malformed("document", "it is neither a PDF, nor XML, nor an RFC 3161 timestamp")


def _held(kind: Format, document: Content) -> bytes:
    """What is not read where it lies."""
    most = _LARGEST.get(kind, 0)
    if most and document.size > most:
        raise TooLarge("document", f"at most {most} bytes of XML or of a timestamp are verified; only a PDF may be larger")
    return document.read(0, most)


def _unreadable(problem: Rejected) -> Finding:
    return error("UNREADABLE", f"Không đọc được tệp: {problem.detail}", f"The file cannot be read: {problem.detail}")


_NO_SIGNATURE: Final = warning("NO_SIGNATURE", "Tệp không mang chữ ký nào.", "The file carries no signature.")
_ENCRYPTED: Final = error(
    "ENCRYPTED",
    "Tệp PDF được mã hóa và cần mật khẩu để mở; chưa kiểm tra được chữ ký.",
    "The PDF is encrypted and needs a password; its signatures could not be checked.",
)
_MESSAGES: Final = {
    Conclusion.VALID: Text(
        vi="Hợp lệ: mọi chữ ký và dấu thời gian trên tệp đều hợp lệ.",
        en="Valid: every signature and timestamp of the file is valid.",
    ),
    Conclusion.INVALID: Text(
        vi="Không hợp lệ: có ít nhất một chữ ký hoặc dấu thời gian không hợp lệ, hoặc tệp không đọc được.",
        en="Not valid: at least one signature or timestamp is not valid, or the file cannot be read.",
    ),
    Conclusion.INDETERMINATE: Text(
        vi="Chưa đủ căn cứ để kết luận hợp lệ: xem lý do ở từng chữ ký.",
        en="Indeterminate: there is not enough evidence to call it valid; each signature says why.",
    ),
    Conclusion.UNSIGNED: Text(vi="Tệp không có chữ ký số.", en="The file carries no digital signature."),
}
