"""Transactions: outages have one type, and what was not committed never happened."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM, AuditEntry, append, entry
from core.clock import system_now
from core.db import Database, Row, sqlite_url
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


def _row(subject: str) -> Row:
    return entry(at=system_now(), actor=SYSTEM, action="a.b", subject=subject)


def test_rows_of_many_threads_share_transactions_and_all_arrive(database: Database) -> None:
    commits: list[int] = []
    database.committed = lambda groups, _seconds: commits.append(groups)

    def insert(number: int) -> None:
        for turn in range(20):
            database.insert(_row(f"{number}-{turn}"), _row(f"{number}-{turn}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(insert, range(8)))
    assert _count(database) == 320
    assert sum(commits) == 160
    assert len(commits) < 160


@pytest.mark.parametrize(
    ("fault", "expected"),
    [({"action": None}, sa.exc.IntegrityError), ({"at": datetime(2026, 1, 1)}, ValueError), ({"detail": object()}, TypeError)],  # noqa: DTZ001 - the point
)
def test_whose_row_cannot_be_inserted_is_told_so_alone(
    database: Database, fault: dict[str, Any], expected: type[Exception]
) -> None:
    statement, values = _row("good")
    bad = {**values, **fault}
    outcomes: list[type[Exception] | None] = []

    def insert(row: Row) -> None:
        try:
            database.insert(row)
            outcomes.append(None)
        except Exception as error:  # noqa: BLE001 - compared below
            outcomes.append(type(error))

    with database._my_turn():  # all six wait, and are then taken together
        threads = [threading.Thread(target=insert, args=((statement, bad if number == 3 else values),)) for number in range(6)]
        for thread in threads:
            thread.start()
        while len(database._waiting) < 6:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert outcomes.count(None) == 5
    assert outcomes.count(expected) == 1
    assert _count(database) == 5


def test_an_outage_is_told_to_everybody_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "locked.sqlite3"
    database = Database(sqlite_url(path), busy_seconds=0.2)
    AuditEntry.metadata.create_all(database.engine)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    def insert(_: int) -> bool:
        try:
            database.insert(_row("s"))
        except Unavailable:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(insert, range(4)))
    holder.execute("ROLLBACK")
    holder.close()
    database.insert(_row("s"))
    assert _count(database) == 1
    database.close()


def test_a_network_that_falls_silent_is_not_waited_for_as_long_as_tcp_would() -> None:
    """TCP waits a quarter of an hour for an acknowledgement; a request, and the lane it came by, would wait with it."""
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/none", busy_seconds=7)
    asked: dict[str, Any] = {}
    sa.event.listen(database.engine, "do_connect", lambda _dialect, _record, _args, options: asked.update(options))
    with pytest.raises(Unavailable), database.read() as db:
        db.execute(sa.text("SELECT 1"))
    assert (asked["tcp_user_timeout"], asked["connect_timeout"]) == (7000, 5)
    assert asked["keepalives_idle"] + asked["keepalives_interval"] * asked["keepalives_count"] < 15
