"""What an auditor reads of the record of timestamps."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Self

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from core.errors import NotFound
from pki.certificates import parse_serial
from tsa.models import Timestamp


class TimestampView(BaseModel):
    """One recorded timestamp."""

    serial: str = Field(description="serialNumber of the TSTInfo, lower-case hex")
    generated_at: datetime = Field(description="genTime")
    hash_algorithm: str
    imprint: str = Field(description="The stamped digest, lower-case hex")
    policy: str
    unit: str
    key_label: str = Field(description="The key in the HSM that signed it")
    certificate_serial: str = Field(description="Of the unit's certificate")
    client: str = Field(description="Who asked; `anonymous` where no API key was sent")
    token: str = Field(description="The TimeStampToken: DER in base64")

    @classmethod
    def of(cls, row: Timestamp) -> Self:
        """The view of one row."""
        return cls(
            serial=row.serial,
            generated_at=row.gen_time,
            hash_algorithm=row.hash_algorithm,
            imprint=row.imprint,
            policy=row.policy,
            unit=row.unit,
            key_label=row.key_label,
            certificate_serial=row.certificate_serial,
            client=row.client,
            token=base64.b64encode(row.der).decode("ascii"),
        )


def find_timestamps(
    db: Session, *, serial: str | None = None, imprint: str | None = None, before: int | None = None, limit: int = 100
) -> list[Timestamp]:
    """Those with this serial number (as a person writes it) or imprint (hex in any case), the newest first.

    ``before``: only rows with an id below it. Raises NotFound for what can be no serial number.
    """
    query = sa.select(Timestamp).order_by(Timestamp.id.desc()).limit(limit)
    if serial is not None:
        query = query.where(Timestamp.serial == parse_serial(serial))
    if imprint is not None:
        query = query.where(Timestamp.imprint == imprint.lower())
    if before is not None:
        query = query.where(Timestamp.id < before)
    return list(db.scalars(query))


def timestamp_with_serial(db: Session, serial: str) -> Timestamp:
    """The timestamp with this serial number; raises NotFound, also for one that has been archived."""
    found = find_timestamps(db, serial=serial, limit=1)
    if not found:
        raise NotFound("serial", f"no timestamp here has the serial number {serial[:80]}: it may be in an archive")
    return found[0]
