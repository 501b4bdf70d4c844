"""Walking the certificates in an order, along one index or many at once, by reading a bounded number of rows (docs/adr/0022)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.db import Moment, Record
from pki.models import Certificate

MOST_EXAMINED: Final = 1_000
"""Certificates that one page looks at, or twice as many as it may hold: what a look at everything costs in a small house."""
_MANY: Final = 100
"""Of more values than that at once, it is first tried whether the next certificates of all give a page."""
_GROWTH: Final = 4

Condition = sa.ColumnElement[bool]
Place = tuple[datetime, int] | tuple[int]
"""Where a walk stands: the end of validity and the identifier of the last certificate, or its identifier alone."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The certificates with one of ``values`` in ``column``: for each value a stretch of an index, in the order of the walk."""

    column: InstrumentedAttribute[Any]
    values: frozenset[Any]
    inside: tuple[Condition, ...] = ()
    """What a narrower index is limited to; whoever gives it judges the rows by it as well."""

    def condition(self) -> Condition:
        """The same as a condition on a row."""
        return self.column == next(iter(self.values)) if len(self.values) == 1 else self.column.in_(self.values)

    def holds(self, value: object) -> bool:
        """The same of what a row has in the column."""
        return value in self.values


@dataclass(frozen=True, slots=True)
class Walk:
    """What is walked, and what is judged row by row.

    ``by_end``: the earliest end of validity first, only those that meet ``ends``; otherwise the newest first. ``streams``: of
    these the one is followed that leads furthest with fewest certificates; the others, and ``among``, are judged.
    """

    by_end: bool
    streams: tuple[Streams, ...]
    among: tuple[Streams, ...]
    ends: tuple[Condition, ...]
    rest: tuple[Condition, ...]


def walk(db: Session, plan: Walk, limit: int, after: Place | None) -> tuple[list[int], Place | None]:
    """The identifiers of a page that begins after a place, and the place the next one begins after (None: there is no more).

    The page is short, even empty, where the certificates looked at held too few.
    """
    rest = plan.rest if plan.by_end else (*plan.rest, *plan.ends)
    if plan.streams and min(len(one.values) for one in plan.streams) > _MANY:
        places, _ = _read(db, plan, None, after, min(MOST_EXAMINED, _GROWTH**2 * limit))
        kept = _judge(db, places, rest, [*plan.streams, *plan.among])
        if len(kept) >= limit:  # they are nearly all there are: no need to ask for each of many values
            return _cut(kept, limit)
    followed, places, more = _begin(db, plan, limit, after)
    among = [*plan.among, *(one for one in plan.streams if one is not followed)]
    found: list[Place] = []
    left, step = max(MOST_EXAMINED, 2 * limit), 2 * limit
    while True:
        places, more = places[:left], more or len(places) > left
        found += _judge(db, places, rest, among)
        if len(found) >= limit and (more or found[limit - 1] is not places[-1]):
            return _cut(found, limit)
        if not more:
            return [place[-1] for place in found], None
        after = places[-1]
        left -= len(places)
        if left <= 0:
            return [place[-1] for place in found], after
        step *= _GROWTH
        places, more = _read(db, plan, followed, after, step)


def _cut(found: Sequence[Place], limit: int) -> tuple[list[int], Place]:
    return [place[-1] for place in found[:limit]], found[limit - 1]


def count(db: Session, streams: Streams, most: int) -> int:
    """How many certificates the streams lead to, counted up to ``most``."""
    few = sa.select(sa.literal(1)).where(streams.condition()).limit(most).subquery()
    return db.scalar(sa.select(sa.func.count()).select_from(few)) or 0


def _begin(db: Session, plan: Walk, limit: int, after: Place | None) -> tuple[Streams | None, list[Place], bool]:
    """What is followed and how it begins: of several streams the most selective here, which ends first or leads furthest."""
    only = not (plan.streams or plan.among or plan.rest) and (plan.by_end or not plan.ends)
    begun = [(one, *_read(db, plan, one, after, limit if only else 2 * limit)) for one in plan.streams or (None,)]
    return min(begun, key=lambda read: (read[2], _reach(read[1][-1]) if read[2] else len(read[1])))


def _reach(place: Place) -> float:
    """The lower, the further a walk came."""
    return -place[0].timestamp() if isinstance(place[0], datetime) else place[0]


def _judge(db: Session, places: Sequence[Place], rest: Sequence[Condition], among: Sequence[Streams]) -> Sequence[Place]:
    """The places whose certificates meet every condition. Membership is judged here: a database would walk its index for it."""
    if not (rest or among) or not places:
        return places
    columns = sa.select(Certificate.id, *(one.column for one in among))
    identifiers = sa.select(_listed(db, [place[-1] for place in places], Record).c.value)
    rows = db.execute(columns.where(Certificate.id.in_(identifiers), *rest))
    kept = {row[0] for row in rows if all(one.holds(value) for one, value in zip(among, row[1:], strict=True))}
    return [place for place in places if place[-1] in kept]


def _read(db: Session, plan: Walk, streams: Streams | None, after: Place | None, most: int) -> tuple[list[Place], bool]:
    """The next places of the walk, about so many and none left out between them; whether there are more.

    Of several streams some are read of each, and what lies beyond the first stream that may go on has to wait.
    """
    if streams is None or len(streams.values) == 1:
        step = _step(plan, after, most)
        rows = db.execute(step if streams is None else step.where(streams.condition(), *streams.inside)).all()
        return [tuple(row) for row in rows], len(rows) == most
    each = max(2, 2 * most // len(streams.values))
    places: list[Place] = []
    barriers: list[Place] = []
    for stream in _side_by_side(db, plan, streams, after, each):
        places += stream
        if len(stream) == each:
            barriers.append(stream[-1])
    places.sort(reverse=not plan.by_end)
    if barriers:
        barrier = min(barriers) if plan.by_end else max(barriers)
        places = places[: places.index(barrier) + 1]
    return places, bool(barriers)


def _step(plan: Walk, after: Place | None, most: int) -> sa.Select[Any]:
    """The next certificates in the order of the walk."""
    if not plan.by_end:
        newest = sa.select(Certificate.id).order_by(Certificate.id.desc()).limit(most)
        return newest if after is None else newest.where(Certificate.id < after[-1])
    earliest = cast("sa.Select[Any]", sa.select(Certificate.not_after, Certificate.id).where(*plan.ends))
    earliest = earliest.order_by(Certificate.not_after, Certificate.id).limit(most)
    if after is None:
        return earliest
    beyond = sa.tuple_(Certificate.not_after, Certificate.id) > sa.tuple_(*after, types=[Moment(), Record])
    return earliest.where(beyond)


def _side_by_side(db: Session, plan: Walk, streams: Streams, after: Place | None, most: int) -> Iterator[list[Place]]:
    """The step taken in every stream, by one statement: for each a list, as JSON."""
    values = _listed(db, list(streams.values), streams.column.type)
    if db.get_bind().dialect.name == "postgresql" and not plan.by_end:
        here = _newest_of(streams.column, values.c.value, after, most)
    else:
        here = _step(plan, after, most).where(streams.column == values.c.value)
    each = here.where(*streams.inside).correlate(values).subquery()
    if db.get_bind().dialect.name == "postgresql":
        listed = sa.func.json_agg(sa.func.json_build_array(*each.c))
    else:
        listed = sa.func.json_group_array(sa.func.json_array(*each.c))
    for (text,) in db.execute(sa.select(sa.cast(sa.select(listed).scalar_subquery(), sa.Text)).select_from(values)):
        stream = json.loads(text or "[]")
        yield [(_moment(place[0]), place[1]) if plan.by_end else (place[0],) for place in stream]


def _newest_of(column: InstrumentedAttribute[Any], value: Any, after: Place | None, most: int) -> sa.Select[Any]:
    """The newest certificates with ``value`` in ``column``, said so that PostgreSQL can find them along no other index.

    Of a value that it learns later it takes the average to be true, and of a rare one it would look for a few among all: the
    newest first, of whatever value. Bounds in the place of "equal" leave it but the index over the column and the identifier.
    """
    newest = sa.select(Certificate.id).order_by(column.desc(), Certificate.id.desc()).limit(most).where(column >= value)
    if after is None:
        return newest.where(column <= value)
    return newest.where(sa.tuple_(column, Certificate.id) < sa.tuple_(value, after[-1], types=[column.type, Record]))


def _moment(text: str) -> datetime:
    """A moment as a database writes it into JSON; SQLite's is in UTC and does not say so."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _listed(db: Session, values: Sequence[Any], kind: sa.types.TypeEngine[Any]) -> sa.TableValuedAlias:
    """The values as rows, handed over as one parameter: a statement with one for each value takes long to put together."""
    value: sa.ColumnClause[Any] = sa.column("value", kind)
    if db.get_bind().dialect.name == "postgresql":
        return sa.func.unnest(sa.literal(values, ARRAY(kind))).table_valued(value).render_derived(name="listed")
    return sa.func.json_each(json.dumps(values)).table_valued(value)
