"""A command under an idempotency key is carried out once and says the same again; an error frees the key."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.log import Actor
from cli_common import Outcome, carry_out, say
from core.db import Database
from core.errors import Conflict, Rejected
from tests.conftest import Clock
from web.idempotency import StoredAnswers


class Command:
    """A command that counts how often it was carried out."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.services: Any = SimpleNamespace(answers=StoredAnswers(database=database, now=clock, patience=0))
        self.origins: list[str] = []
        self.error: Conflict | None = None

    def act(self, actor: Actor) -> Outcome:
        """Do it."""
        self.origins.append(actor.origin)
        if self.error is not None:
            raise self.error
        return 3, f"said {len(self.origins)}"

    def type(self, key: str | None, **options: Any) -> Outcome:
        """The command as it is typed."""
        return carry_out(self.services, argparse.Namespace(idempotency_key=key, run=Command.act, **options), self.act)


@pytest.fixture
def command(database: Database, clock: Clock) -> Command:
    """Never carried out yet."""
    return Command(database, clock)


def test_a_command_is_carried_out_once_for_a_key_and_says_the_same_again(command: Command, tmp_path: Path) -> None:
    csr = tmp_path / "a.csr"
    csr.write_text("1")
    assert [command.type("k", csr=csr, out=name) for name in ("x", "y")] == [(3, "said 1")] * 2
    assert [command.type(None, csr=csr) for _ in range(2)] == [(3, "said 2"), (3, "said 3")]
    assert command.origins[0].startswith("key/")
    assert command.origins[1:] == ["", ""]
    csr.write_text("2")
    with pytest.raises(Conflict, match="another request"):
        command.type("k", csr=csr)
    with pytest.raises(Rejected, match="visible ASCII"):
        command.type("no blank", csr=csr)


def test_an_error_frees_the_key(command: Command) -> None:
    command.error = Conflict("not now")
    with pytest.raises(Conflict, match="not now"):
        command.type("k")
    command.error = None
    assert command.type("k") == command.type("k") == (3, "said 2")


def test_what_was_done_goes_to_standard_output_and_what_was_not_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert [say((0, "done")), say((3, "waits"))] == [0, 3]
    assert tuple(capsys.readouterr()) == ("done", "waits")
