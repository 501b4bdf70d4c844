"""``condau``'s commands on what governs official signatures: who activates keys, numbers, authorisations, a look at a document."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from approvals.service import Payload
from approvals.views import ApprovalView
from audit.log import Actor
from cli_common import open_services, operator
from cli_jobs import say_pending
from core.content import Content
from registry.agencies import VIETNAM
from registry.registry import agency_with_code
from signer.activation_holders import GIVE, REMOVE, UNLOCK
from signer.authorisations import CAPACITIES, NewAuthorisation, NewRule
from signer.gate_views import this_year
from signer.hygiene import scan
from signer.register import find_gaps, list_numbers

_MOST = 100_000


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    _add_holder_commands(commands)
    command = commands.add_parser("list-numbers", help="list an agency's numbers of a series, with the gaps")
    command.add_argument("agency", metavar="CODE")
    command.add_argument("--series", required=True, help="QĐ, CV, QPPL:QĐ, HC, …")
    command.add_argument("--year", type=int, help="default: this year in Vietnam")
    command.set_defaults(run=_list_numbers)
    _add_number_commands(commands)
    command = commands.add_parser("add-authorisation", help="record who may sign for an agency")
    command.add_argument("agency", metavar="CODE")
    command.add_argument("subscriber", help="handle of who may sign")
    command.add_argument("--granted-by", required=True, metavar="HANDLE")
    command.add_argument("--capacity", required=True, choices=list(CAPACITIES))
    command.add_argument("--reference", required=True, help="number and date of the written document")
    command.add_argument("--content", required=True, help="what it is limited to, in words")
    command.add_argument("--kind", action="append", default=[], help="a kind of document: QĐ, CV; several times for several")
    command.add_argument("--since", type=date.fromisoformat, metavar="YYYY-MM-DD", help="default: now")
    command.add_argument("--until", type=date.fromisoformat, metavar="YYYY-MM-DD", help="its last day")
    command.set_defaults(run=_add_authorisation)
    command = commands.add_parser("withdraw-authorisation", help="end an authorisation now")
    command.add_argument("number", type=int)
    command.set_defaults(run=_withdraw_authorisation)
    command = commands.add_parser("set-signing-rule", help="record what an agency decides about its signing")
    command.add_argument("agency", metavar="CODE")
    command.add_argument(
        "--one-person", metavar="REFERENCE", help="written decision that one person may be several of leader, numberer and sealer"
    )
    command.add_argument("--until", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the decision's last day")
    command.add_argument("--one-series", action="store_true", help="all administrative documents share one series of numbers")
    command.set_defaults(run=_set_rule)
    command = commands.add_parser("check-document", help="look at a PDF before it is signed: what could change its looks")
    command.add_argument("file", type=Path)
    command.add_argument("--password")
    command.set_defaults(run=_check_document)


def _add_number_commands(commands: Any) -> None:
    command = commands.add_parser("number", help="one number of an agency's register: show it, give it back, make it void")
    acts = command.add_subparsers(required=True, metavar="act")
    for name, says, run in (
        ("show", "what became of a number", _show_number),
        ("free", "give back a number that is held, or whose document was never completed", _free_number),
        ("void", "make a number nobody's for good: its document may have come out and is not to count", _void_number),
    ):
        act = acts.add_parser(name, help=says)
        act.add_argument("agency", metavar="CODE")
        act.add_argument("number", help="as it is written: 12/QĐ-UBND")
        act.add_argument("--year", type=int, help="default: this year in Vietnam")
        act.add_argument("--secret", action="store_true", help="it is of the series of secret documents")
        act.set_defaults(run=run)
        if run is not _show_number:
            act.add_argument("--reason", required=True, help="why, for the audit log")


def _add_holder_commands(commands: Any) -> None:
    for name, says, run in (
        ("add-activation-holder", "let a person activate a key, with new secrets that are shown once", _give),
        ("unlock-activation", "let a person try their PIN or code again", _unlock),
        ("remove-activation-holder", "take the right to activate a key away", _remove),
    ):
        command = commands.add_parser(name, help=says)
        command.add_argument("key", help="handle of the subscriber whose key it is")
        command.add_argument("person", help="handle of the person")
        command.set_defaults(run=run)
        if run is _give:
            command.add_argument("--method", choices=["pin", "code", "pin+code"], default="pin")
    command = commands.add_parser("list-activation-holders", help="list who may activate a key")
    command.add_argument("key")
    command.set_defaults(run=_list_holders)


def _give(options: argparse.Namespace) -> int:
    with open_services() as services:
        payload = services.holders.give_payload(options.key, options.person, options.method)
        pending = services.approvals.permit(GIVE, {options.key}, payload, operator())
        if pending is not None:
            return say_pending(pending)
        given = services.holders.give(payload, operator())
    if given.pin is not None:
        print(f"PIN: {given.pin} (shown once; its holder changes it before the first activation)")
    if given.code_uri is not None:
        print(f"authenticator: {given.code_uri}")
    return 0


def _unlock(options: argparse.Namespace) -> int:
    with open_services() as services:
        payload = {"key": options.key, "person": options.person}
        pending = services.approvals.ask(UNLOCK, {options.key}, payload, operator())
        return _do(pending, services.holders.unlock, payload, "unlocked")


def _remove(options: argparse.Namespace) -> int:
    with open_services() as services:
        payload = {"key": options.key, "person": options.person}
        pending = services.approvals.ask(REMOVE, {options.key}, payload, operator())
        return _do(pending, services.holders.remove, payload, "removed")


def _do(pending: ApprovalView | None, act: Callable[[Payload, Actor], Payload], payload: Payload, done: str) -> int:
    if pending is not None:
        return say_pending(pending)
    act(payload, operator())
    print(f"{payload['person']}, key of {payload['key']}: {done}")
    return 0


def _list_holders(options: argparse.Namespace) -> int:
    with open_services() as services:
        for item in services.holders.holders(options.key):
            state = "locked" if item["locked"] else "PIN not changed yet" if item["pin_initial"] else "ready"
            print(f"{item['person']}\t{item['method']}\t{state}")
    return 0


def _list_numbers(options: argparse.Namespace) -> int:
    with open_services() as services:
        at = services.now()
        with services.database.read() as db:
            agency = agency_with_code(db, options.agency)
            year = options.year or this_year(at)
            rows = list_numbers(db, agency, series=options.series, year=year, after=0, limit=_MOST)
        for row in rows:
            person = row.person.handle if row.person else "-"
            print(f"{row.text}\t{row.state}\t{row.at.astimezone(VIETNAM).isoformat(timespec='minutes')}\t{person}")
        for first, last in find_gaps(rows, after=0, at=at):
            print(f"gap: {first}" + (f" to {last}" if last > first else ""))
    return 0


def _show_number(options: argparse.Namespace) -> int:
    with open_services() as services:
        year = options.year or this_year(services.now())
        row = services.register.find(options.agency, options.number, year, secret=options.secret)
        at = row.at.astimezone(VIETNAM).isoformat(timespec="minutes")
        signature = "-" if row.signature_id is None else str(row.signature_id)
        person = row.person.handle if row.person else "-"
        print(f"{row.text}\tseries {row.series}\t{row.state}\t{at}\tgiven by {person}\tfor {row.client}\tsignature {signature}")
    return 0


def _free_number(options: argparse.Namespace) -> int:
    with open_services() as services:
        year = options.year or this_year(services.now())
        services.register.let_go(options.agency, options.number, year, operator(), secret=options.secret, reason=options.reason)
    print(f"{options.number} of {year}: free")
    return 0


def _void_number(options: argparse.Namespace) -> int:
    with open_services() as services:
        year = options.year or this_year(services.now())
        services.register.void(options.agency, options.number, year, operator(), secret=options.secret, reason=options.reason)
    print(f"{options.number} of {year}: void, no document ever has it")
    return 0


def _add_authorisation(options: argparse.Namespace) -> int:
    with open_services() as services:
        new = NewAuthorisation(
            subscriber=options.subscriber,
            granted_by=options.granted_by,
            capacity=options.capacity,
            reference=options.reference,
            content=options.content,
            kinds=tuple(options.kind),
            since=services.now() if options.since is None else _start(options.since),
            until=_end(options.until),
        )
        row = services.authorisations.add(options.agency, new, operator())
        print(f"authorisation {row.id}: {row.subscriber.handle} signs {row.capacity}. for {row.agency.code}")
    return 0


def _withdraw_authorisation(options: argparse.Namespace) -> int:
    with open_services() as services:
        services.authorisations.withdraw(options.number, operator())
    print(f"authorisation {options.number}: withdrawn")
    return 0


def _set_rule(options: argparse.Namespace) -> int:
    with open_services() as services:
        rule = NewRule(options.one_person, _end(options.until), options.one_series)
        services.authorisations.decide(options.agency, rule, operator())
    people = f"one person may hold several roles ({options.one_person})" if options.one_person else "three different people"
    print(f"{options.agency}: {people}; {'one series' if options.one_series else 'a series for each kind of document'}")
    return 0


def _check_document(options: argparse.Namespace) -> int:
    with open_services() as services:
        config = services.config.signer.hygiene
    with options.file.open("rb") as file:
        report = scan(Content.of_file(file), password=options.password)
    refused = {finding.code for finding in report.refused(config)}
    for mark in report.secrecy:
        print(f"refused\tSECRET\t{mark.text} ({mark.where})")
    for finding in report.findings:
        where = f" ({', '.join(finding.objects)})" if finding.objects else ""
        weight = "refused" if finding.code in refused else finding.severity
        print(f"{weight}\t{finding.code}\t{finding.text.vi} / {finding.text.en}{where}")
    if report.text_seen != "read":
        print("info\tNO_TEXT\tKhông có chữ để xét dấu mật / No text: whether it bears a secrecy mark cannot be told")
    return 1 if refused or report.secrecy else 0


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), VIETNAM)


def _end(day: date | None) -> datetime | None:
    """The end of its last day in Vietnam."""
    return None if day is None else _start(day) + timedelta(days=1)
