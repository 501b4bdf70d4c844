"""The tables of the gates: who may sign for an agency, which numbers are taken, and who activates a key."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.db import Base, Record
from registry.models import Agency, Subscriber
from signer.models import Signature


class AgencySigningRule(Base):
    """What an agency has decided about its own signing. Without a row: three different people, a series for each kind of document.

    ``one_person`` is the number and date of the written decision that lets one person be several of leader, numberer and
    sealer, until ``one_person_until``; the audit log has the earlier ones.
    """

    __tablename__ = "agency_signing_rule"

    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"), primary_key=True)
    one_person: Mapped[str | None] = mapped_column(sa.String(200))
    one_person_until: Mapped[datetime | None]
    one_series: Mapped[bool]
    """All administrative documents share one series of numbers; otherwise each kind has its own."""
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(sa.String(200))


class SigningAuthorisation(Base):
    """Somebody may sign for an agency in a capacity (Nghị định 30/2020/NĐ-CP, article 13), as a written document says.

    ``kinds``: the kinds of documents it is limited to (``QĐ``, ``TB``, …); empty: every kind. ``content`` says it in words.
    """

    __tablename__ = "signing_authorisation"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"), index=True)
    subscriber_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"), index=True)
    granted_by_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"))
    capacity: Mapped[str] = mapped_column(sa.String(3))
    reference: Mapped[str] = mapped_column(sa.String(200))
    content: Mapped[str] = mapped_column(sa.String(1000))
    kinds: Mapped[list[str]] = mapped_column(sa.JSON)
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    recorded_at: Mapped[datetime]
    recorded_by: Mapped[str] = mapped_column(sa.String(200))
    withdrawn_at: Mapped[datetime | None]
    agency: Mapped[Agency] = relationship(lazy="joined")
    subscriber: Mapped[Subscriber] = relationship(foreign_keys=[subscriber_id], lazy="joined")
    granted_by: Mapped[Subscriber] = relationship(foreign_keys=[granted_by_id], lazy="joined")


class NumberState(StrEnum):
    """``HELD`` for its numberer until ``held_until``; ``OPEN`` from a signature's intent until its document is complete; ``USED``
    from then on, before the document is handed out; ``FREE`` again after the signature was given up; ``VOID``: nobody's for good.
    """

    HELD = "held"
    OPEN = "open"
    USED = "used"
    FREE = "free"
    VOID = "void"


class DocumentNumber(Base):
    """One number of an agency's series in one year. The unique constraint is what lets only one of two at once have it."""

    __tablename__ = "document_number"
    __table_args__ = (sa.UniqueConstraint("agency_id", "series", "year", "number"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"))
    series: Mapped[str] = mapped_column(sa.String(40))
    year: Mapped[int]
    number: Mapped[int]
    text: Mapped[str] = mapped_column(sa.String(80))
    """Number and symbol as given: ``12/QĐ-UBND``."""
    state: Mapped[str] = mapped_column(sa.String(4))
    client: Mapped[str] = mapped_column(sa.String(64))
    person_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subscriber.id"))
    """Who gave it before it was signed; None where it came with the signature."""
    at: Mapped[datetime]
    held_until: Mapped[datetime | None]
    signature_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Signature.id), index=True)
    person: Mapped[Subscriber | None] = relationship(lazy="joined")


class ActivationHolder(Base):
    """A person who may activate a key (that of ``key``, an agency's or an officer's), and how they prove that it is them."""

    __tablename__ = "activation_holder"
    __table_args__ = (sa.UniqueConstraint("key_id", "person_id"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    key_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"))
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"))
    pin_hash: Mapped[str | None] = mapped_column(sa.String(200))
    """Argon2id in the PHC string format."""
    pin_initial: Mapped[bool]
    """The PIN was made by us and shown to an admin: its holder replaces it before the first activation."""
    otp_secret: Mapped[bytes | None]
    otp_step: Mapped[int] = mapped_column(sa.BigInteger)
    """The last time step (RFC 6238, 4.2) whose code was taken: none is taken twice."""
    failures: Mapped[int]
    locked_until: Mapped[datetime | None]
    changes: Mapped[int]
    """How often an admin has given it new secrets; an approval is for one of them."""
    key: Mapped[Subscriber] = relationship(foreign_keys=[key_id], lazy="joined")
    person: Mapped[Subscriber] = relationship(foreign_keys=[person_id], lazy="joined")


class Activation(Base):
    """A key activated for a short time, for one act or a batch; of its token only the SHA-256 is kept."""

    __tablename__ = "activation"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    token_sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    key_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"))
    person_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"))
    client: Mapped[str] = mapped_column(sa.String(64))
    at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    most: Mapped[int]
    used: Mapped[int]
    digests: Mapped[list[str] | None] = mapped_column(sa.JSON)
    """SHA-256 of the documents it is for, lower-case hex; None: any, as many as ``most``."""
    key: Mapped[Subscriber] = relationship(foreign_keys=[key_id], lazy="joined")
    person: Mapped[Subscriber] = relationship(foreign_keys=[person_id], lazy="joined")


class ActivationUse(Base):
    """One act under an activation."""

    __tablename__ = "activation_use"
    __table_args__ = (sa.UniqueConstraint("activation_id", "act"),)

    activation_id: Mapped[int] = mapped_column(sa.ForeignKey("activation.id"), primary_key=True)
    signature_id: Mapped[int] = mapped_column(sa.ForeignKey(Signature.id), primary_key=True, index=True)
    act: Mapped[str | None] = mapped_column(sa.String(48))
    """The batch's item (see :class:`signer.activation.KeptToken`): signing it again, after it was cut off, is the same act."""
