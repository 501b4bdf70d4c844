"""Who signs, remembered from one document to the next for as long as nothing it was chosen by has changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from core.db import Database
from pki.certificates import Identity, format_serial, signing_identity
from pki.models import OWN_DOMAIN, Certificate, CertificateState, ExternalCertificate
from registry.models import ApiClient, Grant, Subscriber

_REMEMBERED: Final = 1000
_MOST: Final = 100
"""Rows that a choice may hang on to be remembered; a client with more to choose from names whom it means."""


def _standing(*, named: bool) -> sa.Select[Any] | sa.CompoundSelect[*tuple[Any, ...]]:
    """Everything :func:`pki.certificates.signing_identity` chooses by, as rows: made once, and far cheaper than the choice.

    ``named``: the choice was among one subscriber's certificates, not among all that the client may sign with.
    """
    granted = sa.select(Grant.subscriber_id).join(ApiClient).where(ApiClient.name == sa.bindparam("client"))
    if named:
        granted = granted.join(Subscriber, Subscriber.id == Grant.subscriber_id).where(Subscriber.handle == sa.bindparam("handle"))
    at: sa.BindParameter[datetime] = sa.bindparam("at", type_=Certificate.not_before.type)
    valid = sa.select(sa.literal("certificate"), Certificate.id).where(
        Certificate.subscriber_id.in_(granted),
        Certificate.state == CertificateState.ISSUED,
        Certificate.key_label.is_not(None),
        Certificate.revoked_at.is_(None),
        Certificate.not_before <= at,
        Certificate.not_after >= at,
    )
    external = sa.select(sa.literal("external"), ExternalCertificate.id).where(
        ExternalCertificate.subscriber_id.in_(granted),
        ExternalCertificate.der.is_not(None),
        ExternalCertificate.withdrawn_at.is_(None),
        ExternalCertificate.not_before <= at,
        ExternalCertificate.not_after >= at,
    )
    issuers: sa.BindParameter[Any] = sa.bindparam("issuers", expanding=True)
    revoked = sa.select(sa.literal("revoked"), Certificate.id).where(
        Certificate.serial.in_(issuers), Certificate.revoked_at.is_not(None)
    )
    grants = granted.with_only_columns(sa.literal("grant"), Grant.subscriber_id)
    return sa.union_all(grants, valid, external, revoked).limit(_MOST + 1)


_STATEMENTS: Final = {named: _standing(named=named) for named in (True, False)}


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    until: datetime
    """When the first of its issuers expires."""
    issuers: list[str]
    standing: frozenset[tuple[str, int]]


class Identities:
    """Answers what :func:`pki.certificates.signing_identity` would; asks it only when something has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, str | None], _Known] = {}

    def find(self, *, client: str, signer: str | None, at: datetime) -> Identity:
        """As :func:`pki.certificates.signing_identity`, errors included."""
        known = self._known.get((client, signer))
        with self._database.read() as db:
            if known is not None and at <= known.until and self._read(db, known, client, signer, at) == known.standing:
                return known.identity
            identity = signing_identity(db, client=client, signer=signer, at=at)
            self._remember(db, identity, client, signer, at)
            return identity

    def _remember(self, db: Session, identity: Identity, client: str, signer: str | None, at: datetime) -> None:
        issuers = [format_serial(issuer.serial_number) for issuer in identity.chain] if identity.domain == OWN_DOMAIN else []
        until = min((issuer.not_valid_after_utc for issuer in identity.chain), default=identity.certificate.not_valid_after_utc)
        known = _Known(identity, until, issuers, frozenset())
        standing = self._read(db, known, client, signer, at)
        if len(standing) > _MOST or signing_identity(db, client=client, signer=signer, at=at).serial != identity.serial:
            return  # too much to watch, or it is changing at this very moment
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[client, signer] = _Known(identity, until, issuers, standing)

    @staticmethod
    def _read(db: Session, known: _Known, client: str, signer: str | None, at: datetime) -> frozenset[tuple[str, int]]:
        named = signer is not None and known.identity.subscriber is not None
        values = {"client": client, "at": at, "issuers": known.issuers}
        if named:
            values["handle"] = known.identity.subscriber
        return frozenset((row[0], row[1]) for row in db.connection().execute(_STATEMENTS[named], values))
