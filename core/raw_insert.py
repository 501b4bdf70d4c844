"""Rows handed to the driver as they are: SQLAlchemy's own way of an INSERT costs several times the row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

_Encode = Callable[[Any], Any]
_NOTHING: Any = object()


class RawInsert:
    """The INSERT of one table, all columns but a surrogate key the database counts, for the driver's ``executemany``.

    Values are encoded by the types of their columns, as SQLAlchemy would. Defaults are not filled in. There are two columns at
    least beside the key.
    """

    def __init__(self, table: sa.Table, dialect: Dialect) -> None:
        """``dialect``: SQLite's or PostgreSQL's (psycopg)."""
        columns = [column for column in table.columns if column is not table.autoincrement_column]
        quote = dialect.identifier_preparer
        names = ", ".join(quote.format_column(column) for column in columns)
        mark = "?" if dialect.paramstyle == "qmark" else "%s"
        self.sql = f"INSERT INTO {quote.format_table(table)} ({names}) VALUES ({', '.join([mark] * len(columns))})"  # noqa: S608 - names out of our own models
        self._values: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*(column.name for column in columns))
        encoders = (column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns)
        self._encoders: tuple[tuple[int, _Encode], ...] = tuple(
            (number, encoder) for number, encoder in enumerate(encoders) if encoder is not None
        )

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """The rows as ``executemany`` takes them; raises KeyError for a column without a value."""
        encoded = [list(self._values(row)) for row in rows]
        for number, encoder in self._encoders:
            last, told = _NOTHING, None
            for values in encoded:
                if values[number] is not last:  # rows of a batch share their moment, and encoding it costs more than the row
                    last = values[number]
                    told = encoder(last)
                values[number] = told
        return [tuple(values) for values in encoded]
