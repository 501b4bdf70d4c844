"""The database: one declarative base, the types its columns share, and transactions that fail as one typed error."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry

from core.errors import Unavailable
from core.raw_insert import RawInsert

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

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], object]:
        """For SQLite the text that SQLAlchemy writes too, by the shortest way: every record of a time-stamp takes it twice."""
        if dialect.name == "sqlite":
            return _sqlite_text
        return cast("Callable[[datetime | None], object]", super().bind_processor(dialect))

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _sqlite_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a naive datetime has no place in the database")
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


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


Row = tuple[sa.Insert, Mapping[str, Any]]
"""An INSERT, made once per table, and the values of one row: all columns but the surrogate key."""
_ASK_AGAIN = 0.0003
_WAL_PAGES = 8000
"""After how many pages (32 MB) SQLite copies its log into the database. Serial numbers are random, so one page of their index
takes many rows before it is copied; and whoever commits the last of these pages waits for it, which is to happen rarely."""


class _Waiting:
    """The rows one thread wants inserted, and what became of them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.done = False
        self.error: Exception | None = None


class Database:
    """Transactions on one database, SQLite or PostgreSQL by URL.

    A locked database, a full disk and a lost server all end as :class:`~core.errors.Unavailable`, with the transaction
    rolled back: what was not committed never happened. ``IntegrityError`` is the caller's to understand and passes through.
    """

    def __init__(self, url: str, *, pool_size: int = 10, busy_seconds: float = 10.0) -> None:
        """``url`` is SQLAlchemy's (``sqlite:///path`` or ``postgresql+psycopg://…``); ``busy_seconds``: how long a writer
        waits for a lock."""
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._waiting_lock = threading.Lock()
        self._raw_inserts: dict[sa.Insert, RawInsert] = {}
        self.committed: Callable[[int, float], None] = lambda _groups, _seconds: None
        """Told of every commit of :meth:`insert`: how many groups of rows shared it, and the seconds it took."""
        if self.is_sqlite:
            self.engine = sa.create_engine(self.url, connect_args={"timeout": busy_seconds}, pool_size=pool_size)
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", self._begin_sqlite)
        else:
            self.engine = sa.create_engine(self.url, pool_pre_ping=True, pool_size=pool_size, connect_args=_patience(busy_seconds))
        self._writer = self.engine.execution_options(condau_write=True)
        driver: Any = self.engine.dialect.loaded_dbapi
        self._driver_error: type[Exception] = driver.Error
        self._driver_errors = (driver.OperationalError, driver.InterfaceError)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session whose changes are thrown away; on SQLite it never waits for a writer."""
        with _typed_outage(), Session(self.engine, expire_on_commit=False) as db:
            yield db

    @contextmanager
    def look(self) -> Iterator[Any]:
        """The driver's own connection, for reading what needs no snapshot around it (:class:`core.raw_select.RawSelect`).

        A session costs twenty times as much as a lookup by key.
        """
        with _typed_outage():
            connection = self.engine.raw_connection()
            try:
                yield connection.driver_connection
            except self._driver_errors as error:
                connection.invalidate(error)
                raise Unavailable("database", "the database cannot take this at the moment") from error
            finally:
                connection.close()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session committed when the block ends, rolled back when it raises.

        On SQLite the write lock is taken at the first statement (BEGIN IMMEDIATE), so that two writers queue instead of
        failing half way. On PostgreSQL it is READ COMMITTED: lock the row (``with_for_update``) that must not move.
        """
        queue = self._my_turn() if self.is_sqlite else nullcontext()
        with queue, _typed_outage(), Session(self._writer, expire_on_commit=False) as db, db.begin():
            yield db

    def insert(self, *rows: Row) -> None:
        """Insert ``rows`` in one transaction, committed when this returns; raises as :meth:`write` does.

        Rows of several threads that wait at the same moment share one transaction, because a commit costs far more than a
        row. Whose rows cannot be inserted is told so alone.
        """
        (error,) = self.insert_each([rows])
        if error is not None:
            raise error

    def insert_each(self, groups: Sequence[Sequence[Row]]) -> list[Exception | None]:
        """The same for several groups of rows, each of which is inserted whole or not at all; the error of each, or None.

        Raises Unavailable when the turn to write does not come, and then nothing was inserted.
        """
        mine = [_Waiting(rows) for rows in groups]
        if not mine:
            return []
        with self._waiting_lock:
            self._waiting += mine
        with self._my_turn(instead_of_giving_up=lambda: not self._withdraw(mine)):
            if any(not one.done for one in mine):  # nobody who had the turn before has taken mine along
                with self._waiting_lock:
                    batch, self._waiting = self._waiting, []
                began = time.perf_counter()
                self._insert_together(batch)
                self.committed(len(batch), time.perf_counter() - began)
        return [one.error for one in mine]

    def _withdraw(self, mine: Sequence[_Waiting]) -> bool:
        """Take rows back that nobody has taken along yet; a batch takes all that wait, so it is all of them or none."""
        with self._waiting_lock:
            if mine[0] not in self._waiting:
                return False
            self._waiting = [one for one in self._waiting if one not in mine]
            return True

    def _insert_together(self, batch: Sequence[_Waiting]) -> None:
        try:
            with _typed_outage():
                self._insert_rows([row for one in batch for row in one.rows])
        except Unavailable as error:
            for one in batch:
                one.error = error
        except Exception as error:  # noqa: BLE001 - whatever it is: whose rows are not there must be told so
            if len(batch) == 1:
                batch[0].error = error
            else:
                for one in batch:
                    self._insert_together([one])
        for one in batch:
            one.done = True

    def _insert_rows(self, rows: Sequence[Row]) -> None:
        """One transaction straight by the driver: SQLAlchemy's around it costs as much as the rows. Its errors are SQLAlchemy's."""
        by_statement: dict[sa.Insert, list[Mapping[str, Any]]] = {}
        for statement, values in rows:
            by_statement.setdefault(statement, []).append(values)
        connection = self.engine.raw_connection()
        try:
            if self.is_sqlite:
                self._take_lock(cast("sqlite3.Connection", connection.driver_connection))
            cursor = connection.cursor()
            for statement, listed in by_statement.items():
                raw = self._raw_insert(statement)
                cursor.executemany(raw.sql, raw.encode(listed))
            connection.commit()
        except self._driver_error as error:
            raise DBAPIError.instance("INSERT", None, error, self._driver_error) from error
        finally:
            connection.close()  # which rolls back what was not committed

    def _raw_insert(self, statement: sa.Insert) -> RawInsert:
        raw = self._raw_inserts.get(statement)
        if raw is None:
            raw = self._raw_inserts[statement] = RawInsert(cast("sa.Table", statement.table), self.engine.dialect)
        return raw

    @contextmanager
    def _my_turn(self, instead_of_giving_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """The threads of a process queue here, so that at most one of each process asks for the database's own lock.

        Whose patience ends gets Unavailable, unless ``instead_of_giving_up`` says that the wait must go on.
        """
        if not self._turn.acquire(timeout=self._busy_seconds):
            if not instead_of_giving_up():
                raise Unavailable("database", "too many are waiting to write")
            self._turn.acquire()  # who has the turn is inserting our rows, and bounded in time
        try:
            yield
        finally:
            self._turn.release()

    def _begin_sqlite(self, connection: sa.Connection) -> None:
        # Straight to the driver: SQLAlchemy's way of running a statement, and of wrapping a refused one, costs several rows
        driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        try:
            if connection.get_execution_options().get("condau_write", False):
                self._take_lock(driver)
            else:
                driver.execute("BEGIN")
        except sqlite3.OperationalError as error:
            raise Unavailable("database", "the database cannot take this at the moment") from error

    def _take_lock(self, driver: sqlite3.Connection) -> None:
        """SQLite's own waiting sleeps longer and longer, up to 0.1 s, and under load never finds the lock free: ask more often."""
        driver.execute("PRAGMA busy_timeout = 0")
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_ASK_AGAIN)
        driver.execute(f"PRAGMA busy_timeout = {int(self._busy_seconds * 1000)}")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def sqlite_url(path: Path) -> str:
    """The URL of the SQLite file at ``path``."""
    return f"sqlite:///{path.resolve()}"


def _patience(busy_seconds: float) -> dict[str, Any]:
    """For how long libpq waits: for a lock, for a new connection, and for a network that has fallen silent under an old one, of
    which TCP by itself would wait a quarter of an hour for the acknowledgement.
    """
    milliseconds = int(busy_seconds * 1000)
    silence = {"tcp_user_timeout": milliseconds, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
    return {"options": f"-c lock_timeout={milliseconds}", "connect_timeout": 5, **silence}


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own rules would begin too late
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
    cursor.close()


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
