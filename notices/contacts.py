"""Where subscribers and agencies are reached, changed by an admin."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.errors import Conflict, NotFound, Rejected
from notices.models import Contact
from registry.registry import agency_with_code, subscriber_named

ADDRESS: Final = re.compile(r"[^@\s<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9.-]{1,189}")


def load_contact(db: Session, kind: str, name: str) -> tuple[str, str | None]:
    """The owner as contacts are kept under and the address, None where there is none; NotFound for an unknown owner."""
    owner = _owner(db, kind, name)
    return owner, db.scalar(sa.select(Contact.email).where(Contact.owner == owner))


def set_contact(db: Session, kind: str, name: str, email: str | None, *, at: datetime, actor: Actor) -> str:
    """Reach the subscriber or agency at ``email`` from now on; returns the owner. The log says that, not the address."""
    owner = _owner(db, kind, name)
    if email is not None and not ADDRESS.fullmatch(email):
        raise Rejected("email", "is no address: like name@host")
    db.execute(sa.delete(Contact).where(Contact.owner == owner))
    if email is not None:
        db.add(Contact(owner=owner, email=email))
    try:
        db.flush()
    except IntegrityError as error:
        raise Conflict(f"somebody else changed the contact of {owner} at this moment: look at it") from error
    append(db, at=at, actor=actor, action="contact.change", subject=owner, present=email is not None)
    return owner


def _owner(db: Session, kind: str, name: str) -> str:
    if kind == "subscriber":
        return f"subscriber/{subscriber_named(db, name).handle}"
    if kind == "agency":
        return f"agency/{agency_with_code(db, name).code}"
    raise NotFound("kind", "contacts are of a `subscriber` (by handle) or an `agency` (by code)")
