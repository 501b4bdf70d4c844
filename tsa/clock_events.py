"""The clock's changes of state in the audit log, where auditors and operators read them (ETSI EN 319 421, 7.12)."""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import datetime

from audit.log import SYSTEM, entry
from core.clock import Now
from core.db import Database
from core.errors import Unavailable
from tsa.clock_verdict import Code, Judgement

_AS_IT_SHOULD_BE = (Code.TRUSTED, Code.UNCHECKED)
_MOST = 1000
_log = logging.getLogger("condau.tsa.clock")


class ClockEvents:
    """Takes note of changes at once and writes them down when the clock's thread has time, again and again until it succeeds.

    Each serving process has a clock of its own and tells its own changes. That a process begins with a clock that may be
    stamped with is none.
    """

    def __init__(self, *, database: Database, now: Now) -> None:
        """``now``: the machine's clock, right or wrong: an event is filed under what it showed."""
        self._database = database
        self._now = now
        self._pending: deque[tuple[datetime, Judgement]] = deque(maxlen=_MOST)
        self._any = False
        self._writing = threading.Lock()

    def note(self, judgement: Judgement) -> None:
        """The clock's state is another one. Quick, and never fails: a request may be waiting."""
        if self._any or judgement.code not in _AS_IT_SHOULD_BE:
            self._pending.append((self._now(), judgement))
        self._any = True

    def write(self) -> None:
        """Write down what has been noted; what the database does not take stays for the next time."""
        with self._writing:
            while self._pending:
                at, judgement = self._pending[0]
                action = "clock.trust" if judgement.trusted else "clock.distrust"
                told = {"code": judgement.code.value, "detail": judgement.detail}
                measured = {"offset": judgement.offset, "bound": judgement.bound}
                try:
                    self._database.insert(entry(at=at, actor=SYSTEM, action=action, subject="clock", **told, **measured))
                except Unavailable as error:
                    _log.warning("a change of the clock waits to be recorded", extra={"fields": {"detail": error.detail}})
                    return
                self._pending.popleft()
