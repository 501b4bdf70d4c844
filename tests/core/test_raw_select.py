"""Queries handed straight to the driver: the same rows as SQLAlchemy's own way, and the same errors."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM, AuditEntry, entry
from core.db import Database
from core.errors import Unavailable
from core.raw_select import RawSelect

AT = datetime(2026, 3, 1, 8, 30, 15, 123456, tzinfo=UTC)


def test_rows_are_decoded_as_the_orm_would(database: Database) -> None:
    rows = [entry(at=AT, actor=SYSTEM, action="a.b", subject=subject, number=1) for subject in ("ế", "100%", "c")]
    database.insert(*rows)
    query = sa.select(AuditEntry.subject, AuditEntry.at, AuditEntry.detail)
    select = RawSelect(query, database.engine.dialect, key=AuditEntry.subject)
    with database.look() as driver:
        assert sorted(select.fetch(driver, ["ế", "100%", "nobody"])) == [["100%", AT, {"number": 1}], ["ế", AT, {"number": 1}]]
        assert len(RawSelect(query, database.engine.dialect).fetch(driver)) == 3


def test_a_driver_s_failure_is_a_typed_outage_and_the_next_look_works(database: Database) -> None:
    broken = "CREATE TABLE" if database.is_sqlite else "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(Unavailable, match="database"), database.look() as driver:
        driver.execute(broken)
    with database.look() as driver:
        assert driver.execute("SELECT 1").fetchall() == [(1,)]
