"""What another process does between two statements, without another process: the moment is chosen, not met by chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database


def before_write(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], *, nth: int = 1) -> None:
    """Do ``act`` once, right before the ``nth`` transaction that writes from now on begins."""
    write, begun = Database.write, 0

    def counting(database: Database) -> Any:
        nonlocal begun
        begun += 1
        if begun == nth:
            monkeypatch.setattr(Database, "write", write)
            act()
        return write(database)

    monkeypatch.setattr(Database, "write", counting)


@contextmanager
def before_statement(database: Database, text: str, act: Callable[[], object]) -> Iterator[None]:
    """Do ``act`` once, right before the first statement that has ``text`` in it is sent.

    Within a transaction that writes, only on PostgreSQL: on SQLite nobody else writes meanwhile, and ``act`` would wait in vain.
    """
    done = False

    def interleave(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal done
        if text in statement and not done:
            done = True
            act()

    sa.event.listen(database.engine, "before_cursor_execute", interleave)
    try:
        yield
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", interleave)
    assert done, f"no statement with {text!r} was sent"
