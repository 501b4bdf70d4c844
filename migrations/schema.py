"""Bringing a database to the schema of this version, and asking whether it has it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from core.db import Database

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig
    from alembic.runtime.migration import MigrationContext

_FOLDER: Final = Path(__file__).parent


def upgrade(database: Database, revision: str = "head") -> None:
    """Run every pending migration up to ``revision``, all in one transaction; does nothing on a current database."""
    from alembic import command  # noqa: PLC0415 - 0.1 s, and most commands never ask for the schema

    config = _config()
    with database.engine.execution_options(condau_write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def is_current(database: Database) -> bool:
    """Whether the database has exactly this version's schema."""
    with database.engine.connect() as connection:
        applied = _context(connection).get_current_heads()
    return frozenset(applied) == _heads()


def revision_of(database: Database) -> str:
    """The revision the database is at; empty for one that was never migrated."""
    with database.engine.connect() as connection:
        return _context(connection).get_current_revision() or ""


@functools.cache
def _heads() -> frozenset[str]:
    """What this version's schema is; to find out, every step's file is read."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    return frozenset(ScriptDirectory.from_config(_config()).get_heads())


def _context(connection: Connection) -> MigrationContext:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - see above

    return MigrationContext.configure(connection)


def _config() -> AlembicConfig:
    from alembic.config import Config as AlembicConfig  # noqa: PLC0415 - see above

    config = AlembicConfig()
    config.set_main_option("script_location", str(_FOLDER))
    return config
