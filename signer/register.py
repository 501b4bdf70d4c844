"""The register of numbers: who may have which, held for a short time, used with a signature, listed with its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Forbidden, NotFound, Refused, Rejected
from registry.agencies import VIETNAM
from registry.models import Agency, Role, Subscriber, SubscriberKind
from registry.registry import agency_with_code, granted_subscribers, subscriber_named
from signer.gate_models import AgencySigningRule, DocumentNumber, NumberState
from signer.models import Signature, SignatureState
from signer.numbers import Number, check_year, parse_number, parse_symbol, series_of

HELD_FOR: Final = timedelta(minutes=30)
"""How long a number waits for its signature, and for the document of one whose making was cut off; then anybody of the agency may
have it."""
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
    digest: str | None = None
    """SHA-256 of the document it is for: only that one takes up the number of a signature that was cut off."""


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

    def find(self, code: str, text: str, year: int, *, secret: bool = False) -> DocumentNumber:
        """A number that somebody took once, whatever became of it. Raises NotFound, Rejected."""
        with self._database.read() as db:
            row, number = self._find(db, code, text, year, secret=secret)
        if row is None:
            raise NotFound("number", f"nobody of {code} ever took {number.text} of {year}")
        return row

    def let_go(self, code: str, text: str, year: int, actor: Actor, *, secret: bool = False, reason: str = "") -> None:
        """Give back a number that was held, or that a signature took whose making was cut off: its document never came out.

        A client gives back its own, an admin anybody's. Raises Conflict for a number that is not held so, or that is used.
        """
        with self._database.write() as db:
            row, number = self._find(db, code, text, year, secret=secret, lock=True)
            mine = actor.role != Role.CLIENT or (row is not None and row.client == actor.name)
            if row is None or not mine or row.state not in (NumberState.HELD, NumberState.OPEN):
                raise Conflict(f"number: {number.text} of {year} {_why_not_freed(row, actor)}: nothing was given back")
            self._change(db, row, NumberState.FREE, actor, reason)

    def void(self, code: str, text: str, year: int, actor: Actor, *, reason: str, secret: bool = False) -> None:
        """Make a number nobody's for good: its document did not come out, or may have, so that no other may ever have it.

        Raises Conflict for one that nobody took, or that is void already.
        """
        with self._database.write() as db:
            row, number = self._find(db, code, text, year, secret=secret, lock=True)
            if row is None or row.state in (NumberState.FREE, NumberState.VOID):
                state = "void already" if row is not None and row.state == NumberState.VOID else "not taken"
                raise Conflict(f"number: {number.text} of {year} is {state}: nothing was changed")
            self._change(db, row, NumberState.VOID, actor, reason)

    def _find(
        self, db: Session, code: str, text: str, year: int, *, secret: bool, lock: bool = False
    ) -> tuple[DocumentNumber | None, Number]:
        """The number's row; raises NotFound, Rejected."""
        number, agency = parse_number(text), agency_with_code(db, code)
        series = series_of(number, one_series=has_one_series(db, agency.id), secret=secret)
        mine = _place(agency.id, series, year, number.number)
        query = sa.select(DocumentNumber).where(*mine)
        return db.scalar(query.with_for_update(of=DocumentNumber) if lock else query), number

    def _change(self, db: Session, row: DocumentNumber, state: NumberState, actor: Actor, reason: str) -> None:
        before, row.state, row.held_until = row.state, state, None
        facts = {"series": row.series, "before": before, **({"reason": reason} if reason else {})}
        verb = "void" if state is NumberState.VOID else "let-go"
        append(db, at=self._now(), actor=actor, action=f"number.{verb}", subject=subject_of(db, row), **facts)

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


def build_claim(db: Session, agency_id: int, number: Number, day: date, client: str, *, digest: str | None = None) -> Claim:
    """The claim on a number for a document of this day; raises Rejected where its year is another."""
    check_year(number, day)
    series = series_of(number, one_series=has_one_series(db, agency_id))
    claim = Claim(agency_id, number, series, day.year, client, None, digest)
    row = find_number(db, claim)
    kept = row is not None and row.state in (NumberState.HELD, NumberState.OPEN) and row.client == client
    return replace(claim, person_id=row.person_id) if row is not None and kept else claim


def find_number(db: Session, claim: Claim) -> DocumentNumber | None:
    """The number's row, whatever its state."""
    mine = _place(claim.agency_id, claim.series, claim.year, claim.number.number)
    return db.scalar(sa.select(DocumentNumber).where(*mine))


def why_taken(db: Session, row: DocumentNumber | None, claim: Claim, at: datetime) -> str | None:
    """None when the claim can be had at ``at``; otherwise why not, with the remedy."""
    if row is None or row.state == NumberState.FREE:
        return None
    if row.state == NumberState.HELD:
        if row.client == claim.client or row.held_until is None or row.held_until < at:
            return None
        why = f"is held for {row.client} until {row.held_until.astimezone(VIETNAM).isoformat(timespec='minutes')}"
    elif row.state == NumberState.OPEN:
        if db.scalar(sa.select(DocumentNumber.id).where(DocumentNumber.id == row.id, _cut_off(claim))) is not None:
            return None
        why = "is taken by a document that is being signed, or was: send that one again, or give the number back"
    else:
        why = "is void" if row.state == NumberState.VOID else f"is used already, by {row.text} (series {row.series})"
    return f"{claim.number.text} of {claim.year} {why}: take the next number"


def use_number(db: Session, claim: Claim, signature_id: int, at: datetime) -> int:
    """Take the number for good in the transaction of the signature's intent, unless that is given up; the id of its row.

    Raises Refused when it is taken.
    """
    return _take(db, claim, at, state=NumberState.OPEN, held_until=None, signature_id=signature_id).id


def conclude_number(db: Session, signature_id: int) -> DocumentNumber:
    """Make the number a signature took a used one, before its document is handed out.

    Raises Conflict when it has been given back or away meanwhile: then the document must not come out.
    """
    mine = sa.update(DocumentNumber).where(DocumentNumber.signature_id == signature_id, DocumentNumber.state == NumberState.OPEN)
    row: DocumentNumber | None = db.scalar(mine.values(state=NumberState.USED).returning(DocumentNumber))
    if row is None:
        raise Conflict("number: it was given back while the document was being signed: take a number and send the request again")
    return row


def release_numbers(db: Session, signature_id: int, at: datetime) -> None:
    """Give back what a signature took that was given up: to its numberer where there was one, otherwise to anybody.

    Not a number that is used: where the database was lost over that, the answer does not say whether it was written down.
    """
    mine = (DocumentNumber.signature_id == signature_id, DocumentNumber.state == NumberState.OPEN)
    held = {"state": NumberState.HELD, "held_until": at + HELD_FOR}
    db.execute(sa.update(DocumentNumber).where(*mine, DocumentNumber.person_id.is_not(None)).values(**held, signature_id=None))
    db.execute(sa.update(DocumentNumber).where(*mine).values(state=NumberState.FREE, held_until=None, signature_id=None))


def release_cut_off(db: Session, at: datetime) -> list[DocumentNumber]:
    """The same for signatures that were made and whose document was never completed, half an hour after; those numbers."""
    taken = sa.select(DocumentNumber).join(Signature, Signature.id == DocumentNumber.signature_id)
    old = (DocumentNumber.state == NumberState.OPEN, Signature.state == SignatureState.SIGNED, Signature.at < at - HELD_FOR)
    rows = list(db.scalars(taken.where(*old).with_for_update(of=DocumentNumber)))
    for row in rows:
        if row.signature_id is not None:
            release_numbers(db, row.signature_id, at)
    return rows


def subject_of(db: Session, row: DocumentNumber) -> str:
    """What audit entries call a number."""
    return f"number/{db.get_one(Agency, row.agency_id).code}/{row.year}/{row.text}"


def _why_not_freed(row: DocumentNumber | None, actor: Actor) -> str:
    if row is not None and row.state == NumberState.USED:
        return "is used, and its document may have left; a number is had once a year (Nghị định 30/2020/NĐ-CP, Điều 15)"
    if row is not None and row.state == NumberState.VOID:
        return "is void for good"
    return f"is not held by {actor.name}" if actor.role == Role.CLIENT else "is not held"


def _cut_off(claim: Claim) -> sa.ColumnElement[bool]:
    """Whether a row is of a signature of the same document by the same client, which is not complete: its number may be taken up.

    Of the two only the later one is concluded, so only that document comes out.
    """
    same = sa.select(Signature.id).where(Signature.digest == claim.digest, Signature.client == claim.client)
    return sa.and_(DocumentNumber.state == NumberState.OPEN, DocumentNumber.signature_id.in_(same))


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
        _cut_off(claim),
    )
    changed = sa.update(DocumentNumber).where(DocumentNumber.id == row.id, available).values(**values)
    if db.execute(changed.returning(DocumentNumber.id).execution_options(synchronize_session=False)).first() is None:
        db.refresh(row)
        raise _taken(why_taken(db, row, claim, at) or f"{claim.number.text} was taken at this moment: take the next number")
    return row


def _taken(why: str) -> Refused:
    return Refused("number", why)


def list_numbers(db: Session, agency: Agency, *, series: str, year: int, after: int, limit: int) -> list[DocumentNumber]:
    """A page of one series, in the order of numbers."""
    mine = (DocumentNumber.agency_id == agency.id, DocumentNumber.series == series, DocumentNumber.year == year)
    query = sa.select(DocumentNumber).where(*mine, DocumentNumber.number > after)
    return list(db.scalars(query.order_by(DocumentNumber.number).limit(limit)))


def find_gaps(rows: Sequence[DocumentNumber], *, after: int, at: datetime) -> list[tuple[int, int]]:
    """The numbers between ``after`` and the last of ``rows`` that nobody has, had or holds at ``at``: first and last."""
    taken = (NumberState.OPEN, NumberState.USED, NumberState.VOID)
    kept = [row.number for row in rows if row.state in taken or (row.held_until is not None and row.held_until >= at)]
    ends = rows[-1].number if rows else after
    edges = [after, *kept] if kept and kept[-1] == ends else [after, *kept, ends + 1]
    return [(one + 1, other - 1) for one, other in pairwise(edges) if other - one > 1]
