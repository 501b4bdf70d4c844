"""The operator's commands about time-stamping: units and their keys, and the archive of the record."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.log import Actor
from bootstrap import Services
from pki.certificates import usable_until
from tsa.archive import TimestampArchive
from tsa.policy import LANGUAGES, render_policy


class TsaCommands:
    """``services`` opens the instance's services, ``operator`` says who is typing."""

    def __init__(self, *, services: Callable[[], Services], operator: Callable[[], Actor]) -> None:
        self._services = services
        self._operator = operator

    def add_to(self, commands: Any) -> None:
        """Add the commands to argparse's subparsers."""
        command = commands.add_parser("timestamp-units", help="list the time-stamping units; give those without a key theirs")
        command.add_argument("unit", nargs="*", help="names of units (default: all)")
        command.add_argument("--successor", action="store_true", help="give every key of these units a successor now")
        command.set_defaults(run=self._units)

        command = commands.add_parser("tsa-policy", help="print the TSA policy and practice statement with the configured numbers")
        command.add_argument("--lang", choices=LANGUAGES, default="vi")
        command.set_defaults(run=self._policy)

        command = commands.add_parser("archive-timestamps", help="move whole months of the record into a file; may be repeated")
        command.add_argument("--before", required=True, metavar="YYYY-MM", help="the months before this one")
        command.add_argument("--to", required=True, type=Path, metavar="FILE", help="the tar to write; must lie on a disk you keep")
        command.set_defaults(run=self._archive)

    def _policy(self, options: argparse.Namespace) -> int:
        services = self._services()
        print(render_policy(services.config, options.lang), end="")
        services.close()
        return 0

    def _units(self, options: argparse.Namespace) -> int:
        services = self._services()
        chosen = [services.tsa.units.choose(name, None) for name in options.unit] or services.tsa.units.configured
        for unit in chosen:
            services.units.create(unit, actor=self._operator(), successor=options.successor)
            for slot, identity in services.units.held(unit, services.now()).items():
                until = usable_until(identity.certificate)
                print(
                    f"{unit.name} {slot + 1}: policy {unit.policy}, certificate {identity.serial}, key {identity.key_label}, "
                    f"signs until {until:%Y-%m-%dT%H:%M:%SZ}"
                )
        services.close()
        return 0

    def _archive(self, options: argparse.Namespace) -> int:
        services = self._services()
        archive = TimestampArchive(database=services.database, now=services.now)
        archived = archive.archive(options.to, before=options.before, actor=self._operator())
        print(f"{archived.path} holds {archived.held} timestamps, of which {archived.removed} were now removed from the database")
        print(f"SHA-256 {archived.sha256}")
        services.close()
        return 0
