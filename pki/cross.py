"""Cross-certification: drawing up the order that certifies another authority's name and key."""

from __future__ import annotations

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from audit.log import Actor
from core.errors import Rejected
from pki.issuer import spki_digest
from pki.models import Authority
from pki.orders import Order, load_issuer
from pki.profile import Profile, PublicKey, check_key


def draw_cross_order(
    db: Session, profile: Profile, certificate: x509.Certificate, *, issuer: str, days: int, actor: Actor
) -> tuple[Order, PublicKey]:
    """The order and the key it is for.

    Raises Rejected for what is no authority, for a weak key, and for a key identifier we would not repeat.
    """
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise Rejected("certificate", "it lacks basicConstraints or subjectKeyIdentifier: an authority has both") from error
    if not authority:
        raise Rejected("certificate", "its basicConstraints say that it is no CA")
    key = certificate.public_key()
    violations = list(check_key(key))
    if violations:
        raise Rejected.all(violations)
    public_key: PublicKey = key  # type: ignore[assignment]  # check_key lets these kinds through only
    if identifier != x509.SubjectKeyIdentifier.from_public_key(public_key):
        raise Rejected("certificate", "its key identifier is not the SHA-1 of its key, so what it issued would not match ours")
    order = Order(profile, certificate.subject, days, _owner(db, certificate, public_key), load_issuer(db, issuer), actor)
    return order, public_key


def _owner(db: Session, certificate: x509.Certificate, key: PublicKey) -> str:
    """An authority of our own keeps its key; anybody else's is known by its hash."""
    for authority in db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None))):
        own = x509.load_der_x509_certificate(authority.certificate_der or b"")
        if own.public_key() == key:
            if own.subject != certificate.subject:
                raise Rejected("certificate", f"its key is that of our authority {authority.name}, under another name")
            return f"authority/{authority.name}"
    return f"cross/{spki_digest(key)}"
