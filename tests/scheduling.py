"""Which worker runs which tests."""

from __future__ import annotations

import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_ON_POSTGRESQL = re.compile(r"\[(.*-)?postgresql(-.*)?\]$")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """A file's tests on one database go to one worker, so that what they share (a running service, a program compiled, a house)
    is made once; the files in the order of the collection, not the fullest first as is xdist's own way: what takes long is not
    what has many tests."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return f"{nodeid.partition('::')[0]} {_ON_POSTGRESQL.search(nodeid) is not None}"


def longest_first(items: list[pytest.Item]) -> None:
    """Sort: SQLite's turn before PostgreSQL's, and in each the tests of the whole service before the rooms'. A worker changes
    the database once, and at the end there are only short files left to share out."""
    items.sort(key=lambda item: (kind_of(item) == "postgresql", not item.nodeid.startswith("tests/system/")))


def kind_of(item: pytest.Item) -> str | None:
    """Which database a test is to run on, if it is one of two that are the same but for that."""
    call: pytest.CallSpec2 | None = getattr(item, "callspec", None)  # type: ignore[name-defined]  # pytest does not export it
    return None if call is None else call.params.get("database_kind")
