"""Changes of the clock's state where an auditor reads them."""

from __future__ import annotations

import sqlalchemy as sa

from audit.log import AuditEntry
from core.db import Database
from core.errors import Unavailable
from tests.conftest import Clock
from tsa.clock_events import ClockEvents
from tsa.clock_verdict import Code, Judgement

GOOD = Judgement(Code.TRUSTED, "four sources", offset=0.001, bound=0.02)
STEPPED = Judgement(Code.STEPPED, "the clock was set by 3 s")


def recorded(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as db:
        rows = db.scalars(sa.select(AuditEntry).order_by(AuditEntry.id))
        return [(row.action, row.subject, row.detail["code"]) for row in rows]


def test_each_change_is_an_audit_entry_but_not_a_good_beginning(database: Database, clock: Clock) -> None:
    events = ClockEvents(database=database, now=clock)
    for judgement in (GOOD, STEPPED, GOOD):
        events.note(judgement)
        events.write()
    assert recorded(database) == [("clock.distrust", "clock", "stepped"), ("clock.trust", "clock", "trusted")]


def test_a_bad_beginning_is_an_event(database: Database, clock: Clock) -> None:
    events = ClockEvents(database=database, now=clock)
    events.note(STEPPED)
    events.write()
    assert recorded(database) == [("clock.distrust", "clock", "stepped")]


def test_what_the_database_does_not_take_is_written_later_with_its_own_moment(database: Database, clock: Clock) -> None:
    events = ClockEvents(database=database, now=clock)
    insert, seen = database.insert, clock()

    def away(*_: object) -> None:
        raise Unavailable("database", "gone")

    database.insert = away  # type: ignore[method-assign]  # for a moment
    events.note(STEPPED)
    events.write()
    database.insert = insert  # type: ignore[method-assign]
    clock.move(minutes=1)
    events.write()
    events.write()
    with database.read() as db:
        assert [row.at for row in db.scalars(sa.select(AuditEntry))] == [seen]
