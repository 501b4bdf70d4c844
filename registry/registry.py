"""Adding to the registry and asking it: who is this key, which subscribers may it sign for."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.errors import Conflict, NotFound, Rejected, Unauthenticated
from registry.models import Agency, ApiClient, Grant, Role, Subscriber, SubscriberKind

T = TypeVar("T")
_HANDLE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def key_digest(key: str) -> str:
    """What is kept of an API key: its SHA-256 in lower-case hex (the key itself is 256 random bits, so no salt is needed)."""
    return hashlib.sha256(key.encode()).hexdigest()


def authenticate(db: Session, key: str) -> ApiClient:
    """The caller that holds ``key``; raises Unauthenticated for an unknown or disabled one."""
    client = db.scalar(sa.select(ApiClient).where(ApiClient.key_sha256 == key_digest(key), ApiClient.disabled_at.is_(None)))
    if client is None:
        raise Unauthenticated("the API key is not known here: ask the operator for one and send it as Authorization: Bearer <key>")
    return client


def add_client(db: Session, *, at: datetime, actor: Actor, name: str, role: Role) -> str:
    """Add a caller and return its API key, which is shown this once and not kept."""
    _check_handle("name", name)
    key = secrets.token_urlsafe(32)
    row = ApiClient(name=name, role=role.value, key_sha256=key_digest(key), created_at=at)
    _insert(db, row, f"a client named {name} exists already")
    append(db, at=at, actor=actor, action="client.add", subject=name, role_given=role.value)
    return key


def set_client_key(db: Session, *, at: datetime, actor: Actor, name: str, role: Role) -> str:
    """Give the caller ``name`` a new API key, adding it where it is not there yet; its old key is worth nothing from now on."""
    client = db.scalar(sa.select(ApiClient).where(ApiClient.name == name))
    if client is None:
        return add_client(db, at=at, actor=actor, name=name, role=role)
    key = secrets.token_urlsafe(32)
    client.key_sha256, client.role = key_digest(key), role.value
    append(db, at=at, actor=actor, action="client.new-key", subject=name)
    return key


def find_agency(db: Session, code: str) -> Agency | None:
    """The agency with this identifier code, or None."""
    return db.scalar(sa.select(Agency).where(Agency.code == code))


def add_agency(db: Session, *, at: datetime, actor: Actor, code: str, name: str, locality: str) -> Agency:
    """Add an agency by its identifier code."""
    agency = _insert(db, Agency(code=code, name=name, locality=locality), f"an agency with code {code} exists already")
    append(db, at=at, actor=actor, action="agency.add", subject=code, name=name)
    return agency


def add_subscriber(
    db: Session, *, at: datetime, actor: Actor, handle: str, kind: SubscriberKind, common_name: str, agency: Agency
) -> Subscriber:
    """Add a subscriber of an agency under a handle that is unique here."""
    _check_handle("handle", handle)
    subscriber = Subscriber(handle=handle, kind=kind.value, common_name=common_name, agency=agency)
    subscriber = _insert(db, subscriber, f"a subscriber {handle} exists already")
    append(db, at=at, actor=actor, action="subscriber.add", subject=handle, kind=kind.value, agency=agency.code)
    return subscriber


def grant(db: Session, *, at: datetime, actor: Actor, client: str, subscriber: str) -> None:
    """Let the client system named ``client`` sign for ``subscriber``; doing it twice changes nothing."""
    caller = db.scalar(sa.select(ApiClient).where(ApiClient.name == client))
    if caller is None:
        raise NotFound("client", f"no client is named {client}")
    if caller.role != Role.CLIENT:
        raise Rejected("client", f"{client} is a {caller.role}: only a client system signs")
    holder = subscriber_named(db, subscriber)
    if db.get(Grant, (caller.id, holder.id)) is None:
        db.add(Grant(client_id=caller.id, subscriber_id=holder.id))
        append(db, at=at, actor=actor, action="grant.add", subject=client, subscriber=subscriber)


def subscriber_named(db: Session, handle: str) -> Subscriber:
    """The subscriber with this handle; raises NotFound."""
    subscriber = db.scalar(sa.select(Subscriber).where(Subscriber.handle == handle))
    if subscriber is None:
        raise NotFound("subscriber", f"no subscriber has the handle {handle!r}")
    return subscriber


def granted_subscribers(db: Session, client: str) -> list[Subscriber]:
    """The subscribers the client system named ``client`` may sign for, by handle."""
    query = sa.select(Subscriber).join(Grant).join(ApiClient).where(ApiClient.name == client).order_by(Subscriber.handle)
    return list(db.scalars(query))


def _check_handle(field: str, value: str) -> None:
    if not _HANDLE.fullmatch(value):
        raise Rejected(field, "must be 1 to 63 characters of a-z, 0-9 and hyphen, the first not a hyphen")


def _insert(db: Session, row: T, taken: str) -> T:
    db.add(row)
    try:
        db.flush()
    except IntegrityError as error:
        raise Conflict(taken) from error
    return row
