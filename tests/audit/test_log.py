"""The audit log: in the transaction of the act, newest first, page by page."""

from __future__ import annotations

import pytest

from audit.log import Actor, append, entries
from core.db import Database
from tests.conftest import Clock


def test_entries_come_newest_first_and_page_by_page(database: Database, clock: Clock) -> None:
    actor = Actor("vic", "client", "req-12345")
    with database.write() as db:
        for number in range(5):
            append(db, at=clock(), actor=actor, action="thing.do", subject=f"s{number % 2}", number=number)
    with database.read() as db:
        first = entries(db, limit=2)
        rest = entries(db, before=first[-1].id)
        assert [entry.detail["number"] for entry in first + rest] == [4, 3, 2, 1, 0]
        assert [entry.detail["number"] for entry in entries(db, subject="s1")] == [3, 1]
        assert {(entry.actor, entry.role, entry.request_id) for entry in first} == {("vic", "client", "req-12345")}


def test_an_act_that_fails_leaves_no_entry(database: Database, clock: Clock) -> None:
    with pytest.raises(RuntimeError), database.write() as db:  # noqa: PT012 - the point is what the block leaves
        append(db, at=clock(), actor=Actor("vic", "client"), action="thing.do", subject="s")
        raise RuntimeError
    with database.read() as db:
        assert entries(db) == []
