"""Agencies over time: what one was called and whom it was under at a moment, and how that changes (docs/adr/0015).

A change is a new version that counts from its effective date on, which may lie behind or ahead; what was before stays as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.errors import Conflict, Rejected
from registry.models import Agency, AgencyVersion
from registry.registry import agency_with_code, checked_short, checked_text

VIETNAM: Final = timezone(timedelta(hours=7))
"""The clock by which effective dates are meant."""
_DEEPEST: Final = 20
"""More levels than any administration has: whoever finds more is in a circle."""


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes an agency, when that is written down, and from which moment it counts."""

    at: datetime
    actor: Actor
    effective: datetime


def version_at(agency: Agency, at: datetime) -> AgencyVersion:
    """What the agency was at ``at``; before its first version, what it was first."""
    found = agency.versions[0]
    for version in agency.versions:
        if version.since > at:
            break
        found = version
    return found


def path_at(db: Session, agency: Agency, at: datetime) -> list[AgencyVersion]:
    """The agency at ``at`` and everything it was under, the top first."""
    path = [version_at(agency, at)]
    while (parent := path[0].parent_id) is not None:
        if len(path) >= _DEEPEST:
            raise Conflict(f"the agency {agency.code} is under itself: move one of those above it")
        path.insert(0, version_at(db.get_one(Agency, parent), at))
    return path


def check_open(db: Session, agency: Agency, at: datetime) -> None:
    """Raise Conflict when the agency is closed at ``at``, naming since when, and into which it was merged."""
    version = version_at(agency, at)
    if not version.closed:
        return
    how = "closed"
    if version.successor_id is not None:
        how = f"merged into {db.get_one(Agency, version.successor_id).code}"
    raise Conflict(
        f"the agency {agency.code} ({version.name}) was {how} on {_day(version.since)}: it gets no certificates any more; "
        "change the subscriber's agency first"
    )


def rename(
    db: Session,
    agency: Agency,
    change: Change,
    *,
    name: str,
    locality: str | None = None,
    certificate_name: str | None = None,
) -> AgencyVersion:
    """Give the agency another name (and locality, and what certificates call it) from the effective date on."""
    last = _last_open(db, agency, change)
    place = last.locality if locality is None else checked_text("locality", locality, 128)
    version = AgencyVersion(
        name=checked_text("name", name, 300),
        certificate_name=checked_short(certificate_name),
        locality=place,
        parent_id=last.parent_id,
    )
    told = {} if version.certificate_name is None else {"certificate_name": version.certificate_name}
    return _add(db, agency, version, change, "agency.rename", name=version.name, former=last.name, **told)


def move(db: Session, agency: Agency, change: Change, *, parent: Agency | None) -> AgencyVersion:
    """Put the agency under another, or at the top, from the effective date on."""
    last = _last_open(db, agency, change)
    if parent is not None:
        check_open(db, parent, change.effective)
        if any(version.agency_id == agency.id for version in path_at(db, parent, change.effective)):
            raise Conflict(f"{parent.code} is {agency.code} or under it: an agency cannot be under itself")
    version = _next(last, parent_id=parent.id if parent else None)
    return _add(db, agency, version, change, "agency.move", parent=parent.code if parent else None)


def close(db: Session, agency: Agency, change: Change) -> AgencyVersion:
    """End the agency on the effective date; raises Conflict while agencies are under it then."""
    last = _last_open(db, agency, change)
    under = [child.code for child in children_at(db, agency, change.effective)]
    if under:
        raise Conflict(f"{len(under)} agencies are under {agency.code} ({', '.join(under[:5])}): move, merge or close them first")
    version = _next(last, closed=True)
    return _add(db, agency, version, change, "agency.close", name=last.name)


def merge(db: Session, agency: Agency, change: Change, *, into: Agency) -> AgencyVersion:
    """End the agency on the effective date as a part of ``into``, under which those below it come."""
    last = _last_open(db, agency, change)
    check_open(db, into, change.effective)
    if any(version.agency_id == agency.id for version in path_at(db, into, change.effective)):
        raise Conflict(f"{into.code} is {agency.code} or under it: move {into.code} first")
    for child in children_at(db, agency, change.effective):
        move(db, child, change, parent=into)
    version = _next(last, closed=True, successor_id=into.id)
    return _add(db, agency, version, change, "agency.merge", into=into.code)


def children_at(db: Session, agency: Agency, at: datetime) -> list[Agency]:
    """The open agencies directly under this one at ``at``, by code."""
    query = sa.select(Agency).join(AgencyVersion, AgencyVersion.agency_id == Agency.id)
    once = db.scalars(query.where(AgencyVersion.parent_id == agency.id).order_by(Agency.code_key)).unique()
    versions = ((child, version_at(child, at)) for child in once)
    return [child for child, version in versions if version.parent_id == agency.id and not version.closed]


def _next(last: AgencyVersion, **changed: Any) -> AgencyVersion:
    """A version that says what the last one says but for what changes."""
    kept = {name: getattr(last, name) for name in ("name", "certificate_name", "locality", "parent_id")}
    return AgencyVersion(**{**kept, **changed})


def _last_open(db: Session, agency: Agency, change: Change) -> AgencyVersion:
    """The agency's last version, its row held, if a change may still follow it."""
    # One row for the whole tree: of two changes one waits for the other, for each looks at agencies that the other may change
    db.execute(sa.select(Agency.id).order_by(Agency.id).limit(1).with_for_update(key_share=True))
    db.refresh(agency, with_for_update=True)
    db.refresh(agency, ["versions"])
    last = agency.versions[-1]
    if last.closed:
        raise Conflict(f"the agency {agency.code} is closed from {_day(last.since)} on: nothing changes about it any more")
    if change.effective <= last.since:
        since = last.since.isoformat()
        raise Rejected("effective", f"must lie after the last change of {agency.code}, which counts from {since} on")
    return last


def _add(db: Session, agency: Agency, version: AgencyVersion, change: Change, action: str, **detail: str | None) -> AgencyVersion:
    version.since = change.effective
    version.closed = bool(version.closed)
    agency.versions.append(version)
    code = agency.code  # which is not known any more when the transaction has failed
    try:
        db.flush()
    except IntegrityError as error:
        raise Conflict(f"another change of {code} counts from the same moment on") from error
    effective = change.effective.isoformat()
    append(db, at=change.at, actor=change.actor, action=action, subject=agency.code, effective=effective, **detail)
    return version


def _day(at: datetime) -> str:
    return f"{at.astimezone(VIETNAM):%Y-%m-%d}"


def with_those_below(db: Session, agency_id: int, at: datetime) -> set[int]:
    """The agency, those below it at ``at``, and those that were merged into any of these."""
    columns = sa.select(AgencyVersion.agency_id, AgencyVersion.parent_id, AgencyVersion.successor_id)
    versions = db.execute(columns.where(AgencyVersion.since <= at).order_by(AgencyVersion.since)).all()
    above = {agency: successor or parent for agency, parent, successor in versions}
    below: dict[int, list[int]] = {}
    for agency, parent in above.items():
        if parent is not None:
            below.setdefault(parent, []).append(agency)
    found: set[int] = set()
    waiting = [agency_id]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += below.get(one, ())
    return found


def agencies_with_code(db: Session, code: str, at: datetime, *, subtree: bool) -> set[int]:
    """The agency with the code, alone or with its :func:`with_those_below`. Raises NotFound."""
    agency = agency_with_code(db, code)
    return with_those_below(db, agency.id, at) if subtree else {agency.id}
