"""Trust anchors of other domains: installed by an admin, pinned by hash; and whether a chain leads to one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.errors import Conflict, Malformed, NotFound, Rejected
from pki.models import OWN_DOMAIN, TrustAnchor

_DOMAIN: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST: Final = 8
"""Certificates on one path, the anchor included."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """A path from a certificate to an installed anchor."""

    chain: tuple[x509.Certificate, ...]
    """The issuers, the certificate's own first, the anchor last."""
    domain: str


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER in lower-case hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def parse_fingerprint(text: str) -> str:
    """A SHA-256 as a person wrote it: any case, colons and blanks allowed. Raises Rejected."""
    found = re.sub(r"[:\s]", "", text).lower()
    if not _SHA256.fullmatch(found):
        raise Rejected("sha256", "must be the 64 hexadecimal digits of the SHA-256 of the certificate in DER")
    return found


def parse_certificates(data: bytes, field: str = "certificates") -> list[x509.Certificate]:
    """Every certificate in ``data``: one in DER, or any number in PEM. Raises Malformed."""
    try:
        if b"-----BEGIN" in data[:65_536]:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed(field, "not an X.509 certificate in DER, nor certificates in PEM") from error


def install_anchor(db: Session, *, at: datetime, actor: Actor, data: bytes, domain: str, sha256: str) -> TrustAnchor:
    """Trust the authority whose certificate is ``data``, in ``domain``, if its hash is the one somebody was told by another way.

    Raises Malformed, Rejected (another hash, no authority, a reserved or ill-formed domain) or Conflict (installed already).
    """
    found = parse_certificates(data, "certificate")
    if len(found) != 1:
        raise Rejected("certificate", f"holds {len(found)} certificates: an anchor is installed by itself")
    certificate, wanted = found[0], parse_fingerprint(sha256)
    if not _DOMAIN.fullmatch(domain) or domain == OWN_DOMAIN:
        raise Rejected("domain", f"must be a-z, 0-9 and hyphens, at most 32, and not {OWN_DOMAIN!r}, which is this instance's")
    if fingerprint(certificate) != wanted:
        raise Rejected("sha256", f"the certificate's SHA-256 is {fingerprint(certificate)}, not the one given: do not trust it")
    problem = _why_no_authority(certificate)
    if problem is not None:
        raise Rejected("certificate", f"it is no trust anchor: {problem}")
    anchor = db.scalar(sa.select(TrustAnchor).where(TrustAnchor.sha256 == wanted).with_for_update())
    if anchor is not None and anchor.removed_at is None:
        raise Conflict(f"this anchor is installed already, in the domain {anchor.domain}")
    if anchor is None:
        der, subject = certificate.public_bytes(Encoding.DER), certificate.subject.rfc4514_string()
        anchor = TrustAnchor(sha256=wanted, domain=domain, subject=subject, der=der, installed_at=at)
        db.add(anchor)
    anchor.domain, anchor.installed_at, anchor.removed_at = domain, at, None
    try:
        db.flush()
    except IntegrityError as error:
        raise Conflict("this anchor is being installed by somebody else at this moment") from error
    append(db, at=at, actor=actor, action="anchor.install", subject=wanted, domain=domain, name=anchor.subject)
    return anchor


def remove_anchor(db: Session, *, at: datetime, actor: Actor, sha256: str) -> None:
    """Trust it no more; raises NotFound."""
    wanted = parse_fingerprint(sha256)
    anchor = db.scalar(
        sa.select(TrustAnchor).where(TrustAnchor.sha256 == wanted, TrustAnchor.removed_at.is_(None)).with_for_update()
    )
    if anchor is None:
        raise NotFound("sha256", f"no installed anchor has the SHA-256 {wanted}")
    anchor.removed_at = at
    append(db, at=at, actor=actor, action="anchor.remove", subject=wanted, domain=anchor.domain)


def installed_anchors(db: Session) -> list[TrustAnchor]:
    """Those trusted now, oldest first."""
    return list(db.scalars(sa.select(TrustAnchor).where(TrustAnchor.removed_at.is_(None)).order_by(TrustAnchor.id)))


def find_path(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], anchors: Sequence[TrustAnchor], at: datetime
) -> Anchored:
    """The path from ``leaf`` over ``issuers`` to one of ``anchors``; raises Rejected saying where it ends or what is wrong on it.

    On the way up every signature verifies, every issuer is an authority whose path length allows it, and all are valid
    at ``at``. Revocation is not asked: only their issuer knows.
    """
    trusted = {x509.load_der_x509_certificate(anchor.der): anchor.domain for anchor in anchors}
    path = [leaf]
    while path[-1] not in trusted or path[-1] is leaf:
        above = next((one for one in (*trusted, *issuers) if one not in path and _issued(path[-1], one)), None)
        if above is None or len(path) == _LONGEST:
            name = path[-1].issuer.rfc4514_string()
            raise Rejected("certificates", f"no path leads to an installed anchor: the issuer {name!r} is missing or not trusted")
        path.append(above)
    problems = list(_why_path_unusable(path, at))
    if problems:
        raise Rejected("certificates", "; ".join(problems))
    return Anchored(tuple(path[1:]), trusted[path[-1]])


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _why_path_unusable(path: Sequence[x509.Certificate], at: datetime) -> Iterator[str]:
    for below, certificate in enumerate(path):
        name = certificate.subject.rfc4514_string()
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            yield f"{name!r} is not valid now"
        if below:
            problem = _why_no_authority(certificate)
            if problem is not None:
                yield f"{name!r} must not issue: {problem}"
            elif (length := _path_length(certificate)) is not None and length < below - 1:
                yield f"{name!r} allows {length} authorities below it, and there are {below - 1}"


def _why_no_authority(certificate: x509.Certificate) -> str | None:
    try:
        extensions = certificate.extensions
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "its basicConstraints say that it is no CA"
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return "its keyUsage lacks keyCertSign"
    except x509.ExtensionNotFound as error:
        return f"it lacks an extension an authority has ({error.oid.dotted_string})"
    except ValueError:
        return "its extensions cannot be read"
    return None


def _path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
