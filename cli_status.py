"""The commands about the standing of certificates: revoke, suspend, resume, and what was known when."""

from __future__ import annotations

import argparse
import base64
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from audit.log import Actor
from bootstrap import Services
from cli_common import WAITS, Outcome, add_key_option, carry_out, describe_pending, open_services, operator, say
from cli_jobs import say_pending
from core.errors import Rejected
from pki.acts import RESUME, REVOKE, REVOKE_MANY
from pki.grounds import MEANINGS, REASONS, Ground
from pki.revocation import count_by_agency
from pki.status_views import RevocationOrder, RevocationRequest


def add_commands(commands: Any) -> None:
    """Add them to the parser of ``condau``."""
    command = commands.add_parser("revoke", help="revoke a certificate, everything over a key or of an agency; publish the CRLs")
    command.add_argument("serial", nargs="?", help="the serial number in hex")
    command.add_argument("--key", metavar="SHA256", help="instead: SHA-256 of a SubjectPublicKeyInfo; the key is blocked for ever")
    command.add_argument("--agency", metavar="CODE", help="instead: every unexpired certificate of this agency")
    command.add_argument("--subtree", action="store_true", help="with --agency: also of every agency below it")
    command.add_argument("--execute", action="store_true", help="with --key or --agency: do it; without, only say what it would be")
    command.add_argument("--reason", choices=REASONS, help="a CRLReason of RFC 5280, 5.3.1 (default: what fits the ground)")
    _add_ground(command)
    command.add_argument("--invalidity-date", type=_moment, metavar="TIME", help="since when the key is known to be unsafe")
    add_key_option(command)
    command.set_defaults(run=_revoke)

    command = commands.add_parser("suspend", help="suspend a certificate (certificateHold)")
    command.add_argument("serial", help="the serial number in hex")
    _add_ground(command)
    command.set_defaults(run=_suspend)

    command = commands.add_parser("resume", help="end a certificate's suspension")
    command.add_argument("serial", help="the serial number in hex")
    command.set_defaults(run=_resume)

    command = commands.add_parser("status", help="what was known of a certificate at a moment, with its history")
    command.add_argument("serial", help="the serial number in hex")
    command.add_argument("--at", type=_moment, metavar="TIME", help="such as 2026-01-31T08:00:00+07:00 (default: now)")
    command.add_argument("--proofs", type=Path, metavar="FOLDER", help="write the CRL and the OCSP response that prove it there")
    command.set_defaults(run=_status)

    command = commands.add_parser("receipt", help="the receipt of a revocation: how long it took to become visible")
    command.add_argument("id", help="as the receipt says")
    command.set_defaults(run=_receipt)

    command = commands.add_parser("grounds", help="list the legal grounds of revocation")
    command.set_defaults(run=_grounds)


def _add_ground(command: argparse.ArgumentParser) -> None:
    grounds = [ground.value for ground in Ground]
    command.add_argument("--ground", choices=grounds, metavar="GROUND", help="the legal ground (`condau grounds` lists them)")


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError("say the time zone as well: 2026-01-31T08:00:00+07:00, or Z for UTC")
    return at


def _why(options: argparse.Namespace) -> dict[str, Any]:
    ground = None if options.ground is None else Ground(options.ground)
    return {"reason": options.reason, "ground": ground, "invalidity_date": options.invalidity_date}


def _print(model: BaseModel) -> None:
    print(model.model_dump_json(indent=2))


def _revoke(options: argparse.Namespace) -> int:
    if sum(target is not None for target in (options.serial, options.key, options.agency)) != 1:
        raise Rejected("serial", "give exactly one of a serial number, --key and --agency")
    if options.subtree and options.agency is None:
        raise Rejected("subtree", "goes with --agency")
    with open_services() as services:
        if options.serial is not None:
            return say(carry_out(services, options, lambda actor: _revoke_one(services, options, actor)))
        order = RevocationOrder(key=options.key, agency=options.agency, subtree=options.subtree, **_why(options))
        if options.execute:
            return say(carry_out(services, options, lambda actor: _revoke_many(services, order, actor)))
        found = services.revocations.affected(key=order.key, agency=order.agency, subtree=order.subtree)
    counts = [f"{number}\tof {code or 'no agency'}" for code, number in count_by_agency(found).items()]
    total = f"{len(found)} would be revoked; add --execute to do it"
    print("\n".join([*(one.serial for one in found), *counts, total]))
    return 0


def _revoke_one(services: Services, options: argparse.Namespace, actor: Actor) -> Outcome:
    if services.approvals.active:
        payload = services.revocation_acts.describe_one(options.serial, RevocationRequest(**_why(options)))
        pending = services.approvals.ask(REVOKE, payload["profiles"], payload, actor)
        if pending is not None:
            return WAITS, describe_pending(pending)
    return 0, services.revocations.revoke(options.serial, actor=actor, **_why(options)).model_dump_json(indent=2) + "\n"


def _revoke_many(services: Services, order: RevocationOrder, actor: Actor) -> Outcome:
    if services.approvals.active:
        payload = services.revocation_acts.describe_many(order)
        pending = services.approvals.ask(REVOKE_MANY, payload["profiles"], payload, actor)
        if pending is not None:
            return WAITS, describe_pending(pending)
    receipts = services.revocation_acts.revoke_many(order, actor)
    lines = [f"{receipt.serial} revoked, receipt {receipt.id}" for receipt in receipts]
    return 0, "\n".join([*lines, f"{len(receipts)} revoked", ""])


def _suspend(options: argparse.Namespace) -> int:
    services = open_services()
    ground = None if options.ground is None else Ground(options.ground)
    _print(services.revocations.suspend(options.serial, actor=operator(), ground=ground))
    services.close()
    return 0


def _resume(options: argparse.Namespace) -> int:
    services = open_services()
    if services.approvals.active:
        payload = services.revocation_acts.describe_resumption(options.serial)
        pending = services.approvals.ask(RESUME, payload["profiles"], payload, operator())
        if pending is not None:
            return say_pending(pending)
    _print(services.revocations.resume(options.serial, actor=operator()))
    services.close()
    return 0


def _status(options: argparse.Namespace) -> int:
    services = open_services()
    found = services.history.status(options.serial, options.at)
    print(found.model_dump_json(indent=2, exclude={"evidence": {"crl"}, "ocsp": {"response"}}))
    if options.proofs is not None:
        options.proofs.mkdir(parents=True, exist_ok=True)
        if found.evidence is not None:
            (options.proofs / f"{found.serial}.crl").write_bytes(base64.b64decode(found.evidence.crl))
        if found.ocsp is not None:
            (options.proofs / f"{found.serial}.ocsp").write_bytes(base64.b64decode(found.ocsp.response))
    services.close()
    return 0


def _receipt(options: argparse.Namespace) -> int:
    services = open_services()
    _print(services.revocations.receipt(options.id))
    services.close()
    return 0


def _grounds(_: argparse.Namespace) -> int:
    for ground, meaning in MEANINGS.items():
        print(f"{ground.value:20} {meaning.vietnamese}\n{'':20} {meaning.english} ({', '.join(meaning.reasons)})")
    return 0
