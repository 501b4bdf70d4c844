"""``condau``'s commands on the registry: agencies, subscribers, callers, grants; and the profiles in force."""

from __future__ import annotations

import argparse
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from bootstrap import Services
from cli_common import open_services, operator
from pki.profile import profile_digest
from registry import agencies, registry
from registry.agencies import Change
from registry.models import Agency, ApiClient, Subscriber, SubscriberKind
from registry.views import start_of


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    _add_agency_commands(commands)
    _add_subscriber_commands(commands)
    command = commands.add_parser("list-clients", help="list the callers of the API")
    command.set_defaults(run=_list_clients)
    command = commands.add_parser("disable-client", help="take a caller's access away for good")
    command.add_argument("name")
    command.set_defaults(run=_disable_client)
    command = commands.add_parser("withdraw-grant", help="end a client system's right to sign for a subscriber")
    command.add_argument("client")
    command.add_argument("subscriber", help="the subscriber's handle")
    command.set_defaults(run=_withdraw_grant)
    command = commands.add_parser("list-profiles", help="list the certificate profiles in force, with version and digest")
    command.set_defaults(run=_list_profiles)


_SHORT = "what certificates call it, where its name has more than the 64 characters they hold"


def _add_agency_commands(commands: Any) -> None:
    command = commands.add_parser("add-agency", help="add an agency to the registry")
    for name in ("code", "name", "locality"):
        command.add_argument(f"--{name}", required=True)
    command.add_argument("--certificate-name", help=_SHORT)
    command.add_argument("--parent", metavar="CODE", help="the agency it is under (default: none, it is at the top)")
    command.add_argument(
        "--since", type=date.fromisoformat, metavar="YYYY-MM-DD", help="since when it has this name (default: now)"
    )
    command.set_defaults(run=_add_agency)
    command = commands.add_parser("list-agencies", help="list the agencies as they are or were at a day")
    command.add_argument("--at", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the day (default: now)")
    command.set_defaults(run=_list_agencies)
    command = _change(commands, "rename-agency", "give an agency another name")
    command.add_argument("name")
    command.add_argument("--certificate-name", help=_SHORT)
    command.add_argument("--locality", help="default: it stays where it is")
    command.set_defaults(run=_rename_agency)
    command = _change(commands, "move-agency", "put an agency under another")
    command.add_argument("parent", nargs="?", metavar="PARENT", help="the code of the other (default: none, it comes to the top)")
    command.set_defaults(run=_move_agency)
    command = _change(commands, "merge-agency", "merge an agency into another; it gets no certificates any more")
    command.add_argument("into", metavar="INTO", help="the code of the other")
    command.set_defaults(run=_merge_agency)
    _change(commands, "close-agency", "close an agency; it gets no certificates any more").set_defaults(run=_close_agency)


def _change(commands: Any, name: str, says: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=says)
    command.add_argument("code", metavar="CODE", help="the agency's code, in either order")
    command.add_argument("--effective", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the day it counts from (default: now)")
    return command


def _add_subscriber_commands(commands: Any) -> None:
    command = commands.add_parser("add-subscriber", help="add a subscriber of an agency to the registry")
    command.add_argument("handle")
    command.add_argument("--kind", required=True, choices=[kind.value for kind in SubscriberKind])
    command.add_argument("--name", required=True, help="the common name in certificates")
    command.add_argument("--agency", required=True, metavar="CODE")
    _add_particulars(command)
    command.set_defaults(run=_add_subscriber)
    command = commands.add_parser("change-subscriber", help="change what a subscriber's future certificates say")
    command.add_argument("handle")
    command.add_argument("--name", help="the common name in certificates")
    command.add_argument("--agency", metavar="CODE")
    _add_particulars(command)
    command.set_defaults(run=_change_subscriber)
    command = commands.add_parser("list-subscribers", help="list the subscribers")
    command.add_argument("--agency", metavar="CODE", help="only those of this agency")
    command.set_defaults(run=_list_subscribers)


def _add_particulars(command: argparse.ArgumentParser) -> None:
    command.add_argument("--uid", help="MST: and a tax code, CCCD: or CMND: and an identity number")
    command.add_argument("--email")
    command.add_argument("--dns-name", action="append", dest="dns_names", help="a host name of a server; may be repeated")


def _add_agency(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        at = services.now()
        registry.add_agency(
            db,
            at=at,
            actor=operator(),
            code=options.code,
            name=options.name,
            certificate_name=options.certificate_name,
            locality=options.locality,
            parent=None if options.parent is None else registry.agency_with_code(db, options.parent),
            since=start_of(options.since, at),
        )
    print(f"agency {options.code} added")
    return 0


def _list_agencies(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.read() as db:
        at = start_of(options.at, services.now())
        for agency in db.scalars(sa.select(Agency).order_by(Agency.code_key)):
            version = agencies.version_at(agency, at)
            closed = "\tclosed" if version.closed else ""
            print(f"{agency.code}\t{version.name}\t{version.locality}{closed}")
    return 0


def _begin(db: Session, services: Services, options: argparse.Namespace) -> tuple[Agency, Change]:
    at = services.now()
    return registry.agency_with_code(db, options.code), Change(at, operator(), start_of(options.effective, at))


def _counts_from(options: argparse.Namespace, at: datetime, what: str) -> int:
    print(f"agency {options.code}: {what}, from {at.isoformat()} on")
    return 0


def _rename_agency(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        agency, change = _begin(db, services, options)
        names = {"name": options.name, "certificate_name": options.certificate_name}
        agencies.rename(db, agency, change, locality=options.locality, **names)
    return _counts_from(options, change.effective, f"named {options.name}")


def _move_agency(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        agency, change = _begin(db, services, options)
        parent = None if options.parent is None else registry.agency_with_code(db, options.parent)
        agencies.move(db, agency, change, parent=parent)
    return _counts_from(options, change.effective, f"under {options.parent or 'nobody'}")


def _merge_agency(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        agency, change = _begin(db, services, options)
        agencies.merge(db, agency, change, into=registry.agency_with_code(db, options.into))
    return _counts_from(options, change.effective, f"merged into {options.into}")


def _close_agency(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        agency, change = _begin(db, services, options)
        agencies.close(db, agency, change)
    return _counts_from(options, change.effective, "closed")


def _add_subscriber(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        agency = registry.agency_with_code(db, options.agency)
        agencies.check_open(db, agency, services.now())
        registry.add_subscriber(
            db,
            at=services.now(),
            actor=operator(),
            handle=options.handle,
            kind=SubscriberKind(options.kind),
            common_name=options.name,
            agency=agency,
            uid=options.uid,
            email=options.email,
            dns_names=options.dns_names or (),
        )
    print(f"subscriber {options.handle} added")
    return 0


def _change_subscriber(options: argparse.Namespace) -> int:
    given = {"common_name": options.name, "uid": options.uid, "email": options.email, "dns_names": options.dns_names}
    fields = {name: value for name, value in given.items() if value is not None}
    with open_services() as services, services.database.write() as db:
        subscriber = registry.subscriber_named(db, options.handle)
        if options.agency is not None:
            fields["agency"] = registry.agency_with_code(db, options.agency)
            agencies.check_open(db, fields["agency"], services.now())
        registry.change_subscriber(db, subscriber, at=services.now(), actor=operator(), **fields)
    print(f"subscriber {options.handle} changed; certificates that are out keep saying what they said")
    return 0


def _list_subscribers(options: argparse.Namespace) -> int:
    query = sa.select(Subscriber).order_by(Subscriber.handle)
    with open_services() as services, services.database.read() as db:
        if options.agency is not None:
            query = query.where(Subscriber.agency_id == registry.agency_with_code(db, options.agency).id)
        for item in db.scalars(query):
            print(f"{item.handle}\t{item.kind}\t{item.common_name}\t{item.agency.code}")
    return 0


def _list_clients(_: argparse.Namespace) -> int:
    with open_services() as services, services.database.read() as db:
        for item in db.scalars(sa.select(ApiClient).order_by(ApiClient.name)):
            print(f"{item.name}\t{item.role}\t{'disabled' if item.disabled_at else 'enabled'}")
    return 0


def _disable_client(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        registry.disable_client(db, at=services.now(), actor=operator(), name=options.name)
    print(f"client {options.name} disabled")
    return 0


def _withdraw_grant(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        registry.withdraw_grant(db, at=services.now(), actor=operator(), client=options.client, subscriber=options.subscriber)
    print(f"{options.client} may no longer sign for {options.subscriber}")
    return 0


def _list_profiles(_: argparse.Namespace) -> int:
    with open_services() as services:
        for profile in services.ca.profiles.values():
            print(f"{profile.name}\tversion {profile.version}\tsha256 {profile_digest(profile)}")
    return 0
