"""What our own authorities publish, gathered for whoever validates: anchors, further authorities, and the newest CRLs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from pki.certificates import authority_certificate
from pki.models import OWN_DOMAIN, Authority, Crl, CrlState, ForeignCrl, TrustAnchor


@dataclass(frozen=True, slots=True)
class TrustMaterial:
    """Everything needed to build and judge a chain without asking anybody."""

    anchors: tuple[x509.Certificate, ...]
    """Our roots, and the anchors of other domains that an admin installed."""
    intermediates: tuple[x509.Certificate, ...]
    crls: tuple[bytes, ...]
    """The newest published CRL of each authority, in DER (expired certificates stay listed, so one tells all of the past), and
    the newest that was imported of each authority which is not ours."""
    domains: Mapping[x509.Certificate, str] = field(default_factory=dict)
    """The trust domain of each anchor that is not our own."""

    def domain(self, anchor: x509.Certificate) -> str:
        """Whose trust rests on this anchor: ``own``, or the label it was installed under."""
        return self.domains.get(anchor, OWN_DOMAIN)


def load_trust(db: Session) -> TrustMaterial:
    """The trust material as it stands in the database."""
    authorities = list(db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None)).order_by(Authority.id)))
    complete = (Crl.state == CrlState.ISSUED, Crl.partition == 0, ~Crl.delta)
    issued = sa.select(Crl.authority_id, sa.func.max(Crl.number).label("number")).where(*complete)
    newest = issued.group_by(Crl.authority_id).subquery()
    is_newest = sa.and_(Crl.authority_id == newest.c.authority_id, Crl.number == newest.c.number, *complete)
    lists = db.scalars(sa.select(Crl.der).join(newest, is_newest).order_by(Crl.authority_id))
    installed = db.scalars(sa.select(TrustAnchor).where(TrustAnchor.removed_at.is_(None)).order_by(TrustAnchor.id))
    domains = {x509.load_der_x509_certificate(anchor.der): anchor.domain for anchor in installed}
    return TrustMaterial(
        anchors=(*(authority_certificate(item) for item in authorities if item.parent_id is None), *domains),
        intermediates=tuple(authority_certificate(item) for item in authorities if item.parent_id is not None),
        crls=(*(der for der in lists if der is not None), *db.scalars(sa.select(ForeignCrl.der).order_by(ForeignCrl.id))),
        domains=domains,
    )
