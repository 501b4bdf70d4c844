"""Routes of what an agency's signing is governed by: its register of numbers, its authorisations, its rules."""

from __future__ import annotations

import falcon

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Forbidden, NotFound, Refused, Rejected
from registry.models import Role
from registry.registry import agency_with_code
from signer.authorisations import Authorisations, NewAuthorisation, NewRule
from signer.gate_views import (
    AuthorisationList,
    AuthorisationView,
    Gap,
    NewAuthorisationBody,
    NewNumber,
    NumberPage,
    NumberQuery,
    NumberView,
    ReturnedNumber,
    RuleBody,
    RuleView,
    VoidedNumber,
    this_year,
)
from signer.register import Register, Wanted, check_caller, find_gaps, list_numbers
from web.operation import operation, send_json

TAG = "agencies' signing"
_ALL = {Role.CLIENT, Role.ADMIN, Role.AUDITOR}
_READERS = {Role.ADMIN, Role.AUDITOR}


class Numbers:
    """``/v1/agencies/{code}/numbers``."""

    def __init__(self, *, register: Register, database: Database, now: Now) -> None:
        self._register = register
        self._database = database
        self._now = now

    @operation(
        roles={Role.CLIENT},
        summary="Take a document's number",
        description="The next number of the series, or one of your own, is held for half an hour, until a document is sealed with "
        "it (`profile=agency-issue`). Numbers run from 01 in each year, by Vietnamese time.",
        tag=TAG,
        body=NewNumber,
        returns=NumberView,
        status=201,
        problems=(NotFound, Rejected, Refused, Forbidden),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: NewNumber) -> None:
        """Hold it."""
        wanted = Wanted(
            symbol=body.symbol,
            person=body.person,
            number=body.number,
            legal=body.legal,
            secret=body.secret,
            issued_on=body.issued_on,
        )
        send_json(resp, NumberView.of(self._register.hold(code, wanted, actor)))

    @operation(
        roles=_ALL,
        summary="List a series of numbers, with its gaps",
        tag=TAG,
        query=NumberQuery,
        returns=NumberPage,
        problems=(NotFound, Forbidden),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, options: NumberQuery) -> None:
        """Answer one page."""
        at = self._now()
        with self._database.read() as db:
            agency = agency_with_code(db, code)
            check_caller(db, agency, actor)
            year = options.year or this_year(at)
            rows = list_numbers(db, agency, series=options.series, year=year, after=options.after, limit=options.limit)
        gaps = [Gap(first=first, last=last) for first, last in find_gaps(rows, after=options.after, at=at)]
        following = rows[-1].number if len(rows) == options.limit else None
        send_json(resp, NumberPage(numbers=[NumberView.of(row) for row in rows], gaps=gaps, next=following))


class NumberReturn:
    """``/v1/agencies/{code}/numbers/return``."""

    def __init__(self, *, register: Register) -> None:
        self._register = register

    @operation(
        roles={Role.CLIENT, Role.ADMIN},
        summary="Give back a number that was held and not used",
        description="Also one whose document was being signed when that was cut off (state `open`): such a document has never come "
        "out. A client gives back its own, an admin anybody's. A number that is used is not given back: it is had once a year.",
        tag=TAG,
        body=ReturnedNumber,
        status=204,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: ReturnedNumber) -> None:  # noqa: ARG002 - there is nothing to answer
        """Give it back."""
        self._register.let_go(code, body.number, body.year, actor, secret=body.secret, reason=body.reason or "")


class NumberVoid:
    """``/v1/agencies/{code}/numbers/void``."""

    def __init__(self, *, register: Register) -> None:
        self._register = register

    @operation(
        roles={Role.ADMIN},
        summary="Make a number void, so that no document ever has it",
        description="For a number whose document may have come out and is not to count, such as one whose answer was lost.",
        tag=TAG,
        body=VoidedNumber,
        status=204,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: VoidedNumber) -> None:  # noqa: ARG002 - there is nothing to answer
        """Make it void."""
        self._register.void(code, body.number, body.year, actor, secret=body.secret, reason=body.reason)


class AgencyAuthorisations:
    """``/v1/agencies/{code}/authorisations``."""

    def __init__(self, *, authorisations: Authorisations) -> None:
        self._authorisations = authorisations

    @operation(
        roles=_READERS,
        summary="List who may sign for an agency, in which capacity",
        tag=TAG,
        returns=AuthorisationList,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer all of them."""
        rows = self._authorisations.list(code)
        send_json(resp, AuthorisationList(authorisations=[AuthorisationView.of(row) for row in rows]))

    @operation(
        roles={Role.ADMIN},
        summary="Record who may sign for an agency (KT., TM., TL., TUQ.)",
        description="TUQ. is limited in time and to kinds of documents, and is not passed on (Nghị định 30/2020/NĐ-CP, 13.4).",
        tag=TAG,
        body=NewAuthorisationBody,
        returns=AuthorisationView,
        status=201,
        problems=(NotFound, Rejected),
        idempotent=True,
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: NewAuthorisationBody) -> None:
        """Record it."""
        new = NewAuthorisation(**{**body.model_dump(), "kinds": tuple(body.kinds)})
        send_json(resp, AuthorisationView.of(self._authorisations.add(code, new, actor)))


class AuthorisationWithdrawal:
    """``/v1/authorisations/{identifier}/withdrawal``."""

    def __init__(self, *, authorisations: Authorisations) -> None:
        self._authorisations = authorisations

    @operation(
        roles={Role.ADMIN}, summary="End an authorisation now", tag=TAG, returns=AuthorisationView, problems=(NotFound, Conflict)
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, identifier: int) -> None:
        """End it."""
        send_json(resp, AuthorisationView.of(self._authorisations.withdraw(identifier, actor)))


class AgencyRule:
    """``/v1/agencies/{code}/signing-rules``."""

    def __init__(self, *, authorisations: Authorisations) -> None:
        self._authorisations = authorisations

    @operation(
        roles=_READERS, summary="What an agency has decided about its signing", tag=TAG, returns=RuleView, problems=(NotFound,)
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer it."""
        send_json(resp, RuleView.of(self._authorisations.rule(code)))

    @operation(
        roles={Role.ADMIN},
        summary="Record what an agency decides about its signing",
        tag=TAG,
        body=RuleBody,
        returns=RuleView,
        problems=(NotFound, Rejected),
    )
    def on_put(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: RuleBody) -> None:
        """Record it; it takes the place of what was."""
        send_json(resp, RuleView.of(self._authorisations.decide(code, NewRule(**body.model_dump()), actor)))
