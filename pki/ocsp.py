"""The OCSP responder: what is in the database now, signed by a delegated responder of the authority (docs/adr/0005)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.x509.ocsp import OCSPResponseStatus
from sqlalchemy.orm import Session

from audit.log import Actor, entry
from core.clock import Now
from core.db import Database, Row
from core.errors import Unavailable
from core.settings import Config
from core.signatures import fitting_hash, sign, verify
from hsm.keys import KeyStore
from pki.certificates import Identity, authority_certificate, format_serial, service_certificate
from pki.lint import check_ocsp_lints
from pki.models import Authority, Certificate, CertificateState, OcspRecord
from pki.ocsp_der import CertId, OcspQuery, Refusal, Status, build_data, build_refusal, build_response, issuer_hashes, parse_request
from pki.profile import PublicKey

_KEEP: Final = timedelta(seconds=30)
"""How long which certificate answers for an authority is remembered; a new one takes effect within this time."""
_SERIAL_COLUMN: Final = 80
_MOST_CACHED: Final = 10_000
"""Answers remembered; when there are more the oldest half is forgotten."""


@dataclass(frozen=True, slots=True)
class _Responder:
    """An authority and the certificate that answers for it."""

    authority_id: int
    identity: Identity
    public_key: PublicKey
    since: datetime
    """From when the authority has issued: nothing older can be asked about."""
    loaded_at: datetime


@dataclass(frozen=True, slots=True)
class _Cached:
    """An answer, and how the authority's statuses stood when it was made: it is given again only while they stand so."""

    status_version: int
    responder: str
    at: datetime
    response: bytes


class OcspResponder:
    """Answers OCSP for every authority of ours; a request about several certificates must be about one authority."""

    def __init__(self, *, database: Database, keys: KeyStore, now: Now, config: Config) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._life = timedelta(minutes=config.pki.ocsp_minutes)
        self._cache_life = timedelta(seconds=config.pki.ocsp_cache_seconds)
        self._cache: dict[tuple[str, tuple[bytes, ...]], _Cached] = {}
        self._issuers: dict[tuple[str, bytes, bytes], str] = {}
        self._responders: dict[str, _Responder] = {}
        self._linted: set[tuple[str, bool, bool, str, str | None, bool]] = set()
        self._lock = threading.Lock()

    def respond(self, der: bytes, actor: Actor, *, since: datetime | None = None) -> bytes:
        """The DER OCSPResponse to a DER OCSPRequest; one that was given before is not given again if it is from before ``since``.

        What cannot be answered is answered by an unsigned error status: malformedRequest, or unauthorized for the
        certificates of others (RFC 6960, 2.3). Raises Unavailable while the token or the database is away.
        """
        try:
            query = parse_request(der)
            name = self._authority(query.certificates)
        except Refusal as refusal:
            return build_refusal(refusal.status)
        at = self._now().replace(microsecond=0)
        responder = self._responder(name, at)
        cached = None if query.nonce is not None else self._cache.get(_cache_key(name, query))
        with self._database.read() as db:
            # the version before the statuses: should one change in between, the answer is newer than what it is filed under
            version = db.execute(_VERSION, {"authority_id": responder.authority_id}).scalar_one()
            if cached is not None and self._is_fresh(cached, version, responder, at) and not _is_older(cached, since):
                return cached.response
            statuses = _load_statuses(db, responder.authority_id, query.certificates)
        response = self._sign(responder, query, statuses, at)
        self._lint_once(responder, query, statuses, response)
        self._database.insert(*_records(responder, name, query, statuses, at=at, actor=actor))
        if query.nonce is None and all(status.name != "unknown" for status in statuses):  # issuing one changes no version
            self._remember(_cache_key(name, query), _Cached(version, responder.identity.serial, at, response))
        return response

    def _lint_once(self, responder: _Responder, query: OcspQuery, statuses: Sequence[Status], response: bytes) -> None:
        """Lint the first answer of each form that a responder's certificate gives; raises Unavailable when it finds a fault.

        Answers of one form differ in serial numbers and moments alone, and a lint of each would cost ten times its signature.
        """
        shared = (responder.identity.serial, query.nonce is None, len(statuses) > 1)
        forms = {(*shared, status.name, status.reason, status.invalidity_date is None) for status in statuses}
        if not forms <= self._linted:
            check_ocsp_lints(response)
            self._linted |= forms

    def _is_fresh(self, cached: _Cached, version: int, responder: _Responder, at: datetime) -> bool:
        same = (cached.status_version, cached.responder) == (version, responder.identity.serial)
        return same and timedelta() <= at - cached.at < self._cache_life

    def _remember(self, key: tuple[str, tuple[bytes, ...]], answer: _Cached) -> None:
        if not self._cache_life:
            return
        with self._lock:
            if len(self._cache) >= _MOST_CACHED:
                self._cache = dict(list(self._cache.items())[_MOST_CACHED // 2 :])
            self._cache[key] = answer

    def _sign(self, responder: _Responder, query: OcspQuery, statuses: Sequence[Status], at: datetime) -> bytes:
        certificate = responder.identity.certificate
        data = build_data(
            query,
            statuses,
            responder=certificate,
            this_update=at,
            next_update=at + self._life,
            archive_cutoff=responder.since,
        )
        key = self._keys.key(responder.identity.key_label)
        algorithm = fitting_hash(responder.public_key)
        signature = sign(key, data, algorithm)
        try:
            verify(responder.public_key, signature, data, algorithm)
        except InvalidSignature as error:
            raise Unavailable("hsm", "the responder's public key does not verify what the token signed") from error
        return build_response(data, signature, certificate)

    def _authority(self, wanted: Sequence[CertId]) -> str:
        """The one authority that every certificate asked for is of."""
        names = {self._issuers.get(_issuer_of(item)) for item in wanted}
        if None in names:  # another process may have created an authority since
            self._issuers = self._load_issuers()
            names = {self._issuers.get(_issuer_of(item)) for item in wanted}
        if len(names) != 1 or None in names:
            raise Refusal(OCSPResponseStatus.UNAUTHORIZED)
        return str(names.pop())

    def _load_issuers(self) -> dict[tuple[str, bytes, bytes], str]:
        with self._database.read() as db:
            authorities = list(db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None))))
        return {hashed: item.name for item in authorities for hashed in issuer_hashes(authority_certificate(item))}

    def _responder(self, name: str, at: datetime) -> _Responder:
        found = self._responders.get(name)
        if found is not None and timedelta() <= at - found.loaded_at < _KEEP:
            return found
        with self._lock, self._database.read() as db:
            identity = service_certificate(db, "ocsp-responder", at, issuer=name)
            authority_id = db.execute(sa.select(Authority.id).where(Authority.name == name)).scalar_one()
        key: PublicKey = identity.certificate.public_key()  # type: ignore[assignment]  # KeySpec has only these kinds
        self._responders[name] = _Responder(authority_id, identity, key, identity.chain[0].not_valid_before_utc, at)
        return self._responders[name]


def _is_older(answer: _Cached, since: datetime | None) -> bool:
    return since is not None and answer.at < since.replace(microsecond=0)  # OCSP tells whole seconds


def _cache_key(name: str, query: OcspQuery) -> tuple[str, tuple[bytes, ...]]:
    return name, tuple(item.der for item in query.certificates)


def _issuer_of(wanted: CertId) -> tuple[str, bytes, bytes]:
    return wanted.hash_name, wanted.name_hash, wanted.key_hash


def _load_statuses(db: Session, authority_id: int, wanted: Sequence[CertId]) -> list[Status]:
    """What the database says of each now. One whose issuance is not complete was never issued: unknown."""
    serials = {format_serial(item.serial) for item in wanted}
    standing = (Certificate.revoked_at, Certificate.revocation_reason, Certificate.invalidity_date)
    query = sa.select(Certificate.serial, Certificate.state, *standing).where(
        Certificate.serial.in_(serials), Certificate.authority_id == authority_id
    )
    found = {row[0]: row for row in db.execute(query)}
    statuses = []
    for item in wanted:
        row = found.get(format_serial(item.serial))
        if row is None:
            statuses.append(Status("unknown"))
            continue
        _, state, at, reason, invalidity_date = row
        if at is not None:
            statuses.append(Status("revoked", at, reason, invalidity_date))
        else:
            statuses.append(Status("good" if state == CertificateState.ISSUED else "unknown"))
    return statuses


_VERSION: Final = sa.select(Authority.status_version).where(Authority.id == sa.bindparam("authority_id"))
_INSERT: Final = sa.insert(cast("sa.Table", OcspRecord.__table__))


def _records(
    responder: _Responder, name: str, query: OcspQuery, statuses: Sequence[Status], *, at: datetime, actor: Actor
) -> Sequence[Row]:
    """What is written down of one response: the status said of each certificate, and the use of the responder's key."""
    answers = {
        format_serial(item.serial)[:_SERIAL_COLUMN]: status.name for item, status in zip(query.certificates, statuses, strict=True)
    }
    rows: list[Row] = [
        (_INSERT, {"at": at, "authority_id": responder.authority_id, "serial": serial, "status": status})
        for serial, status in answers.items()
    ]
    told = {"authority": name, "answers": answers}
    return [*rows, entry(at=at, actor=actor, action="ocsp.respond", subject=responder.identity.serial, **told)]
