"""The registry's tables."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column, relationship

from core.db import Base, Record


class Role(StrEnum):
    """What a caller is: each route names the roles it is open to."""

    CLIENT = "client"
    """A document system that asks for signatures."""
    ADMIN = "admin"
    """A security admin who issues and revokes certificates."""
    AUDITOR = "auditor"
    """Somebody who reads everything and changes nothing."""


class SubscriberKind(StrEnum):
    """Whom a certificate names (Nghị định 68/2024/NĐ-CP, article 10)."""

    OFFICER = "officer"
    AGENCY = "agency"
    DEVICE = "device"


class Agency(Base):
    """An agency (cơ quan): its identifier code as given, and ``code_key``, the form in which codes are compared.

    What it is called and whom it is under changes; see :class:`AgencyVersion` and :mod:`registry.agencies`.
    """

    __tablename__ = "agency"
    __table_args__ = (sa.Index("uq_agency_code_key", "code_key", unique=True),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(35), unique=True)
    code_key: Mapped[str] = mapped_column(sa.String(35), server_default="")
    versions: Mapped[list[AgencyVersion]] = relationship(
        order_by="AgencyVersion.since", foreign_keys="AgencyVersion.agency_id", back_populates="agency"
    )


class AgencyVersion(Base):
    """What an agency was from ``since`` on, until its next version; rows are only ever added, so history stays as it was.

    ``closed`` on the last version ends the agency; ``successor_id`` is the one it was merged into, if any.
    ``certificate_name`` is what certificates call it where its name is longer than they hold (X.520, ub-organization-name).
    """

    __tablename__ = "agency_version"
    __table_args__ = (sa.UniqueConstraint("agency_id", "since"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"))
    since: Mapped[datetime]
    name: Mapped[str] = mapped_column(sa.String(300))
    certificate_name: Mapped[str | None] = mapped_column(sa.String(64))
    locality: Mapped[str] = mapped_column(sa.String(128))
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("agency.id"), index=True)
    closed: Mapped[bool] = mapped_column(default=False)
    successor_id: Mapped[int | None] = mapped_column(sa.ForeignKey("agency.id"))
    agency: Mapped[Agency] = relationship(foreign_keys=[agency_id], back_populates="versions")


class Subscriber(Base):
    """Whom certificates name; ``handle`` is the short name that requests and commands use.

    ``uid`` is ``MST:…``, ``CCCD:…`` or ``CMND:…``; ``dns_names`` are the host names a TLS server answers to.
    """

    __tablename__ = "subscriber"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    handle: Mapped[str] = mapped_column(sa.String(64), unique=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    common_name: Mapped[str] = mapped_column(sa.String(64))
    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"), index=True)
    uid: Mapped[str | None] = mapped_column(sa.String(40))
    email: Mapped[str | None] = mapped_column(sa.String(254))
    dns_names: Mapped[list[str]] = mapped_column(sa.JSON, server_default="[]", default=list)
    agency: Mapped[Agency] = relationship(lazy="joined")


class ApiClient(Base):
    """A caller with an API key; only the SHA-256 of the key is kept."""

    __tablename__ = "api_client"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(64), unique=True)
    role: Mapped[str] = mapped_column(sa.String(10))
    key_sha256: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class Grant(Base):
    """A client system may sign with the certificates of this subscriber."""

    __tablename__ = "signing_grant"

    client_id: Mapped[int] = mapped_column(sa.ForeignKey("api_client.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(sa.ForeignKey("subscriber.id"), primary_key=True)
