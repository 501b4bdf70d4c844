"""What every module of commands needs: who is typing, and the services of the instance in ``CONDAU_HOME``."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from approvals.views import ApprovalView
from audit.log import Actor
from bootstrap import Services, build
from core.config import home_from_environment, load_config
from core.errors import CondauError
from web.idempotency import Attempt


def operator() -> Actor:
    """The person at the keyboard, as the audit log names them."""
    return Actor(f"os-user-{os.getuid()}", "operator")


def open_services() -> Services:
    """The services; ``with`` closes them, and so does ``close``."""
    return build(load_config(home_from_environment()))


Outcome = tuple[int, str]
"""A command's exit code and what it says: on standard output with code 0, otherwise on standard error."""
WAITS: int = 3
"""The exit code of a command that was not carried out because it waits for approval."""


def add_key_option(command: argparse.ArgumentParser) -> None:
    """Let a command be repeated safely."""
    help_text = "typed again with the same key within a day, the command does nothing and says what it said"
    command.add_argument("--idempotency-key", metavar="KEY", help=help_text)


def describe_pending(pending: ApprovalView) -> str:
    """That an act waits for approval, and which."""
    until = f"{pending.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return f"Not done: it waits for approval {pending.id} until {until}.\n{pending.summary}\npayload {pending.payload_sha256}\n"


def carry_out(services: Services, options: argparse.Namespace, act: Callable[[Actor], Outcome]) -> Outcome:
    """Carry a command out, under its ``--idempotency-key`` once only: then the outcome of the first time is given again.

    An error frees the key. Raises Conflict for a key that was used with other options.
    """
    if options.idempotency_key is None:
        return act(operator())
    found = services.answers.reserve(operator().name, options.idempotency_key, _digest(options))
    if not isinstance(found, Attempt):
        return int(found.status or 0), (found.body or b"").decode()
    try:
        code, text = act(dataclasses.replace(operator(), origin=found.origin))
    except CondauError as error:
        services.answers.give_up(found, error)
        raise
    services.answers.keep(found, str(code), text.encode())
    return code, text


def say(outcome: Outcome) -> int:
    """Print what a command says; its exit code."""
    code, text = outcome
    print(text, end="", file=sys.stderr if code else sys.stdout)
    return code


def _digest(options: argparse.Namespace) -> str:
    """Over the command and everything it was given, files by what is in them."""
    hashed = hashlib.sha256()
    for name, value in sorted(vars(options).items()):
        if name not in ("idempotency_key", "out"):
            given = value.read_bytes() if isinstance(value, Path) else str(getattr(value, "__name__", value)).encode()
            hashed.update(name.encode() + b"\0" + hashlib.sha256(given).digest())
    return hashed.hexdigest()
