"""What a page costs does not depend on how many certificates there are: counted in steps and rows, not in seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from bench.population import populate
from bench.scale import searches
from core.db import Database
from pki.inventory import find_page
from tests.conftest import Clock
from tests.pki.test_inventory import Shelf

CERTIFICATES = 20_000
STEPS = 500
"""Hundreds of steps of SQLite's machine that a page of ten may take."""
ENTRIES = 3_000
"""Rows and index entries of certificates that PostgreSQL may read for it."""
_READ = """SELECT sum(pg_stat_get_xact_tuples_returned(one) + pg_stat_get_xact_tuples_fetched(one)) FROM (
    SELECT 'certificate'::regclass::oid AS one
    UNION SELECT indexrelid FROM pg_index WHERE indrelid = 'certificate'::regclass) AS found"""


def test_no_search_looks_at_every_certificate(database: Database, clock: Clock) -> None:
    Shelf(database, clock).put()
    populate(database, certificates=CERTIFICATES, revoked=CERTIFICATES // 10, at=clock(), holders=2_000)
    counting, most = (_steps, STEPS) if database.is_sqlite else (_entries, ENTRIES)
    costs = {}
    for name, search in searches(clock()).items():
        with database.read() as db:
            costs[name] = counting(db, lambda db=db, search=search: find_page(db, search, clock()))  # type: ignore[misc]  # bound now
    assert {name: cost for name, cost in costs.items() if cost > most} == {}


def _steps(db: Session, act: Callable[[], object]) -> int:
    driver = cast("sqlite3.Connection", db.connection().connection.driver_connection)
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    driver.set_progress_handler(count, 100)
    act()
    driver.set_progress_handler(None, 0)
    return counted[0]


def _entries(db: Session, act: Callable[[], object]) -> int:
    # So few would be read through, be it in the table or, once it is vacuumed, in an index: the plans meant are those of many
    db.execute(sa.text("SET LOCAL enable_seqscan = off"))
    db.execute(sa.text("SET LOCAL enable_indexonlyscan = off"))
    before = db.scalar(sa.text(_READ)) or 0
    act()
    return int(db.scalar(sa.text(_READ)) or 0) - int(before)
