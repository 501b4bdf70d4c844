"""What our own authorities publish, gathered for whoever validates: anchors, further authorities, and the newest CRLs."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from pki.certificates import authority_certificate
from pki.models import Authority, Crl, CrlState


@dataclass(frozen=True, slots=True)
class TrustMaterial:
    """Everything needed to build and judge a chain without asking anybody."""

    anchors: tuple[x509.Certificate, ...]
    """The roots."""
    intermediates: tuple[x509.Certificate, ...]
    crls: tuple[bytes, ...]
    """The newest published CRL of each authority, in DER. Expired certificates stay listed, so one CRL tells all of the past."""


def load_trust(db: Session) -> TrustMaterial:
    """The trust material as it stands in the database."""
    authorities = list(db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None)).order_by(Authority.id)))
    issued = sa.select(Crl.authority_id, sa.func.max(Crl.number).label("number")).where(Crl.state == CrlState.ISSUED)
    newest = issued.group_by(Crl.authority_id).subquery()
    is_newest = sa.and_(Crl.authority_id == newest.c.authority_id, Crl.number == newest.c.number)
    lists = db.scalars(sa.select(Crl.der).join(newest, is_newest).order_by(Crl.authority_id))
    return TrustMaterial(
        anchors=tuple(authority_certificate(item) for item in authorities if item.parent_id is None),
        intermediates=tuple(authority_certificate(item) for item in authorities if item.parent_id is not None),
        crls=tuple(der for der in lists if der is not None),
    )
