"""The OCSP responder: what is in the database now, signed by a delegated responder of the authority (docs/adr/0005, 0021)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, ParamSpec, TypeAlias, TypeVar

import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.x509.ocsp import OCSPResponseStatus

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Unavailable
from core.settings import Config
from core.signatures import fitting_hash, sign_all, verify
from hsm.keys import KeyStore
from pki.certificates import Identity, authority_certificate, service_certificate
from pki.lint import check_ocsp_lints
from pki.models import Authority
from pki.ocsp_der import UNKNOWN, ResponseForm, Status, build_refusal
from pki.ocsp_records import Answer, Lookup, Standing, build_rows
from pki.ocsp_request import CertId, IssuerHash, OcspQuery, Refusal, issuer_hashes, parse_request
from pki.profile import PublicKey

_KEEP: Final = timedelta(seconds=30)
"""How long which certificate answers for an authority is remembered; a new one takes effect within this time."""
_ISSUERS_KEPT: Final = 1.0
"""Seconds before a stranger's certificate makes us look for new authorities again: a look costs more than an answer."""
_MOST_CACHED: Final = 10_000
"""Answers remembered; when there are more the oldest half is forgotten."""
_log = logging.getLogger("condau.ocsp")
_P = ParamSpec("_P")
_T = TypeVar("_T")
_CacheKey: TypeAlias = tuple[str, tuple[bytes, ...]]
_Final: TypeAlias = bytes | CondauError
"""What the caller gets, whatever the rest of the batch comes to."""


class Ask(NamedTuple):
    """One OCSPRequest (DER), and who sent it."""

    request: bytes
    actor: Actor
    since: datetime | None = None
    """An answer that was given before is not given again if it is from before this."""


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


class _Begun(NamedTuple):
    """A request that was read, and who answers it."""

    query: OcspQuery
    actor: Actor
    responder: _Responder
    since: datetime | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database said at one moment, for a batch."""

    at: datetime
    """In whole seconds, as answers state it."""
    standings: dict[str, Standing]


class _Draft(NamedTuple):
    """What is to be signed."""

    begun: _Begun
    version: int | None
    """The authority's ``status_version``, if it has issued any of these certificates."""
    statuses: list[Status]
    standing: Standing | None
    data: bytes


class _Signed(NamedTuple):
    """What the token made of it."""

    draft: _Draft
    signature: bytes


class _Answered(NamedTuple):
    """A response nobody has seen yet: it is still to be checked and recorded."""

    signed: _Signed
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
        self._lookup = Lookup(database)
        self._cache: dict[_CacheKey, _Cached] = {}
        self._issuers: dict[IssuerHash, str] = {}
        self._issuers_until = 0.0
        self._responders: dict[str, _Responder] = {}
        self._linted: set[tuple[str, bool, bool, str, str | None, bool]] = set()
        self._lock = threading.Lock()

    def respond(self, der: bytes, actor: Actor, *, since: datetime | None = None) -> bytes:
        """The DER OCSPResponse to a DER OCSPRequest; one that was given before is not given again if it is from before ``since``.

        What cannot be answered is answered by an unsigned error status: malformedRequest, unauthorized for the certificates
        of others, internalError for a fault of ours, which is logged (RFC 6960, 2.3). Raises Unavailable while the token or
        the database is away.
        """
        (outcome,) = self.respond_all([Ask(der, actor, since)])
        if isinstance(outcome, CondauError):
            raise outcome
        return outcome

    def respond_all(self, asked: Sequence[Ask]) -> list[bytes | CondauError]:
        """What :meth:`respond` says to each, in their order, or the error it raises.

        One look at the database for all, one signature for each, one commit for all before any answer is given.
        """
        at = self._now()
        # Each step for all before the next: going to and fro between them costs as much again, in the processor's caches
        begun = [_guarded(self._begin, ask, at) for ask in asked]
        try:
            known = self._look_up([one for one in begun if isinstance(one, _Begun)], at)
        except Unavailable as away:
            return [away if isinstance(one, _Begun) else one for one in begun]
        drafts = [_guarded(self._draft, one, known) if isinstance(one, _Begun) else one for one in begun]
        signed = self._sign_each(drafts)
        answered = [_guarded(self._assemble, one, known) if isinstance(one, _Signed) else one for one in signed]
        made = [one for one in answered if isinstance(one, _Answered)]
        errors = self._check(made)
        errors |= self._record([one.answer for one in made if one.answer.responder not in errors], at)
        return [self._finish(one, errors, known) if isinstance(one, _Answered) else one for one in answered]

    def _begin(self, ask: Ask, at: datetime) -> _Begun:
        query = parse_request(ask.request)
        return _Begun(query, ask.actor, self._responder(self._authority(query.certificates), at), ask.since)

    def _look_up(self, begun: Sequence[_Begun], at: datetime) -> _Known:
        """The statuses as they are now: a revocation committed before the request came is seen."""
        serials = {wanted.serial for one in begun for wanted in one.query.certificates}
        return _Known(at.replace(microsecond=0), self._lookup.load(list(serials)) if serials else {})

    def _draft(self, begun: _Begun, known: _Known) -> bytes | _Draft:
        """What is to be signed, or the answer that was given a moment ago and may be given again."""
        query, responder = begun.query, begun.responder
        found = [_of_authority(known.standings.get(wanted.serial), responder) for wanted in query.certificates]
        version = next((standing.version for standing in found if standing is not None), None)
        cached = None if query.nonce is not None else self._cache.get((responder.authority, _asked_for(query)))
        if cached is not None and self._is_fresh(cached, version, responder, known.at) and not _is_older(cached, begun.since):
            return cached.response
        statuses = [UNKNOWN if standing is None else standing.status for standing in found]
        data = responder.form.build_data(query, statuses, this_update=known.at, next_update=known.at + self._life)
        return _Draft(begun, version, statuses, found[0] if len(found) == 1 else None, data)

    def _sign_each(self, drafts: Sequence[_Draft | _Final]) -> list[_Signed | _Final]:
        """Every draft signed; where the token fails, none of that responder's is."""
        by_responder: dict[str, list[int]] = {}
        for number, draft in enumerate(drafts):
            if isinstance(draft, _Draft):
                by_responder.setdefault(draft.begun.responder.identity.serial, []).append(number)
        signed: list[_Signed | _Final] = [b"" if isinstance(draft, _Draft) else draft for draft in drafts]
        for numbers in by_responder.values():
            made = _guarded(self._sign, [draft for number in numbers if isinstance(draft := drafts[number], _Draft)])
            for place, number in enumerate(numbers):
                signed[number] = made[place] if isinstance(made, list) else made
        return signed

    def _sign(self, drafts: Sequence[_Draft]) -> list[_Signed]:
        responder = drafts[0].begun.responder
        key = self._keys.key(responder.identity.key_label)
        return list(map(_Signed, drafts, sign_all(key, [draft.data for draft in drafts], responder.algorithm)))

    def _assemble(self, signed: _Signed, known: _Known) -> _Answered:
        draft, signature = signed
        query, actor, responder, _ = draft.begun
        response = responder.form.build_response(draft.data, signature)
        self._lint_once(responder, query, draft.statuses, response)
        answer = Answer(
            actor=actor,
            authority=responder.authority,
            authority_id=responder.authority_id,
            responder=responder.identity.serial,
            statuses=tuple((wanted.serial, status) for wanted, status in zip(query.certificates, draft.statuses, strict=True)),
            standing=draft.standing,
            next_update=known.at + self._life,
            response=response,
        )
        return _Answered(signed, answer)

    def _check(self, made: Sequence[_Answered]) -> dict[str, CondauError]:
        """Verify one signature of each responder (docs/adr/0021); the error for those whose is wrong, by its serial number."""
        samples = {one.answer.responder: one.signed for one in made}
        error = Unavailable("hsm", "the responder's public key does not verify what the token signed")
        return {responder: error for responder, one in samples.items() if not _verifies(one)}

    def _record(self, made: Sequence[Answer], at: datetime) -> dict[str, CondauError]:
        """Write all down in one transaction; if that fails, what their askers get, as :meth:`_check` says it."""
        if not made:
            return {}
        try:
            self._database.insert(*build_rows(made, at=at, keep_every=self._keep_every))
        except Unavailable as away:
            return {one.responder: away for one in made}
        return {}

    def _finish(self, made: _Answered, errors: Mapping[str, CondauError], known: _Known) -> _Final:
        answer, draft = made.answer, made.signed.draft
        if answer.responder in errors:
            return errors[answer.responder]
        query = draft.begun.query
        lasting = UNKNOWN not in draft.statuses  # that one is issued changes no version
        if query.nonce is None and draft.version is not None and lasting:
            cached = _Cached(draft.version, answer.responder, known.at, answer.response)
            self._remember((answer.authority, _asked_for(query)), cached)
        return answer.response

    def _lint_once(self, responder: _Responder, query: OcspQuery, statuses: Sequence[Status], response: bytes) -> None:
        """Lint the first answer of each form that a responder's certificate gives; raises Unavailable when it finds a fault.

        Answers of one form differ in serial numbers and moments alone, and a lint of each would cost ten times its signature.
        """
        serial, plain, several = responder.identity.serial, query.nonce is None, len(statuses) > 1
        forms = [(serial, plain, several, status.name, status.reason, status.invalidity_date is None) for status in statuses]
        if not self._linted.issuperset(forms):
            check_ocsp_lints(response)
            self._linted.update(forms)

    def _is_fresh(self, cached: _Cached, version: int | None, responder: _Responder, at: datetime) -> bool:
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
        if None in names and time.monotonic() >= self._issuers_until:  # another process may have created an authority since
            self._issuers = self._load_issuers()
            self._issuers_until = time.monotonic() + _ISSUERS_KEPT
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


def _is_older(answer: _Cached, since: datetime | None) -> bool:
    return since is not None and answer.at < since.replace(microsecond=0)  # OCSP tells whole seconds


def _asked_for(query: OcspQuery) -> tuple[bytes, ...]:
    return tuple(item.der for item in query.certificates)


def _of_authority(standing: Standing | None, responder: _Responder) -> Standing | None:
    return standing if standing is not None and standing.authority_id == responder.authority_id else None


def _verifies(signed: _Signed) -> bool:
    responder = signed.draft.begun.responder
    try:
        verify(responder.public_key, signed.signature, signed.draft.data, responder.algorithm)
    except InvalidSignature:
        return False
    return True
