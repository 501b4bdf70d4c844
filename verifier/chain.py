"""From a certificate to a trust anchor: building the path, and holding it against RFC 5280 at one moment. No network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.authority import AuthorityWithCert, TrustAnchor
from pyhanko_certvalidator.errors import (
    DisallowedAlgorithmError,
    ExpiredError,
    NotYetValidError,
    PathError,
    ValidationError,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.validate import async_validate_path

from core.errors import Malformed
from pki.trust import TrustMaterial
from verifier.findings import error
from verifier.names import name_key, same_name
from verifier.reading import reading
from verifier.verdict import Finding, SubIndication

_LONGEST = 8
"""Certificates on one path, the anchor included."""
_MOST_TRIES = 200
"""Signatures checked while a path is looked for: bounds what certificates that cross-sign each other can cost."""


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates from the leaf upwards; ``anchored``: the last one is a trust anchor."""

    certificates: tuple[x509.Certificate, ...]
    anchored: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a check did not pass."""

    sub_indication: SubIndication
    finding: Finding


def build_path(leaf: x509.Certificate, hints: Iterable[x509.Certificate], trust: TrustMaterial) -> Path:
    """The first path from ``leaf`` to an anchor on which every signature holds; the longest found where none reaches one.

    Issuers are looked for among the anchors first, then the known authorities, then ``hints`` (what the signature carries).
    """
    by_subject: dict[str, list[x509.Certificate]] = {}
    for certificate in (*trust.anchors, *trust.intermediates, *hints):
        same = by_subject.setdefault(name_key(certificate.subject), [])
        if certificate not in same:
            same.append(certificate)
    return _Search(frozenset(trust.anchors), by_subject).up((leaf,))


class _Search:
    """Depth first, with one budget of signature checks over all branches."""

    def __init__(self, anchors: frozenset[x509.Certificate], by_subject: dict[str, list[x509.Certificate]]) -> None:
        self._anchors = anchors
        self._by_subject = by_subject
        self._tries = _MOST_TRIES

    def up(self, path: tuple[x509.Certificate, ...]) -> Path:
        last = path[-1]
        if last in self._anchors:
            return Path(path, anchored=True)
        longest = Path(path, anchored=False)
        if len(path) == _LONGEST:
            return longest
        for issuer in self._by_subject.get(name_key(last.issuer), ()):
            if issuer in path or self._tries == 0:
                continue
            self._tries -= 1
            if not is_issued_by(last, issuer):
                continue
            found = self.up((*path, issuer))
            if found.anchored:
                return found
            if len(found.certificates) > len(longest.certificates):
                longest = found
        return longest


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names match and the issuer's key made the certificate's signature."""
    try:
        return same_name(certificate.issuer, issuer.subject) and _made_by(certificate, issuer.public_key())
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _made_by(certificate: x509.Certificate, key: PublicKeyTypes) -> bool:
    """Raise InvalidSignature unless ``key`` made the certificate's signature; False for a kind of key that is not taken."""
    value, data, parameters = certificate.signature, certificate.tbs_certificate_bytes, certificate.signature_algorithm_parameters
    if isinstance(key, rsa.RSAPublicKey) and isinstance(parameters, padding.PKCS1v15 | padding.PSS):
        hashing = certificate.signature_hash_algorithm
        if hashing is None:
            return False
        key.verify(value, data, parameters, hashing)
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(parameters, ec.ECDSA):
        key.verify(value, data, parameters)
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) and parameters is None:
        key.verify(value, data)
    else:
        return False
    return True


def check_path(path: Path, at: datetime, *, proven: bool) -> Failure | None:
    """RFC 5280 clause 6.1 over an anchored path at moment ``at`` (``proven``: a timestamp says so), without revocation.

    Validity, names, basic constraints, path length, key usage, name constraints, policies, critical extensions and
    algorithms are checked by pyhanko-certvalidator, which is given no means to fetch anything.
    """
    leaf = path.certificates[0]
    if not path.anchored:
        return Failure(SubIndication.NO_CERTIFICATE_CHAIN_FOUND, _untrusted(path))
    outside = _outside_validity(leaf, at, proven=proven)
    if outside is not None:  # asked here too: the library takes a leaf that is an anchor itself at any time
        return outside
    with reading("certificate"):
        converted = [asn1_x509.Certificate.load(one.public_bytes(Encoding.DER)) for one in path.certificates]
        anchor = TrustAnchor(AuthorityWithCert(converted[-1]))
        below = converted[:-1]
        candidate = ValidationPath(anchor, below[:0:-1], below[0] if below else None)
        context = ValidationContext(
            trust_roots=[], moment=at, best_signature_time=at, allow_fetching=False, revocation_mode="soft-fail"
        )
        return _outcome(context, candidate, at, proven=proven)


def _outcome(context: ValidationContext, candidate: ValidationPath, at: datetime, *, proven: bool) -> Failure | None:
    try:
        asyncio.run(async_validate_path(context, candidate))
    except NotYetValidError:
        return _not_yet_valid(at, proven=proven)
    except ExpiredError:
        return _expired(at)
    except DisallowedAlgorithmError as problem:
        text = str(problem)
        return Failure(
            SubIndication.CRYPTO_CONSTRAINTS_FAILURE,
            error(
                "CHAIN_ALGORITHM",
                f"Một chứng thư trong chuỗi dùng thuật toán quá yếu: {text}",
                f"A certificate in the chain uses a weak algorithm: {text}",
            ),
        )
    except (ValidationError, PathError) as problem:
        text = str(problem)
        return Failure(
            SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE,
            error("CHAIN_BROKEN", f"Chuỗi chứng thư không hợp lệ: {text}", f"The certificate chain is not valid: {text}"),
        )
    return None


def check_not_expired(path: Path, at: datetime) -> Failure | None:
    """Whether every certificate of an anchored path but the anchor was still valid at ``at``."""
    ended = path.anchored and any(at > one.not_valid_after_utc for one in path.certificates[:-1])
    return _expired(at) if ended else None


def _outside_validity(certificate: x509.Certificate, at: datetime, *, proven: bool) -> Failure | None:
    if at < certificate.not_valid_before_utc:
        return _not_yet_valid(at, proven=proven)
    return _expired(at) if at > certificate.not_valid_after_utc else None


def _not_yet_valid(at: datetime, *, proven: bool) -> Failure:
    # a proven time before the certificate was born cannot be mended by any later evidence (EN 319 102-1, 5.5.4)
    sub = SubIndication.NOT_YET_VALID if proven else SubIndication.OUT_OF_BOUNDS_NO_POE
    moment = f"{at:%Y-%m-%d %H:%M:%SZ}"
    return Failure(
        sub,
        error(
            "NOT_YET_VALID",
            f"Tại {moment}, chứng thư (hoặc cơ quan cấp) chưa có hiệu lực.",
            f"At {moment} the certificate or its issuer was not yet valid.",
        ),
    )


def _expired(at: datetime) -> Failure:
    moment = f"{at:%Y-%m-%d %H:%M:%SZ}"
    return Failure(
        SubIndication.OUT_OF_BOUNDS_NO_POE,
        error(
            "CERTIFICATE_EXPIRED",
            f"Tại {moment}, chứng thư (hoặc cơ quan cấp) đã hết hạn, và không có dấu thời gian nào chứng minh chữ ký có trước đó.",
            f"At {moment} the certificate or its issuer had expired, and no timestamp proves that the signature existed before.",
        ),
    )


def _untrusted(path: Path) -> Finding:
    last = path.certificates[-1]
    name = last.issuer.rfc4514_string()
    return error(
        "UNTRUSTED",
        f"Không tìm thấy đường dẫn tới một cơ quan cấp chứng thư được tin cậy (dừng ở “{name}”).",
        f"No path to a trusted authority was found (it stops at “{name}”).",
    )


def parse_crls(ders: Sequence[bytes]) -> list[x509.CertificateRevocationList]:
    """Those of ``ders`` that can be read."""
    found = []
    for der in ders:
        try:
            with reading("crl"):
                found.append(x509.load_der_x509_crl(der))
        except Malformed:
            continue  # an unreadable list is no evidence; its absence is reported as unknown status
    return found


_SIGNING_EXCLUDED: Final = {
    ExtendedKeyUsageOID.TIME_STAMPING,
    ExtendedKeyUsageOID.OCSP_SIGNING,
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CODE_SIGNING,
}


def check_signing_use(leaf: x509.Certificate) -> Failure | None:
    """Whether the certificate may be used for signatures on documents: no authority's, and not kept for another use alone."""
    wrong = _not_for_signatures(leaf)
    if wrong is None:
        usages = _extended_usages(leaf)
        only_other = usages is not None and bool(usages.value) and set(usages.value) <= _SIGNING_EXCLUDED
        wrong = "extendedKeyUsage" if only_other else None
    if wrong is None:
        return None
    return Failure(
        SubIndication.CHAIN_CONSTRAINTS_FAILURE,
        error(
            "WRONG_KEY_USAGE",
            f"Chứng thư không dành cho việc ký văn bản ({wrong}).",
            f"The certificate is not meant for signing documents ({wrong}).",
        ),
    )


def check_timestamping_use(leaf: x509.Certificate) -> Failure | None:
    """RFC 3161 clause 2.3: extendedKeyUsage critical, with id-kp-timeStamping alone."""
    usages = _extended_usages(leaf)
    alone = usages is not None and list(usages.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    if alone and usages is not None and usages.critical and _not_for_signatures(leaf) is None:
        return None
    return Failure(
        SubIndication.CHAIN_CONSTRAINTS_FAILURE,
        error(
            "TSA_KEY_USAGE",
            "Chứng thư của dịch vụ cấp dấu thời gian phải có extendedKeyUsage quan trọng (critical) và chỉ gồm timeStamping.",
            "The time-stamping certificate must have a critical extendedKeyUsage with timeStamping alone.",
        ),
    )


def _not_for_signatures(leaf: x509.Certificate) -> str | None:
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            return "basicConstraints CA"
        if isinstance(extension.value, x509.KeyUsage) and not (
            extension.value.digital_signature or extension.value.content_commitment
        ):
            return "keyUsage"
    return None


def _extended_usages(leaf: x509.Certificate) -> x509.Extension[x509.ExtendedKeyUsage] | None:
    try:
        return leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return None
