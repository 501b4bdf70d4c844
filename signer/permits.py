"""What the gates let pass, and how it is used up: in the same transaction that writes down what the key is about to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from core.db import Database
from core.errors import Conflict, Refused
from core.settings import ActivationConfig
from pki.certificates import Identity
from pki.models import OWN_DOMAIN, Certificate, ExternalCertificate
from registry.models import Subscriber
from signer.activation import Held, needs_activation, release_activations, use_activation
from signer.gate_models import ActivationHolder, ActivationUse, DocumentNumber
from signer.register import Claim, conclude_number, release_numbers, use_number

_GUARDED: Final = (
    sa.select(ActivationHolder.id)
    .join(Subscriber, ActivationHolder.key_id == Subscriber.id)
    .where(Subscriber.handle == sa.bindparam("handle"))
    .limit(1)
    .scalar_subquery()
)
_OWN: Final = sa.select(
    sa.select(Certificate.revoked_at).where(Certificate.serial == sa.bindparam("serial")).scalar_subquery(), _GUARDED
)
_EXTERNAL: Final = sa.select(
    sa.select(ExternalCertificate.withdrawn_at)
    .where(ExternalCertificate.serial == sa.bindparam("serial"), ExternalCertificate.domain == sa.bindparam("domain"))
    .limit(1)
    .scalar_subquery(),
    _GUARDED,
)
"""Made once, because every use of a key asks: when its certificate was revoked, and whether somebody activates the key."""


@dataclass(slots=True)
class Permit:
    """Leave to make one document's signature. It may take the key several times (a hole that was too small, a number, a date
    and a seal in three fields), and uses its number and its activation up once."""

    profile: str = "plain"
    passed: Mapping[str, Any] = field(default_factory=dict)
    """What each gate saw, for the audit entry: JSON values, no secret."""
    activation: Held | None = None
    claim: Claim | None = None
    number: str | None = None
    """The document's number and symbol as the register writes them, where it has one."""
    signature_id: int | None = None
    """The signature that used it up, once one has."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the audit entry says of it; nothing for a signature nobody asked anything of."""
        return {"profile": self.profile, "gates": dict(self.passed)} if self.passed or self.profile != "plain" else {}


class Permits:
    """Uses permits up and gives back what a signature that was given up had taken."""

    def __init__(self, *, config: ActivationConfig) -> None:
        self._config = config

    def use(self, db: Session, permit: Permit, identity: Identity, signature_id: int, *, digest: str, at: datetime) -> None:
        """Use the permit for this signature, in the caller's transaction.

        Every use of a subscriber's key comes by here, so this is where a key that needs activation is used without one no
        more, and one whose certificate was revoked since the request came no more. Raises Refused, Conflict.
        """
        _check_certificate(identity, at)
        asked = {"serial": identity.serial, "domain": identity.domain, "handle": identity.subscriber}
        revoked, guarded = db.connection().execute(_OWN if identity.domain == OWN_DOMAIN else _EXTERNAL, asked).one()
        if revoked is not None:
            raise Conflict(f"signer: the certificate {identity.serial} was revoked or suspended at {revoked.isoformat()}")
        if permit.activation is None and (guarded is not None or self._is_listed(db, identity)):
            raise Refused(
                "activation", f"the key of {identity.subscriber} is used only under an activation: ask at /v1/activations"
            )
        if permit.signature_id is not None:
            _move(db, permit.signature_id, signature_id)
        else:
            if permit.activation is not None:
                use_activation(db, permit.activation, signature_id, digest=digest, at=at)
            if permit.claim is not None:
                use_number(db, permit.claim, signature_id, at)
        permit.signature_id = signature_id

    def _is_listed(self, db: Session, identity: Identity) -> bool:
        """Whether the configuration asks for an activation of this key."""
        if not self._config.required or identity.subscriber is None:
            return False
        key = db.scalar(sa.select(Subscriber).where(Subscriber.handle == identity.subscriber))
        return key is not None and needs_activation(db, key, self._config)


def release(db: Session, signature_id: int, at: datetime) -> None:
    """Give back the number and the act of a signature that was given up."""
    release_numbers(db, signature_id, at)
    release_activations(db, signature_id)


def conclude(db: Session, permit: Permit) -> DocumentNumber | None:
    """The number of a document that is complete, used from now on; None where it has none. Raises Conflict."""
    return None if permit.claim is None or permit.signature_id is None else conclude_number(db, permit.signature_id)


def give_back_number(database: Database, permit: Permit, at: datetime) -> None:
    """Give back the number of a signature that was made and whose document never came out."""
    if permit.claim is not None and permit.signature_id is not None:
        with database.write() as db:
            release_numbers(db, permit.signature_id, at)


def _check_certificate(identity: Identity, at: datetime) -> None:
    ends = identity.certificate.not_valid_after_utc
    if ends < at:
        raise Conflict(f"signer: the certificate {identity.serial} expired at {ends.isoformat()}")


def _move(db: Session, before: int, after: int) -> None:
    """The signature that comes next under the same permit takes over what the one before had."""
    for table in (DocumentNumber, ActivationUse):
        db.execute(sa.update(table).where(table.signature_id == before).values(signature_id=after))
