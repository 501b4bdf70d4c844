"""The gates: the one place that decides what is asked of which signing profile before a key is used (docs/adr/0025).

:data:`RULES` is the decision as data. :meth:`Gates.check` lists everything that stands against an act at once, or gives the
permit that the signature's intent uses up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import Actor
from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import Refused, Rejected, Violation
from core.settings import SignerConfig
from pki.certificates import Identity
from registry.models import Subscriber, SubscriberKind
from registry.registry import subscriber_named
from signer.activation import Held, KeptToken, find_activation, needs_activation
from signer.gate_models import AgencySigningRule, NumberState
from signer.hygiene import HygieneReport, scan
from signer.leaders import Leader, SignatureFound, find_issue, find_leader
from signer.numbers import Number, parse_number
from signer.permits import Permit, Permits
from signer.register import Claim, build_claim, check_day, find_number, why_taken
from signer.secrecy import parse_secrecy

FindSignatures = Callable[[Content, str | None], Sequence[SignatureFound]]
"""What signatures a PDF (and its password) has, and what the verifier says of each. Handed in: this room does not know that one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of one profile."""

    kinds: frozenset[SubscriberKind] = frozenset(SubscriberKind)
    """Whose key it is for."""
    leader: bool = False
    """The document bears a valid signature of a leader of the key's agency."""
    number: Literal["taken now", "taken before"] | None = None
    """It uses a number up, or names one that a document of this agency has."""
    activation: bool = False
    """A clerk activated the key for it, whatever the key itself asks for."""
    official: bool = True
    """It is an official document: what could change its looks is refused as ``[signer.hygiene]`` says."""


_PERSON: Final = frozenset({SubscriberKind.OFFICER})
_AGENCY: Final = frozenset({SubscriberKind.AGENCY})
RULES: Final[Mapping[str, Rule]] = {
    "plain": Rule(official=False),
    "person": Rule(_PERSON),
    "initial": Rule(_PERSON),
    "comment": Rule(_PERSON),
    "agency-issue": Rule(_AGENCY, leader=True, number="taken now", activation=True),
    "appendix": Rule(_AGENCY, number="taken before"),
    "copy": Rule(_AGENCY),
    "incoming": Rule(_AGENCY),
    "portal": Rule(_AGENCY),
}


@dataclass(frozen=True, slots=True)
class Request:
    """An act somebody asks for."""

    profile: str
    identity: Identity
    actor: Actor
    digest: str
    """SHA-256 of the document, or the digest that was handed in instead of one; lower-case hex."""
    document: Content | None = None
    """None where it is kept from us: then nothing that takes looking at it passes."""
    password: str | None = field(default=None, repr=False)
    number: str | None = None
    issued_on: date | None = None
    secrecy: str | None = None
    activation: str | KeptToken | None = field(default=None, repr=False)
    """The token of an activation."""


@dataclass(slots=True)
class _Seen:
    """What the gates found while they looked."""

    request: Request
    rule: Rule
    at: datetime
    violations: list[Violation] = field(default_factory=list)
    passed: dict[str, Any] = field(default_factory=dict)
    activation: Held | None = None
    claim: Claim | None = None
    number: Number | None = None
    leader: Leader | None = None

    def refuse(self, name: str, message: str) -> None:
        self.violations.append(Violation(name, message))


class Gates:
    """Decides whether a document may be signed so, by this key, at this moment."""

    def __init__(self, *, database: Database, now: Now, config: SignerConfig, find_signatures: FindSignatures) -> None:
        self._database = database
        self._now = now
        self._config = config
        self._find_signatures = find_signatures
        self.permits = Permits(config=config.activation)

    def check(self, request: Request) -> Permit:
        """The permit for this act; raises Refused listing everything that stands against it. Uses no key, changes nothing."""
        rule = RULES.get(request.profile)
        if rule is None:
            raise Rejected("profile", f"{request.profile[:40]!r} is none of {', '.join(RULES)}")
        seen = _Seen(request, rule, self._now())
        if not self._asks(request, rule):
            return Permit(profile=request.profile)
        with self._database.read() as db:
            key = None if request.identity.subscriber is None else subscriber_named(db, request.identity.subscriber)
            self._check_key(db, key, seen)
            if rule.number is not None and key is not None:
                _check_number(db, key, seen)
            self._check_document(seen)
            if rule.leader and key is not None and request.document is not None:
                self._check_leader(db, key, seen)
                _check_apart(db, key, seen)
        if seen.violations:
            raise Refused.all(seen.violations)
        number = None if seen.number is None else seen.number.text
        return Permit(profile=request.profile, passed=seen.passed, activation=seen.activation, claim=seen.claim, number=number)

    def _asks(self, request: Request, rule: Rule) -> bool:
        """Whether anything is asked before the key is used. Whether the key itself needs an activation, its use will tell."""
        looked_at = request.document is not None and self._config.secrecy == "all"
        return rule.official or looked_at or request.activation is not None or request.secrecy is not None

    def _check_key(self, db: Session, key: Subscriber | None, seen: _Seen) -> None:
        request, rule = seen.request, seen.rule
        if key is None or SubscriberKind(key.kind) not in rule.kinds:
            kinds = " or ".join(sorted(rule.kinds))
            seen.refuse("signer", f"the profile {request.profile} is signed with the key of an {kinds}: name one")
            return
        if request.activation is not None:
            try:
                seen.activation = find_activation(
                    db, request.activation, key=key, client=request.actor.name, digest=request.digest, at=seen.at
                )
                seen.passed["clerk"] = seen.activation.person
            except Refused as error:
                seen.violations += error.violations
        elif rule.activation or needs_activation(db, key, self._config.activation):
            seen.refuse(
                "activation",
                f"the key of {key.handle} must be activated by its clerk: ask at /v1/activations and send the token "
                "in the header Condau-Activation",
            )

    def _check_document(self, seen: _Seen) -> None:
        request, rule = seen.request, seen.rule
        try:
            stated = parse_secrecy(request.secrecy)
            if stated is not None:
                seen.refuse("secrecy", f"a document marked {stated} is not signed here: state secrets stay off the network")
        except Rejected as error:
            seen.violations += error.violations
        if request.document is None:
            if rule.official:
                seen.refuse("document", f"the profile {request.profile} needs the document itself: a digest alone cannot be judged")
            return
        if not rule.official and self._config.secrecy != "all":
            return
        report = scan(request.document, password=request.password)
        for mark in report.secrecy:
            seen.refuse("document", f"{mark.where} is marked {mark.text}: a document with a state secret is not signed here")
        for finding in report.refused(self._config.hygiene) if rule.official else ():
            seen.refuse("document", f"{finding.code}: {finding.text.vi} / {finding.text.en}")
        seen.passed |= _tell(report)

    def _check_leader(self, db: Session, key: Subscriber, seen: _Seen) -> None:
        request = seen.request
        if request.document is None:
            return
        found = self._find_signatures(request.document, request.password)
        for broken in (one for one in found if one.failed):
            seen.refuse("document", f"the signature {broken.name} in it is not valid: {broken.why}; get a sound copy")
        issued = find_issue(db, found, agency=key.agency, document=request.document)
        if issued is not None:
            seen.refuse(
                "document",
                f"was issued by {key.agency.code} already, under its number (the signature {issued}); where that is void, seal "
                "the document as its leader signed it",
            )
        apart = {seen.activation.person} if seen.activation is not None else set()
        kind = None if seen.number is None else seen.number.kind
        leader, why = find_leader(db, found, agency=key.agency, document=request.document, kind=kind, not_by=apart, now=seen.at)
        if leader is None:
            seen.refuse(
                "document",
                f"bears no valid signature of a leader of {key.agency.code}: {why}; have it signed with the profile person first",
            )
            return
        seen.leader = leader
        seen.passed["leader"] = leader.facts


def _check_number(db: Session, key: Subscriber, seen: _Seen) -> None:
    request, rule, at = seen.request, seen.rule, seen.at
    if request.number is None:
        seen.refuse("number", f"the profile {request.profile} needs the document's number and symbol, such as 12/QĐ-UBND")
        return
    try:
        number = parse_number(request.number)
        day = check_day(request.issued_on, at)
        claim = build_claim(db, key.agency_id, number, day, request.actor.name, digest=request.digest)
    except Rejected as error:
        seen.violations += error.violations
        return
    seen.number = number
    row = find_number(db, claim)
    if rule.number == "taken before":
        if row is None or row.state != NumberState.USED or row.text != number.text:
            seen.refuse(
                "number", f"no document of {key.agency.code} has the number {number.text} of {claim.year}: issue that first"
            )
    else:
        taken = why_taken(db, row, claim, at)
        if taken is not None:
            seen.refuse("number", taken)
            return
        seen.claim = claim
        seen.passed["numberer"] = None if row is None or claim.person_id is None or row.person is None else row.person.handle
    seen.passed |= {"number": number.text, "series": claim.series, "year": claim.year, "agency": key.agency.code}


def _check_apart(db: Session, key: Subscriber, seen: _Seen) -> None:
    """Leader, numberer and sealer are three people, unless the agency has decided otherwise in writing."""
    reasons = list(_same_people(seen))
    if not reasons:
        return
    rule = db.scalar(sa.select(AgencySigningRule).where(AgencySigningRule.agency_id == key.agency_id))
    if rule is not None and rule.one_person is not None and (rule.one_person_until is None or rule.one_person_until > seen.at):
        seen.passed["one_person"] = rule.one_person
        return
    remedy = "or an admin records the agency's written decision that one person may do both"
    for name, reason in reasons:
        seen.refuse(name, f"{reason}; {remedy}")


def _same_people(seen: _Seen) -> Iterator[tuple[str, str]]:
    leader = None if seen.leader is None else seen.leader.handle
    clerk = None if seen.activation is None else seen.activation.person
    numberer = seen.passed.get("numberer")
    if leader is not None and leader == clerk:
        yield "activation", f"{clerk} signed it as the leader and cannot seal it: another clerk activates the key"
    if seen.claim is None:
        return
    if numberer is None:
        yield "number", "was given by nobody but the sealer: its numberer takes it first at /v1/agencies/{code}/numbers"
    elif numberer == leader:
        yield "number", f"was given by {numberer}, who signed as the leader: another person gives it"
    elif numberer == clerk:
        yield "number", f"was given by {numberer}, who seals: another person gives it"


def _tell(report: HygieneReport) -> dict[str, Any]:
    """What a look at the document gave, for the audit entry."""
    told: dict[str, Any] = {"text": report.text_seen}
    if report.findings:
        told["hygiene"] = sorted({finding.code for finding in report.findings})
    if not report.complete:
        told["hygiene_complete"] = False
    return told
