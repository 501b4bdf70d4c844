"""The counts of connections that workers share."""

from __future__ import annotations

import os

from web.balance import Balance


def test_a_worker_sees_what_another_process_holds_and_slots_are_used_again() -> None:
    balance = Balance(2)
    mine, other = balance.claim(), balance.claim()
    assert mine is not None
    assert other is not None
    balance.tell(mine, 5)
    pid = os.fork()
    if not pid:
        balance.tell(other, 3)
        os._exit(0)
    os.waitpid(pid, 0)
    assert balance.least() == 3
    balance.free(other)
    assert balance.least() == 5
    assert [balance.claim() for _ in range(4)] == [other, 2, 3, None]
