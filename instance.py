"""Making an instance: its folder, its token, its schema, its authorities; and the demonstration one of ``make run``.

Every step looks at what is there first, so that a run that was cut off is finished by running it again.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Final

from audit.log import SYSTEM
from bootstrap import Services, build
from core.config import FILE_NAME, load_config, parse_config
from core.errors import NotFound, Unauthenticated
from hsm.keys import KeySpec
from hsm.softhsm import ensure_named_tokens, init_softhsm
from migrations.schema import upgrade
from pki.authorities import Organisation, create_authorities
from registry import registry
from registry.models import Role, SubscriberKind

CREDENTIALS: Final = Path("dev/credentials.toml")
DEMO_AGENCY: Final = ("000.00.00.X00", "Ủy ban nhân dân tỉnh Thử Nghiệm", "Thử Nghiệm")
DEMO_SUBSCRIBERS: Final = (
    ("demo-seal", SubscriberKind.AGENCY, "Ủy ban nhân dân tỉnh Thử Nghiệm", "agency-seal"),
    ("demo-officer", SubscriberKind.OFFICER, "Nguyễn Văn Thử", "officer"),
    ("demo-device", SubscriberKind.DEVICE, "Máy chủ thử nghiệm", None),
)
"""Handle, kind, common name and the profile of the certificate whose key is made in the token (None: it brings its own)."""
DEMO_REFERENCE: Final = "00/PYC-THU"
DEMO_CLIENTS: Final = (
    ("client", "demo-client", Role.CLIENT, "demo-seal"),
    ("officer_client", "demo-officer-client", Role.CLIENT, "demo-officer"),
    ("admin", "demo-admin", Role.ADMIN, None),
    ("admin2", "demo-admin-2", Role.ADMIN, None),
    ("auditor", "demo-auditor", Role.AUDITOR, None),
)
"""Table in credentials.toml, name, role, and the subscriber it may sign for."""

_CONFIG: Final = """\
# Condau's configuration; every key and its default: see README.md.
public_url = "{public_url}"
development = {development}

[hsm]
token_label = "condau"

[hsm.environment]
SOFTHSM2_CONF = "{{home}}/softhsm/softhsm2.conf"
"""
_DEVELOPMENT_CONFIG: Final = """
[tsa.clock]
unchecked = true  # stamp also where nothing vouches for the clock; `condau check` says what does
"""


def initialise(home: Path, *, public_url: str, organisation: Organisation | None, development: bool) -> Services:
    """Bring the instance in ``home`` to life as far as it is not, and return its services.

    Without an ``organisation`` no authority is made: they come from ceremonies. ``public_url`` is written into the configuration on
    the first run and into every certificate from then on, as is the organisation's identifier.
    """
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    if not (home / FILE_NAME).exists():
        text = _CONFIG.format(public_url=public_url, development="true" if development else "false")
        if organisation is not None and organisation.identifier:
            text += f"\n[tsa]\norganization_identifier = {json.dumps(organisation.identifier)}\n"
        text += _DEVELOPMENT_CONFIG if development else ""
        parse_config(tomllib.loads(text), home)  # what cannot be meant is refused before it is written
        _write(home / FILE_NAME, text)
    config = load_config(home)
    if "SOFTHSM2_CONF" in config.hsm.environment:
        init_softhsm(config.hsm, so_pin_file=home / "secrets" / "so-pin")
        ensure_named_tokens(config.hsm)
    if not config.batches.key_file.exists():
        _write(config.batches.key_file, secrets.token_hex(32) + "\n")
    services = build(config)
    services.token.ensure_probe_key()
    upgrade(services.database)
    if organisation is not None:
        if not organisation.identifier:
            organisation = replace(organisation, identifier=config.tsa.organization_identifier)
        create_authorities(services.ca, services.crl, organisation=organisation, actor=SYSTEM)
    if development:
        _seed_demonstration(services)
    return services


def _seed_demonstration(services: Services) -> None:
    at = services.now()
    code, name, locality = DEMO_AGENCY
    with services.database.write() as db:
        agency = registry.find_agency(db, code) or registry.add_agency(
            db, at=at, actor=SYSTEM, code=code, name=name, locality=locality
        )
        for handle, kind, common_name, _ in DEMO_SUBSCRIBERS:
            try:
                registry.subscriber_named(db, handle)
            except NotFound:
                registry.add_subscriber(db, at=at, actor=SYSTEM, handle=handle, kind=kind, common_name=common_name, agency=agency)
    for handle, _, _, profile in DEMO_SUBSCRIBERS:
        if profile is not None and not services.ca.has_certificate(handle):
            services.ca.issue_for_key(
                profile=profile, subscriber=handle, reference=DEMO_REFERENCE, spec=KeySpec.P_256, actor=SYSTEM
            )
    if not _credentials_work(services):
        _write_credentials(services)


def _credentials_work(services: Services) -> bool:
    path = services.config.home / CREDENTIALS
    if not path.exists():
        return False
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        with services.database.read() as db:
            for section, *_ in DEMO_CLIENTS:
                registry.authenticate(db, table[section]["key"])
    except (Unauthenticated, KeyError):
        return False
    return True


def _write_credentials(services: Services) -> None:
    """Give each demonstration client a new key, and write the file before the keys begin to count."""
    at = services.now()
    lines = ["# API keys of the demonstration instance. Nobody else's service ever takes them.\n"]
    with services.database.write() as db:
        for section, name, role, subscriber in DEMO_CLIENTS:
            key = registry.set_client_key(db, at=at, actor=SYSTEM, name=name, role=role)
            lines.append(f'[{section}]\nname = "{name}"\nkey = "{key}"\n')
            if subscriber is not None:
                registry.grant(db, at=at, actor=SYSTEM, client=name, subscriber=subscriber)
        _write(services.config.home / CREDENTIALS, "\n".join(lines))


def _write(path: Path, text: str) -> None:
    """Write a file only its owner reads: whole or not at all, also when the machine stops in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=secrets.token_hex(4))
    with os.fdopen(handle, "w", encoding="utf-8") as file:  # mkstemp has made it 0600
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
