"""``condau check``, and what keeps ``condau serve`` from starting: every part looked at, each finding with a severity."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

import sqlalchemy as sa
from cryptography import x509

from bootstrap import Services
from core.errors import CondauError, Conflict, NotFound, Rejected, Unavailable
from core.settings import Config
from migrations.schema import is_current
from pki.certificates import authority_certificate, usable_until
from pki.models import Authority, Backup, Certificate, CertificateState, Crl, CrlState
from registry.models import ApiClient, Grant, Subscriber

_MANY_GRANTS: Final = 20
"""A client system that may sign for more subscribers than this, and for more than half of all, is worth a look."""
_SERVICES: Final = ("tsa", "ocsp-responder")


class Level(IntEnum):
    """How much a finding weighs; the exit code of ``condau check`` is 1 from WARNING and 2 from CRITICAL on."""

    OK = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one part."""

    part: str
    level: Level
    detail: str


def exit_code(findings: list[Finding]) -> int:
    """0: all is well; 1: something wants attention; 2: something does not work, or soon will not."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    return {Level.OK: 0, Level.INFO: 0, Level.WARNING: 1, Level.CRITICAL: 2}[worst]


def examine(services: Services) -> list[Finding]:
    """Every part of the instance, worst first in each. A part that cannot be looked at is itself critical."""
    parts: dict[str, Callable[[Services], Iterator[Finding]]] = {
        "migrations": _migrations,
        "hsm": _hsm,
        "authorities": _authorities,
        "crl": _crls,
        "services": _service_certificates,
        "clock": _clock,
        "backups": _backups,
        "disk": _disk,
        "grants": _grants,
    }
    found: list[Finding] = []
    for name, look in parts.items():
        try:
            found += sorted(look(services), key=lambda finding: -finding.level)
        except CondauError as error:
            found.append(Finding(name, Level.CRITICAL, error.detail))
        except sa.exc.DBAPIError:
            found.append(
                Finding(name, Level.CRITICAL, "its tables cannot be read: run `condau init` to bring the schema up to date")
            )
    return found


def check_start(services: Services) -> None:
    """Refuse to serve what cannot be meant; raises Conflict or Rejected naming it.

    Pending migrations, a development instance open to others, and a key that is not the one its certificate is for. What is
    merely away (token, database) is no reason: the service starts, and answers 503 until it is back.
    """
    check_exposure(services.config)
    try:
        if not is_current(services.database):
            raise Conflict("the schema is not the one this version needs: run `condau init`")
        labels = _standing_keys(services)
    except (Unavailable, sa.exc.OperationalError):
        return
    for label, certificate in labels.items():
        try:
            key = services.token.key(label)
        except Unavailable:
            continue
        except NotFound as error:
            if services.config.hsm.is_offline(label):
                continue
            raise Conflict(f"the key {label} is not in the token, and its certificate is in the database") from error
        if key.public_key() != certificate.public_key():
            raise Conflict(f"the key {label} in the token is not the one its certificate is for: do not serve with it")


def check_exposure(config: Config) -> None:
    """A development instance has API keys in a file and no secrets worth the name: it listens to this machine only."""
    if config.development and not _is_loopback(config.server.host):
        raise Rejected("development", f"a development instance must not listen on {config.server.host}: use 127.0.0.1")
    if not config.development and (config.home / "dev" / "credentials.toml").exists():
        raise Rejected("development", "dev/credentials.toml is there: remove it and its clients, or say development = true")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _standing_keys(services: Services) -> dict[str, x509.Certificate]:
    """Label and certificate of every authority, responder and time-stamping unit, and of every seal, that may sign now."""
    found: dict[str, x509.Certificate] = {}
    at = services.now()
    with services.database.read() as db:
        for authority in db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None))):
            found[authority.key_label] = authority_certificate(authority)
        valid = sa.select(Certificate).where(
            Certificate.profile.in_((*_SERVICES, "agency-seal")),
            Certificate.state == CertificateState.ISSUED,
            Certificate.key_label.is_not(None),
            Certificate.revoked_at.is_(None),
            Certificate.not_after > at,
        )
        for row in db.scalars(valid):
            if row.key_label is not None and row.der is not None:
                found[row.key_label] = x509.load_der_x509_certificate(row.der)
    return found


def _used(start: datetime, end: datetime, at: datetime) -> int:
    """Which part of a term has passed, in percent."""
    return round(100 * ((at - start) / (end - start)))


def _term(part: str, name: str, start: datetime, end: datetime, at: datetime, *, warn: int) -> Finding:
    used = _used(start, end, at)
    level = Level.CRITICAL if at >= end or used >= 97 else Level.WARNING if used >= warn else Level.OK
    state = "has expired" if at >= end else f"has used {used} % of its term"
    return Finding(part, level, f"{name} {state} (until {end:%Y-%m-%d %H:%M}Z)")


def _migrations(services: Services) -> Iterator[Finding]:
    current = is_current(services.database)
    yield Finding(
        "migrations", Level.OK if current else Level.CRITICAL, "none pending" if current else "pending: run `condau init`"
    )


def _hsm(services: Services) -> Iterator[Finding]:
    services.token.probe()
    yield Finding("hsm", Level.OK, "the token has just made a right signature")
    for token in services.config.hsm.tokens:
        try:
            count = len(services.token.labels(token.name))
            level = Level.INFO if token.offline else Level.OK
            more = ": it should be offline" if token.offline else ""
            yield Finding("hsm", level, f"the token {token.name} is there, with {count} keys{more}")
        except Unavailable as error:
            yield Finding("hsm", Level.OK if token.offline else Level.CRITICAL, error.detail)
    for label, certificate in _standing_keys(services).items():
        try:
            matches = services.token.key(label).public_key() == certificate.public_key()
        except Unavailable:
            continue  # its token has been told of
        except NotFound:
            yield Finding("hsm", Level.CRITICAL, f"the key {label} is not in the token")
            continue
        if not matches:
            yield Finding("hsm", Level.CRITICAL, f"the key {label} is not the one its certificate is for")


def _authorities(services: Services) -> Iterator[Finding]:
    at = services.now()
    with services.database.read() as db:
        rows = list(db.scalars(sa.select(Authority).order_by(Authority.id)))
    if not rows:
        yield Finding("authorities", Level.CRITICAL, "there is none: run `condau init` or a ceremony")
    for authority in rows:
        if authority.certificate_der is None:
            yield Finding("authorities", Level.WARNING, f"{authority.name} was begun and never finished: repeat its creation")
            continue
        certificate = authority_certificate(authority)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        yield _term("authorities", authority.name, start, end, at, warn=75)


def _crls(services: Services) -> Iterator[Finding]:
    at = services.now()
    complete = (Crl.state == CrlState.ISSUED, Crl.partition == 0, ~Crl.delta)
    newest = sa.select(sa.func.max(Crl.id)).where(*complete).group_by(Crl.authority_id)
    with services.database.read() as db:
        rows = {crl.authority_id: crl for crl in db.scalars(sa.select(Crl).where(Crl.id.in_(newest)))}
        authorities = list(db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None)).order_by(Authority.id)))
    for authority in authorities:
        crl = rows.get(authority.id)
        if crl is None:
            yield Finding("crl", Level.CRITICAL, f"{authority.name} has never published one")
        else:
            yield _term("crl", f"CRL {crl.number} of {authority.name}", crl.this_update, crl.next_update, at, warn=75)


def _service_certificates(services: Services) -> Iterator[Finding]:
    at = services.now()
    for profile in _SERVICES:
        with services.database.read() as db:
            query = sa.select(Certificate).where(
                Certificate.profile == profile, Certificate.state == CertificateState.ISSUED, Certificate.revoked_at.is_(None)
            )
            rows = list(db.scalars(query.order_by(Certificate.id.desc())))
        newest: dict[int, Certificate] = {}
        for row in rows:
            newest.setdefault(row.authority_id, row)
        if not newest:
            yield Finding("services", Level.CRITICAL, f"there is no {profile} certificate")
        for row in newest.values():
            if row.der is not None:
                certificate = x509.load_der_x509_certificate(row.der)
                yield _term("services", f"{profile} {row.subject}", row.not_before, usable_until(certificate), at, warn=80)


def _clock(services: Services) -> Iterator[Finding]:
    """What the time of time-stamps rests on; without a trusted clock none is given."""
    try:
        detail = services.clock.check()
    except Unavailable as error:
        yield Finding("clock", Level.CRITICAL, error.detail)
        return
    yield Finding("clock", Level.INFO if detail.startswith("UNCHECKED") else Level.OK, detail)


def _backups(services: Services) -> Iterator[Finding]:
    with services.database.read() as db:
        last = db.scalar(sa.select(Backup.at).order_by(Backup.id.desc()).limit(1))
    if last is None:
        level = Level.INFO if services.config.development else Level.WARNING
        yield Finding("backups", level, "there has never been one: run `condau backup`")
        return
    old = services.now() - last > timedelta(hours=services.config.pki.backup_hours)
    yield Finding("backups", Level.WARNING if old else Level.OK, f"the last one was made at {last:%Y-%m-%d %H:%M}Z")


def _disk(services: Services) -> Iterator[Finding]:
    usage = shutil.disk_usage(services.config.home)
    free = 100 * usage.free // usage.total
    level = Level.CRITICAL if free < 3 or usage.free < 200_000_000 else Level.WARNING if free < 10 else Level.OK
    yield Finding("disk", level, f"{free} % free ({usage.free // 1_000_000} MB)")


def _grants(services: Services) -> Iterator[Finding]:
    with services.database.read() as db:
        subscribers = db.scalar(sa.select(sa.func.count()).select_from(Subscriber)) or 0
        counted = sa.select(ApiClient.name, sa.func.count()).join(Grant, Grant.client_id == ApiClient.id)
        rows = list(db.execute(counted.where(ApiClient.disabled_at.is_(None)).group_by(ApiClient.name)))
    wide = [(name, count) for name, count in rows if count > _MANY_GRANTS and count > subscribers / 2]
    for name, count in wide:
        yield Finding("grants", Level.WARNING, f"the client {name} may sign for {count} of {subscribers} subscribers")
    if not wide:
        yield Finding("grants", Level.OK, f"{len(rows)} client systems, none with a right to sign for most subscribers")
