"""Validation material: what somebody needs to judge a signature years later, gathered while it can be had (docs/adr/0023).

For every certificate on a path but the trusted root that is its issuer and one answer about its status: of our own authorities
by asking the rooms beside this one, of other people's from the lists an operator imported or, where that is configured, fetched.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, Protocol, TypeVar

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID
from sqlalchemy.orm import Session

from audit.log import SYSTEM, Actor
from core.clock import Now
from core.db import Database
from core.errors import NotFound, Unavailable
from core.signatures import verify
from pki.certificates import authority_certificate
from pki.crl import CrlPublisher, PublishedCrl
from pki.foreign_crl import foreign_crls
from pki.models import Authority, ExternalCertificate, TrustAnchor
from pki.ocsp import OcspResponder

_LONGEST: Final = 8
"""Certificates on one path, the anchor included."""
_Item = TypeVar("_Item")
_KEEP: Final = timedelta(seconds=30)
"""For how long the authorities that are known, and the paths through them, are remembered."""
_MOST_ANSWERS: Final = 1000
_SKEW: Final = timedelta(minutes=5)
"""How far another authority's clock may be ahead of ours."""
_UNSTATED: Final = timedelta(days=1)
"""For how long an OCSP answer of others is taken that does not say so (RFC 6960, 4.2.2.1: there may be newer ones at any time)."""
_KEEP_LIST: Final = timedelta(seconds=5)
"""For how long an authority's newest CRL is."""


@dataclass(frozen=True, slots=True)
class Material:
    """Certificates and status answers, none of them twice. ``+`` joins two."""

    certificates: tuple[x509.Certificate, ...] = ()
    """Those on the paths, anchors included, and those of OCSP responders."""
    crls: tuple[bytes, ...] = ()
    """DER."""
    ocsps: tuple[bytes, ...] = ()
    """DER of OCSPResponse."""
    missing: tuple[str, ...] = ()
    """Sentences about what could not be had for the moment; empty when all is there."""
    untrusted: tuple[str, ...] = ()
    """Names at which a path stops short of an anchor that is trusted here."""

    def __add__(self, other: Material) -> Material:
        return Material(
            certificates=_once(self.certificates, other.certificates),
            crls=_once(self.crls, other.crls),
            ocsps=_once(self.ocsps, other.ocsps),
            missing=_once(self.missing, other.missing),
            untrusted=_once(self.untrusted, other.untrusted),
        )


class Fetch(Protocol):
    """Where other authorities publish."""

    def issuers(self, certificate: x509.Certificate) -> Sequence[x509.Certificate]:
        """What its AIA extension leads to; nothing where that may not be asked or does not answer."""
        ...

    def status(self, certificate: x509.Certificate, issuer: x509.Certificate) -> Iterable[tuple[bytes | None, bytes | None]]:
        """(CRL, OCSPResponse) in DER, one of them in each, not checked yet; fetched when it is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    """The authorities that paths lead through."""

    own: dict[x509.Certificate, str]
    anchors: frozenset[x509.Certificate]
    by_subject: dict[bytes, list[x509.Certificate]] = field(repr=False)
    loaded_at: datetime
    paths: dict[tuple[x509.Certificate, ...], tuple[list[x509.Certificate], bool]] = field(default_factory=dict, repr=False)


class ValidationMaterial:
    """Gathers material. Safe to share among threads."""

    def __init__(
        self, *, database: Database, ocsp_responder: OcspResponder, crl: CrlPublisher, now: Now, fetch: Fetch | None = None
    ) -> None:
        """``fetch``: None asks nobody outside this house."""
        self._database = database
        self._ocsp = ocsp_responder
        self._crl = crl
        self._now = now
        self._fetch = fetch
        self._known: _Known | None = None
        self._lists: dict[str, tuple[datetime, PublishedCrl]] = {}
        self._answers: dict[x509.Certificate, tuple[datetime, Material]] = {}

    def collect(
        self,
        leaves: Sequence[x509.Certificate],
        *,
        actor: Actor,
        hints: Sequence[x509.Certificate] = (),
        since: datetime | None = None,
    ) -> Material:
        """The material of every path that starts at one of ``leaves``.

        ``hints``: further certificates, untrusted, to build paths with. ``since``: OCSP answers of ours are not older than this
        (to the second, which is all OCSP tells); without it one that still holds may be given again. Raises nothing but what a
        database that is away makes it raise: what else could not be had is in ``missing`` and ``untrusted``.
        """
        known = self._load()
        found, seen = Material(), set[x509.Certificate]()
        for leaf in leaves:
            path, trusted = self._path(leaf, known, hints)
            found += Material(tuple(path), untrusted=() if trusted else (path[-1].issuer.rfc4514_string(),))
            for certificate, issuer in pairwise(path):
                if certificate not in seen and certificate not in known.anchors and not _never_checked(certificate):
                    seen.add(certificate)
                    found += self._status(certificate, issuer, known, since, actor)
        return found

    def _path(
        self, leaf: x509.Certificate, known: _Known, hints: Sequence[x509.Certificate]
    ) -> tuple[list[x509.Certificate], bool]:
        """The certificates from ``leaf`` upwards, and whether they reach an anchor."""
        key = (leaf, *hints)
        if key not in known.paths:
            known.paths[key] = self._search(leaf, known, hints)
        return known.paths[key]

    def _search(
        self, leaf: x509.Certificate, known: _Known, hints: Sequence[x509.Certificate]
    ) -> tuple[list[x509.Certificate], bool]:
        path = [leaf]
        while path[-1] not in known.anchors:
            last = path[-1]
            candidates = [*known.by_subject.get(last.issuer.public_bytes(), ()), *hints]
            issuer = next((one for one in candidates if one not in path and is_issued_by(last, one)), None)
            if issuer is None and self._fetch is not None:
                issuer = next((one for one in self._fetch.issuers(last) if one not in path and is_issued_by(last, one)), None)
            if issuer is None or len(path) == _LONGEST:
                return path, False
            path.append(issuer)
        return path, True

    def _status(
        self, certificate: x509.Certificate, issuer: x509.Certificate, known: _Known, since: datetime | None, actor: Actor
    ) -> Material:
        name = known.own.get(issuer)
        if name is not None:
            return self._own_status(certificate, issuer, name, since, actor)
        at = self._now()
        with self._database.read() as db:
            lists = foreign_crls(db, issuer)
        for crl in lists:
            if crl.next_update_utc is not None and crl.next_update_utc >= at:
                return Material(crls=(crl.public_bytes(Encoding.DER),))
        fetched = self._fetched_status(certificate, issuer, at)
        return fetched or Material(missing=(_no_status(certificate, "import its issuer's newest CRL (`condau import-crl`)"),))

    def _own_status(
        self, certificate: x509.Certificate, issuer: x509.Certificate, name: str, since: datetime | None, actor: Actor
    ) -> Material:
        """OCSP about whom it issued to; about another authority the list, which is short, and good while a key is offline."""
        if not _is_authority(certificate):
            try:
                return self._own_ocsp(certificate, issuer, since, actor)
            except Unavailable:
                pass  # no responder: then the list tells, unless it is away as well
        try:
            return Material(crls=(self._own_list(name, certificate).der,))
        except (Unavailable, NotFound) as error:
            return Material(missing=(_no_status(certificate, error.detail),))

    def _own_list(self, name: str, certificate: x509.Certificate) -> PublishedCrl:
        """The authority's newest list, issued anew where it is older than the certificate: then it says nothing about that."""
        at, kept, begins = self._now(), self._lists.get(name), certificate.not_valid_before_utc
        if kept is None or not timedelta() <= at - kept[0] < _KEEP_LIST or kept[1].this_update < begins:
            newest = self._crl.current(name)
            if newest.this_update < begins:
                with suppress(Unavailable, NotFound):  # an offline authority's is issued in the ceremony that certifies another
                    newest = self._crl.publish(name, actor=SYSTEM)
            kept = self._lists[name] = (at, newest)
        return kept[1]

    def _own_ocsp(self, certificate: x509.Certificate, issuer: x509.Certificate, since: datetime | None, actor: Actor) -> Material:
        kept = self._answers.get(certificate)
        if kept is not None and since is not None and kept[0] >= since.replace(microsecond=0):
            return kept[1]  # of this very second
        der = self._ocsp.respond(_request(certificate, issuer), actor, since=since)
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise Unavailable("pki", f"the responder of {issuer.subject.rfc4514_string()} answers {response.response_status.name}")
        if response.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
            raise Unavailable("pki", "the responder does not know the certificate")
        found = Material(tuple(response.certificates), ocsps=(der,))
        if len(self._answers) >= _MOST_ANSWERS:
            self._answers.clear()
        self._answers[certificate] = response.this_update_utc, found
        return found

    def _fetched_status(self, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime) -> Material | None:
        if self._fetch is None:
            return None
        for crl, answer in self._fetch.status(certificate, issuer):
            if crl is not None and _list_holds(crl, issuer, at):
                return Material(crls=(crl,))
            found = None if answer is None else _answer_of_others(answer, certificate, issuer, at)
            if found is not None:
                return found
        return None

    def _load(self) -> _Known:
        at, known = self._now(), self._known
        if known is None or not timedelta() <= at - known.loaded_at < _KEEP:
            with self._database.read() as db:
                known = self._known = _load_known(db, at)
        return known


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names match and the issuer's key made the certificate's signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _load_known(db: Session, at: datetime) -> _Known:
    rows = list(db.scalars(sa.select(Authority).where(Authority.certificate_der.is_not(None))))
    own = {authority_certificate(row): row.name for row in rows}
    roots = {authority_certificate(row) for row in rows if row.parent_id is None}
    installed = db.scalars(sa.select(TrustAnchor.der).where(TrustAnchor.removed_at.is_(None)))
    anchors = roots | {x509.load_der_x509_certificate(der) for der in installed}
    chains = db.scalars(sa.select(ExternalCertificate.chain_pem).where(ExternalCertificate.chain_pem.is_not(None)).distinct())
    others = [one for pem in chains if pem is not None for one in x509.load_pem_x509_certificates(pem.encode("ascii"))]
    by_subject: dict[bytes, list[x509.Certificate]] = {}
    for certificate in dict.fromkeys((*anchors, *own, *others)):
        by_subject.setdefault(certificate.subject.public_bytes(), []).append(certificate)
    return _Known(own, frozenset(anchors), by_subject, at)


@functools.lru_cache(maxsize=1024)
def _request(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    algorithm = hashes.SHA1()  # noqa: S303 - names the issuer (RFC 5019, 2.1.1: what every reader of OCSP knows); nothing rests on it
    return ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm).build().public_bytes(Encoding.DER)


def _list_holds(der: bytes, issuer: x509.Certificate, at: datetime) -> bool:
    try:
        crl = x509.load_der_x509_crl(der)
        fresh = crl.next_update_utc is not None and crl.next_update_utc >= at
        return fresh and crl.issuer == issuer.subject and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # other keys raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _answer_of_others(der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, at: datetime) -> Material | None:
    """The answer with its responder's certificate, if it is about this certificate, holds ``at`` then and is the issuer's or that
    of a responder it appointed (RFC 6960, 3.2)."""
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return None
        asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, response.hash_algorithm).build()
        about = (response.issuer_key_hash, response.serial_number) == (asked.issuer_key_hash, asked.serial_number)
        until = response.next_update_utc or response.this_update_utc + _UNSTATED
        holds = response.this_update_utc <= at + _SKEW and until >= at
        known = response.certificate_status is not ocsp.OCSPCertStatus.UNKNOWN
        appointed = [one for one in response.certificates if _answers_for(one, issuer)]
        if about and holds and known and any(_made_by(one.public_key(), response) for one in (issuer, *appointed)):
            return Material(tuple(response.certificates), ocsps=(der,))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass  # it is no answer, or made in a way nobody here knows
    return None


def _answers_for(responder: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` appointed this responder (RFC 6960, 4.2.2.2)."""
    try:
        usages = responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usages and is_issued_by(responder, issuer)


def _made_by(key: object, response: ocsp.OCSPResponse) -> bool:
    pss = response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
    stated = (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()) if pss else (response.signature_hash_algorithm or hashes.SHA512(),)
    for algorithm in stated:
        with suppress(InvalidSignature):
            verify(key, response.signature, response.tbs_response_bytes, algorithm, pss=pss)
            return True
    return False


def _no_status(certificate: x509.Certificate, remedy: str) -> str:
    return f"there is no revocation status of {certificate.subject.rfc4514_string()}: {remedy}"


def _never_checked(certificate: x509.Certificate) -> bool:
    """A responder's certificate whose issuer says so (RFC 6960, 4.2.2.2.1)."""
    return any(extension.oid == x509.OCSPNoCheck.oid for extension in certificate.extensions)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _once(*parts: Sequence[_Item]) -> tuple[_Item, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))
