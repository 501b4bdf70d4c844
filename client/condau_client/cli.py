"""``condau-client``: sign files that stay here.

The service's address is --url or CONDAU_URL. The API key is never on the command line: it is on the first line of the file
that --key-file or CONDAU_API_KEY_FILE names, or in CONDAU_API_KEY.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from condau_client.batch import sign_files
from condau_client.client import LEVELS, Client
from condau_client.errors import CondauError
from condau_client.pdf import Options

_BAR = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 when it could not (the reason on standard error)."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(_client(options), options))
    except (CondauError, OSError) as error:
        print(f"condau-client: {error}", file=sys.stderr)
        return 1


def _sign(client: Client, options: argparse.Namespace) -> int:
    said = {"level": options.level, "signer": options.signer, "activation": _first_line(options.activation_file)}
    client.sign_file(options.file, options.output, options=_looks(options), **said)
    print(f"{options.output}: signed, PAdES-{options.level}; only its digest left this machine")
    return 0


def _sign_folder(client: Client, options: argparse.Namespace) -> int:
    sources = sorted(path for path in options.folder.iterdir() if path.suffix.lower() == ".pdf" and path.is_file())
    options.output.mkdir(parents=True, exist_ok=True)
    signed, failed = 0, 0

    def progress(more: int) -> None:
        nonlocal signed
        signed += more
        if sys.stderr.isatty():
            bar = "#" * round(_BAR * signed / len(sources))
            print(f"\r[{bar:<{_BAR}}] {signed}/{len(sources)}\x1b[K", end="", file=sys.stderr, flush=True)

    said = {"level": options.level, "signer": options.signer, "activation": _first_line(options.activation_file)}
    files = [(source, options.output / source.name) for source in sources]
    for outcome in sign_files(client, files, options=_looks(options), progress=progress, **said):
        if outcome.error is not None:
            failed += 1
            print(f"\r{outcome.source}: {outcome.error}", file=sys.stderr)
    print(f"{len(sources) - failed} of {len(sources)} signed into {options.output}; only digests left this machine")
    return 1 if failed else 0


def _looks(options: argparse.Namespace) -> Options:
    return Options(
        field=options.field,
        reason=options.reason,
        location=options.location,
        contact=options.contact,
        password=_first_line(options.password_file),
    )


def _extend(client: Client, options: argparse.Namespace) -> int:
    client.extend_file(options.file, options.output, level=options.level, password=_first_line(options.password_file))
    print(f"{options.output}: extended to PAdES-{options.level}; only its signatures left this machine")
    return 0


def _signers(client: Client, _: argparse.Namespace) -> int:
    for signer in client.signers():
        print(signer.handle, signer.serial, signer.algorithm, signer.subject, sep="\t")
    return 0


def _client(options: argparse.Namespace) -> Client:
    url = options.url or os.environ.get("CONDAU_URL")
    file = options.key_file or os.environ.get("CONDAU_API_KEY_FILE")
    key = _first_line(Path(file)) if file else os.environ.get("CONDAU_API_KEY")
    if not url:
        raise CondauError("the service's address is missing: --url, or CONDAU_URL")
    if not key:
        raise CondauError("the API key is missing: --key-file, CONDAU_API_KEY_FILE or CONDAU_API_KEY")
    try:
        return Client(url, key, patience=options.patience)
    except ValueError as error:
        raise CondauError(str(error)) from error


def _first_line(path: Path | None) -> str | None:
    return None if path is None else path.read_text(encoding="utf-8").partition("\n")[0].strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="condau-client", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", help="the service, such as https://condau.example")
    parser.add_argument("--key-file", type=Path, help="file with the API key on its first line")
    parser.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS", help="how long to wait for a service that is away"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("sign", help="sign a PDF; only its digest is sent")
    command.add_argument("file", type=Path)
    command.add_argument("--output", type=Path, required=True, help="where the result goes; may be the file itself")
    _add_looks(command)
    command.set_defaults(run=_sign)

    command = commands.add_parser("batch", help="sign every PDF of a folder; only their digests are sent")
    command.add_argument("folder", type=Path)
    command.add_argument("--output", type=Path, required=True, help="folder the signed files go to, under the same names")
    _add_looks(command)
    command.set_defaults(run=_sign_folder)

    command = commands.add_parser("extend", help="give a signed PDF what checking it will need; only its signatures are sent")
    command.add_argument("file", type=Path)
    command.add_argument("--output", type=Path, required=True, help="where the result goes; may be the file itself")
    command.add_argument("--password-file", type=Path, help="file with the password that opens the PDF on its first line")
    command.add_argument("--level", choices=LEVELS[2:], default="B-LTA")
    command.set_defaults(run=_extend)

    command = commands.add_parser("signers", help="list what the API key may sign with")
    command.set_defaults(run=_signers)
    return parser


def _add_looks(command: argparse.ArgumentParser) -> None:
    command.add_argument("--level", choices=LEVELS, default="B-LTA")
    command.add_argument("--signer", help="handle or serial number (default: the only one the key may use)")
    command.add_argument("--field", help="an empty signature field of the file, or the name of a new one")
    command.add_argument("--reason")
    command.add_argument("--location")
    command.add_argument("--contact")
    command.add_argument("--password-file", type=Path, help="file with the password that opens the PDF on its first line")
    command.add_argument("--activation-file", type=Path, help="file with the token of an activation on its first line")


if __name__ == "__main__":
    sys.exit(main())
