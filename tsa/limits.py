"""How much one caller may have stamped: so many a second, so many a day.

By the second each worker gives out its share of what is configured, so that the workers together never give out more and need
not talk to each other; a caller that keeps to one connection meets one worker and gets one share. By the day, what counts is
the record itself, asked for every few seconds; between two looks the workers may together overrun a quota by what they stamp
in that time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import TooMany
from core.settings import TsaLimit, TsaLimits
from tsa.models import Timestamp

ANONYMOUS: Final = "anonymous"
_LOOK_EVERY: Final = 5.0
_CALLERS: Final = 10_000
_ROUNDING: Final = 1e-6


@dataclass(slots=True)
class _Day:
    """What one caller had stamped on one day, as far as the record was read (up to row ``last``) and since."""

    begin: datetime
    looked: float
    last: int = 0
    recorded: int = 0
    since: int = 0


class Limits:
    """Lets callers in or raises TooMany. A known caller is limited by itself, an anonymous one by the address it comes from;
    the quota of a day is one for all anonymous callers together."""

    def __init__(
        self, *, database: Database, now: Now, config: TsaLimits, workers: int, read: Callable[[], float] = time.monotonic
    ) -> None:
        """``workers``: among how many processes the rates are shared out; ``read``: seconds that only ever grow."""
        self._database = database
        self._now = now
        self._workers = workers
        self._read = read
        self._anonymous = TsaLimit(ANONYMOUS, config.anonymous_per_second, config.anonymous_per_day)
        self._others = TsaLimit("", config.client_per_second, config.client_per_day)
        self._named = {limit.name: limit for limit in config.clients}
        self._free_at: dict[str, float] = {}
        self._days: dict[str, _Day] = {}
        self._lock = threading.Lock()

    def admit(self, actor: Actor, peer: str) -> None:
        """Count one request; raises TooMany, or Unavailable when the record cannot be read."""
        anonymous = actor.name == ANONYMOUS
        limit = self._anonymous if anonymous else self._named.get(actor.name, self._others)
        if not limit.per_second and not limit.per_day:
            return
        with self._lock:
            if limit.per_second:  # first: who comes too often is to use up nobody's day
                self._count_second(peer if anonymous else f"client {actor.name}", limit.per_second / self._workers)
            if limit.per_day:
                self._count_day(actor.name, limit.per_day)

    def _count_second(self, caller: str, rate: float) -> None:
        """``rate`` requests a second, in bursts of as many as a second allows (the generic cell rate algorithm)."""
        at = self._read()
        if len(self._free_at) >= _CALLERS:
            self._free_at = {name: free for name, free in self._free_at.items() if free > at}
        free = max(self._free_at.get(caller, at), at) + 1 / rate
        most = max(1.0, 1 / rate) + _ROUNDING
        if free - at > most:
            wait = math.ceil(free - at - most)
            raise TooMany("more time-stamps a second than this caller may have: come back later", retry_after=wait)
        self._free_at[caller] = free

    def _count_day(self, name: str, quota: int) -> None:
        now = self._now()
        begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
        day = self._days.get(name)
        if day is None or day.begin != begin:
            day = self._days[name] = _Day(begin, looked=-math.inf)
        if self._read() - day.looked > _LOOK_EVERY:
            self._look(name, day)
        if day.recorded + day.since >= quota:
            left = math.ceil((begin + timedelta(days=1) - now).total_seconds())
            raise TooMany(f"the {quota} time-stamps of a day are used up (days begin at 00:00 UTC)", retry_after=left)
        day.since += 1

    def _look(self, name: str, day: _Day) -> None:
        """Add what was recorded since the last look, by whichever worker."""
        newer = (Timestamp.id > day.last, Timestamp.month == f"{day.begin:%Y-%m}", Timestamp.gen_time >= day.begin)
        with self._database.read() as db:
            last, count = db.execute(
                sa.select(sa.func.max(Timestamp.id), sa.func.count().filter(Timestamp.client == name)).where(*newer)
            ).one()
        day.last, day.recorded = last or day.last, day.recorded + count
        day.since, day.looked = 0, self._read()
