"""Queries handed to the driver as they are: SQLAlchemy's own way of a SELECT costs many times a lookup by key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import InstrumentedAttribute


class RawSelect:
    """A SELECT without conditions, compiled once; with ``key`` of the rows that have one of some values in that column."""

    def __init__(
        self, query: sa.Select[*tuple[Any, ...]], dialect: Dialect, *, key: InstrumentedAttribute[str] | None = None
    ) -> None:
        """``dialect``: SQLite's or PostgreSQL's (psycopg)."""
        self._sql = str(query.compile(dialect=dialect))
        self._key = "" if key is None else str(sa.type_coerce(key, key.type).compile(dialect=dialect))
        self._mark = "?" if dialect.paramstyle == "qmark" else "%s"
        decoders = (column.type.dialect_impl(dialect).result_processor(dialect, None) for column in query.selected_columns)
        self._decoders: tuple[tuple[int, Callable[[Any], Any]], ...] = tuple(
            (number, decoder) for number, decoder in enumerate(decoders) if decoder is not None
        )

    def fetch(self, driver: Any, values: Sequence[str] = ()) -> list[list[Any]]:
        """The rows, decoded by the types of their columns as SQLAlchemy would; ``values``: of the key.

        ``driver`` is the driver's own connection (:meth:`core.db.Database.look`).
        """
        sql = self._sql
        if self._key:
            sql = f"{sql} WHERE {self._key} IN ({', '.join([self._mark] * len(values))})"
        rows = [list(row) for row in driver.execute(sql, tuple(values)).fetchall()]
        for row in rows:
            for number, decode in self._decoders:
                row[number] = decode(row[number])
        return rows
