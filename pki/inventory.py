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
from sqlalchemy.orm import InstrumentedAttribute, Session, defer, joinedload, lazyload, load_only

from core.db import Database
from core.errors import Rejected
from pki.certificates import parse_serial
from pki.models import Authority, Certificate, CertificateState, HolderAgency, HolderText
from pki.walk import Condition, Place, Streams, Walk, count, walk
from registry.agencies import with_those_below
from registry.models import Agency, Subscriber
from registry.registry import find_agency

Standing = Literal["valid", "suspended", "revoked", "expired", "not-yet-valid", "undecided"]
"""What a certificate is worth at a moment. ``undecided``: its issuance has no result yet."""

STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)
_HOLD: Final = "certificateHold"
_FINAL: Final = frozenset(flag.value for flag in x509.ReasonFlags if flag.value != _HOLD)
_FEW: Final = 200
"""So few certificates are looked at whatever else is asked."""
_MOST_HOLDERS: Final = 500
"""Up to so many the certificates of each are followed; of more, the newest of all soon give a page."""
_NOBODY: Final = 0
"""An identifier that no row has."""


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
    insert = sqlite_insert if db.get_bind().dialect.name == "sqlite" else postgresql_insert
    there = insert(HolderAgency).values(agency_id=certificate.agency_id, subscriber_id=certificate.subscriber_id)
    db.execute(there.on_conflict_do_nothing())
    values = re.findall(r"=((?:\\.|[^,+])*)", certificate.subject)
    said = set(fold(" ".join([*values, handle])))
    row = db.get(HolderText, certificate.subscriber_id)
    if row is not None and said <= set(row.words.split()):
        return
    db.execute(insert(HolderText).values(subscriber_id=certificate.subscriber_id, words="").on_conflict_do_nothing())
    row = db.get_one(HolderText, certificate.subscriber_id, with_for_update=True, populate_existing=True)  # another may add its own
    row.words = f" {' '.join(sorted(said | set(row.words.split())))} "


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
    """One page: the newest first; or, where a search about expiry names no holder, key or serial, the earliest end first.

    It costs the same whatever the number of certificates: it looks at :data:`pki.walk.MOST_EXAMINED` of them and then comes
    back short, even empty, with a cursor. Raises Rejected for an agency or cursor that is none of ours, and for a text
    without a word.
    """
    place = _parse_cursor(search.cursor)
    identifiers, following = walk(db, _plan(db, search, at, place), search.limit, place)
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


def _plan(db: Session, search: Search, at: datetime, place: Place | None) -> Walk:
    """How to find them. What names few is followed by itself; a search about expiry, by the end of validity."""
    ends = _ends(search, at)
    rest = _rest(search, at)
    named = _named(db, search)
    agencies = _agencies(db, search, at)
    holders, words = _holders(db, search, agencies)
    profiles = [] if search.profile is None else [_one(Certificate.profile, search.profile)]
    standings = list(_standing(search))
    by_end = place is not None and len(place) == 2
    if place is None and ends:
        by_end = not named and not holders and all(count(db, one, _FEW) == _FEW for one in standings)
    if by_end:
        followed, judged = [*agencies, *profiles], [*named, *holders, *standings]
    elif named:
        followed, judged = named[:1], [*named[1:], *holders, *agencies, *standings, *profiles]
    else:
        followed, judged = [*holders, *agencies, *standings, *profiles], []
    return Walk(by_end, tuple(followed), tuple(judged), ends, (*rest, *words))


def _ends(search: Search, at: datetime) -> tuple[Condition, ...]:
    found: list[Condition] = []
    if search.standing == "expired":
        found.append(Certificate.not_after < at)
    if search.expires_from is not None:
        found.append(Certificate.not_after >= search.expires_from)
    if search.expires_before is not None:
        found.append(Certificate.not_after < search.expires_before)
    return tuple(found)


def _rest(search: Search, at: datetime) -> list[Condition]:
    """What no index is walked for."""
    found: list[Condition] = []
    if search.standing not in (None, "revoked", "suspended"):
        found.append(standing_case(at) == search.standing)
    if search.key_in_hsm is not None:
        found.append(Certificate.key_label.is_not(None) if search.key_in_hsm else Certificate.key_label.is_(None))
    return found


def _named(db: Session, search: Search) -> list[Streams]:
    """The conditions that few certificates meet, whatever their number."""
    found: list[Streams] = []
    if search.serial is not None:
        found.append(_one(Certificate.serial, parse_serial(search.serial)))
    if search.spki_sha256 is not None:
        found.append(_one(Certificate.spki_sha256, search.spki_sha256.lower()))
    if search.subscriber is not None:
        holder = db.scalar(sa.select(Subscriber.id).where(Subscriber.handle == search.subscriber))
        found.append(_one(Certificate.subscriber_id, _NOBODY if holder is None else holder))
    return found


def _one(column: InstrumentedAttribute[Any], value: object) -> Streams:
    return Streams(column, frozenset({value}))


def _standing(search: Search) -> Iterator[Streams]:
    if search.standing in ("revoked", "suspended"):
        yield Streams(Certificate.revocation_reason, _FINAL if search.standing == "revoked" else frozenset({_HOLD}))
    if search.standing == "undecided":
        yield Streams(Certificate.state, frozenset({CertificateState.INTENDED.value, CertificateState.ABANDONED.value}))
    if search.state is not None:
        yield _one(Certificate.state, search.state)


def _holders(db: Session, search: Search, agencies: Sequence[Streams]) -> tuple[list[Streams], list[Condition]]:
    """Those whose names have the words: few as streams, many as a condition, for then the newest soon give a page."""
    if search.text is None:
        return [], []
    words = fold(search.text)
    if not words:
        raise Rejected("text", "give at least one word, or its beginning")
    matches = [HolderText.words.like(f"% {word}%") for word in words]
    query = sa.select(HolderText.subscriber_id).where(*matches).limit(_MOST_HOLDERS + 1)
    for one in agencies:  # a holder is in the list of every agency that a certificate of theirs names
        there = sa.select(HolderAgency.subscriber_id).where(HolderAgency.agency_id.in_(one.values))
        query = query.where(HolderText.subscriber_id.in_(there))
    found = frozenset(db.scalars(query)) or frozenset({_NOBODY})
    if len(found) <= _MOST_HOLDERS:
        return [Streams(Certificate.subscriber_id, found)], []
    # a value, no EXISTS: that PostgreSQL would answer by reading through all holders
    holds = sa.select(sa.and_(*matches)).where(HolderText.subscriber_id == Certificate.subscriber_id)
    return [], [holds.scalar_subquery().is_(sa.true())]


def _agencies(db: Session, search: Search, at: datetime) -> list[Streams]:
    if search.agency is None:
        return []
    root = find_agency(db, search.agency)
    if root is None:
        raise Rejected("agency", f"no agency has the code {search.agency!r}")
    revoked = (Certificate.revocation_reason.is_not(None),) if search.standing in ("revoked", "suspended") else ()
    return [Streams(Certificate.agency_id, frozenset(with_those_below(db, root.id, at)), revoked)]


def _format_cursor(place: Place) -> str:
    known: dict[str, Any] = {"id": place[-1]}
    if len(place) == 2:
        known["end"] = place[0].isoformat()
    return base64.urlsafe_b64encode(json.dumps(known, separators=(",", ":")).encode()).decode().rstrip("=")


def _parse_cursor(text: str | None) -> Place | None:
    if text is None:
        return None
    try:
        known = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        sound = isinstance(known, dict) and type(known.get("id")) is int and 0 < known["id"] < 2**63
        end = datetime.fromisoformat(known["end"]) if sound and "end" in known else None
        sound = sound and (end is None or end.tzinfo is not None)
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise Rejected("cursor", "pass the `next` of the last page as it is")
    return (known["id"],) if end is None else (end, known["id"])
