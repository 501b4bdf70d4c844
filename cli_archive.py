"""``condau extend`` and ``condau archive …``: signed files made fit for the archive, and kept so."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from bootstrap import Services
from cli_common import open_services, operator
from core.content import Content
from core.errors import CondauError, Conflict, Rejected
from signer.extend import ExtendOptions, ExtensionLevel
from signer.levels import Reached
from signer.plan import PlanQuery, holds_until

_BAR = 30
_PAGE = 1000


def add_commands(commands: Any) -> None:
    """Add the commands of this module."""
    command = commands.add_parser("extend", help="extend the signatures of a PDF, made here or elsewhere, to B-LT or B-LTA")
    command.add_argument("file", type=Path)
    command.add_argument("--level", choices=get_args(ExtensionLevel), default="B-LTA")
    command.add_argument("--out", type=Path, help="write the result here (default: in place of the file)")
    _add_password(command)
    command.set_defaults(run=_extend)

    command = commands.add_parser("archive", help="archive timestamps: what is due, and the next ones")
    acts = command.add_subparsers(required=True, metavar="act")
    act = acts.add_parser("plan", help="list the documents stamped here by SHA-256, and when each is due")
    act.add_argument("--days", type=int, metavar="N", help="only what is due within so many days")
    act.set_defaults(run=_plan)
    act = acts.add_parser("renew", help="stamp anew those of the files that are due, in place; repeat it to go on after a stop")
    act.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="PDF files, or folders with PDF files in them")
    act.add_argument("--days", type=int, default=0, metavar="N", help="also those due within so many days")
    _add_password(act)
    act.set_defaults(run=_renew)


def _add_password(command: argparse.ArgumentParser) -> None:
    command.add_argument("--password-file", type=Path, help="its first line opens encrypted files")


def _extend(options: argparse.Namespace) -> int:
    with open_services() as services:
        wanted = ExtendOptions(level=options.level, password=_password(options))
        lowered: list[Reached] = []
        try:
            _write(options.file, options.out or options.file, services, wanted, lowered.append)
        except OSError as error:
            raise Rejected("file", str(error)) from error
    print(f"{options.out or options.file}: all signatures are at {lowered[0].level if lowered else options.level}")
    if lowered:
        print(f"{options.level} could not be had: {lowered[0].why}", file=sys.stderr)
    return 0


def _plan(options: argparse.Namespace) -> int:
    with open_services() as services:
        until = None if options.days is None else services.now() + timedelta(days=options.days)
        after: int | None = 0
        while after is not None:
            page = services.plan.page(PlanQuery(due_before=until, after=after, limit=_PAGE)).documents
            for one in page:
                print(f"{one.digest}\tdue {one.due:%Y-%m-%d}\tproof ends {one.until:%Y-%m-%d}\t{one.client}")
            after = page[-1].id if len(page) == _PAGE else None
    return 0


def _renew(options: argparse.Namespace) -> int:
    """1 when a file could not be renewed or read; the others are done all the same."""
    files = sorted(set(find_files(options.paths)))
    failed = 0
    with open_services() as services:
        before, password = services.now() + timedelta(days=options.days), _password(options)
        for number, file in enumerate(files, start=1):
            try:
                told = renew_file(services, file, before, password)
            except (CondauError, OSError) as error:
                failed += 1
                told = f"failed: {error.detail if isinstance(error, CondauError) else error}"
            _clear_bar()
            print(f"{file}\t{told}")
            _show_bar(number, len(files), failed)
    _clear_bar()
    print(f"{len(files)} files, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def renew_file(services: Services, file: Path, before: datetime, password: str | None) -> str:
    """Stamp ``file`` anew, in place, if it is due ``before``; what there is to tell of it. Raises CondauError, OSError."""
    with file.open("rb") as source:
        found = services.extender.inspect(Content.of_file(source), password)
    if found.newest is None:
        return "not at B-LTA: `condau extend` makes it so" if found.signatures else "carries no signature"
    until = holds_until(found.newest)
    if until <= services.now():
        raise Conflict(f"too late: its newest timestamp proves nothing since {until:%Y-%m-%d}, and no further one mends that")
    due = services.plan.due(until)
    if due > before:
        return f"not due before {due:%Y-%m-%d}"
    extended = _write(file, file, services, ExtendOptions(password=password))
    newest = services.extender.inspect(extended, password).newest
    assert newest is not None  # noqa: S101 - for the type checker: it was stamped just now
    return f"renewed, due again {services.plan.due(holds_until(newest)):%Y-%m-%d}"


def _write(
    source: Path, target: Path, services: Services, options: ExtendOptions, lowered: Callable[[Reached], None] | None = None
) -> Content:
    """Extend ``source`` into ``target``: beside it first, onto the disk, then in its place. At any moment there is a whole file."""
    with source.open("rb") as file:
        before = os.fstat(file.fileno())
        extended = services.extender.extend(Content.of_file(file), options, operator(), lowered=lowered)
    beside = target.with_name(f".{target.name}.condau")
    with beside.open("wb") as out:
        for chunk in extended.chunks():
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    shutil.copymode(source, beside)
    now = source.stat()
    if (now.st_size, now.st_mtime_ns, now.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
        beside.unlink()
        raise Conflict("the file was changed meanwhile by somebody else: nothing was replaced, try again")
    beside.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return extended


def find_files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files among ``paths``, and the PDF files in the folders among them."""
    for path in paths:
        if path.is_dir():
            found = (one for one in path.rglob("*") if one.suffix.lower() == ".pdf" and one.is_file())
            yield from (one for one in found if not one.name.startswith("."))
        else:
            yield path


def _password(options: argparse.Namespace) -> str | None:
    if options.password_file is None:
        return None
    try:
        lines: list[str] = options.password_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected("password-file", f"cannot be read: {error}") from error
    return lines[0] if lines else ""


def _show_bar(done: int, of: int, failed: int) -> None:
    if sys.stderr.isatty():
        bar = "#" * round(_BAR * done / of)
        print(f"\r[{bar:<{_BAR}}] {done}/{of}, {failed} failed\x1b[K", end="", file=sys.stderr, flush=True)


def _clear_bar() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
