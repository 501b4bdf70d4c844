"""Migration 0003 keeps what the registry held: each agency's name becomes its first version, and codes become comparable."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import migrations
from core.clock import system_now
from core.db import Database
from migrations.schema import upgrade
from registry.agencies import version_at
from registry.registry import agency_with_code, subscriber_named


def _migrate(database: Database, act: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    with database.engine.execution_options(condau_write=True).begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, act)(config, revision)


def test_agencies_and_subscribers_survive(database_url: str) -> None:
    database = Database(database_url)
    _migrate(database, "upgrade", "0002")
    with database.write() as db:
        db.execute(sa.text("INSERT INTO agency (id, code, name, locality) VALUES (1, '000.00.34.H12', 'Xã Cũ', 'Cà Mau')"))
        db.execute(
            sa.text("INSERT INTO subscriber (id, handle, kind, common_name, agency_id) VALUES (1, 'x', 'officer', 'Người', 1)")
        )
    upgrade(database)
    with database.read() as db:
        agency = agency_with_code(db, "H12.34")
        version = version_at(agency, system_now())
        assert (version.name, version.locality, version.parent_id, version.closed) == ("Xã Cũ", "Cà Mau", None, False)
        subscriber = subscriber_named(db, "x")
        assert (subscriber.agency, subscriber.uid, subscriber.dns_names) == (agency, None, [])
    database.close()


def test_it_can_be_taken_back(database_url: str) -> None:
    database = Database(database_url)
    _migrate(database, "upgrade", "0003")
    _migrate(database, "downgrade", "0002")
    _migrate(database, "upgrade", "0003")
    database.close()
