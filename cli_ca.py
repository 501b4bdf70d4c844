"""Commands of ceremonies, other authorities, backup and health: ``condau ceremony``, ``key-csr``, ``anchor``, ``backup``, …"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from backup import create_backup, restore_backup
from cli_common import open_services, operator
from cli_jobs import say_pending
from core.config import home_from_environment
from core.errors import Rejected
from hsm.keys import KeySpec
from pki.acts import CEREMONY
from pki.anchors import install_anchor, installed_anchors, remove_anchor
from pki.ceremony import Outcome, load_definition
from pki.crl_import import take_in_crl
from pki.foreign_crl import keep_foreign_crl
from pki.minutes import build_minutes, build_plan
from pki.recovery import check_keys, recover
from selfcheck import Level, examine, exit_code


def add_commands(commands: Any) -> None:
    """Add this module's commands to the parser's subparsers."""
    _add_ceremony(commands)
    _add_other_authorities(commands)
    _add_backup(commands)
    command = commands.add_parser("check", help="check every part; exit code 1: something wants attention, 2: something fails")
    command.add_argument("--json", action="store_true", help="one JSON object a finding and line")
    command.set_defaults(run=_check)


def _add_ceremony(commands: Any) -> None:
    command = commands.add_parser("ceremony", help="carry out a ceremony from its definition file (by default only say what)")
    command.add_argument("file", type=Path, help="a definition, as in certs/ceremonies/")
    command.add_argument("--execute", action="store_true", help="do it; without this nothing happens")
    command.add_argument("--out", type=Path, help="folder for the results and the minutes (default: ceremonies/ in the instance)")
    command.set_defaults(run=_ceremony)
    command = commands.add_parser("import-crl", help="take in a CRL of an offline authority of ours, or of somebody else's")
    command.add_argument("file", type=Path)
    command.add_argument("--other-authority", action="store_true", help="it is of an installed anchor, or of one below it")
    command.set_defaults(run=_import_crl)


def _add_other_authorities(commands: Any) -> None:
    command = commands.add_parser("key-csr", help="make a request for another authority, for a key in the HSM")
    command.add_argument("subscriber", help="the subscriber's handle")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--key", choices=[spec.value for spec in KeySpec], help="make a new key of this kind")
    source.add_argument("--key-label", help="use this key, which the subscriber has already")
    command.add_argument("--out", type=Path, help="write the request here instead of standard output")
    command.set_defaults(run=_key_csr)
    command = commands.add_parser("import-certificate", help="import what another authority answered to a request")
    command.add_argument("id", type=int, help="the number that key-csr printed")
    command.add_argument("file", type=Path, help="the certificate and its issuers in PEM")
    command.set_defaults(run=_import_certificate)
    command = commands.add_parser("withdraw-certificate", help="sign with another authority's certificate no more")
    command.add_argument("id", type=int)
    command.add_argument("--why", required=True)
    command.set_defaults(run=_withdraw)
    command = commands.add_parser("anchor", help="anchors of other trust domains")
    acts = command.add_subparsers(required=True, metavar="act")
    act = acts.add_parser("add", help="trust an authority, if its certificate has this hash")
    act.add_argument("file", type=Path)
    act.add_argument("--domain", required=True, help="the label of its trust domain, such as cong-vu or public")
    act.add_argument("--sha256", required=True, help="SHA-256 of the certificate in DER, as told by another way than the file")
    act.set_defaults(run=_add_anchor)
    act = acts.add_parser("list", help="those trusted now")
    act.set_defaults(run=_list_anchors)
    act = acts.add_parser("remove", help="trust one no more")
    act.add_argument("sha256")
    act.set_defaults(run=_remove_anchor)


def _add_backup(commands: Any) -> None:
    command = commands.add_parser("backup", help="copy database, embedded token, settings and secrets while the service goes on")
    command.add_argument("folder", type=Path, help="must not exist yet; it will hold secrets")
    command.set_defaults(run=_backup)
    command = commands.add_parser("restore", help="put a backup into an empty CONDAU_HOME, and find what was lost since")
    command.add_argument("folder", type=Path)
    command.add_argument("--crl", type=Path, action="append", default=[], help="the last published CRL of an authority (repeat)")
    command.add_argument("--audit", type=Path, help="audit entries since the backup, one JSON object a line")
    command.set_defaults(run=_restore)


def _ceremony(options: argparse.Namespace) -> int:
    definition = load_definition(options.file)
    with open_services() as services:
        print(build_plan(definition))
        violations = services.ceremony.check(definition)
        if violations:
            raise Rejected.all(violations)
        if not options.execute:
            print("Chưa thực hiện; thêm --execute để thực hiện. / Nothing was done; add --execute to do it.")
            return 0
        payload = {"authority": definition.name, "definition_sha256": definition.sha256, "plan": build_plan(definition)}
        pending = services.approvals.permit(CEREMONY, {definition.name}, payload, operator())
        if pending is not None:
            return say_pending(pending)
        outcome = services.ceremony.execute(definition, operator())
        minutes = build_minutes(outcome, at=services.now(), actor=operator().name, version=importlib.metadata.version("condau"))
        folder = options.out or services.config.home / "ceremonies"
        for path in _write_results(folder, f"{options.file.stem}-{definition.sha256[:12]}", outcome, minutes):
            print(f"Đã ghi / written: {path}")
    return 0


def _write_results(folder: Path, stem: str, outcome: Outcome, minutes: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{stem}.md"]
    written[0].write_text(minutes, encoding="utf-8")
    if outcome.certificate is not None:
        written.append(folder / f"{stem}.pem")
        pems = (one.public_bytes(Encoding.PEM) for one in (outcome.certificate, *outcome.chain))
        written[1].write_bytes(b"".join(pems))
    if outcome.crl is not None:
        written.append(folder / f"{stem}.crl")
        written[-1].write_bytes(outcome.crl)
    return written


def _import_crl(options: argparse.Namespace) -> int:
    data = _read(options.file)
    if options.other_authority:
        with open_services() as services, services.database.write() as db:
            row = keep_foreign_crl(db, data, at=services.now(), actor=operator())
        print(f"{row.issuer}: CRL of {row.this_update:%Y-%m-%dT%H:%M:%SZ}, good until {row.next_update:%Y-%m-%dT%H:%M:%SZ}")
        return 0
    with open_services() as services:
        taken = take_in_crl(services.database, data, at=services.now(), actor=operator())
    print(
        f"{taken.authority}: CRL number {taken.number}; newly revoked here: {len(taken.revoked)}, unknown here: {len(taken.lost)}"
    )
    return 0


def _key_csr(options: argparse.Namespace) -> int:
    spec = None if options.key is None else KeySpec(options.key)
    with open_services() as services:
        row = services.externals.request(subscriber=options.subscriber, spec=spec, key_label=options.key_label, actor=operator())
    pem = x509.load_der_x509_csr(row.request_der or b"").public_bytes(Encoding.PEM).decode("ascii")
    if options.out is None:
        print(pem, end="")
    else:
        options.out.write_text(pem, encoding="ascii")
    print(
        f"request {row.id}, key {row.key_label}: import the answer with `condau import-certificate {row.id} FILE`", file=sys.stderr
    )
    return 0


def _import_certificate(options: argparse.Namespace) -> int:
    data = _read(options.file)
    with open_services() as services:
        row = services.externals.accept(options.id, data, operator())
    print(f"{row.subscriber.handle} can sign with {row.serial}, trust domain {row.domain}")
    print("Its revocation status is known to its issuer alone: withdraw it here when it is revoked there.")
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    with open_services() as services:
        row = services.externals.withdraw(options.id, why=options.why, actor=operator())
    print(f"request {row.id}: withdrawn")
    return 0


def _add_anchor(options: argparse.Namespace) -> int:
    data = _read(options.file)
    with open_services() as services, services.database.write() as db:
        anchor = install_anchor(db, at=services.now(), actor=operator(), data=data, domain=options.domain, sha256=options.sha256)
        print(f"{anchor.domain}: {anchor.subject} is trusted")
    return 0


def _list_anchors(_: argparse.Namespace) -> int:
    with open_services() as services, services.database.read() as db:
        for anchor in installed_anchors(db):
            print(f"{anchor.domain}  {anchor.sha256}  {anchor.subject}")
    return 0


def _remove_anchor(options: argparse.Namespace) -> int:
    with open_services() as services, services.database.write() as db:
        remove_anchor(db, at=services.now(), actor=operator(), sha256=options.sha256)
    print("removed")
    return 0


def _backup(options: argparse.Namespace) -> int:
    with open_services() as services:
        manifest = create_backup(services, options.folder.resolve(), operator())
    print(f"{options.folder}: {len(manifest.files)} files, audit entries up to {manifest.audit_head}")
    print("It holds the token's PINs: keep it as you keep those.", file=sys.stderr)
    return 0


def _restore(options: argparse.Namespace) -> int:
    crls = [_read(path) for path in options.crl]
    audit = [] if options.audit is None else _read(options.audit).decode("utf-8").splitlines()
    manifest = restore_backup(options.folder.resolve(), home_from_environment())
    print(f"Restored as of {manifest.at}.")
    with open_services() as services:
        found = recover(
            services.database,
            at=services.now(),
            actor=operator(),
            gap=services.config.pki.restore_gap,
            crls=crls,
            audit=audit,
        )
        for name, number in found.crl_numbers.items():
            print(f"{name}: the next CRL has a number above {number}")
        print(f"revoked again, as published CRLs say: {len(found.revoked)} {' '.join(found.revoked)}".rstrip())
        print(f"issued since the backup and lost: {len(found.lost)} {' '.join(found.lost)}".rstrip())
        tokens = [token.name for token in services.config.hsm.tokens]
        findings = list(check_keys(services.database, services.token, tokens))
    for finding in findings:
        print(f"key {finding.label}: {finding.problem}")
    return 1 if found.lost or findings else 0


def _check(options: argparse.Namespace) -> int:
    with open_services() as services:
        findings = examine(services)
    for finding in findings:
        if options.json:
            print(json.dumps({**dataclasses.asdict(finding), "level": finding.level.name.lower()}, ensure_ascii=False))
        else:
            print(f"{_SIGNS[finding.level]} {finding.part}: {finding.detail}")
    return exit_code(findings)


_SIGNS = {Level.OK: "ok      ", Level.INFO: "info    ", Level.WARNING: "WARNING ", Level.CRITICAL: "CRITICAL"}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Rejected("file", f"{path} cannot be read: {error.strerror}") from error
