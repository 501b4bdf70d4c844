"""Commands of batches: sign every PDF of a folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from audit.log import Actor
from batches.service import SentFile
from batches.views import BatchView, ItemQuery
from bootstrap import Services
from cli_common import open_services, operator
from core.errors import NotFound, Rejected, Violation
from registry.registry import granted_subscribers
from signer.options import PdfOptions

_BAR: Final = 40
_CHUNK: Final = 1 << 20


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``condau batch``."""
    batch = commands.add_parser("batch", help="sign many documents with one command").add_subparsers(required=True, metavar="what")
    command = batch.add_parser("sign", help="sign every PDF of a folder")
    command.add_argument("folder", type=Path)
    command.add_argument("--output", type=Path, required=True, help="folder the signed files go to, under the same names")
    command.add_argument("--client", required=True, help="the client system whose grants it is done under")
    command.add_argument("--signer", help="subscriber's handle or certificate's serial number (default: the only one granted)")
    command.add_argument("--level", default="B-LTA", choices=("B-B", "B-T", "B-LT", "B-LTA"))
    command.add_argument("--reason")
    command.add_argument("--location")
    command.add_argument("--password-file", type=Path, help="its first line opens the encrypted ones among them")
    command.add_argument("--activation-file", type=Path, help="file with the token of an activation on its first line")
    command.set_defaults(run=_sign)


def _sign(options: argparse.Namespace) -> int:
    """Sign them, beside the service's own workers; 1 when one failed."""
    sources = sorted(path for path in options.folder.glob("*") if path.suffix.lower() == ".pdf" and path.is_file())
    if not sources:
        raise Rejected("folder", f"there is no PDF in {options.folder}")
    options.output.mkdir(parents=True, exist_ok=True)
    token = _first_line(options.activation_file)
    with open_services() as services:
        actor = Actor(options.client, "operator", operator().name)
        with services.database.read() as db:
            if not granted_subscribers(db, options.client):
                raise NotFound("client", f"no client {options.client} with a subscriber to sign for is known: `condau grant`")
        files = (SentFile(path.name, None, _chunks(path)) for path in sources)
        batch = services.batches.take_files(files, _options(options), key=None, actor=actor, activation=token)
        batch = _work(services, batch, actor)
        failed = _fetch(services, batch, options.output, actor)
        services.batches.discard(batch.id, actor)
    print(f"batch {batch.id}: {batch.progress.done} of {batch.progress.total} signed into {options.output}")
    return 1 if failed else 0


def _options(options: argparse.Namespace) -> PdfOptions:
    said = {name: getattr(options, name) for name in ("signer", "level", "reason", "location")}
    said["password"] = _first_line(options.password_file)
    try:
        return PdfOptions(**{name: value for name, value in said.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        raise Rejected.all([Violation(".".join(map(str, item["loc"])), item["msg"]) for item in wrong]) from error


def _first_line(file: Path | None) -> str | None:
    return None if file is None else file.read_text(encoding="utf-8").partition("\n")[0]


def _work(services: Services, batch: BatchView, actor: Actor) -> BatchView:
    """Sign until all is done, with a bar on a terminal."""
    while batch.state == "running":
        services.batch_worker.work_on(batch.id, 1.0)
        batch = services.batches.find(batch.id, actor)
        if sys.stderr.isatty():
            ended = batch.progress.total - batch.progress.left
            waits = f", waits: {batch.waits_for}" if batch.waits_for else ""
            bar = "#" * round(_BAR * ended / batch.progress.total)
            told = f"{ended}/{batch.progress.total}, {batch.progress.failed} failed{waits}"
            print(f"\r[{bar:<{_BAR}}] {told}\x1b[K", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return batch


def _fetch(services: Services, batch: BatchView, output: Path, actor: Actor) -> int:
    """Write every signed document; returns how many there are none of, each told with its reason."""
    failed, query = 0, ItemQuery(limit=1000)
    while True:
        page = services.batches.items(batch.id, query, actor)
        for item in page.items:
            if item.state == "done":
                _, name, content = services.batches.result(batch.id, item.number, actor)
                part = output / f".{batch.id}-{item.number}.part"
                with part.open("wb") as file:
                    for chunk in content.chunks():
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(output / name)
                continue
            failed += 1
            reasons = [] if item.problem is None else [f"{found['field']}: {found['message']}" for found in item.problem.violations]
            said = "; ".join(reasons) or (item.problem.detail if item.problem else item.state)
            print(f"{item.name}: {said}", file=sys.stderr)
        if page.next is None:
            return failed
        query = query.model_copy(update={"after": page.next})


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
