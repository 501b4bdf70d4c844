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
    """An agency (cơ quan) with its identifier code as given (Quyết định 20/2020/QĐ-TTg)."""

    __tablename__ = "agency"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(35), unique=True)
    name: Mapped[str] = mapped_column(sa.String(300))
    locality: Mapped[str] = mapped_column(sa.String(128))


class Subscriber(Base):
    """Whom certificates name; ``handle`` is the short name that requests and commands use."""

    __tablename__ = "subscriber"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    handle: Mapped[str] = mapped_column(sa.String(64), unique=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    common_name: Mapped[str] = mapped_column(sa.String(64))
    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"), index=True)
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
