"""Work that costs much, done by few threads at a time, so that those who wait for it leave the others free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Unavailable


class Turns:
    """At most ``at_once`` threads of this process do it and ``waiting`` more wait for it, ``patience`` seconds at most."""

    def __init__(self, part: str, *, at_once: int, waiting: int, patience: float) -> None:
        self._part = part
        self._patience = patience
        self._places = threading.Semaphore(at_once + waiting)
        self._turns = threading.Semaphore(at_once)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Do it within the block. Raises Unavailable where too many wait already, or it took too long to be one's turn."""
        if not self._places.acquire(blocking=False):
            raise self._busy()
        try:
            if not self._turns.acquire(timeout=self._patience):
                raise self._busy()
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._places.release()

    def _busy(self) -> Unavailable:
        return Unavailable(self._part, "too many ask for this at the moment: come back in some seconds", retry_after=10)
