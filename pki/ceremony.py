"""A key ceremony: one reviewed definition file, linted before, executed, verified after (docs/adr/0017)."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit.log import Actor, append, entries
from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, NotFound, Rejected, Violation
from core.settings import Config
from hsm.keys import KeySpec, KeyStore
from pki.anchors import fingerprint, parse_certificates, parse_fingerprint
from pki.ca import CertificateAuthority, IssuedCertificate
from pki.certificates import authority_certificate, authority_chain, authority_named, format_serial
from pki.crl import CrlPublisher
from pki.cross import draw_cross_order
from pki.lint_rules import CROSS
from pki.models import Authority
from pki.orders import load_issuer
from pki.place import Place
from pki.profile import build_subject, check_subject

_COMMON: Final = frozenset({"kind", "title", "reference", "roles"})
_KINDS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "root": (frozenset({"authority", "key", "days", "subject"}), frozenset({"generation", "token"})),
    "issuing-ca": (frozenset({"authority", "issuer", "key", "days", "subject"}), frozenset({"generation", "token"})),
    "cross-certificate": (frozenset({"issuer", "certificate", "sha256", "days"}), frozenset()),
    "tsa": (frozenset({"issuer", "key", "subject"}), frozenset({"token"})),
    "ocsp": (frozenset({"issuer", "key", "subject"}), frozenset({"token"})),
    "crl": (frozenset({"authority"}), frozenset()),
}
"""Kind: the keys it must have and those it may have, beside the common ones."""
_SERVICES: Final = {"tsa": "tsa", "ocsp": "ocsp-responder"}
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_TYPES: Final[Mapping[str, type]] = {"roles": list, "subject": dict, "days": int, "generation": int}
_TERMS: Final = {"root": 7305, "issuing-ca": 7305, "cross-certificate": 3652}
"""Days: an authority lives at most 20 years (Nghị định 68/2024/NĐ-CP, article 9)."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What is to be done, as it was reviewed."""

    kind: str
    title: str
    reference: str
    """The written order it is done under."""
    roles: tuple[str, ...]
    """Who signs the minutes, by their part in it."""
    sha256: str
    """Of the file, lower-case hex: what the minutes and the audit log name it by."""
    authority: str = ""
    """The alias; the authority's name is :attr:`name`."""
    generation: int = 1
    issuer: str = ""
    token: str = ""
    key: KeySpec | None = None
    days: int | None = None
    subject: x509.Name | None = None
    certificate: x509.Certificate | None = None

    @property
    def name(self) -> str:
        """The name of the authority: its alias, with its generation from the second one on (``issuing-g2``)."""
        return self.authority if self.generation == 1 else f"{self.authority}-g{self.generation}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a ceremony brought forth: a certificate with its issuers, or a CRL."""

    definition: Definition
    certificate: x509.Certificate | None = None
    chain: tuple[x509.Certificate, ...] = ()
    crl: bytes | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the minutes say of it, by name."""


def load_definition(path: Path) -> Definition:
    """Read and check a definition file by itself; raises Rejected with everything that is wrong with it."""
    try:
        data = path.read_bytes()
        table = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise Rejected("file", f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Rejected("file", f"{path} is not valid TOML: {error}") from error
    violations = list(_check_table(table))
    if violations:
        raise Rejected.all(violations)
    values = {name: value for name, value in table.items() if name not in ("subject", "key", "certificate", "sha256", "roles")}
    if "certificate" in table:
        values["certificate"] = _load_pinned(path.parent / table["certificate"], table["sha256"])
    return Definition(
        **values,
        roles=tuple(table["roles"]),
        sha256=hashlib.sha256(data).hexdigest(),
        key=KeySpec(table["key"]) if "key" in table else None,
        subject=build_subject(**table["subject"]) if "subject" in table else None,
    )


def _check_table(table: Mapping[str, Any]) -> Iterator[Violation]:
    kind = str(table.get("kind"))
    if kind not in _KINDS:
        yield Violation("kind", f"must be one of {', '.join(_KINDS)}")
        return
    required, optional = _KINDS[kind]
    required |= _COMMON
    for name in sorted(required - set(table)):
        yield Violation(name, f"a {kind} ceremony needs it")
    for name in sorted(set(table) - required - optional):
        yield Violation(name, f"a {kind} ceremony has no such key")
    for name, value in table.items():
        wanted: Any = _TYPES.get(name, str)
        if type(value) is not wanted or not value:
            yield Violation(name, f"must be a {wanted.__name__}, and not empty")
        elif name in ("authority", "issuer", "token") and not _NAME.fullmatch(value):
            yield Violation(name, "must be a name of a-z, 0-9 and hyphens, at most 40")
        else:
            yield from _check_value(kind, name, value)


def _check_value(kind: str, name: str, value: Any) -> Iterator[Violation]:
    if name == "roles" and (len(value) < 2 or not all(isinstance(role, str) and role for role in value)):
        yield Violation("roles", "at least two people sign the minutes: name the part of each")
    elif name == "key":
        if value not in {spec.value for spec in KeySpec}:
            yield Violation("key", f"must be one of {', '.join(KeySpec)}")
        elif kind == "root" and value in (KeySpec.RSA_2048, KeySpec.P_256):
            yield Violation("key", "a root lives for up to 20 years: take rsa-4096, p-384 or p-521")
    elif name == "days" and not 1 <= value <= _TERMS[kind]:
        yield Violation("days", f"{value} days: a certificate of this kind lives from 1 to {_TERMS[kind]}")
    elif name == "generation" and not 1 <= value <= 999:
        yield Violation("generation", "must be from 1 to 999")
    elif name == "subject":
        yield from _check_subject_table(value)


def _check_subject_table(value: Mapping[str, Any]) -> Iterator[Violation]:
    wanted = {"organization", "locality", "common_name"}
    if set(value) != wanted or not all(isinstance(part, str) and part for part in value.values()):
        yield Violation("subject", "must have organization, locality and common_name, each a text")
        return
    try:
        yield from check_subject(build_subject(**value))
    except ValueError as error:
        yield Violation("subject", str(error))


def _load_pinned(path: Path, sha256: str) -> x509.Certificate:
    try:
        found = parse_certificates(path.read_bytes(), "certificate")
    except OSError as error:
        raise Rejected("certificate", f"{path} cannot be read: {error.strerror}") from error
    if len(found) != 1 or fingerprint(found[0]) != parse_fingerprint(sha256):
        raise Rejected("sha256", f"{path} is not the one certificate that was reviewed")
    return found[0]


class Ceremony:
    """Checks a definition against the instance, and carries it out."""

    def __init__(
        self, *, database: Database, keys: KeyStore, now: Now, config: Config, ca: CertificateAuthority, crl: CrlPublisher
    ) -> None:
        self._database = database
        self._keys = keys
        self._now = now
        self._config = config
        self._ca = ca
        self._crl = crl

    def check(self, definition: Definition) -> list[Violation]:
        """What keeps this instance from carrying it out as it stands; empty: nothing."""
        found = []
        if definition.token and definition.token not in {token.name for token in self._config.hsm.tokens}:
            found.append(Violation("token", f"the configuration names no token {definition.token!r}: add [[hsm.tokens]]"))
        with self._database.read() as db:
            try:
                if definition.issuer:
                    load_issuer(db, definition.issuer)
                if definition.kind == "crl":
                    authority_named(db, definition.authority)
            except CondauError as error:
                found.append(Violation("issuer" if definition.issuer else "authority", error.detail))
            if definition.kind in ("root", "issuing-ca"):
                found += self._check_generation(db.scalars(_generations(definition.authority)).all(), definition)
        return found

    def _check_generation(self, standing: Any, definition: Definition) -> Iterator[Violation]:
        going_on = self._stands_unfinished(definition)
        finished = [
            authority
            for authority in standing
            if authority.certificate_der is not None and not (going_on and authority.name == definition.name)
        ]
        newest = max((authority.generation for authority in finished), default=0)
        if definition.generation != newest + 1:
            yield Violation("generation", f"the next generation of {definition.authority} is {newest + 1}")
        if any((authority.parent_id is None) != (definition.kind == "root") for authority in finished):
            yield Violation("kind", f"{definition.authority} is of another kind already")

    def execute(self, definition: Definition, actor: Actor) -> Outcome:
        """Carry it out and verify what came of it. Raises Rejected (see :meth:`check`), Conflict or Unavailable.

        A ceremony that was cut off goes on where that happened when it is executed again.
        """
        violations = self.check(definition)
        if violations:
            raise Rejected.all(violations)
        if definition.kind != "crl" and "ceremony.end" in self._acts(definition):
            raise Conflict("this definition was carried out already: write a new one")
        self._audit("ceremony.begin", definition, actor)
        if definition.kind == "crl":
            published = self._crl.publish(definition.authority, actor=actor)
            outcome = Outcome(definition, crl=published.der, facts=_crl_facts(published.der))
        else:
            issued = self._issue(definition, actor)
            self._verify(definition, issued)
            outcome = Outcome(definition, issued.certificate, issued.chain, facts=_facts(issued.certificate))
        self._audit("ceremony.end", definition, actor, **outcome.facts)
        return outcome

    def _issue(self, definition: Definition, actor: Actor) -> IssuedCertificate:
        if definition.kind == "cross-certificate" and definition.certificate is not None and definition.days is not None:
            profile = self._ca.profiles[CROSS]
            with self._database.read() as db:
                order, key = draw_cross_order(
                    db, profile, definition.certificate, issuer=definition.issuer, days=definition.days, actor=actor
                )
            return self._ca.issue_order(order, key)
        if definition.subject is None or definition.key is None:
            raise ValueError(f"a {definition.kind} ceremony without subject or key was loaded")
        place = Place(definition.token, definition.authority, definition.generation)
        if definition.kind in _SERVICES:
            return self._ca.issue_service(
                profile=_SERVICES[definition.kind],
                subject=definition.subject,
                issuer=definition.issuer,
                spec=definition.key,
                actor=actor,
                place=place,
            )
        if self._stands_unfinished(definition):  # stored, and cut off before the end
            with self._database.read() as db:
                own, *chain = authority_chain(db, authority_named(db, definition.name).id)
            return IssuedCertificate(format_serial(own.serial_number), own, tuple(chain))
        issued = self._ca.create_authority(
            definition.name,
            subject=definition.subject,
            spec=definition.key,
            issuer=definition.issuer or None,
            actor=actor,
            place=place,
            days=definition.days,
        )
        self._crl.publish(definition.name, actor=actor)
        if definition.issuer:  # a list from before the new authority says nothing about it, and its issuer is at hand only now
            self._crl.publish(definition.issuer, actor=actor)
        return issued

    def _verify(self, definition: Definition, issued: IssuedCertificate) -> None:
        """Read the certificate back and hold it against the definition; raises Conflict, which stops the ceremony."""
        certificate = x509.load_der_x509_certificate(issued.certificate.public_bytes(Encoding.DER))
        certificate.verify_directly_issued_by(issued.chain[0] if issued.chain else certificate)
        subject = definition.subject if definition.certificate is None else definition.certificate.subject
        term = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days + 1
        if certificate.subject != subject:
            raise Conflict("what was issued bears another name than the definition: stop, and revoke it")
        if definition.days is not None and term > definition.days:
            raise Conflict(f"what was issued lives for {term} days: stop, and revoke it")
        if definition.kind in ("root", "issuing-ca"):
            with self._database.read() as db:
                label = authority_named(db, definition.name).key_label
            if self._keys.key(label).public_key() != certificate.public_key():
                raise Conflict(f"the key {label} in the token is not the one that was certified: stop, and revoke it")

    def _acts(self, definition: Definition) -> set[str]:
        with self._database.read() as db:
            return {entry.action for entry in entries(db, subject=definition.sha256)}

    def _stands_unfinished(self, definition: Definition) -> bool:
        """Whether this very definition made its authority, and was cut off before its end."""
        acts = self._acts(definition)
        if "ceremony.begin" not in acts or "ceremony.end" in acts:
            return False
        with self._database.read() as db:
            try:
                standing = authority_certificate(authority_named(db, definition.name))
            except NotFound:
                return False
        return standing.subject == definition.subject

    def _audit(self, action: str, definition: Definition, actor: Actor, **facts: str) -> None:
        with self._database.write() as db:
            told = {"kind": definition.kind, "reference": definition.reference, **facts}
            append(db, at=self._now(), actor=actor, action=action, subject=definition.sha256, **told)


def _generations(alias: str) -> sa.Select[Authority]:
    return sa.select(Authority).where(Authority.alias == alias)


def _facts(certificate: x509.Certificate) -> dict[str, str]:
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "name": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": format(certificate.serial_number, "x"),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "key_sha256": hashlib.sha256(key).hexdigest(),
        "certificate_sha256": fingerprint(certificate),
    }


def _crl_facts(der: bytes) -> dict[str, str]:
    crl = x509.load_der_x509_crl(der)
    return {
        "issuer": crl.issuer.rfc4514_string(),
        "number": str(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number),
        "entries": str(len(crl)),
        "this_update": crl.last_update_utc.isoformat(),
        "next_update": "" if crl.next_update_utc is None else crl.next_update_utc.isoformat(),
        "crl_sha256": hashlib.sha256(der).hexdigest(),
    }
