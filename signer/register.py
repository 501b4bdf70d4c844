"""The register of numbers: who may have which, held for a short time, used with a signature, listed with its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Forbidden, Refused, Rejected
from registry.agencies import VIETNAM
from registry.models import Agency, Role, Subscriber, SubscriberKind
from registry.registry import agency_with_code, granted_subscribers, subscriber_named
from signer.gate_models import AgencySigningRule, DocumentNumber, NumberState
from signer.numbers import Number, check_year, parse_number, parse_symbol, series_of

HELD_FOR: Final = timedelta(minutes=30)
"""How long a number waits for its signature; then anybody of the agency may have it."""
_LAST: Final = 999_999


@dataclass(frozen=True, slots=True)
class Claim:
    """A number that a signature is to use up."""

    agency_id: int
    number: Number
    series: str
    year: int
    client: str
    person_id: int | None
    """Who gave the number before, if somebody did."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a numberer asks for. ``number`` None: the next."""

    symbol: str
    person: str
    """The numberer's handle."""
    number: int | None = None
    legal: bool = False
    secret: bool = False
    issued_on: date | None = None


class Register:
    """Numbers of every agency, by series and year in Vietnamese time."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    def hold(self, code: str, wanted: Wanted, actor: Actor) -> DocumentNumber:
        """Hold a number of the agency with this code for its numberer.

        Raises NotFound (agency, person), Forbidden (no grant for a key of this agency), Rejected (a symbol, a date), Refused
        when the number is taken.
        """
        at = self._now()
        day = check_day(wanted.issued_on, at)
        with self._database.write() as db:
            agency = agency_with_code(db, code)
            check_caller(db, agency, actor)
            person = check_person(db, wanted.person, field="person")
            db.scalar(sa.select(Agency.id).where(Agency.id == agency.id).with_for_update())  # one at a time counts on
            symbol = parse_symbol(wanted.symbol)
            year = day.year if wanted.legal else None
            series = series_of(Number(1, symbol, year), one_series=has_one_series(db, agency.id), secret=wanted.secret)
            counted = self._next(db, agency.id, series, day, at) if wanted.number is None else wanted.number
            if not 1 <= counted <= _LAST:
                raise Rejected("number", f"must be from 1 to {_LAST}")
            number = Number(counted, symbol, year)
            claim = Claim(agency.id, number, series, day.year, actor.name, person.id)
            row = _take(db, claim, at, state=NumberState.HELD, held_until=at + HELD_FOR, signature_id=None)
            db.refresh(row)
            subject = f"number/{agency.code}/{day.year}/{number.text}"
            append(db, at=at, actor=actor, action="number.hold", subject=subject, series=series, person=person.handle)
            return row

    def let_go(self, code: str, text: str, year: int, actor: Actor, *, secret: bool = False) -> None:
        """Give back a number that was held and not used; raises Conflict when it is not held by this caller."""
        at, number = self._now(), parse_number(text)
        with self._database.write() as db:
            agency = agency_with_code(db, code)
            series = series_of(number, one_series=has_one_series(db, agency.id), secret=secret)
            mine = (
                *_place(agency.id, series, year, number.number),
                DocumentNumber.client == actor.name,
                DocumentNumber.state == NumberState.HELD,
            )
            freed = sa.update(DocumentNumber).where(*mine).values(state=NumberState.FREE, held_until=None)
            if db.execute(freed.returning(DocumentNumber.id)).first() is None:
                raise Conflict(f"number: {number.text} of {year} is not held by {actor.name}: nothing was given back")
            append(
                db, at=at, actor=actor, action="number.let-go", subject=f"number/{agency.code}/{year}/{number.text}", series=series
            )

    def _next(self, db: Session, agency_id: int, series: str, day: date, at: datetime) -> int:
        """The lowest that was given back on this day, so that numbers stay in the order of days; otherwise the one after the
        highest that is used or held."""
        mine = (DocumentNumber.agency_id == agency_id, DocumentNumber.series == series, DocumentNumber.year == day.year)
        lapsed = sa.and_(DocumentNumber.state == NumberState.HELD, DocumentNumber.held_until < at)
        open_again = sa.or_(DocumentNumber.state == NumberState.FREE, lapsed)
        top = db.scalar(sa.select(sa.func.max(DocumentNumber.number)).where(*mine, sa.not_(open_again))) or 0
        today = datetime.combine(at.astimezone(VIETNAM).date(), datetime.min.time(), VIETNAM)
        again = sa.select(sa.func.min(DocumentNumber.number)).where(
            *mine, open_again, DocumentNumber.at >= today, DocumentNumber.number < top
        )
        return db.scalar(again) or top + 1


def _place(agency_id: int, series: str, year: int, number: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        DocumentNumber.agency_id == agency_id,
        DocumentNumber.series == series,
        DocumentNumber.year == year,
        DocumentNumber.number == number,
    )


def check_day(issued_on: date | None, at: datetime) -> date:
    """The document's date, by default today in Vietnam; raises Rejected for one that is still to come."""
    today = at.astimezone(VIETNAM).date()
    if issued_on is not None and issued_on > today:
        raise Rejected("issued_on", f"must not lie ahead: today is {today.isoformat()} in Vietnam")
    return issued_on or today


def check_caller(db: Session, agency: Agency, actor: Actor) -> None:
    """Raise Forbidden for a client system that may sign for nobody of this agency."""
    if actor.role == Role.CLIENT and all(item.agency_id != agency.id for item in granted_subscribers(db, actor.name)):
        raise Forbidden(f"the client {actor.name} has been granted nobody of the agency {agency.code}: an admin grants one")


def check_person(db: Session, handle: str, *, field: str) -> Subscriber:
    """The person with this handle; raises NotFound, Rejected for an agency or a device."""
    person = subscriber_named(db, handle)
    if person.kind != SubscriberKind.OFFICER:
        raise Rejected(field, f"{handle} is no person: name the handle of an officer")
    return person


def has_one_series(db: Session, agency_id: int) -> bool:
    """Whether the agency counts all its administrative documents in one series."""
    return bool(db.scalar(sa.select(AgencySigningRule.one_series).where(AgencySigningRule.agency_id == agency_id)))


def build_claim(db: Session, agency_id: int, number: Number, day: date, client: str) -> Claim:
    """The claim on a number for a document of this day; raises Rejected where its year is another."""
    check_year(number, day)
    series = series_of(number, one_series=has_one_series(db, agency_id))
    claim = Claim(agency_id, number, series, day.year, client, None)
    row = find_number(db, claim)
    held = row is not None and row.state == NumberState.HELD and row.client == client
    return Claim(agency_id, number, series, day.year, client, row.person_id) if row is not None and held else claim


def find_number(db: Session, claim: Claim) -> DocumentNumber | None:
    """The number's row, whatever its state."""
    mine = _place(claim.agency_id, claim.series, claim.year, claim.number.number)
    return db.scalar(sa.select(DocumentNumber).where(*mine))


def why_taken(row: DocumentNumber | None, claim: Claim, at: datetime) -> str | None:
    """None when the claim can be had at ``at``; otherwise why not, with the remedy."""
    if row is None or row.state == NumberState.FREE:
        return None
    if row.state == NumberState.USED:
        return f"{claim.number.text} of {claim.year} is used already, by {row.text} (series {row.series}): take the next number"
    if row.client == claim.client or row.held_until is None or row.held_until < at:
        return None
    until = row.held_until.astimezone(VIETNAM).isoformat(timespec="minutes")
    return f"{claim.number.text} is held for {row.client} until {until}: take the next number"


def use_number(db: Session, claim: Claim, signature_id: int, at: datetime) -> int:
    """Use the number up in the transaction of the signature's intent; the id of its row. Raises Refused when it is taken."""
    return _take(db, claim, at, state=NumberState.USED, held_until=None, signature_id=signature_id).id


def release_numbers(db: Session, signature_id: int, at: datetime) -> None:
    """Give back what a signature took that was given up: to its numberer where there was one, otherwise to anybody."""
    mine, given = DocumentNumber.signature_id == signature_id, DocumentNumber.person_id.is_not(None)
    held = {"state": NumberState.HELD, "held_until": at + HELD_FOR}
    db.execute(sa.update(DocumentNumber).where(mine, given).values(**held, signature_id=None))
    db.execute(sa.update(DocumentNumber).where(mine).values(state=NumberState.FREE, held_until=None, signature_id=None))


def _take(
    db: Session, claim: Claim, at: datetime, *, state: NumberState, held_until: datetime | None, signature_id: int | None
) -> DocumentNumber:
    values = {
        "text": claim.number.text,
        "state": state,
        "client": claim.client,
        "person_id": claim.person_id,
        "at": at,
        "held_until": held_until,
        "signature_id": signature_id,
    }
    row = find_number(db, claim)
    if row is None:
        key = {"agency_id": claim.agency_id, "series": claim.series, "year": claim.year, "number": claim.number.number}
        row = DocumentNumber(**key, **values)
        db.add(row)
        try:
            db.flush()
        except IntegrityError as error:
            raise _taken(f"{claim.number.text} of {claim.year} was taken at this moment: take the next number") from error
        return row
    available = sa.or_(
        DocumentNumber.state == NumberState.FREE,
        sa.and_(
            DocumentNumber.state == NumberState.HELD,
            sa.or_(DocumentNumber.client == claim.client, DocumentNumber.held_until < at),
        ),
    )
    changed = sa.update(DocumentNumber).where(DocumentNumber.id == row.id, available).values(**values)
    if db.execute(changed.returning(DocumentNumber.id).execution_options(synchronize_session=False)).first() is None:
        db.refresh(row)
        raise _taken(why_taken(row, claim, at) or f"{claim.number.text} was taken at this moment: take the next number")
    return row


def _taken(why: str) -> Refused:
    return Refused("number", why)


def list_numbers(db: Session, agency: Agency, *, series: str, year: int, after: int, limit: int) -> list[DocumentNumber]:
    """A page of one series, in the order of numbers."""
    mine = (DocumentNumber.agency_id == agency.id, DocumentNumber.series == series, DocumentNumber.year == year)
    query = sa.select(DocumentNumber).where(*mine, DocumentNumber.number > after)
    return list(db.scalars(query.order_by(DocumentNumber.number).limit(limit)))


def find_gaps(rows: Sequence[DocumentNumber], *, after: int, at: datetime) -> list[tuple[int, int]]:
    """The numbers between ``after`` and the last of ``rows`` that no document has and nobody holds at ``at``: first and last."""
    kept = [row.number for row in rows if row.state == NumberState.USED or (row.held_until is not None and row.held_until >= at)]
    ends = rows[-1].number if rows else after
    edges = [after, *kept] if kept and kept[-1] == ends else [after, *kept, ends + 1]
    return [(one + 1, other - 1) for one, other in pairwise(edges) if other - one > 1]
