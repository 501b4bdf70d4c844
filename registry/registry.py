"""Adding to the registry and asking it: who is this key, which subscribers may it sign for."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from core.errors import Conflict, NotFound, Rejected, Unauthenticated, Violation
from registry.agency_codes import parse_agency_code
from registry.identity_numbers import check_identity_number
from registry.models import Agency, AgencyVersion, ApiClient, Grant, Role, Subscriber, SubscriberKind

CERTIFICATE_NAME: Final = 64
"""Characters of an organisation's or unit's name that a certificate holds (X.520, ub-organization-name)."""
T = TypeVar("T")
_HANDLE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DNS = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")


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
    """The agency with this identifier code, in whichever order it is written, or None; raises Rejected for what is no code."""
    return db.scalar(sa.select(Agency).where(Agency.code_key == parse_agency_code(code).key))


def agency_with_code(db: Session, code: str) -> Agency:
    """The same, but raises NotFound."""
    agency = find_agency(db, code)
    if agency is None:
        raise NotFound("agency", f"no agency has the code {code!r}: add it with `condau add-agency`")
    return agency


def add_agency(
    db: Session,
    *,
    at: datetime,
    actor: Actor,
    code: str,
    name: str,
    locality: str,
    parent: Agency | None = None,
    since: datetime | None = None,
    certificate_name: str | None = None,
) -> Agency:
    """Add an agency by its identifier code, below ``parent`` or at the top; ``since`` when it has had this name (None: ``at``).

    ``certificate_name``: what certificates call it, where its name has more than :data:`CERTIFICATE_NAME` characters.
    Raises Rejected for what is no code or an empty name, Conflict when the code is taken, in whichever order it was written.
    """
    parsed = parse_agency_code(code)
    name, locality = checked_text("name", name, 300), checked_text("locality", locality, 128)
    agency = _insert(db, Agency(code=parsed.given, code_key=parsed.key), f"an agency with the code {code} exists already")
    agency.versions.append(
        AgencyVersion(
            since=since or at,
            name=name,
            certificate_name=checked_short(certificate_name),
            locality=locality,
            parent_id=parent.id if parent else None,
            closed=False,
        )
    )
    db.flush()
    under = parent.code if parent else None
    append(db, at=at, actor=actor, action="agency.add", subject=code, name=name, parent=under, since=(since or at).isoformat())
    return agency


def add_subscriber(
    db: Session,
    *,
    at: datetime,
    actor: Actor,
    handle: str,
    kind: SubscriberKind,
    common_name: str,
    agency: Agency,
    uid: str | None = None,
    email: str | None = None,
    dns_names: Sequence[str] = (),
) -> Subscriber:
    """Add a subscriber of an agency under a handle that is unique here. Raises Rejected with every violation, Conflict."""
    violations = list(_check_subscriber(kind, uid=uid, email=email, dns_names=dns_names))
    for check in (lambda: _check_handle("handle", handle), lambda: checked_text("common_name", common_name, 64)):
        try:
            check()
        except Rejected as error:
            violations += error.violations
    if violations:
        raise Rejected.all(violations)
    common_name = checked_text("common_name", common_name, 64)
    subscriber = Subscriber(
        handle=handle, kind=kind.value, common_name=common_name, agency=agency, uid=uid, email=email, dns_names=list(dns_names)
    )
    subscriber = _insert(db, subscriber, f"a subscriber {handle} exists already")
    append(db, at=at, actor=actor, action="subscriber.add", subject=handle, kind=kind.value, agency=agency.code)
    return subscriber


def change_subscriber(
    db: Session, subscriber: Subscriber, *, at: datetime, actor: Actor, agency: Agency | None = None, **fields: Any
) -> Subscriber:
    """Change what future certificates say of a subscriber: ``common_name``, ``uid``, ``email``, ``dns_names``, the agency.

    Certificates that are out keep saying what they said: revoke those that are no longer true. The log has the old values.
    """
    if "common_name" in fields:
        fields["common_name"] = checked_text("common_name", fields["common_name"], 64)
    merged = {name: fields.get(name, getattr(subscriber, name)) for name in ("uid", "email", "dns_names")}
    violations = list(_check_subscriber(SubscriberKind(subscriber.kind), **merged))
    if violations:
        raise Rejected.all(violations)
    before = {name: getattr(subscriber, name) for name in fields}
    if agency is not None:
        before["agency"], fields["agency"] = subscriber.agency.code, agency
    for name, value in fields.items():
        setattr(subscriber, name, value)
    after = {name: value.code if isinstance(value, Agency) else value for name, value in fields.items()}
    append(db, at=at, actor=actor, action="subscriber.change", subject=subscriber.handle, before=before, after=after)
    db.flush()
    return subscriber


def disable_client(db: Session, *, at: datetime, actor: Actor, name: str) -> ApiClient:
    """Take a caller's access away for good; raises NotFound, Conflict when that was done already."""
    client = client_named(db, name, lock=True)
    if client.disabled_at is not None:
        raise Conflict(f"the client {name} was disabled already, at {client.disabled_at.isoformat()}")
    client.disabled_at = at
    append(db, at=at, actor=actor, action="client.disable", subject=name)
    return client


def client_named(db: Session, name: str, *, lock: bool = False) -> ApiClient:
    """The caller with this name, its row held until the transaction ends if ``lock``; raises NotFound."""
    query = sa.select(ApiClient).where(ApiClient.name == name)
    client = db.scalar(query.with_for_update() if lock else query)
    if client is None:
        raise NotFound("client", f"no client is named {name!r}")
    return client


def grant(db: Session, *, at: datetime, actor: Actor, client: str, subscriber: str) -> None:
    """Let the client system named ``client`` sign for ``subscriber``; doing it twice changes nothing."""
    caller = client_named(db, client, lock=True)  # whoever takes its role takes what it was granted as well
    if caller.role != Role.CLIENT:
        raise Rejected("client", f"{client} is a {caller.role}: only a client system signs")
    holder = subscriber_named(db, subscriber)
    if db.get(Grant, (caller.id, holder.id)) is None:
        db.add(Grant(client_id=caller.id, subscriber_id=holder.id))
        append(db, at=at, actor=actor, action="grant.add", subject=client, subscriber=subscriber)


def withdraw_grant(db: Session, *, at: datetime, actor: Actor, client: str, subscriber: str) -> None:
    """End a grant; raises NotFound when there is none."""
    row = db.get(Grant, (client_named(db, client).id, subscriber_named(db, subscriber).id))
    if row is None:
        raise NotFound("subscriber", f"the client {client} has no grant for {subscriber}")
    db.delete(row)
    append(db, at=at, actor=actor, action="grant.withdraw", subject=client, subscriber=subscriber)


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


def checked_short(certificate_name: str | None) -> str | None:
    """What certificates are to call an agency; None: its name. Raises Rejected for more than a certificate holds."""
    return None if certificate_name is None else checked_text("certificate_name", certificate_name, CERTIFICATE_NAME)


def checked_text(field: str, value: str, most: int) -> str:
    """A name in Unicode NFC without blanks around it; raises Rejected for an empty, too long or unprintable one."""
    text = unicodedata.normalize("NFC", value).strip()
    if not text or len(text) > most or not text.isprintable():
        raise Rejected(field, f"must be 1 to {most} printable characters")
    return text


def _check_subscriber(kind: SubscriberKind, *, uid: str | None, email: str | None, dns_names: Sequence[str]) -> Iterator[Violation]:
    if uid is not None:
        try:
            check_identity_number(uid)
        except Rejected as error:
            yield from error.violations
        else:
            if kind is not SubscriberKind.OFFICER and not uid.startswith("MST:"):
                yield Violation("uid", f"only a person has an identity card: a subscriber of the kind {kind.value} has MST:")
    if email is not None and (len(email) > 254 or not _EMAIL.fullmatch(email)):
        yield Violation("email", "is no e-mail address in ASCII: name@example.gov.vn")
    if dns_names and kind is not SubscriberKind.DEVICE:
        yield Violation("dns_names", "only a device or service has host names")
    for name in dns_names:
        if len(name) > 253 or not _DNS.fullmatch(name):
            message = f"{name[:80]!r} is no host name in lower-case ASCII (an international one as xn--…, none with *)"
            yield Violation("dns_names", message)


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
