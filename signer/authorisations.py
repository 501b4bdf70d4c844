"""Who may sign for an agency beside its own officers, and what an agency has decided about its signing: recorded by admins.

The capacities are those of Nghị định 30/2020/NĐ-CP, article 13, as data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound, Rejected, Violation
from registry.models import Agency, Subscriber
from registry.registry import agency_with_code, checked_text
from signer.gate_models import AgencySigningRule, SigningAuthorisation
from signer.numbers import KINDS, LETTER
from signer.register import check_person


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a capacity asks of its written document."""

    title: str
    limited: bool = False
    """It says until when and for which kinds of documents."""
    passed_on_as: str | None = None
    """The capacity in which its holder may let another sign; None: it is not passed on."""


CAPACITIES: Final[Mapping[str, Capacity]] = {
    "KT": Capacity("ký thay"),
    "TM": Capacity("thay mặt"),
    "TL": Capacity("thừa lệnh", passed_on_as="KT"),
    "TUQ": Capacity("thừa ủy quyền", limited=True),
}
"""KT: a deputy for the head; TM: for the collective; TL: by order, whose holder's deputy may sign KT; TUQ: by authorisation in
writing, limited in time and content, not passed on (article 13.4)."""


@dataclass(frozen=True, slots=True)
class NewAuthorisation:
    """An authorisation as a written document (``reference``: its number and date) gives it."""

    subscriber: str
    granted_by: str
    capacity: str
    reference: str
    content: str
    kinds: tuple[str, ...]
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class NewRule:
    """What an agency decides: see :class:`signer.gate_models.AgencySigningRule`."""

    one_person: str | None
    one_person_until: datetime | None
    one_series: bool


class Authorisations:
    """The record of authorisations and rules."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    def add(self, code: str, new: NewAuthorisation, actor: Actor) -> SigningAuthorisation:
        """Record one. Raises NotFound (agency, people), Rejected listing everything the capacity does not allow."""
        at = self._now()
        with self._database.write() as db:
            agency = agency_with_code(db, code)
            holder = check_person(db, new.subscriber, field="subscriber")
            giver = check_person(db, new.granted_by, field="granted_by")
            violations = [*_check_limits(new), *_check_giver(db, agency, new.capacity, holder=holder, giver=giver, at=at)]
            if violations:
                raise Rejected.all(violations)
            row = SigningAuthorisation(
                agency=agency,
                subscriber=holder,
                granted_by=giver,
                capacity=new.capacity,
                reference=checked_text("reference", new.reference, 200),
                content=checked_text("content", new.content, 1000),
                kinds=sorted(set(new.kinds)),
                since=new.since,
                until=new.until,
                recorded_at=at,
                recorded_by=actor.name,
            )
            db.add(row)
            db.flush()
            what = {"agency": agency.code, "subscriber": holder.handle, "capacity": row.capacity, "reference": row.reference}
            limits = {"kinds": row.kinds, "since": row.since.isoformat(), "until": row.until.isoformat() if row.until else None}
            append(db, at=at, actor=actor, action="authorisation.add", subject=f"authorisation/{row.id}", **what, **limits)
            return row

    def withdraw(self, identifier: int, actor: Actor) -> SigningAuthorisation:
        """End one now; what was signed under it stays. Raises NotFound, Conflict."""
        at = self._now()
        mine = sa.select(SigningAuthorisation).where(SigningAuthorisation.id == identifier)
        with self._database.write() as db:
            row = db.scalar(mine.with_for_update(of=SigningAuthorisation)) if identifier < 1 << 63 else None
            if row is None:
                raise NotFound("authorisation", f"there is no authorisation {identifier}")
            if row.withdrawn_at is not None:
                raise Conflict(f"authorisation {identifier} was withdrawn at {row.withdrawn_at.isoformat()} already")
            row.withdrawn_at = at
            append(db, at=at, actor=actor, action="authorisation.withdraw", subject=f"authorisation/{identifier}")
            return row

    def list(self, code: str) -> list[SigningAuthorisation]:
        """All of an agency's, the newest first; raises NotFound."""
        with self._database.read() as db:
            mine = SigningAuthorisation.agency_id == agency_with_code(db, code).id
            return list(db.scalars(sa.select(SigningAuthorisation).where(mine).order_by(SigningAuthorisation.id.desc())))

    def rule(self, code: str) -> AgencySigningRule | None:
        """What the agency has decided, if anything; raises NotFound."""
        with self._database.read() as db:
            return db.get(AgencySigningRule, agency_with_code(db, code).id)

    def decide(self, code: str, new: NewRule, actor: Actor) -> AgencySigningRule:
        """Record what the agency decides now; raises NotFound, Rejected."""
        at = self._now()
        if new.one_person is None and new.one_person_until is not None:
            raise Rejected("one_person", "needs the number and date of the written decision that counts until then")
        decision = None if new.one_person is None else checked_text("one_person", new.one_person, 200)
        with self._database.write() as db:
            agency = agency_with_code(db, code)
            row = db.get(AgencySigningRule, agency.id) or AgencySigningRule(agency_id=agency.id)
            row.one_person, row.one_person_until, row.one_series = decision, new.one_person_until, new.one_series
            row.changed_at, row.changed_by = at, actor.name
            db.add(row)
            try:
                db.flush()
            except IntegrityError as error:
                raise Conflict(f"another decision of {code[:80]} was recorded at this moment: look at it") from error
            until = None if new.one_person_until is None else new.one_person_until.isoformat()
            what = {"one_person": decision, "one_person_until": until, "one_series": new.one_series}
            append(db, at=at, actor=actor, action="agency.signing-rule", subject=agency.code, **what)
            return row


def _check_limits(new: NewAuthorisation) -> list[Violation]:
    capacity = CAPACITIES.get(new.capacity)
    if capacity is None:
        return [Violation("capacity", f"must be one of {', '.join(CAPACITIES)}")]
    found = []
    unknown = sorted(set(new.kinds) - KINDS - {LETTER})
    if unknown:
        found.append(Violation("kinds", f"{', '.join(unknown[:5])}: no kind of document has such a symbol; write QĐ, TB, … or CV"))
    if new.until is not None and new.until <= new.since:
        found.append(Violation("until", "must be later than since"))
    if capacity.limited and new.until is None:
        found.append(
            Violation("until", f"{capacity.title} is limited in time (Nghị định 30/2020/NĐ-CP, article 13.4): say until when")
        )
    if capacity.limited and not new.kinds:
        found.append(Violation("kinds", f"{capacity.title} is limited in content: say for which kinds of documents"))
    return found


def _check_giver(
    db: Session, agency: Agency, capacity: str, *, holder: Subscriber, giver: Subscriber, at: datetime
) -> list[Violation]:
    """Who gives it is of the agency itself, or holds a capacity that is passed on so; nobody gives it to themselves."""
    if holder.id == giver.id:
        return [Violation("granted_by", "nobody authorises themselves")]
    if giver.agency_id == agency.id:
        return []
    held = sa.select(SigningAuthorisation.capacity).where(
        SigningAuthorisation.agency_id == agency.id,
        SigningAuthorisation.subscriber_id == giver.id,
        SigningAuthorisation.withdrawn_at.is_(None),
        SigningAuthorisation.since <= at,
        sa.or_(SigningAuthorisation.until.is_(None), SigningAuthorisation.until > at),
    )
    capacities = set(db.scalars(held))
    if any(CAPACITIES[held_as].passed_on_as == capacity for held_as in capacities):
        return []
    if capacities:
        message = f"{giver.handle} holds {', '.join(sorted(capacities))}, which is not passed on as {capacity}"
    else:
        message = f"{giver.handle} is not of {agency.code}: name who gave it there"
    return [Violation("granted_by", message)]
