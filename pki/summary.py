"""The certificates counted: kept as one row, because counting a million takes seconds."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db import Database
from pki.inventory import standing_case
from pki.models import Certificate, InventorySummary
from pki.views import CertificateCount, CertificateCounts
from registry.models import Agency

_LASTS: Final = timedelta(minutes=15)
_ROW: Final = 1


def load_counts(database: Database, at: datetime) -> CertificateCounts:
    """The certificates as they were counted last; counted now where they never were."""
    with database.read() as db:
        row = db.get(InventorySummary, _ROW)
    if row is None:
        refresh_counts(database, at)
        with database.read() as db:
            row = db.get_one(InventorySummary, _ROW)
    counts = [CertificateCount.model_validate(item) for item in row.counts]
    by_standing: Counter[str] = Counter()
    by_profile: Counter[str] = Counter()
    for item in counts:
        by_standing[item.standing] += item.count
        by_profile[item.profile] += item.count
    return CertificateCounts(
        at=row.at, total=by_standing.total(), by_standing=dict(by_standing), by_profile=dict(by_profile), counts=counts
    )


def refresh_counts(database: Database, at: datetime) -> bool:
    """Count anew where the last count is a quarter of an hour old; whether it was. Of several processes one count is kept.

    The counting itself holds no lock.
    """
    with database.read() as db:
        row = db.get(InventorySummary, _ROW)
        if row is not None and at - row.at < _LASTS:
            return False
        counts = _count(db, at)
    last = None if row is None else row.at
    try:
        with database.write() as db:
            if last is None:
                db.add(InventorySummary(id=_ROW, at=at, counts=counts))
                return True
            outdated = sa.update(InventorySummary).where(InventorySummary.id == _ROW, InventorySummary.at == last)
            return db.execute(outdated.values(at=at, counts=counts).returning(InventorySummary.id)).first() is not None
    except IntegrityError:
        return False  # another process was faster


def _count(db: Session, at: datetime) -> list[dict[str, Any]]:
    standing = standing_case(at).label("standing")
    codes: dict[int | None, str] = dict(iter(db.execute(sa.select(Agency.id, Agency.code))))
    query = sa.select(Certificate.agency_id, Certificate.profile, standing, sa.func.count())
    rows = db.execute(query.group_by(Certificate.agency_id, Certificate.profile, standing))
    counted = [
        {"agency": codes.get(agency), "profile": profile, "standing": worth, "count": number}
        for agency, profile, worth, number in rows
    ]
    return sorted(counted, key=lambda item: (item["agency"] or "", item["profile"], item["standing"]))
