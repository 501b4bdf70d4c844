"""Bringing a database to the schema of this version, and asking whether it has it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from core.db import Database

_FOLDER: Final = Path(__file__).parent


def upgrade(database: Database, revision: str = "head") -> None:
    """Run every pending migration up to ``revision``, all in one transaction; does nothing on a current database."""
    config = _config()
    with database.engine.execution_options(condau_write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def is_current(database: Database) -> bool:
    """Whether the database has exactly this version's schema."""
    with database.engine.connect() as connection:
        applied = MigrationContext.configure(connection).get_current_heads()
    return set(applied) == set(ScriptDirectory.from_config(_config()).get_heads())


def revision_of(database: Database) -> str:
    """The revision the database is at; empty for one that was never migrated."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def _config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(_FOLDER))
    return config
