"""Rates and quotas: who gets how much, and who does not take it from whom."""

from __future__ import annotations

import pytest

from audit.log import Actor
from core.config import parse_config
from core.db import Database
from core.errors import Rejected, TooMany, Unavailable
from core.metrics import Metrics
from core.settings import TsaLimit, TsaLimits
from tests.conftest import Clock
from tests.tsa.requests import query
from tests.tsa.unit import ACTOR
from tsa.authority import Ask, TimestampAuthority
from tsa.limits import Limits
from tsa.reception import Reception

KNOWN = Actor("van-ban", "client", "request-0002")


def make(database: Database, clock: Clock, workers: int = 1, **limits: object) -> Limits:
    config = TsaLimits(**limits)  # type: ignore[arg-type]  # the test's own keywords
    return Limits(database=database, now=clock, config=config, workers=workers, read=lambda: clock().timestamp())


def admitted(limits: Limits, actor: Actor, peer: str, asked: int) -> int:
    count = 0
    for _ in range(asked):
        try:
            limits.admit(actor, peer)
        except TooMany:
            continue
        count += 1
    return count


def test_without_a_limit_everybody_is_let_in(database: Database, clock: Clock) -> None:
    assert admitted(make(database, clock), ACTOR, "10.0.0.1", 1000) == 1000


def test_a_rate_holds_for_each_address_and_each_client_by_itself(database: Database, clock: Clock) -> None:
    limits = make(database, clock, anonymous_per_second=5, client_per_second=7, clients=(TsaLimit("big", per_second=20),))
    for actor, peer, rate in [(ACTOR, "10.0.0.1", 5), (ACTOR, "10.0.0.2", 5), (KNOWN, "10.0.0.1", 7)]:
        assert admitted(limits, actor, peer, 50) == rate
    assert admitted(limits, Actor("big", "client"), "10.0.0.1", 50) == 20
    with pytest.raises(TooMany) as refused:
        limits.admit(ACTOR, "10.0.0.1")
    assert refused.value.retry_after == 1
    clock.move(seconds=10)
    assert admitted(limits, ACTOR, "10.0.0.1", 50) == 5


def test_each_worker_gives_out_its_share(database: Database, clock: Clock) -> None:
    workers = [make(database, clock, 2, anonymous_per_second=10) for _ in range(2)]
    assert [admitted(worker, ACTOR, "10.0.0.1", 50) for worker in workers] == [5, 5]
    slow = make(database, clock, 4, anonymous_per_second=1)
    assert admitted(slow, ACTOR, "10.0.0.1", 50) == 1
    with pytest.raises(TooMany) as refused:
        slow.admit(ACTOR, "10.0.0.1")
    assert refused.value.retry_after == 4


def test_a_quota_counts_what_the_record_holds_of_the_day(database: Database, authority: TimestampAuthority, clock: Clock) -> None:
    left = 86_400 - int(clock().timestamp()) % 86_400  # days are those of UTC
    for _ in range(3):
        authority.stamp(b"x", KNOWN)
    first, second = (make(database, clock, 2, client_per_day=5) for _ in range(2))
    assert admitted(first, KNOWN, "", 50) == 2
    for _ in range(2):
        authority.stamp(b"x", KNOWN)
    assert admitted(second, KNOWN, "", 50) == 0
    with pytest.raises(TooMany) as refused:
        second.admit(KNOWN, "")
    assert refused.value.retry_after == left
    assert admitted(second, Actor("another", "client"), "", 50) == 5
    clock.move(seconds=left)
    assert admitted(second, KNOWN, "", 50) == 5


def test_who_comes_too_often_uses_up_nobody_s_day(database: Database, clock: Clock) -> None:
    limits = make(database, clock, anonymous_per_second=5, anonymous_per_day=50)
    assert admitted(limits, ACTOR, "10.0.0.1", 500) == 5
    assert admitted(limits, ACTOR, "10.0.0.2", 5) == 5


def test_a_quota_that_cannot_be_read_is_system_failure(
    database: Database, authority: TimestampAuthority, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3161, 2.4.2, as every outage behind the protocol."""

    def away() -> None:
        raise Unavailable("database", "the database is away", retry_after=3)

    reception = Reception(authority=authority, limits=make(database, clock, anonymous_per_day=5), metrics=Metrics())
    monkeypatch.setattr(database, "read", away)
    answer = reception.answer(Ask(query(), ACTOR), "10.0.0.1")
    assert answer.endswith(bytes.fromhex("030506000000") + b"\x40")  # bit 25, systemFailure
    assert b"try again in 3 s" in answer


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"anonymous_per_second": -1}, "tsa.limits.anonymous_per_second"),
        ({"clients": [{"name": "a", "per_day": -1}]}, "tsa.limits.clients[0].per_day"),
        ({"clients": [{"name": "a"}, {"name": "a"}]}, "tsa.limits.clients"),
    ],
)
def test_limits_that_cannot_be_meant_are_refused(limits: dict[str, object], field: str, tmp_path: object) -> None:
    with pytest.raises(Rejected) as refused:
        parse_config({"tsa": {"limits": limits}}, tmp_path)  # type: ignore[arg-type]  # a Path
    assert refused.value.violations[0].field == field
