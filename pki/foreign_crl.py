"""Revocation lists of other people's authorities: imported by an operator, kept for signatures that rest on them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.errors import Conflict, Malformed, Rejected
from pki.models import ExternalCertificate, ForeignCrl, TrustAnchor


def keep_foreign_crl(db: Session, data: bytes, *, at: datetime, actor: Actor) -> ForeignCrl:
    """Keep a complete CRL (DER or PEM) that an installed anchor, or an authority below one, signed.

    Raises Malformed, Rejected (nobody known signed it, or it is a delta), or Conflict (a newer one is here).
    """
    try:
        crl = x509.load_pem_x509_crl(data) if b"-----BEGIN" in data[:64] else x509.load_der_x509_crl(data)
        issuer = next((one for one in _authorities(db) if _signed(crl, one)), None)
        delta = any(extension.oid == x509.DeltaCRLIndicator.oid for extension in crl.extensions)
    except ValueError as error:
        raise Malformed("crl", "not a CRL in DER or PEM") from error
    if issuer is None:
        raise Rejected("crl", f"no authority known here signed it ({crl.issuer.rfc4514_string()}): install its anchor first")
    if delta or crl.next_update_utc is None:
        raise Rejected("crl", "it is a delta, or has no nextUpdate: give the complete full CRL")
    key = _key(issuer)
    row = db.scalar(sa.select(ForeignCrl).where(ForeignCrl.issuer_sha256 == key).with_for_update())
    if row is not None and row.this_update >= crl.last_update_utc:
        raise Conflict(f"a list of this authority of {row.this_update.isoformat()} is here already, which is not older")
    if row is None:
        row = ForeignCrl(issuer_sha256=key)
        db.add(row)
    row.issuer = issuer.subject.rfc4514_string()
    row.der, row.this_update, row.next_update = crl.public_bytes(Encoding.DER), crl.last_update_utc, crl.next_update_utc
    row.imported_at = at
    try:
        db.flush()
    except IntegrityError as error:
        raise Conflict("the first list of this authority is being imported by somebody else at this moment") from error
    append(db, at=at, actor=actor, action="crl.keep", subject=key, issuer=row.issuer, this_update=row.this_update.isoformat())
    return row


def foreign_crls(db: Session, issuer: x509.Certificate) -> list[x509.CertificateRevocationList]:
    """The list kept of this authority, if there is one."""
    rows = db.scalars(sa.select(ForeignCrl.der).where(ForeignCrl.issuer_sha256 == _key(issuer)))
    return [x509.load_der_x509_crl(der) for der in rows]


def _key(issuer: x509.Certificate) -> str:
    return issuer.fingerprint(hashes.SHA256()).hex()


def _authorities(db: Session) -> list[x509.Certificate]:
    """Installed anchors, and the authorities in the chains that were imported with certificates."""
    anchors = db.scalars(sa.select(TrustAnchor.der).where(TrustAnchor.removed_at.is_(None)))
    found = [x509.load_der_x509_certificate(der) for der in anchors]
    for pem in db.scalars(sa.select(ExternalCertificate.chain_pem).where(ExternalCertificate.chain_pem.is_not(None)).distinct()):
        found += x509.load_pem_x509_certificates(str(pem).encode("ascii"))
    return found


def _signed(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.issuer == issuer.subject and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # other keys raise
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
