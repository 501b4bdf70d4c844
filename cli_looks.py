"""``condau look …``: what an agency's signatures are drawn with."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from cli_common import open_services, operator
from signer.looks import LOOK_NAMES, Source, built_in


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    command = commands.add_parser("look", help="looks of official signatures, and the pictures they are drawn with")
    acts = command.add_subparsers(required=True, metavar="act")
    act = acts.add_parser("list", help="an agency's own looks")
    act.add_argument("agency", metavar="CODE")
    act.set_defaults(run=_list)
    act = acts.add_parser("show", help="print a look: an agency's, or the one that comes with the software")
    act.add_argument("name", choices=LOOK_NAMES)
    act.add_argument("--agency", metavar="CODE")
    act.set_defaults(run=_show)
    act = acts.add_parser("set", help="give an agency its own look")
    act.add_argument("agency", metavar="CODE")
    act.add_argument("name", choices=LOOK_NAMES)
    act.add_argument("file", type=Path, help="TOML, as `condau look show` prints it")
    act.set_defaults(run=_set)
    act = acts.add_parser("set-picture", help="keep a picture: of an agency (seal, logo) or a person (signature, initials)")
    act.add_argument("owner", help="the agency's code, or the person's handle")
    act.add_argument("which", choices=get_args(Source))
    act.add_argument("file", type=Path, help="PNG with a transparent background")
    act.add_argument("--width", type=float, required=True, metavar="MM", help="how wide the real one is (a seal's diameter)")
    act.set_defaults(run=_set_picture)
    act = acts.add_parser("get-picture", help="write a kept picture into a file")
    act.add_argument("owner")
    act.add_argument("which", choices=get_args(Source))
    act.add_argument("file", type=Path)
    act.set_defaults(run=_get_picture)


def _list(options: argparse.Namespace) -> int:
    with open_services() as services:
        for row in services.gallery.looks(options.agency):
            print(f"{row.name}\tversion {row.version}\t{row.at.isoformat()}\tsha256 {row.sha256}")
    return 0


def _show(options: argparse.Namespace) -> int:
    if options.agency is None:
        content = built_in(options.name)
    else:
        with open_services() as services:
            content = services.gallery.look(options.agency, options.name)
    sys.stdout.write(content.decode("utf-8"))
    return 0


def _set(options: argparse.Namespace) -> int:
    with open_services() as services:
        row = services.gallery.keep_look(options.agency, options.name, options.file.read_bytes(), operator())
    print(f"look {row.name} of {options.agency}: version {row.version}, sha256 {row.sha256}")
    return 0


def _set_picture(options: argparse.Namespace) -> int:
    with open_services() as services:
        png = options.file.read_bytes()
        row = services.gallery.keep_picture(options.owner, options.which, png, options.width, operator())
    print(f"{row.source} of {options.owner}: version {row.version}, {row.width:g} mm wide, sha256 {row.sha256}")
    return 0


def _get_picture(options: argparse.Namespace) -> int:
    with open_services() as services:
        row = services.gallery.picture(options.owner, options.which)
    options.file.write_bytes(row.png)
    print(f"{row.source} of {options.owner}: version {row.version}, {row.width:g} mm wide, in {options.file}")
    return 0
