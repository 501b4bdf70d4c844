"""Approving against withdrawing, each in a process of its own on one database: one of them wins, and the act follows it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from core.clock import system_now
from core.db import Database
from core.errors import Conflict
from tests.approvals.house import ASKER, OTHER, THIRD, Office
from tests.conftest import Clock

ROUNDS = 8


def _decide(url: str, verb: str, identifiers: list[int], hashes: list[str], barrier: Barrier, answers: Any) -> None:
    """What one process does: one decision a round, at the same moment as the other process."""
    database = Database(url)
    office = Office(database, Clock(system_now()))
    with database.read() as db:
        db.connection()  # connecting takes longer than deciding
    for identifier, digest in zip(identifiers, hashes, strict=True):
        barrier.wait(timeout=60)
        try:
            if verb == "withdraw":
                office.approvals.withdraw(identifier, reason="", actor=ASKER)
            else:
                office.approvals.approve(identifier, payload_sha256=digest, actor=OTHER if verb == "approve" else THIRD)
            answers.put((identifier, verb, True, len(office.done)))
        except Conflict:
            answers.put((identifier, verb, False, len(office.done)))
        office.done.clear()
    database.close()


@pytest.mark.parametrize("against", ["withdraw", "approve-too"])
def test_approve_against_withdraw_has_one_winner(database: Database, clock: Clock, against: str) -> None:
    office = Office(database, clock)
    asked = [office.ask() for _ in range(ROUNDS)]
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = ([item.id for item in asked], [item.payload_sha256 for item in asked], barrier, answers)
    url = database.url.render_as_string(hide_password=False)
    processes = [context.Process(target=_decide, args=(url, verb, *arguments)) for verb in ("approve", against)]
    for process in processes:
        process.start()
    told = [answers.get(timeout=120) for _ in range(2 * ROUNDS)]
    for process in processes:
        process.join(timeout=30)
    for item in asked:
        winners = [(verb, done) for identifier, verb, won, done in told if won and identifier == item.id]
        assert len(winners) == 1
        [(verb, done)] = winners
        state = office.approvals.find(item.id).state
        assert (state, done) == (("withdrawn", 0) if verb == "withdraw" else ("executed", 1))
    executed = [entry for entry in office.log() if entry.action == "approval.executed"]
    assert len(executed) == sum(1 for _, verb, won, _ in told if won and verb != "withdraw")
