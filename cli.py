"""``condau``: what an operator types. Every command works on the instance in ``CONDAU_HOME`` (by default ``var``)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from audit.log import Actor
from bootstrap import Services, build
from cli_tsa import TsaCommands
from core.config import home_from_environment, load_config, port_from_environment
from core.errors import CondauError, NotFound, Rejected
from hsm.keys import KeySpec
from instance import CREDENTIALS, initialise
from pki.authorities import Organisation
from registry import registry
from registry.models import Role, SubscriberKind
from server import serve
from web.health import run_check


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 when it could not (the reason on standard error)."""
    os.umask(0o077)
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except Rejected as error:
        for violation in error.violations:
            print(f"condau: {violation.field}: {violation.message}", file=sys.stderr)
    except CondauError as error:
        print(f"condau: {error.detail}", file=sys.stderr)
    return 1


def _operator() -> Actor:
    return Actor(f"os-user-{os.getuid()}", "operator")


def _services() -> Services:
    return build(load_config(home_from_environment()))


def _init(options: argparse.Namespace) -> int:
    home = home_from_environment()
    url = options.public_url or f"http://127.0.0.1:{port_from_environment() or 8080}"
    organisation = Organisation(name=options.organisation, locality=options.locality)
    services = initialise(home, public_url=url, organisation=organisation, development=options.development)
    print(f"The instance in {home} is ready; it calls itself {services.config.public_url}.")
    if options.development:
        print(f"API keys of its demonstration clients: {home / CREDENTIALS}")
    services.close()
    return 0


def _serve(_: argparse.Namespace) -> int:
    config = load_config(home_from_environment())
    print(f"Condau answers at http://{config.server.host}:{config.server.port} (reference: /docs). Ctrl-C stops it.", flush=True)
    serve(config)
    return 0


def _issue(options: argparse.Namespace) -> int:
    services = _services()
    if options.csr is not None:
        csr = options.csr.read_bytes()
        issued = services.ca.issue_from_csr(csr, profile=options.profile, subscriber=options.subscriber, actor=_operator())
    else:
        spec = KeySpec(options.key)
        issued = services.ca.issue_for_key(profile=options.profile, subscriber=options.subscriber, spec=spec, actor=_operator())
    pem = issued.pem
    if options.out is None:
        print(pem, end="")
    else:
        options.out.write_text(pem, encoding="ascii")
        print(f"{issued.serial} written to {options.out}")
    services.close()
    return 0


def _revoke(options: argparse.Namespace) -> int:
    services = _services()
    receipt = services.ca.revoke(options.serial, reason=options.reason, actor=_operator())
    print(receipt.model_dump_json(indent=2))
    services.close()
    return 0


def _publish_crl(options: argparse.Namespace) -> int:
    services = _services()
    for name in options.authority or services.crl.authorities():
        published = services.crl.publish(name, actor=_operator())
        print(f"{name}: CRL number {published.number}, next update {published.next_update:%Y-%m-%dT%H:%M:%SZ}")
    services.close()
    return 0


def _reconcile(options: argparse.Namespace) -> int:
    services = _services()
    settled = services.reconcile(services.now() - timedelta(seconds=options.older_than))
    print(f"{settled} undecided, now settled")
    services.close()
    return 0


def _check(_: argparse.Namespace) -> int:
    services = _services()
    failed = 0
    for name, check in services.checks.items():
        part = run_check(check)
        failed += not part.works
        print(f"{'ok   ' if part.works else 'ERROR'} {name}{': ' + part.detail if part.detail else ''}")
    services.close()
    return 1 if failed else 0


def _add_agency(options: argparse.Namespace) -> int:
    services = _services()
    with services.database.write() as db:
        registry.add_agency(
            db, at=services.now(), actor=_operator(), code=options.code, name=options.name, locality=options.locality
        )
    print(f"agency {options.code} added")
    return 0


def _add_subscriber(options: argparse.Namespace) -> int:
    services = _services()
    with services.database.write() as db:
        agency = registry.find_agency(db, options.agency)
        if agency is None:
            raise NotFound("agency", f"no agency has the code {options.agency}: add it with `condau add-agency`")
        kind = SubscriberKind(options.kind)
        registry.add_subscriber(
            db, at=services.now(), actor=_operator(), handle=options.handle, kind=kind, common_name=options.name, agency=agency
        )
    print(f"subscriber {options.handle} added")
    return 0


def _add_client(options: argparse.Namespace) -> int:
    services = _services()
    with services.database.write() as db:
        key = registry.add_client(db, at=services.now(), actor=_operator(), name=options.name, role=Role(options.role))
    print(key)
    print("This API key is shown once and not kept: give it to the client system's operator.", file=sys.stderr)
    return 0


def _grant(options: argparse.Namespace) -> int:
    services = _services()
    with services.database.write() as db:
        registry.grant(db, at=services.now(), actor=_operator(), client=options.client, subscriber=options.subscriber)
    print(f"{options.client} may sign for {options.subscriber}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="condau", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("init", help="make the instance: token, database, authorities; finishes what was cut off")
    command.add_argument("--development", action="store_true", help="with a demonstration agency, signers and API keys")
    command.add_argument("--public-url", help="where clients reach the service (default: http://127.0.0.1:CONDAU_PORT)")
    command.add_argument("--organisation", default="Condau Demo", help="the O of the authorities' names")
    command.add_argument("--locality", default="Thử Nghiệm", help="the L of the authorities' names")
    command.set_defaults(run=_init)

    command = commands.add_parser("serve", help="serve the API until stopped")
    command.set_defaults(run=_serve)

    command = commands.add_parser("issue", help="issue a certificate, from a CSR or for a new key in the token")
    command.add_argument("--profile", required=True)
    command.add_argument("--subscriber", required=True, help="the subscriber's handle")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--csr", type=Path, help="a PKCS#10 file, PEM or DER")
    source.add_argument("--key", choices=[spec.value for spec in KeySpec], help="generate a key of this kind in the token")
    command.add_argument("--out", type=Path, help="write the certificate here instead of standard output")
    command.set_defaults(run=_issue)

    command = commands.add_parser("revoke", help="revoke a certificate and publish the CRL")
    command.add_argument("serial", help="the serial number in hex")
    command.add_argument("--reason", default="unspecified", help="a CRLReason of RFC 5280, section 5.3.1 (default: unspecified)")
    command.set_defaults(run=_revoke)

    command = commands.add_parser("publish-crl", help="issue a new CRL now")
    command.add_argument("authority", nargs="*", help="names of authorities (default: all)")
    command.set_defaults(run=_publish_crl)

    command = commands.add_parser("reconcile", help="settle what a crash left undecided")
    command.add_argument("--older-than", type=float, default=120, metavar="SECONDS", help="only what is older (default: 120)")
    command.set_defaults(run=_reconcile)

    command = commands.add_parser("check", help="check every part; exit code 1 when one fails")
    command.set_defaults(run=_check)

    TsaCommands(services=_services, operator=_operator).add_to(commands)

    command = commands.add_parser("add-agency", help="add an agency to the registry")
    for name in ("code", "name", "locality"):
        command.add_argument(f"--{name}", required=True)
    command.set_defaults(run=_add_agency)

    command = commands.add_parser("add-subscriber", help="add a subscriber of an agency to the registry")
    command.add_argument("handle")
    command.add_argument("--kind", required=True, choices=[kind.value for kind in SubscriberKind])
    command.add_argument("--name", required=True, help="the common name in certificates")
    command.add_argument("--agency", required=True, metavar="CODE")
    command.set_defaults(run=_add_subscriber)

    command = commands.add_parser("add-client", help="add a caller of the API and print its key")
    command.add_argument("name")
    command.add_argument("--role", required=True, choices=[role.value for role in Role])
    command.set_defaults(run=_add_client)

    command = commands.add_parser("grant", help="let a client system sign for a subscriber")
    command.add_argument("client")
    command.add_argument("subscriber", help="the subscriber's handle")
    command.set_defaults(run=_grant)
    return parser


if __name__ == "__main__":
    sys.exit(main())
