"""The database: one declarative base, the types its columns share, and transactions that fail as one typed error."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry

from core.errors import Unavailable

Record = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""A surrogate key: 64 bits wherever the database has them (SQLite counts up only in its INTEGER)."""


class Moment(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite, which has no zones, keeps it without one."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime has no place in the database")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The root of every room's tables; constraint names are fixed so that migrations can name them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Moment(), dict[str, Any]: sa.JSON()}  # noqa: RUF012 - SQLAlchemy reads it off the class


class Database:
    """Transactions on one database, SQLite or PostgreSQL by URL.

    A locked database, a full disk and a lost server all end as :class:`~core.errors.Unavailable`, with the transaction
    rolled back: what was not committed never happened. ``IntegrityError`` is the caller's to understand and passes through.
    """

    def __init__(self, url: str, *, pool_size: int = 10, busy_seconds: float = 10.0) -> None:
        """``url`` is SQLAlchemy's (``sqlite:///path`` or ``postgresql+psycopg://…``); ``busy_seconds``: how long a writer
        waits for SQLite's lock."""
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        if self.is_sqlite:
            self.engine = sa.create_engine(self.url, connect_args={"timeout": busy_seconds}, pool_size=pool_size)
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = sa.create_engine(self.url, pool_pre_ping=True, pool_size=pool_size)
        self._writer = self.engine.execution_options(condau_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session whose changes are thrown away; on SQLite it never waits for a writer."""
        with _typed_outage(), Session(self.engine, expire_on_commit=False) as db:
            yield db

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session committed when the block ends, rolled back when it raises.

        On SQLite the write lock is taken at the first statement (BEGIN IMMEDIATE), so that two writers queue instead of
        failing half way. On PostgreSQL it is READ COMMITTED: lock the row (``with_for_update``) that must not move.
        """
        with self._turn_to_write(), _typed_outage(), Session(self._writer, expire_on_commit=False) as db, db.begin():
            yield db

    @contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """On SQLite the threads of a process queue here: its own lock is polled, which under load starves somebody."""
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise Unavailable("database", "too many are waiting to write")
        try:
            yield
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """The URL of the SQLite file at ``path``."""
    return f"sqlite:///{path.resolve()}"


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own rules would begin too late
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("condau_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _typed_outage() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        raise Unavailable("database", "the database cannot take this at the moment") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("database", "the connection to the database was lost") from error
        raise
