"""Few at a time, a few more wait, and the rest come back later."""

from __future__ import annotations

import threading
import time

import pytest

from core.errors import Unavailable
from web.turns import Turns


def test_no_more_than_allowed_are_at_it_and_who_finds_the_queue_full_is_sent_away_at_once() -> None:
    turns = Turns("check", at_once=2, waiting=1, patience=20)
    at_it: list[int] = []
    most: list[int] = []
    done = threading.Event()

    def work() -> None:
        with turns.take():
            at_it.append(1)
            most.append(len(at_it))
            done.wait(60)
            at_it.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while len(at_it) < 2 or turns._places._value:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    began = time.monotonic()
    with pytest.raises(Unavailable) as refused, turns.take():
        pass
    assert time.monotonic() - began < 5
    assert (refused.value.part, refused.value.retry_after) == ("check", 10)
    done.set()
    for thread in threads:
        thread.join(60)
    assert max(most) == 2
    assert len(most) == 3


def test_who_waits_too_long_is_sent_away_and_leaves_the_place_free() -> None:
    turns = Turns("check", at_once=1, waiting=1, patience=0.01)
    with turns.take():
        for _ in range(3):
            with pytest.raises(Unavailable), turns.take():
                pass
    with turns.take():
        pass


def test_a_failure_ends_one_s_turn() -> None:
    turns = Turns("check", at_once=1, waiting=0, patience=1)
    with pytest.raises(KeyError), turns.take():
        raise KeyError
    with turns.take():
        pass
