"""RFC 3161 timestamps: the token itself, what it stamps, and who stamped it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from asn1crypto import cms, core, tsp
from cryptography import x509

from core.errors import Malformed
from verifier.algorithms import known_digest, weak_digest
from verifier.certificates import Purpose, describe_signer, judge_certificate
from verifier.cms import TST_INFO, SignedMessage, check_signed_data, find_signer, parse_signed_data, parse_timestamp_info
from verifier.context import Context
from verifier.findings import error, info, warning
from verifier.octets import Octets
from verifier.reading import check_arcs, reading
from verifier.timestamp_query import TimestampQuery, imprint_of, names_authority
from verifier.verdict import Finding, Indication, SubIndication, Timestamp

Kind = Literal["signature", "document", "detached"]
_STATUSES: Final = {"granted", "granted_with_mods"}
_SKEW: Final = 300
"""Seconds by which an authority's clock may be ahead of ours."""


def parse_timestamp(data: bytes) -> bytes:
    """The TimeStampToken's DER in ``data``, which is one or is a TimeStampResp around one.

    Raises Malformed(``timestamp``) for anything else, and for a response that refuses (then the message says so).
    """
    check_arcs(data, "timestamp")
    try:
        parse_signed_data(data)
    except Malformed:
        pass
    else:
        return data
    with reading("timestamp"):
        response = _Response.load(data, strict=True)
        status = response["status"]
        if status["status"].native not in _STATUSES:
            told = [status["status"].native, *sorted(status["fail_info"].native or ()), *(status["status_string"].native or ())]
            raise Malformed("timestamp", f"the response carries no timestamp, it refuses: {', '.join(told)}"[:300])
        token: bytes = response["time_stamp_token"].dump()
    parse_signed_data(token)
    return token


class _Response(core.Sequence):  # type: ignore[misc]  # it has no types
    """TimeStampResp (RFC 3161 clause 2.4.2); asn1crypto's own takes none without a timestamp."""

    _fields = [("status", tsp.PKIStatusInfo), ("time_stamp_token", cms.ContentInfo, {"optional": True})]  # noqa: RUF012 - asn1crypto writes to it


def verify_timestamp(
    token: bytes,
    stamped: Octets | None,
    context: Context,
    *,
    kind: Kind,
    hints: Sequence[x509.Certificate] = (),
    crls: Sequence[bytes] = (),
    ocsps: Sequence[bytes] = (),
    asked: TimestampQuery | None = None,
    existed_at: datetime | None = None,
) -> Timestamp:
    """The verdict on one TimeStampToken over ``stamped`` (None: the stamped bytes are not at hand).

    Checked are the imprint, the CMS signature, ESSCertID(v2), the authority's certificate with its EKU, and its chain and
    revocation at genTime (RFC 3161 clauses 2.3, 2.4.2 and 4); that the chain had not expired at ``existed_at``, when a later
    timestamp shows that this one existed, by default now (EN 319 102-1 clause 5.6.2); with ``asked``, the request, also that it
    is answered: the imprint (which then stands for the stamped bytes where they are not at hand), the nonce, the policy. Never
    raises over the token: an unreadable one is FORMAT_FAILURE.
    """
    try:
        message, content = _read(token)
        with reading("timestamp"):
            check = _Check(message, content, context, kind, existed_at or context.now)
            return check.verdict(stamped, _Hints((*hints,), (*crls,), (*ocsps,)), asked)
    except Malformed as problem:
        return Timestamp(
            kind=kind,
            indication=Indication.TOTAL_FAILED,
            sub_indication=SubIndication.FORMAT_FAILURE,
            findings=(_unreadable(problem),),
        )


def _read(token: bytes) -> tuple[SignedMessage, bytes]:
    message = parse_signed_data(token)
    if message.content_type != TST_INFO or message.content is None:
        raise Malformed("timestamp", "the signed content is not a TSTInfo")
    return message, message.content


def _unreadable(problem: Malformed) -> Finding:
    return error(
        "TIMESTAMP_UNREADABLE", f"Không đọc được dấu thời gian: {problem.detail}", f"The timestamp cannot be read: {problem.detail}"
    )


@dataclass(frozen=True, slots=True)
class _Hints:
    """What came with the document."""

    certificates: tuple[x509.Certificate, ...]
    crls: tuple[bytes, ...]
    ocsps: tuple[bytes, ...]


class _Check:
    """One token on its way to a verdict."""

    def __init__(self, message: SignedMessage, content: bytes, context: Context, kind: Kind, existed_at: datetime) -> None:
        self._message = message
        self._content = content
        self._info = parse_timestamp_info(content)
        self._context = context
        self._existed_at = existed_at
        self._kind: Kind = kind
        self._failures: list[SubIndication] = []
        self._findings: list[Finding] = []

    def verdict(
        self,
        stamped: Octets | None,
        hints: _Hints,
        asked: TimestampQuery | None,
    ) -> Timestamp:
        at: datetime = self._info["gen_time"].native.astimezone(UTC)
        trust = self._context.trust
        certificate, bound = find_signer(self._message, (*hints.certificates, *trust.intermediates, *trust.anchors))
        intact = self._check_imprint(stamped, asked)
        self._check_content(at)
        if asked is not None:
            self._check_answer(asked)
        chain = None
        if certificate is None:
            intact = False
            self._fail(SubIndication.NO_SIGNING_CERTIFICATE_FOUND, *_NO_CERTIFICATE)
        else:
            broken = check_signed_data(self._message, certificate.public_key(), Octets.of(self._content))
            if broken is not None:
                intact = False
                self._fail(
                    broken,
                    "TIMESTAMP_SIGNATURE",
                    "Chữ ký trên dấu thời gian không đúng.",
                    "The signature on the timestamp does not hold.",
                )
            elif not bound:
                self._fail(SubIndication.SIG_CONSTRAINTS_FAILURE, *_NOT_BOUND)
            self._check_signer(certificate)
            judged = judge_certificate(
                certificate,
                self._context,
                purpose=Purpose.TIMESTAMPING,
                at=at,
                proven=True,
                hints=(*self._message.certificates, *hints.certificates),
                crls=(*self._message.crls, *hints.crls),
                ocsps=(*self._message.ocsps, *hints.ocsps),
                existed_at=max(at, self._existed_at),
            )
            chain = judged.chain
            self._findings += judged.findings
            if judged.failure is not None:
                self._failures.append(judged.failure)
        return self._build(at, intact, certificate, chain)

    def _build(self, at: datetime, intact: bool | None, certificate: x509.Certificate | None, chain: Any) -> Timestamp:
        failed = sorted(self._failures, key=lambda one: one.indication is not Indication.TOTAL_FAILED)
        imprint = self._info["message_imprint"]
        nonce = self._info["nonce"].native
        return Timestamp(
            kind=self._kind,
            indication=failed[0].indication if failed else Indication.TOTAL_PASSED,
            sub_indication=failed[0] if failed else None,
            generated_at=at,
            accuracy_milliseconds=_accuracy(self._info["accuracy"]),
            serial=format(self._info["serial_number"].native, "x"),
            policy=self._info["policy"].dotted,
            digest_algorithm=imprint["hash_algorithm"]["algorithm"].native,
            imprint=imprint["hashed_message"].native.hex(),
            nonce=None if nonce is None else format(nonce, "x"),
            intact=intact,
            authority=None if certificate is None else describe_signer(certificate),
            chain=chain,
            findings=tuple(self._findings),
        )

    def _fail(self, sub: SubIndication, code: str, vi: str, en: str) -> None:
        self._failures.append(sub)
        self._findings.append(error(code, vi, en))

    def _check_imprint(self, stamped: Octets | None, asked: TimestampQuery | None) -> bool | None:
        """True, False, or None where the stamped bytes are not at hand; then the verdict cannot be TOTAL-PASSED."""
        imprint = self._info["message_imprint"]
        name = imprint["hash_algorithm"]["algorithm"].native
        if not known_digest(name):
            self._fail(
                SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
                "UNKNOWN_ALGORITHM",
                f"Thuật toán băm lạ: {name}.",
                f"Unknown digest algorithm: {name}.",
            )
            return None
        if weak_digest(name):
            self._fail(
                SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
                "WEAK_DIGEST",
                f"Dấu thời gian dùng hàm băm quá yếu: {name}.",
                f"The timestamp is over a weak digest: {name}.",
            )
        if asked is not None and asked.imprint != imprint_of(imprint):
            self._fail(SubIndication.HASH_FAILURE, *_OTHER_DATA)
            return False
        if stamped is None:
            if asked is None:
                self._fail(SubIndication.SIGNED_DATA_NOT_FOUND, *_NO_DATA)
            return None if asked is None else True
        if imprint["hashed_message"].native != stamped.digest(name):
            self._fail(SubIndication.HASH_FAILURE, *_OTHER_DATA)
            return False
        return True

    def _check_answer(self, asked: TimestampQuery) -> None:
        """RFC 3161 clauses 2.2 and 2.4.2: what a requester compares with its request."""
        if self._info["nonce"].native != asked.nonce:
            self._fail(SubIndication.SIG_CONSTRAINTS_FAILURE, *_OTHER_NONCE)
        if asked.policy not in (None, self._info["policy"].dotted):
            self._fail(SubIndication.SIG_CONSTRAINTS_FAILURE, *_OTHER_POLICY)
        if asked.certificates_wanted != bool(self._message.certificates):
            self._findings.append(warning(*_OTHER_CERTIFICATES))

    def _check_signer(self, certificate: x509.Certificate) -> None:
        """The digest that is signed, and the name the token gives its authority."""
        own = None if self._message.algorithm is None else self._message.algorithm.digest
        weak = [name for name in (self._message.digest_algorithm, own) if name is not None and weak_digest(name)]
        if weak:
            self._fail(
                SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
                "WEAK_DIGEST",
                f"Dấu thời gian được ký bằng hàm băm quá yếu: {weak[0]}.",
                f"The timestamp is signed over a weak digest: {weak[0]}.",
            )
        if not names_authority(self._info["tsa"], certificate):
            self._findings.append(warning(*_OTHER_NAME))

    def _check_content(self, at: datetime) -> None:
        if (at - self._context.now).total_seconds() > _SKEW:
            self._fail(SubIndication.SIG_CONSTRAINTS_FAILURE, *_FUTURE)
        elif (at - self._existed_at).total_seconds() > _SKEW:
            self._fail(SubIndication.TIMESTAMP_ORDER_FAILURE, *_OUT_OF_ORDER)
        extensions = self._info["extensions"]
        if extensions.native and any(one["critical"].native for one in extensions):
            self._fail(SubIndication.SIG_CONSTRAINTS_FAILURE, *_CRITICAL_EXTENSION)
        if self._info["ordering"].native:
            self._findings.append(
                info("TIMESTAMP_ORDERING", "Dấu thời gian khai báo có thứ tự (ordering).", "The timestamp claims ordering.")
            )


def _accuracy(accuracy: Any) -> float | None:
    if accuracy.native is None:
        return None
    parts = ((accuracy["seconds"], 1000.0), (accuracy["millis"], 1.0), (accuracy["micros"], 0.001))
    return sum((part.native or 0) * weight for part, weight in parts)


_NO_CERTIFICATE: Final = (
    "TIMESTAMP_CERTIFICATE_MISSING",
    "Không có chứng thư của dịch vụ cấp dấu thời gian mà dấu nêu tên.",
    "The certificate of the time-stamping authority that the timestamp names is not at hand.",
)
_NOT_BOUND: Final = (
    "TIMESTAMP_NOT_BOUND",
    "Dấu thời gian thiếu thuộc tính signingCertificate (RFC 3161, mục 2.4.2).",
    "The timestamp lacks the signingCertificate attribute (RFC 3161, clause 2.4.2).",
)
_NO_DATA: Final = (
    "STAMPED_DATA_MISSING",
    "Chưa có dữ liệu gốc để so với dấu thời gian: hãy gửi kèm.",
    "The stamped data are not at hand to compare with: send them along.",
)
_OTHER_DATA: Final = ("TIMESTAMP_IMPRINT", "Dấu thời gian thuộc về dữ liệu khác.", "The timestamp belongs to other data.")
_OTHER_NONCE: Final = ("TIMESTAMP_NONCE", "Nonce không khớp với yêu cầu.", "The nonce is not the request's.")
_OTHER_POLICY: Final = (
    "TIMESTAMP_POLICY",
    "Chính sách của dấu thời gian không phải là chính sách được yêu cầu.",
    "The timestamp's policy is not the one that was asked for.",
)
_OTHER_CERTIFICATES: Final = (
    "TIMESTAMP_CERTIFICATES",
    "Chứng thư kèm theo dấu thời gian không đúng như yêu cầu (certReq).",
    "The timestamp carries certificates, or none, against what certReq asked for.",
)
_OTHER_NAME: Final = (
    "TIMESTAMP_AUTHORITY_NAME",
    "Tên dịch vụ ghi trong dấu thời gian không có trong chứng thư đã ký nó (RFC 3161, mục 2.4.2).",
    "The authority's name in the timestamp is not one in the certificate that signed it (RFC 3161, clause 2.4.2).",
)
_FUTURE: Final = ("TIMESTAMP_IN_FUTURE", "Dấu thời gian nằm trong tương lai.", "The timestamp lies in the future.")
_OUT_OF_ORDER: Final = (
    "TIMESTAMP_ORDER",
    "Dấu thời gian ghi thời điểm sau dấu thời gian đã bao lên nó.",
    "The timestamp claims a moment after that of the timestamp over it.",
)
_CRITICAL_EXTENSION: Final = (
    "TIMESTAMP_EXTENSION",
    "Dấu thời gian có phần mở rộng quan trọng (critical) chưa rõ nghĩa.",
    "The timestamp has a critical extension that is not understood.",
)
