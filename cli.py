"""``condau``: what an operator types. Every command works on the instance in ``CONDAU_HOME`` (by default ``var``)."""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from cryptography import x509

import cli_archive
import cli_batch
import cli_ca
import cli_gates
import cli_inventory
import cli_jobs
import cli_looks
import cli_registry
import cli_status
import cli_tsa
from audit.log import Actor
from bootstrap import build
from cli_common import WAITS, Outcome, add_key_option, carry_out, describe_pending, open_services, operator, say
from core.config import home_from_environment, load_config, port_from_environment
from core.errors import CondauError, Rejected
from hsm.keys import KeySpec
from pki.acts import ISSUE
from pki.authorities import Organisation
from pki.certificates import format_serial
from pki.enrolment import build_payload, build_request
from pki.views import CertificateRequest, IssueOptions
from registry import registry
from registry.models import Role
from selfcheck import check_start

# What is left when a process ends goes with it; to look through it all for garbage first would take a third of a second
atexit.register(gc.freeze)


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


def _init(options: argparse.Namespace) -> int:
    from instance import CREDENTIALS, initialise  # noqa: PLC0415 - once in an instance's life

    home = home_from_environment()
    url = options.public_url or f"http://127.0.0.1:{port_from_environment() or 8080}"
    organisation = Organisation(options.organisation, options.locality, options.organisation_identifier)
    founder = None if options.without_authorities else organisation
    services = initialise(home, public_url=url, organisation=founder, development=options.development)
    print(f"The instance in {home} is ready; it calls itself {services.config.public_url}.")
    if options.development:
        print(f"API keys of its demonstration clients: {home / CREDENTIALS}")
    services.close()
    return 0


def _serve(_: argparse.Namespace) -> int:
    config = load_config(home_from_environment())
    with closing(build(config)) as services:
        check_start(services)
    print(f"Condau answers at http://{config.server.host}:{config.server.port} (reference: /docs). Ctrl-C stops it.", flush=True)
    from server import serve  # noqa: PLC0415 - gunicorn and the whole API, a tenth of a second that no other command needs

    serve(config)
    return 0


def _issue(options: argparse.Namespace) -> int:
    services = open_services()
    wanted = {"profile": options.profile, "subscriber": options.subscriber, "reference": options.reference, "days": options.days}
    if options.csr is not None:
        request = build_request(IssueOptions(**wanted), options.csr.read_bytes())
    else:
        request = CertificateRequest(**wanted, key=KeySpec(options.key))

    def issue(actor: Actor) -> Outcome:
        order = services.enrolments.check(request, actor)
        pending = services.approvals.ask(ISSUE, {order.profile.name}, build_payload(order, request), actor)
        if pending is not None:
            return WAITS, describe_pending(pending)
        return 0, services.enrolments.issue(request, actor).pem

    code, text = carry_out(services, options, issue)
    services.close()
    if code or options.out is None:
        return say((code, text))
    options.out.write_text(text, encoding="ascii")
    serial = x509.load_pem_x509_certificate(text.encode()).serial_number
    print(f"{format_serial(serial)} written to {options.out}")
    return 0


def _publish_crl(options: argparse.Namespace) -> int:
    services = open_services()
    for name in options.authority or services.crl.authorities():
        published = services.crl.publish(name, actor=operator())
        print(f"{name}: CRL number {published.number}, next update {published.next_update:%Y-%m-%dT%H:%M:%SZ}")
    services.close()
    return 0


def _reconcile(options: argparse.Namespace) -> int:
    services = open_services()
    settled = services.reconcile(services.now() - timedelta(seconds=options.older_than))
    print(f"{settled} undecided, now settled")
    services.close()
    return 0


def _add_client(options: argparse.Namespace) -> int:
    services = open_services()
    with services.database.write() as db:
        key = registry.add_client(db, at=services.now(), actor=operator(), name=options.name, role=Role(options.role))
    print(key)
    print("This API key is shown once and not kept: give it to the client system's operator.", file=sys.stderr)
    return 0


def _grant(options: argparse.Namespace) -> int:
    services = open_services()
    with services.database.write() as db:
        registry.grant(db, at=services.now(), actor=operator(), client=options.client, subscriber=options.subscriber)
    print(f"{options.client} may sign for {options.subscriber}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="condau", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("init", help="make the instance: token, database, authorities; finishes what was cut off")
    command.add_argument("--development", action="store_true", help="with a demonstration agency, signers and API keys")
    command.add_argument("--without-authorities", action="store_true", help="make none: they come from ceremonies")
    command.add_argument("--public-url", help="where clients reach the service (default: http://127.0.0.1:CONDAU_PORT)")
    command.add_argument("--organisation", default="Condau Demo", help="the O of the authorities' names")
    command.add_argument("--locality", default="Thử Nghiệm", help="the L of the authorities' names")
    command.add_argument(
        "--organisation-identifier", default="", help="organizationIdentifier in the service's own names, such as MD:VN-H26"
    )
    command.set_defaults(run=_init)

    command = commands.add_parser("serve", help="serve the API until stopped")
    command.set_defaults(run=_serve)

    command = commands.add_parser("issue", help="issue a certificate, from a CSR or for a new key in the token")
    command.add_argument("--profile", required=True)
    command.add_argument("--subscriber", required=True, help="the subscriber's handle")
    command.add_argument("--reference", required=True, help="number and date of the written request it is issued on")
    command.add_argument("--days", type=int, help="how long it is valid (default: what the profile says)")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--csr", type=Path, help="a PKCS#10 file, PEM or DER")
    source.add_argument("--key", choices=[spec.value for spec in KeySpec], help="generate a key of this kind in the token")
    command.add_argument("--out", type=Path, help="write the certificate here instead of standard output")
    add_key_option(command)
    command.set_defaults(run=_issue)

    command = commands.add_parser("publish-crl", help="issue a new CRL now")
    command.add_argument("authority", nargs="*", help="names of authorities (default: all)")
    command.set_defaults(run=_publish_crl)

    command = commands.add_parser("reconcile", help="settle what a crash left undecided")
    command.add_argument("--older-than", type=float, default=120, metavar="SECONDS", help="only what is older (default: 120)")
    command.set_defaults(run=_reconcile)

    cli_tsa.TsaCommands(services=open_services, operator=operator).add_to(commands)
    cli_registry.add_commands(commands)
    cli_looks.add_commands(commands)
    cli_archive.add_commands(commands)
    command = commands.add_parser("add-client", help="add a caller of the API and print its key")
    command.add_argument("name")
    command.add_argument("--role", required=True, choices=[role.value for role in Role])
    command.set_defaults(run=_add_client)

    command = commands.add_parser("grant", help="let a client system sign for a subscriber")
    command.add_argument("client")
    command.add_argument("subscriber", help="the subscriber's handle")
    command.set_defaults(run=_grant)
    cli_batch.add_commands(commands)
    cli_ca.add_commands(commands)
    cli_gates.add_commands(commands)
    cli_inventory.add_commands(commands)
    cli_jobs.add_commands(commands)
    cli_status.add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
