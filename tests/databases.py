"""The databases tests keep their data in: empty, or a copy of one that was furnished once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from sqlalchemy.engine import Dialect

from core.db import Database, sqlite_url
from migrations.schema import upgrade
from tests.postgresql import Cluster
from tests.software_keys import SoftwareKeys

Furnish = Callable[[Database, SoftwareKeys, datetime], object]
"""Puts something into a database that has the schema and nothing else, with keys of its own, at a time."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """A database to be copied, which nobody has open, the keys of what is in it, and when it was made."""

    url: str
    keys: SoftwareKeys
    at: datetime


class Databases:
    """As many databases of one kind as are asked for.

    What every test of a room begins with is made once in a process and copied for each of them: the schema by the migrations,
    a house with its authorities, certificates and revocation lists by the product's own services.
    """

    def __init__(self, *, folder: Path, cluster: Cluster | None) -> None:
        """``cluster``: where PostgreSQL's are; None for files of SQLite."""
        self._folder = folder
        self._cluster = cluster
        self._made: dict[str, Furnished] = {}
        self._dialect: Dialect | None = None
        self._compiled: dict[Any, Any] = {}

    @contextmanager
    def empty(self, folder: Path) -> Iterator[str]:
        """The URL of one without a schema; ``folder`` is where SQLite's file will be."""
        with self._new(folder, None) as url:
            yield url

    @contextmanager
    def copy(self, furnished: Furnished, folder: Path) -> Iterator[Database]:
        """A copy, to be worked with."""
        with self._new(folder, furnished.url) as url:
            database = self._open(url)
            yield database
            database.close()

    def server_copy(self, url: str | None) -> str:
        """The URL of one on the server that lasts as long as it: empty, or a copy of the one at ``url``, which nobody has open.

        Empty for SQLite: there an instance has its database in its own folder.
        """
        return "" if self._cluster is None else self._cluster.create_database(url)

    def plain(self) -> Furnished:
        """One with the schema of this version, as the migrations make it."""
        found = self._made.get("")
        if found is None:
            url = self._lasting("plain", None)
            database = Database(url)
            upgrade(database)
            database.close()
            self._dialect = database.engine.dialect
            found = self._made[""] = Furnished(url, SoftwareKeys(), _present())
        return found

    def furnished(self, furnish: Furnish) -> Furnished:
        """One that this function has furnished; made when it is first asked for."""
        name = f"{furnish.__module__}.{furnish.__qualname__}"
        found = self._made.get(name)
        if found is None:
            url, keys, at = self._lasting(name, self.plain().url), SoftwareKeys(), _present()
            database = self._open(url)
            furnish(database, keys, at)
            database.close()
            found = self._made[name] = Furnished(url, keys, at)
        return found

    def _open(self, url: str) -> Database:
        """A database that finds its statements compiled: SQLAlchemy does that for each engine anew, a fifth of all tests do."""
        database = Database(url)
        if self._dialect is not None:
            for engine in (database.engine, database._writer):
                engine.dialect, engine._compiled_cache = self._dialect, self._compiled
        return database

    def _lasting(self, name: str, source: str | None) -> str:
        if self._cluster is not None:
            return self._cluster.create_database(source)
        folder = self._folder / name
        folder.mkdir()
        return _copy_file(source, folder)

    @contextmanager
    def _new(self, folder: Path, source: str | None) -> Iterator[str]:
        if self._cluster is None:
            yield _copy_file(source, folder)
            return
        url = self._cluster.create_database(source)
        yield url
        self._cluster.drop_database(url)


def _present() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _copy_file(source: str | None, folder: Path) -> str:
    path = folder / "condau.sqlite3"
    if source is not None:
        shutil.copy(str(make_url(source).database), path)
    return sqlite_url(path)
