"""The migrations make exactly the schema the code works with, and the audit log cannot be rewritten."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from audit.log import SYSTEM, AuditEntry, append
from core.clock import system_now
from core.db import Database
from migrations.schema import is_current, upgrade
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


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET actor = 'nobody'", "DELETE FROM audit_entry"])
def test_the_audit_log_takes_no_change(database: Database, statement: str) -> None:
    with database.write() as db:
        append(db, at=system_now(), actor=SYSTEM, action="a.b", subject="s")
    with pytest.raises(DBAPIError, match="append-only"), database.write() as db:
        db.execute(sa.text(statement))
    with database.read() as db:
        assert db.scalars(sa.select(AuditEntry.actor)).all() == ["condau"]
