"""The tables of the certificate authorities: who issues, what was issued, and what was published about it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.db import Base, Record
from registry.models import Subscriber


class CertificateState(StrEnum):
    """How far an issuance came. Only ``ISSUED`` has left the house; ``ABANDONED`` is revoked as well."""

    INTENDED = "intended"
    ISSUED = "issued"
    ABANDONED = "abandoned"


class CrlState(StrEnum):
    """How far a CRL came. An abandoned one leaves a gap in the numbers, which RFC 5280, 5.2.3 allows."""

    INTENDED = "intended"
    ISSUED = "issued"
    ABANDONED = "abandoned"


class Authority(Base):
    """A certificate authority: a name and a key that signs certificates and CRLs.

    ``certificate_der`` is NULL until its own certificate has been issued. ``crl_number`` is the last number given out;
    ``status_version`` rises with every revocation, so that a CRL that is behind can be told without counting.
    """

    __tablename__ = "authority"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(63), unique=True)
    subject: Mapped[str] = mapped_column(sa.Text)
    key_label: Mapped[str] = mapped_column(sa.String(128), unique=True)
    certificate_der: Mapped[bytes | None]
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("authority.id"))
    crl_number: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    status_version: Mapped[int] = mapped_column(sa.BigInteger, default=0)


class Certificate(Base):
    """One certificate from its intent on. ``serial`` is lower-case hex without leading zeros, unique over all authorities.

    ``tbs`` is what the key was asked to sign, written before it was asked. ``key_label`` is set when the subject's private
    key lives in our token. ``revocation_reason`` is a name of RFC 5280, 5.3.1 (``keyCompromise``).
    """

    __tablename__ = "certificate"
    __table_args__ = (sa.Index("ix_certificate_revoked", "authority_id", "revoked_at"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    serial: Mapped[str] = mapped_column(sa.String(40), unique=True)
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    subscriber_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subscriber.id"), index=True)
    profile: Mapped[str] = mapped_column(sa.String(40), index=True)
    subject: Mapped[str] = mapped_column(sa.Text)
    key_label: Mapped[str | None] = mapped_column(sa.String(128), index=True)
    spki_sha256: Mapped[str] = mapped_column(sa.String(64), index=True)
    state: Mapped[str] = mapped_column(sa.String(10), index=True)
    tbs: Mapped[bytes]
    der: Mapped[bytes | None]
    not_before: Mapped[datetime]
    not_after: Mapped[datetime]
    intended_at: Mapped[datetime]
    issued_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revocation_reason: Mapped[str | None] = mapped_column(sa.String(32))
    authority: Mapped[Authority] = relationship()
    subscriber: Mapped[Subscriber | None] = relationship()


class SubjectKey(Base):
    """A public key that was ever put into a certificate, and its one owner (``subscriber/h``, ``authority/n``, ``service/p``).

    The primary key is what keeps two processes from certifying one key for two owners; ``blocked_at`` is set when a
    certificate over it was revoked for key compromise.
    """

    __tablename__ = "subject_key"

    spki_sha256: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(sa.String(128))
    blocked_at: Mapped[datetime | None]


class Crl(Base):
    """One CRL of an authority, kept for ever; ``status_version`` is the authority's at the moment its entries were read."""

    __tablename__ = "crl"
    __table_args__ = (sa.UniqueConstraint("authority_id", "number"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    number: Mapped[int] = mapped_column(sa.BigInteger)
    status_version: Mapped[int] = mapped_column(sa.BigInteger)
    state: Mapped[str] = mapped_column(sa.String(10))
    der: Mapped[bytes | None]
    this_update: Mapped[datetime]
    next_update: Mapped[datetime]


class OcspRecord(Base):
    """One status that was signed: which serial of which authority, when, and what was said of it."""

    __tablename__ = "ocsp_record"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    authority_id: Mapped[int] = mapped_column(sa.ForeignKey("authority.id"))
    serial: Mapped[str] = mapped_column(sa.String(80))
    status: Mapped[str] = mapped_column(sa.String(10))
