"""Agencies over time: names at a moment, moves, merges, ends."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import SYSTEM, AuditEntry
from core.db import Database
from core.errors import Conflict, Rejected, Unavailable
from registry import agencies, registry
from registry.agencies import Change
from registry.models import Agency
from tests.conftest import Clock
from tests.interleaving import before_statement


def _add(db: Session, clock: Clock, code: str, parent: Agency | None = None) -> Agency:
    return registry.add_agency(
        db,
        at=clock(),
        actor=SYSTEM,
        code=code,
        name=f"Cơ quan {code}",
        locality="Huế",
        parent=parent,
        since=clock() - timedelta(900),
    )


def _from(clock: Clock, effective: datetime) -> Change:
    return Change(at=clock(), actor=SYSTEM, effective=effective)


def test_an_agency_is_found_by_either_order_and_taken_once(database: Database, clock: Clock) -> None:
    with database.write() as db:
        agency = _add(db, clock, "000.00.34.H12")
        assert registry.find_agency(db, "H12.34") is agency
        assert agency.code == "000.00.34.H12"
    with pytest.raises(Conflict), database.write() as db:
        _add(db, clock, "H12.34")


def test_what_it_was_called_can_be_asked_for_any_moment(database: Database, clock: Clock) -> None:
    past, future = clock() - timedelta(days=30), clock() + timedelta(days=30)
    with database.write() as db:
        agency = _add(db, clock, "H12")
        agencies.rename(db, agency, _from(clock, past), name="Sở Mới", locality="Cà Mau")
        agencies.rename(db, agency, _from(clock, future), name="Sở Mới Nữa")
    with database.read() as db:
        agency = registry.agency_with_code(db, "H12")
        said = [agencies.version_at(agency, at).name for at in (past - timedelta(seconds=1), past, clock(), future)]
        assert said == ["Cơ quan H12", "Sở Mới", "Sở Mới", "Sở Mới Nữa"]
        assert agencies.version_at(agency, future).locality == "Cà Mau"
        assert agencies.version_at(agency, clock() - timedelta(9999)).name == "Cơ quan H12"
        assert list(db.scalars(sa.select(AuditEntry.action).order_by(AuditEntry.id)))[1:] == ["agency.rename", "agency.rename"]


def test_a_change_cannot_count_from_before_the_last_one(database: Database, clock: Clock) -> None:
    with database.write() as db:
        agency = _add(db, clock, "H12")
        agencies.rename(db, agency, _from(clock, clock()), name="A")
        with pytest.raises(Rejected, match="after the last change"):
            agencies.rename(db, agency, _from(clock, clock()), name="B")


def test_the_tree_is_as_it_was_at_the_moment(database: Database, clock: Clock) -> None:
    later = clock() + timedelta(days=1)
    with database.write() as db:
        top, other = _add(db, clock, "H12"), _add(db, clock, "H13")
        middle = _add(db, clock, "H12.1", top)
        leaf = _add(db, clock, "H12.1.2", middle)
        agencies.move(db, middle, _from(clock, later), parent=other)
        now = [version.agency_id for version in agencies.path_at(db, leaf, clock())]
        then = [version.agency_id for version in agencies.path_at(db, leaf, later)]
        assert (now, then) == ([top.id, middle.id, leaf.id], [other.id, middle.id, leaf.id])
        with pytest.raises(Conflict, match="under itself"):
            agencies.move(db, middle, _from(clock, later + timedelta(days=1)), parent=leaf)


def test_a_merge_ends_one_and_moves_what_is_below(database: Database, clock: Clock) -> None:
    at = clock() + timedelta(days=1)
    with database.write() as db:
        gone, into = _add(db, clock, "H62"), _add(db, clock, "H44")
        child = _add(db, clock, "H62.1", gone)
        agencies.merge(db, gone, _from(clock, at), into=into)
        agencies.check_open(db, gone, at - timedelta(seconds=1))
        with pytest.raises(Conflict, match="merged into H44"):
            agencies.check_open(db, gone, at)
        assert agencies.children_at(db, gone, clock()) == [child]
        assert agencies.children_at(db, into, at) == [child]
        with pytest.raises(Conflict, match="closed"):
            agencies.rename(db, gone, _from(clock, at + timedelta(days=1)), name="Lại")


def test_an_agency_with_others_below_it_is_not_closed(database: Database, clock: Clock) -> None:
    with database.write() as db:
        top = _add(db, clock, "H12")
        child = _add(db, clock, "H12.1", top)
        with pytest.raises(Conflict, match=r"H12\.1"):
            agencies.close(db, top, _from(clock, clock()))
        agencies.close(db, child, _from(clock, clock()))
        agencies.close(db, top, _from(clock, clock()))
        with pytest.raises(Conflict, match="was closed on"):
            agencies.check_open(db, top, clock())


def test_an_agency_is_not_merged_into_its_own_branch(database: Database, clock: Clock) -> None:
    with database.write() as db:
        top = _add(db, clock, "H12")
        child = _add(db, clock, "H12.1", top)
        for into in (top, child):
            with pytest.raises(Conflict):
                agencies.merge(db, top, _from(clock, clock()), into=into)


def test_an_agency_is_not_closed_while_another_comes_under_it(database: Database, database_kind: str, clock: Clock) -> None:
    if database_kind != "postgresql":
        pytest.skip("in SQLite nobody writes while an agency is being moved")
    with database.write() as db:
        for code in ("H01", "H02", "H03"):
            _add(db, clock, code)
    hasty = Database(database.url.render_as_string(hide_password=False), busy_seconds=0.2)

    def close() -> None:
        with hasty.write() as db:
            agencies.close(db, registry.agency_with_code(db, "H03"), _from(clock, clock()))

    def close_too_early() -> None:
        with pytest.raises(Unavailable):  # it waits for the move
            close()

    with before_statement(database, "INSERT INTO agency_version", close_too_early), database.write() as db:
        parent = registry.agency_with_code(db, "H03")
        agencies.move(db, registry.agency_with_code(db, "H02"), _from(clock, clock()), parent=parent)
    with pytest.raises(Conflict, match="H02"):
        close()
    hasty.close()
