"""The OCSP responder: what is in the database now, signed by a delegated responder of the authority (docs/adr/0005, 0021)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, ParamSpec, TypeAlias, TypeVar

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.x509.ocsp import OCSPResponseStatus

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Unavailable
from core.settings import Config
from core.signatures import fitting_hash, sign, verify
from hsm.keys import KeyStore
from pki.certificates import Identity, authority_certificate, service_certificate
from pki.lint import check_ocsp_lints
from pki.models import Authority
from pki.ocsp_der import UNKNOWN, ResponseForm, Status, build_refusal
from pki.ocsp_records import Answer, Standing, build_rows, load_standings, load_versions
from pki.ocsp_request import CertId, IssuerHash, OcspQuery, Refusal, issuer_hashes, parse_request
from pki.profile import PublicKey

_KEEP: Final = timedelta(seconds=30)
"""How long which certificate answers for an authority is remembered; a new one takes effect within this time."""
_MOST_CACHED: Final = 10_000
"""Answers remembered; when there are more the oldest half is forgotten."""
_log = logging.getLogger("condau.ocsp")
_P = ParamSpec("_P")
_T = TypeVar("_T")
_CacheKey: TypeAlias = tuple[str, tuple[bytes, ...]]
_Final: TypeAlias = bytes | CondauError
"""What the caller gets, whatever the rest of the batch comes to."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One OCSPRequest (DER), and who sent it."""

    request: bytes
    actor: Actor


@dataclass(frozen=True, slots=True)
class _Responder:
    """An authority and the certificate that answers for it."""

    authority: str
    authority_id: int
    identity: Identity
    public_key: PublicKey
    algorithm: HashAlgorithm
    form: ResponseForm
    loaded_at: datetime


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request that was read, and who answers it."""

    query: OcspQuery
    actor: Actor
    responder: _Responder


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database said at one moment, for a batch."""

    at: datetime
    """In whole seconds, as answers state it."""
    versions: dict[int, int]
    standings: dict[str, Standing]


@dataclass(frozen=True, slots=True)
class _Signed:
    """A response nobody has seen yet: it is still to be checked and recorded."""

    begun: _Begun
    data: bytes
    signature: bytes
    answer: Answer


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
        self._keep_every = timedelta(hours=config.pki.ocsp_evidence_hours)
        self._cache: dict[_CacheKey, _Cached] = {}
        self._issuers: dict[IssuerHash, str] = {}
        self._responders: dict[str, _Responder] = {}
        self._linted: set[tuple[str, bool, bool, str, str | None, bool]] = set()
        self._lock = threading.Lock()

    def respond(self, der: bytes, actor: Actor) -> bytes:
        """The DER OCSPResponse to a DER OCSPRequest.

        What cannot be answered is answered by an unsigned error status: malformedRequest, unauthorized for the certificates
        of others, internalError for a fault of ours, which is logged (RFC 6960, 2.3). Raises Unavailable while the token or
        the database is away.
        """
        (outcome,) = self.respond_all([Ask(der, actor)])
        if isinstance(outcome, CondauError):
            raise outcome
        return outcome

    def respond_all(self, asked: Sequence[Ask]) -> list[bytes | CondauError]:
        """What :meth:`respond` says to each, in their order, or the error it raises.

        One look at the database for all, one signature for each, one commit for all before any answer is given.
        """
        at = self._now()
        drafts = [_guarded(self._begin, ask, at) for ask in asked]
        try:
            known = self._look_up([draft for draft in drafts if isinstance(draft, _Begun)], at)
        except Unavailable as away:
            return [away if isinstance(draft, _Begun) else draft for draft in drafts]
        answers = [_guarded(self._answer, draft, known) if isinstance(draft, _Begun) else draft for draft in drafts]
        signed = [answer for answer in answers if isinstance(answer, _Signed)]
        errors = self._check(signed)
        errors |= self._record([one for one in signed if one.answer.responder not in errors], at)
        return [self._finish(answer, errors, known) if isinstance(answer, _Signed) else answer for answer in answers]

    def _begin(self, ask: Ask, at: datetime) -> _Begun:
        query = parse_request(ask.request)
        return _Begun(query, ask.actor, self._responder(self._authority(query.certificates), at))

    def _look_up(self, begun: Sequence[_Begun], at: datetime) -> _Known:
        """The statuses as they are now: a revocation committed before the request came is seen."""
        serials = {wanted.serial for one in begun for wanted in one.query.certificates}
        if not serials:
            return _Known(at, {}, {})
        with self._database.read() as db:
            # the versions before the statuses: should one change in between, the answer is newer than what it is filed under
            versions = load_versions(db)
            return _Known(at.replace(microsecond=0), versions, load_standings(db, serials))

    def _answer(self, begun: _Begun, known: _Known) -> bytes | _Signed:
        responder, query = begun.responder, begun.query
        version = known.versions[responder.authority_id]
        cached = None if query.nonce is not None else self._cache.get((responder.authority, _asked_for(query)))
        if cached is not None and self._is_fresh(cached, version, responder, known.at):
            return cached.response
        found = [_of_authority(known.standings.get(wanted.serial), responder) for wanted in query.certificates]
        statuses = [UNKNOWN if standing is None else standing.status for standing in found]
        until = known.at + self._life
        data = responder.form.build_data(query, statuses, this_update=known.at, next_update=until)
        signature = sign(self._keys.key(responder.identity.key_label), data, responder.algorithm)
        response = responder.form.build_response(data, signature)
        self._lint_once(responder, query, statuses, response)
        answer = Answer(
            actor=begun.actor,
            authority=responder.authority,
            authority_id=responder.authority_id,
            responder=responder.identity.serial,
            status_version=version,
            statuses=tuple((wanted.serial, status) for wanted, status in zip(query.certificates, statuses, strict=True)),
            standing=found[0] if len(found) == 1 else None,
            next_update=until,
            response=response,
        )
        return _Signed(begun, data, signature, answer)

    def _check(self, signed: Sequence[_Signed]) -> dict[str, CondauError]:
        """Verify one signature of each responder (docs/adr/0021); the error for those whose is wrong, by its serial."""
        samples = {one.answer.responder: one for one in signed}
        error = Unavailable("hsm", "the responder's public key does not verify what the token signed")
        return {responder: error for responder, one in samples.items() if not _verifies(one)}

    def _record(self, signed: Sequence[_Signed], at: datetime) -> dict[str, CondauError]:
        """Write all down in one transaction; if that fails, what their askers get, as :meth:`_check` says it."""
        if not signed:
            return {}
        try:
            self._database.insert(*build_rows([one.answer for one in signed], at=at, keep_every=self._keep_every))
        except Unavailable as away:
            return {one.answer.responder: away for one in signed}
        return {}

    def _finish(self, signed: _Signed, errors: Mapping[str, CondauError], known: _Known) -> _Final:
        answer, query = signed.answer, signed.begun.query
        if answer.responder in errors:
            return errors[answer.responder]
        if query.nonce is None and all(status.name != "unknown" for _, status in answer.statuses):  # issuing changes no version
            cached = _Cached(answer.status_version, answer.responder, known.at, answer.response)
            self._remember((answer.authority, _asked_for(query)), cached)
        return answer.response

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

    def _remember(self, key: _CacheKey, answer: _Cached) -> None:
        if not self._cache_life:
            return
        with self._lock:
            if len(self._cache) >= _MOST_CACHED:
                self._cache = dict(list(self._cache.items())[_MOST_CACHED // 2 :])
            self._cache[key] = answer

    def _authority(self, wanted: Sequence[CertId]) -> str:
        """The one authority that every certificate asked for is of."""
        names = {self._issuers.get(item.issuer) for item in wanted}
        if None in names:  # another process may have created an authority since
            self._issuers = self._load_issuers()
            names = {self._issuers.get(item.issuer) for item in wanted}
        if len(names) != 1 or None in names:
            raise Refusal(OCSPResponseStatus.UNAUTHORIZED)
        return str(names.pop())

    def _load_issuers(self) -> dict[IssuerHash, str]:
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
        # since then the authority has issued: nothing older can be asked about
        form = ResponseForm(identity.certificate, archive_cutoff=identity.chain[0].not_valid_before_utc)
        self._responders[name] = _Responder(name, authority_id, identity, key, fitting_hash(key), form, at)
        return self._responders[name]


def _guarded(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | _Final:
    """What ``work`` returns, or what its failure means to the one who asked: no request spoils the others of its batch."""
    try:
        return work(*args, **kwargs)
    except Refusal as refusal:
        return build_refusal(refusal.status)
    except CondauError as error:
        return error
    except Exception:  # noqa: BLE001 - logged with its traceback; the protocol has its own answer for a fault of the responder
        _log.exception("bug")
        return build_refusal(OCSPResponseStatus.INTERNAL_ERROR)


def _asked_for(query: OcspQuery) -> tuple[bytes, ...]:
    return tuple(item.der for item in query.certificates)


def _of_authority(standing: Standing | None, responder: _Responder) -> Standing | None:
    return standing if standing is not None and standing.authority_id == responder.authority_id else None


def _verifies(signed: _Signed) -> bool:
    responder = signed.begun.responder
    try:
        verify(responder.public_key, signed.signature, signed.data, responder.algorithm)
    except InvalidSignature:
        return False
    return True
