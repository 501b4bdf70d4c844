"""The migrations make exactly the schema the code works with, and the audit log cannot be rewritten."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from audit.log import SYSTEM, AuditEntry, append
from core.clock import system_now
from core.db import Database, Moment
from migrations.schema import _config, is_current, upgrade
from migrations.tables import metadata


@pytest.fixture
def empty(database_url: str) -> Database:
    """A database without any table."""
    return Database(database_url)


def test_the_migrations_make_what_the_models_say(empty: Database) -> None:
    assert not is_current(empty)
    upgrade(empty)
    assert is_current(empty)
    with empty.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    empty.close()


def test_upgrading_again_changes_nothing(empty: Database) -> None:
    upgrade(empty)
    with empty.write() as db:
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="s")
    upgrade(empty)
    with empty.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(AuditEntry)) == 1
    empty.close()


def test_timestamps_of_before_get_their_month_and_unit(empty: Database) -> None:
    """Revision 0002, there and back."""
    row = {"serial": "1", "gen_time": datetime(2025, 12, 31, 23, 59, 59, 999000, UTC), "hash_algorithm": "sha256", "imprint": "00"}
    row |= {"policy": "1.2.3", "key_label": "tsa-1", "certificate_serial": "2", "client": "anonymous", "der": b"0"}
    columns = [sa.column(name, Moment() if name == "gen_time" else None) for name in row]
    _migrate(empty, "0001")
    with empty.engine.begin() as connection:
        connection.execute(sa.insert(sa.table("timestamp", *columns)).values(row))
    for _ in range(2):
        _migrate(empty, "0002")
        with empty.engine.connect() as connection:
            assert connection.execute(sa.text("SELECT month, unit, serial FROM timestamp")).all() == [("2025-12", "default", "1")]
        _migrate(empty, "0001")
    empty.close()


def _migrate(database: Database, revision: str) -> None:
    config = _config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        move = command.downgrade if MigrationContext.configure(connection).get_current_revision() == "0002" else command.upgrade
        move(config, revision)


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET actor = 'nobody'", "DELETE FROM audit_entry"])
def test_the_audit_log_takes_no_change(database: Database, statement: str) -> None:
    with database.write() as db:
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="s")
    with pytest.raises(DBAPIError, match="append-only"), database.write() as db:
        db.execute(sa.text(statement))
    with database.read() as db:
        assert db.scalars(sa.select(AuditEntry.actor)).all() == ["condau"]
