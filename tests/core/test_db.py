"""Transactions: outages have one type, and what was not committed never happened."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM, AuditEntry, append
from core.clock import system_now
from core.db import Database, sqlite_url
from core.errors import Unavailable


def _count(database: Database) -> int:
    with database.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(AuditEntry)) or 0


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as db:  # noqa: PT012 - the point is what the block leaves
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="s")
        raise ZeroDivisionError
    assert _count(database) == 0


def test_moments_come_back_aware_and_in_utc(database: Database) -> None:
    at = datetime.fromisoformat("2026-01-02T03:04:05.678901+07:00")
    with database.write() as db:
        append(db, at=at, actor=SYSTEM, action="a.b", subject="s")
    with database.read() as db:
        found = db.scalars(sa.select(AuditEntry)).one()
    assert found.at == at
    assert found.at.utcoffset() is not None


def test_a_naive_moment_is_refused(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="naive"), database.write() as db:
        append(db, at=datetime(2026, 1, 1), actor=SYSTEM, action="a.b", subject="s")  # noqa: DTZ001 - the point


def test_a_locked_database_is_unavailable_and_heals(tmp_path: Path) -> None:
    path = tmp_path / "locked.sqlite3"
    database = Database(sqlite_url(path), busy_seconds=0.1)
    AuditEntry.metadata.create_all(database.engine)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable), database.write() as db:
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="s")
    holder.execute("ROLLBACK")
    holder.close()
    with database.write() as db:
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="s")
    assert _count(database) == 1
    database.close()


def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    database = Database(sqlite_url(tmp_path / "full.sqlite3"))
    AuditEntry.metadata.create_all(database.engine)
    with pytest.raises(Unavailable), database.write() as db:  # noqa: PT012 - both statements are one transaction
        pages = db.scalar(sa.text("PRAGMA page_count"))
        db.execute(sa.text(f"PRAGMA max_page_count={pages}"))
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="x" * 100_000)
    assert _count(database) == 0
    database.close()


def test_a_server_that_is_away_is_unavailable() -> None:
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable), database.read() as db:
        db.execute(sa.text("SELECT 1"))
    database.close()
