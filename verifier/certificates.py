"""The judgement on one certificate at one moment: path, use, algorithms and revocation, put into the report's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import pairwise

from cryptography import x509

from core.errors import Malformed
from verifier.algorithms import weak_digest, weak_key
from verifier.chain import (
    Failure,
    Path,
    build_path,
    check_not_expired,
    check_path,
    check_signing_use,
    check_timestamping_use,
    parse_crls,
)
from verifier.context import Context
from verifier.findings import error
from verifier.names import same_name
from verifier.ocsp import answered_at, parse_answers, weightier
from verifier.reading import reading
from verifier.revocation import may_sign_crls, revocation_at
from verifier.verdict import Chain, ChainCertificate, Finding, Revocation, Signer, SubIndication


class Purpose(Enum):
    """What the certificate's key was used for."""

    SIGNING = "signing"
    TIMESTAMPING = "timestamping"


@dataclass(frozen=True, slots=True)
class Judgement:
    """``failure``: the first thing wrong, None when the certificate can be relied on; ``findings`` say what and why."""

    signer: Signer
    chain: Chain
    failure: SubIndication | None
    findings: tuple[Finding, ...]


def judge_certificate(
    certificate: x509.Certificate,
    context: Context,
    *,
    purpose: Purpose,
    at: datetime,
    proven: bool,
    hints: Sequence[x509.Certificate] = (),
    crls: Sequence[bytes] = (),
    ocsps: Sequence[bytes] = (),
    existed_at: datetime | None = None,
) -> Judgement:
    """Hold ``certificate`` against the trust material at ``at``.

    ``proven``: a timestamp shows that the signature existed then; otherwise ``at`` is the moment of verification. ``hints``,
    ``crls`` and ``ocsps`` come with the document; they help to build a path and to know of revocation, and are never trusted
    themselves. ``existed_at``, of a timestamp's certificate, which speaks for ``at`` itself: the moment at which something else
    shows that the timestamp existed; the path must have held then as well, for an expired key proves nothing by itself.
    """
    path = build_path(certificate, hints, context.trust)
    failures = [
        _guarded(lambda: check_path(path, at, proven=proven)),
        None if existed_at is None else _guarded(lambda: check_not_expired(path, existed_at)),
        _guarded(lambda: _check_use(certificate, purpose)),
        _guarded(lambda: _check_key(certificate)),
    ]
    statuses: list[Revocation | None] = [None] * len(path.certificates)
    if path.anchored:
        lists, answers = parse_crls((*context.trust.crls, *crls)), parse_answers(ocsps)
        pairs = zip(path.certificates, path.certificates[1:], strict=False)
        for position, (one, issuer) in enumerate(pairs):
            status = weightier(revocation_at(one, issuer, lists, at), answered_at(one, issuer, answers, at))
            if status.status == "unknown":
                signers = tuple(_crl_signers(path, issuer, context, lists, at=at, proven=proven, hints=hints))
                status = revocation_at(one, issuer, lists, at, signers=signers)
            statuses[position] = status
            failures.append(_check_revocation(status, one, purpose, leaf=position == 0, proven=proven, existed_at=existed_at))
    found = [failure for failure in failures if failure is not None]
    # a weighty certainty goes before what more evidence could still mend
    found.sort(key=lambda failure: failure.sub_indication.indication.value != "TOTAL-FAILED")
    return Judgement(
        signer=describe_signer(certificate),
        chain=_describe(path, statuses, context, trusted=path.anchored and not found),
        failure=found[0].sub_indication if found else None,
        findings=tuple(failure.finding for failure in found),
    )


def is_covered(
    certificate: x509.Certificate,
    context: Context,
    *,
    at: datetime,
    hints: Sequence[x509.Certificate],
    crls: Sequence[bytes],
    ocsps: Sequence[bytes],
) -> bool:
    """Whether ``crls`` and ``ocsps`` alone tell the status of every certificate on its path but the anchor: long-term material."""
    path = build_path(certificate, hints, context.trust)
    lists, answers = parse_crls(crls), parse_answers(ocsps)

    def known(one: x509.Certificate, issuer: x509.Certificate) -> bool:
        status = weightier(revocation_at(one, issuer, lists, at), answered_at(one, issuer, answers, at))
        return status.status != "unknown"

    return path.anchored and all(known(one, issuer) for one, issuer in pairwise(path.certificates))


def _crl_signers(
    path: Path,
    issuer: x509.Certificate,
    context: Context,
    lists: Sequence[x509.CertificateRevocationList],
    *,
    at: datetime,
    proven: bool,
    hints: Sequence[x509.Certificate],
) -> Iterator[x509.Certificate]:
    """Certificates of ``issuer`` over its other keys (RFC 5280 clause 6.3.3 f): one for lists alone, or of another generation.

    Each leads to the same anchor as ``path``, holds at ``at``, and is not known to be revoked.
    """
    seen = [issuer]
    for one in (*context.trust.intermediates, *context.trust.anchors, *hints):
        if one in seen or not same_name(one.subject, issuer.subject) or not may_sign_crls(one):
            continue
        seen.append(one)
        own = build_path(one, hints, context.trust)
        if not own.anchored or own.certificates[-1] != path.certificates[-1] or check_path(own, at, proven=proven) is not None:
            continue
        pairs = zip(own.certificates, own.certificates[1:], strict=False)
        if all(revocation_at(lower, upper, lists, at).status != "revoked" for lower, upper in pairs):
            yield one


def _guarded(check: Callable[[], Failure | None]) -> Failure | None:
    """A certificate with an extension that cannot be read cannot be relied on; that does not make the signature any less intact."""
    try:
        with reading("certificate"):
            return check()
    except Malformed as problem:
        text = problem.detail
        return Failure(
            SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE,
            error(
                "CERTIFICATE_UNREADABLE", f"Không đọc được hết chứng thư: {text}", f"The certificate cannot be read in full: {text}"
            ),
        )


def describe_signer(certificate: x509.Certificate) -> Signer:
    """Whom the certificate names and who issued it."""
    return Signer(
        subject=certificate.subject.rfc4514_string(),
        common_name=_attribute(certificate.subject, x509.NameOID.COMMON_NAME),
        organization=_attribute(certificate.subject, x509.NameOID.ORGANIZATION_NAME),
        serial=format(certificate.serial_number, "x"),
        issuer=certificate.issuer.rfc4514_string(),
        issuing_organization=_attribute(certificate.issuer, x509.NameOID.ORGANIZATION_NAME)
        or _attribute(certificate.issuer, x509.NameOID.COMMON_NAME),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _attribute(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else None


def _check_use(certificate: x509.Certificate, purpose: Purpose) -> Failure | None:
    return check_signing_use(certificate) if purpose is Purpose.SIGNING else check_timestamping_use(certificate)


def _check_key(certificate: x509.Certificate) -> Failure | None:
    hashing = certificate.signature_hash_algorithm
    weak = weak_key(certificate.public_key())
    if weak is None and hashing is not None and weak_digest(hashing.name):
        weak = f"{hashing.name} in the certificate"
    if weak is None:
        return None
    return Failure(
        SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
        error(
            "WEAK_KEY",
            f"Khóa hoặc thuật toán của chứng thư quá yếu: {weak}.",
            f"The certificate's key or algorithm is too weak: {weak}.",
        ),
    )


_HARMLESS = {"unspecified", "affiliationChanged", "superseded", "cessationOfOperation"}


def _check_revocation(
    status: Revocation,
    certificate: x509.Certificate,
    purpose: Purpose,
    *,
    leaf: bool,
    proven: bool,
    existed_at: datetime | None,
) -> Failure | None:
    name = certificate.subject.rfc4514_string()
    if status.status == "unknown":
        return Failure(
            SubIndication.TRY_LATER,
            error(
                "REVOCATION_UNKNOWN",
                f"Không có danh sách thu hồi (CRL) nào cho biết trạng thái của “{name}” tại thời điểm cần xét.",
                f"No revocation list at hand tells the status of “{name}” at the moment that counts.",
            ),
        )
    if status.revoked_at is None:
        return None
    # RFC 3161 clause 4: after keyCompromise, or with no reason given, none of the authority's timestamps can be relied on,
    # but for those that are known to have existed before
    before = existed_at is not None and existed_at < status.revoked_at
    undermined = purpose is Purpose.TIMESTAMPING and leaf and status.reason not in _HARMLESS and not before
    if status.status == "good" and not undermined:
        return None
    return Failure(_revoked_as(status, leaf=leaf, proven=proven), _revoked_finding(name, status))


def _revoked_as(status: Revocation, *, leaf: bool, proven: bool) -> SubIndication:
    if status.reason == "certificateHold":
        return SubIndication.TRY_LATER  # EN 319 102-1 clause 5.2.6: a suspension may yet be lifted
    if not leaf:
        return SubIndication.REVOKED_CA_NO_POE
    return SubIndication.REVOKED if proven else SubIndication.REVOKED_NO_POE


def _revoked_finding(name: str, status: Revocation) -> Finding:
    since = f"{status.revoked_at:%Y-%m-%d %H:%M:%SZ}"
    why = f" ({status.reason})" if status.reason else ""
    if status.reason == "certificateHold":
        return error(
            "CERTIFICATE_SUSPENDED",
            f"Chứng thư “{name}” bị tạm dừng từ {since}.",
            f"The certificate “{name}” has been suspended since {since}.",
        )
    return error(
        "CERTIFICATE_REVOKED",
        f"Chứng thư “{name}” đã bị thu hồi lúc {since}{why}.",
        f"The certificate “{name}” was revoked at {since}{why}.",
    )


def _describe(path: Path, statuses: Sequence[Revocation | None], context: Context, *, trusted: bool) -> Chain:
    last = len(path.certificates) - 1
    return Chain(
        trusted=trusted,
        anchor=path.certificates[-1].subject.rfc4514_string() if path.anchored else None,
        domain=context.trust.domain(path.certificates[-1]) if path.anchored else None,
        certificates=tuple(
            ChainCertificate(
                subject=one.subject.rfc4514_string(),
                serial=format(one.serial_number, "x"),
                issuer=one.issuer.rfc4514_string(),
                not_before=one.not_valid_before_utc,
                not_after=one.not_valid_after_utc,
                anchor=path.anchored and position == last,
                revocation=status,
            )
            for position, (one, status) in enumerate(zip(path.certificates, statuses, strict=True))
        ),
    )
