"""The commands about what there is: search, export and count certificates, deliveries, and where people are reached."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from itertools import islice
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.orm import joinedload

from cli_common import open_services, operator
from core.errors import Rejected
from notices import outbox
from notices.contacts import set_contact
from notices.models import Delivery, DeliveryState
from pki.export import PAGE, format_csv, format_lines, parse_search, summarise
from pki.inventory import STANDINGS, find_all
from pki.summary import load_counts
from pki.views import CertificateFilter, CertificateSummary


def add_commands(commands: Any) -> None:
    """Add them to the parser of ``condau``."""
    command = commands.add_parser("certificates", help="search certificates, export them (csv, jsonl) or count them")
    command.add_argument("text", nargs="*", help="words of the holder's names, or their beginnings, with or without accents")
    command.add_argument("--agency", metavar="CODE", help="of this agency and those below it")
    command.add_argument("--subscriber", metavar="HANDLE")
    command.add_argument("--profile")
    command.add_argument("--standing", choices=STANDINGS, help="what they are worth now")
    command.add_argument("--expiring-days", type=int, metavar="N", help="valid, and expiring within N days")
    command.add_argument("--expires-from", metavar="TIME")
    command.add_argument("--expires-before", metavar="TIME")
    command.add_argument("--spki-sha256", metavar="SHA256", help="over this key")
    command.add_argument("--key-in-hsm", choices=("true", "false"))
    command.add_argument("--format", choices=("table", "csv", "jsonl"), default="table")
    command.add_argument("--limit", type=int, help="no more than so many (default: 100 in a table, else all)")
    command.add_argument("--count", action="store_true", help="count all of them instead, as of the last quarter of an hour")
    command.set_defaults(run=_certificates)

    command = commands.add_parser("contact", help="where a subscriber or an agency is reminded of what expires")
    command.add_argument("kind", choices=("subscriber", "agency"))
    command.add_argument("name", help="the subscriber's handle or the agency's code")
    command.add_argument("email", nargs="?", help="the address; without it they are not reached any more")
    command.set_defaults(run=_contact)

    command = commands.add_parser("deliver", help="remind of what expires and deliver what is due, now")
    command.set_defaults(run=_deliver)

    command = commands.add_parser("redeliver", help="list deliveries that were given up, or have some of them tried again")
    command.add_argument("id", type=int, nargs="*", help="of a delivery; without one they are listed")
    command.add_argument("--all", action="store_true", help="every one")
    command.add_argument("--recipient", help="only those to this webhook or address")
    command.set_defaults(run=_redeliver)


def _certificates(options: argparse.Namespace) -> int:
    with closing(open_services()) as services:
        at = services.now()
        if options.count:
            print(load_counts(services.database, at).model_dump_json(indent=2))
            return 0
        names = set(CertificateFilter.model_fields) & set(vars(options))
        given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        given["text"] = " ".join(options.text) or None
        try:
            wanted = CertificateFilter.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise Rejected(".".join(str(step) for step in first["loc"]) or "options", first["msg"]) from error
        found = find_all(services.database, parse_search(wanted, at, limit=PAGE), at)
        limit = options.limit or (100 if options.format == "table" else None)
        rows = (summarise(row, at) for row in islice(found, limit))
        if options.format == "table":
            for row in rows:
                print(_table_line(row))
        else:
            for line in (format_csv if options.format == "csv" else format_lines)(rows):
                sys.stdout.buffer.write(line)
    return 0


def _table_line(row: CertificateSummary) -> str:
    holder = f"{row.agency or '-':18} {row.subscriber or '-':20} {row.subject}"
    return f"{row.serial:40} {row.standing:13} {row.not_after:%Y-%m-%d} {row.profile:14} {holder}"


def _contact(options: argparse.Namespace) -> int:
    with closing(open_services()) as services, services.database.write() as db:
        owner = set_contact(db, options.kind, options.name, options.email, at=services.now(), actor=operator())
    print(f"{owner}: {options.email or 'none'}")
    return 0


def _deliver(_: argparse.Namespace) -> int:
    with closing(open_services()) as services:
        reminded, tried = services.reminders.remind(), services.courier.deliver()
    print(f"{reminded} certificates to be reminded of, {tried} deliveries tried: see GET /v1/deliveries")
    return 0


def _redeliver(options: argparse.Namespace) -> int:
    dead = sa.select(Delivery).where(Delivery.state == DeliveryState.DEAD).options(joinedload(Delivery.event)).order_by(Delivery.id)
    if options.recipient is not None:
        dead = dead.where(Delivery.recipient == options.recipient)
    with closing(open_services()) as services:
        with services.database.read() as db:
            rows = list(db.scalars(dead))
        if not options.all and not options.id:
            for row in rows:
                print(row.id, row.event.kind, row.event.subject, row.recipient, f"{row.attempts} attempts", sep="\t")
            return 0
        identifiers = [row.id for row in rows] if options.all else options.id
        for identifier in identifiers:
            with services.database.write() as db:
                outbox.revive(db, identifier, at=services.now(), actor=operator())
    print(f"{len(identifiers)} are tried again")
    return 0
