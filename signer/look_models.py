"""The tables of looks: what agencies changed about the official profiles, and the pictures signatures are drawn with.

Rows are only ever added: the newest version counts, and what an older signature was drawn with stays known.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class AgencyLook(Base):
    """One version of an agency's own look of a profile: the TOML as it was handed in; ``sha256`` is its digest in hex."""

    __tablename__ = "agency_look"
    __table_args__ = (sa.UniqueConstraint("agency_id", "name", "version"),)

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    agency_id: Mapped[int] = mapped_column(sa.ForeignKey("agency.id"))
    name: Mapped[str] = mapped_column(sa.String(20))
    version: Mapped[int]
    at: Mapped[datetime]
    content: Mapped[bytes]
    sha256: Mapped[str] = mapped_column(sa.String(64))


class SignaturePicture(Base):
    """One version of a picture: of a subscriber (``signature``, ``initials``) or of an agency (``seal``, ``logo``).

    ``png`` as it was handed in; ``width`` is how wide the real thing is, in millimetres (of a seal its diameter).
    """

    __tablename__ = "signature_picture"
    __table_args__ = (
        sa.UniqueConstraint("agency_id", "source", "version"),
        sa.UniqueConstraint("subscriber_id", "source", "version"),
    )

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    agency_id: Mapped[int | None] = mapped_column(sa.ForeignKey("agency.id"))
    subscriber_id: Mapped[int | None] = mapped_column(sa.ForeignKey("subscriber.id"))
    source: Mapped[str] = mapped_column(sa.String(10))
    version: Mapped[int]
    at: Mapped[datetime]
    png: Mapped[bytes]
    sha256: Mapped[str] = mapped_column(sa.String(64))
    width: Mapped[float] = mapped_column(sa.Float)
