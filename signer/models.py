"""The signer's one table: every use of a subscriber's key, written down before it happens."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, Record


class SignatureState(StrEnum):
    """How far a use of a key came; from ``INTENDED`` to one of the others, once."""

    INTENDED = "intended"
    SIGNED = "signed"
    ABANDONED = "abandoned"


class Signature(Base):
    """One use of a key, from its intent on.

    The document is not kept; ``digest`` is the SHA-256 of what was handed in, or the digest that was, ``value`` the signature
    value alone.
    """

    __tablename__ = "signature"

    id: Mapped[int] = mapped_column(Record, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    client: Mapped[str] = mapped_column(sa.String(200), index=True)
    request_id: Mapped[str] = mapped_column(sa.String(64))
    serial: Mapped[str] = mapped_column(sa.String(40), index=True)
    """The signing certificate's serial number, lower-case hex."""
    key_label: Mapped[str] = mapped_column(sa.String(200))
    format: Mapped[str] = mapped_column(sa.String(8))
    """``pdf``, ``xml``, or ``digest`` where only that was handed in."""
    level: Mapped[str] = mapped_column(sa.String(8))
    """``B-B`` to ``B-LTA``, as asked for."""
    digest: Mapped[str] = mapped_column(sa.String(128))
    state: Mapped[str] = mapped_column(sa.String(10), index=True)
    value: Mapped[bytes | None]
    reached: Mapped[str | None] = mapped_column(sa.String(8))
    """The level it has, where by policy that is lower than asked for; ``why_lower`` says what was away."""
    why_lower: Mapped[str | None] = mapped_column(sa.Text)
    profile: Mapped[str | None] = mapped_column(sa.String(20))
    """The signing profile (``person``, ``initial``, ``agency-issue``, …); None for those made before there were any."""


class ArchivedDocument(Base):
    """A document at B-LTA that left this service, and when it needs its next archive timestamp. The document is not kept.

    ``digest`` is the SHA-256 of the file; a later timestamp makes another file of it, and ``successor`` is that one's digest.
    """

    __tablename__ = "archived_document"

    id: Mapped[int] = mapped_column(Record, primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    at: Mapped[datetime]
    """When it was stamped."""
    client: Mapped[str] = mapped_column(sa.String(200), index=True)
    due: Mapped[datetime] = mapped_column(index=True)
    """By then it should be stamped anew."""
    until: Mapped[datetime]
    """From then on its newest timestamp proves nothing any more by itself."""
    successor: Mapped[str | None] = mapped_column(sa.String(64))


class VerificationPage(Base):
    """What a QR code on a document leads to: a signature, and what of it anybody may know who holds the document.

    Written with the signature's intent; ``sha256`` and ``size`` are of the signed file as it left the house, NULL until it did.
    """

    __tablename__ = "verification_page"

    id: Mapped[int] = mapped_column(Record, primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(20), unique=True)
    """Random (:data:`signer.verification_pages.CODE_BITS`), in Crockford's base 32."""
    signature_id: Mapped[int] = mapped_column(sa.ForeignKey(Signature.id), unique=True)
    number: Mapped[str | None] = mapped_column(sa.String(200))
    """Number and symbol as the document shows them; with the profile ``incoming`` the number of arrival."""
    issued_on: Mapped[date | None]
    sha256: Mapped[str | None] = mapped_column(sa.String(64))
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
