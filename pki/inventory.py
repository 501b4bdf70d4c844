"""Finding certificates among millions: filters, pages by a cursor, and what a page may cost (docs/adr/0019)."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session, defer, joinedload, lazyload, load_only

from core.db import Database
from core.errors import Rejected
from pki.certificates import parse_serial
from pki.models import Authority, Certificate, CertificateState, HolderText
from registry.models import Agency, AgencyVersion, Subscriber
from registry.registry import find_agency

Standing = Literal["valid", "suspended", "revoked", "expired", "not-yet-valid", "undecided"]
"""What a certificate is worth at a moment. ``undecided``: its issuance has no result yet."""

STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)
_HOLD: Final = "certificateHold"
_FINAL: Final = tuple(flag.value for flag in x509.ReasonFlags if flag.value != _HOLD)
_MOST_EXAMINED: Final = 5_000
"""Rows that one page looks at; it may then come back short, with a cursor to go on from."""
_FEW: Final = 200
"""Up to so many holders or agencies are looked up by themselves; of more, the newest certificates soon give a page."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which certificates, and which page of them. Every condition given must hold."""

    agency: str | None = None
    """The agency's code; its subordinate agencies, as they are now, count with it."""
    subscriber: str | None = None
    """The holder's handle."""
    profile: str | None = None
    standing: Standing | None = None
    state: str | None = None
    """How far its issuance came: a :class:`~pki.models.CertificateState`."""
    expires_from: datetime | None = None
    expires_before: datetime | None = None
    spki_sha256: str | None = None
    """SHA-256 of the subject's public key (SubjectPublicKeyInfo in DER), in hex."""
    key_in_hsm: bool | None = None
    serial: str | None = None
    text: str | None = None
    """Words, or beginnings of words, of the holder's names; accents and case do not count."""
    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Certificates with their authority and subscriber loaded; ``next`` leads on, None at the end."""

    certificates: Sequence[Certificate]
    next: str | None


def fold(text: str) -> list[str]:
    """The words of a Vietnamese text as they are searched by: lower case, without accents, đ as d; each once, in order."""
    plain = unicodedata.normalize("NFD", text.lower()).replace("đ", "d")
    return sorted(set(re.findall(r"[^\W_]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))))


def enter(db: Session, certificate: Certificate) -> None:
    """Make a new certificate findable by its agency and by the words of its names, in the transaction that adds it."""
    if certificate.subscriber_id is None:
        return
    columns = sa.select(Subscriber.handle, Subscriber.agency_id).where(Subscriber.id == certificate.subscriber_id)
    handle, certificate.agency_id = db.execute(columns).one()
    values = re.findall(r"=((?:\\.|[^,+])*)", certificate.subject)
    row = db.get(HolderText, certificate.subscriber_id)
    known = set() if row is None else set(row.words.split())
    words = known | set(fold(" ".join([*values, handle])))
    if words == known:
        return
    text = f" {' '.join(sorted(words))} "
    insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else postgresql_insert
    statement = insert(HolderText).values(subscriber_id=certificate.subscriber_id, words=text)
    db.execute(statement.on_conflict_do_update(index_elements=["subscriber_id"], set_={"words": text}))


def standing_of(certificate: Certificate, at: datetime) -> Standing:
    """What the certificate is worth at ``at``, as :func:`find_page` understands it."""
    if certificate.revoked_at is not None:
        return "suspended" if certificate.revocation_reason == _HOLD else "revoked"
    if certificate.state != CertificateState.ISSUED:
        return "undecided"
    if at > certificate.not_after:
        return "expired"
    return "not-yet-valid" if at < certificate.not_before else "valid"


def standing_case(at: datetime) -> sa.ColumnElement[str]:
    """The same in SQL."""
    return sa.case(
        (Certificate.revocation_reason == _HOLD, "suspended"),
        (Certificate.revocation_reason.is_not(None), "revoked"),
        (Certificate.state != CertificateState.ISSUED, "undecided"),
        (Certificate.not_after < at, "expired"),
        (Certificate.not_before > at, "not-yet-valid"),
        else_="valid",
    )


def find_page(db: Session, search: Search, at: datetime) -> Page:
    """One page: the newest first; or, where a search about expiry names nobody, the earliest end first.

    It costs the same whatever the number of certificates, so where few are found among many it comes back short, even
    empty, with a cursor. Raises Rejected for an agency or cursor that is none of ours, and for a text without a word.
    """
    plan = _plan(db, search, at)
    cursor = _parse_cursor(search.cursor)
    by_end = "end" in cursor or (not cursor and plan.driver is None and bool(plan.ends))
    walk = _walk_ends if by_end else _walk_ids
    identifiers, following = walk(db, plan, search.limit, cursor)
    loaded = sa.select(Certificate).where(Certificate.id.in_(identifiers))
    loaded = loaded.options(
        defer(Certificate.tbs),
        defer(Certificate.der),
        joinedload(Certificate.authority).load_only(Authority.name),
        joinedload(Certificate.subscriber).options(load_only(Subscriber.handle), lazyload(Subscriber.agency)),
        joinedload(Certificate.agency).options(load_only(Agency.code), lazyload(Agency.versions)),
    )
    rows = {row.id: row for row in db.scalars(loaded).unique()}
    return Page([rows[identifier] for identifier in identifiers], None if following is None else _format_cursor(following))


def find_all(database: Database, search: Search, at: datetime) -> Iterator[Certificate]:
    """Every certificate the search is about. Each page is read by itself: no transaction lasts as long as the reader takes."""
    cursor = search.cursor
    while True:
        with database.read() as db:
            page = find_page(db, dataclasses.replace(search, cursor=cursor), at)
        yield from page.certificates
        if page.next is None:
            return
        cursor = page.next


Condition = sa.ColumnElement[bool]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A search as conditions: the one by whose index few are found (if any), those about the end of validity, the rest."""

    driver: Condition | None
    ends: tuple[Condition, ...]
    rest: tuple[Condition, ...]


def _plan(db: Session, search: Search, at: datetime) -> _Plan:
    indexed = [*_named(search), *_standing_index(search)]
    ends: list[Condition] = []
    rest: list[Condition] = []
    for few, condition in (*_holders(db, search), *_agencies(db, search, at)):
        (indexed if few else rest).append(condition)
    if search.standing == "revoked":
        indexed.append(Certificate.revocation_reason.in_(_FINAL))
    if search.profile is not None:
        indexed.append(Certificate.profile == search.profile)
    if search.standing is not None:
        rest.append(standing_case(at) == search.standing)
    if search.standing == "expired":
        ends.append(Certificate.not_after < at)
    if search.expires_from is not None:
        ends.append(Certificate.not_after >= search.expires_from)
    if search.expires_before is not None:
        ends.append(Certificate.not_after < search.expires_before)
    if search.state is not None:
        rest.append(Certificate.state == search.state)
    if search.key_in_hsm is not None:
        rest.append(Certificate.key_label.is_not(None) if search.key_in_hsm else Certificate.key_label.is_(None))
    # a profile has many: where the end of validity is asked for as well, that finds fewer
    driver = None if not indexed or (ends and len(indexed) == 1 and search.profile is not None) else indexed[0]
    return _Plan(driver, tuple(ends), (*(one for one in indexed if one is not driver), *rest))


def _named(search: Search) -> Iterator[Condition]:
    if search.serial is not None:
        yield Certificate.serial == parse_serial(search.serial)
    if search.spki_sha256 is not None:
        yield Certificate.spki_sha256 == search.spki_sha256.lower()
    if search.subscriber is not None:
        yield Certificate.subscriber_id == sa.select(Subscriber.id).where(Subscriber.handle == search.subscriber).scalar_subquery()


def _standing_index(search: Search) -> Iterator[Condition]:
    if search.standing == "suspended":
        yield Certificate.revocation_reason == _HOLD
    if search.standing == "undecided":
        yield Certificate.state == CertificateState.INTENDED


def _holders(db: Session, search: Search) -> Iterator[tuple[bool, Condition]]:
    if search.text is None:
        return
    words = fold(search.text)
    if not words:
        raise Rejected("text", "give at least one word, or its beginning")
    matches = [HolderText.words.like(f"% {word}%") for word in words]
    found = list(db.scalars(sa.select(HolderText.subscriber_id).where(*matches).limit(_FEW + 1)))
    if len(found) <= _FEW:
        yield True, Certificate.subscriber_id.in_(found)
    else:
        yield False, sa.exists().where(HolderText.subscriber_id == Certificate.subscriber_id, *matches)


def _agencies(db: Session, search: Search, at: datetime) -> Iterator[tuple[bool, Condition]]:
    if search.agency is None:
        return
    root = find_agency(db, search.agency)
    if root is None:
        raise Rejected("agency", f"no agency has the code {search.agency!r}")
    found = subtree(db, root.id, at)
    yield len(found) <= _FEW, Certificate.agency_id.in_(found)


def subtree(db: Session, agency_id: int, at: datetime) -> set[int]:
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


def _walk_ids(db: Session, plan: _Plan, limit: int, cursor: dict[str, Any]) -> tuple[list[int], dict[str, Any] | None]:
    """From the newest down, in windows of identifiers that grow while they hold little: that keeps every index useful."""
    newest = db.scalar(sa.select(sa.func.max(Certificate.id))) or 0
    upper = cursor.get("id", newest + 1)
    window = step = 4 * limit
    found: list[int] = []
    left = _MOST_EXAMINED
    rest = (*plan.ends, *plan.rest)
    columns = sa.select(Certificate.id, sa.and_(sa.true(), *rest).label("holds"))
    if plan.driver is not None:
        columns = columns.where(plan.driver)
    while upper > 1:
        lower = max(1, upper - window)
        inside = columns.where(Certificate.id >= lower, Certificate.id < upper)
        most = min(left, step) if rest else limit - len(found)
        rows = db.execute(inside.order_by(Certificate.id.desc()).limit(most)).all()
        for identifier, holds in rows:
            if holds:
                found.append(identifier)
            if len(found) == limit:
                return found, {"id": identifier}
        left -= len(rows)
        if left <= 0:
            return found, {"id": rows[-1].id}
        step *= 4
        if len(rows) == most:
            upper = rows[-1].id  # there is more in this window
            continue
        upper = lower
        if len(rows) < _MOST_EXAMINED // 10:
            window *= 10
    return found, None


def _walk_ends(db: Session, plan: _Plan, limit: int, cursor: dict[str, Any]) -> tuple[list[int], dict[str, Any] | None]:
    """From the earliest end of validity on, along the index over it."""
    rest = (*plan.rest, *(() if plan.driver is None else (plan.driver,)))
    columns = sa.select(Certificate.id, Certificate.not_after, sa.and_(sa.true(), *rest).label("holds")).where(*plan.ends)
    found: list[int] = []
    left, step = _MOST_EXAMINED, 4 * limit
    while True:
        after = columns
        if cursor:
            last = (datetime.fromisoformat(cursor["end"]), cursor["id"])
            after = columns.where(sa.tuple_(Certificate.not_after, Certificate.id) > sa.tuple_(*last))
        most = min(left, step) if rest else limit
        rows = db.execute(after.order_by(Certificate.not_after, Certificate.id).limit(most)).all()
        for identifier, end, holds in rows:
            cursor = {"end": end.isoformat(), "id": identifier}
            if holds:
                found.append(identifier)
            if len(found) == limit:
                return found, cursor
        left -= len(rows)
        if len(rows) < most:
            return found, None
        if left <= 0:
            return found, cursor
        step *= 4


def _format_cursor(place: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _parse_cursor(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        place = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        sound = isinstance(place, dict) and type(place.get("id")) is int and 0 < place["id"] < 2**63
        sound = sound and datetime.fromisoformat(place.get("end", "2000-01-01T00:00Z")).tzinfo is not None
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise Rejected("cursor", "pass the `next` of the last page as it is")
    return dict(place)
