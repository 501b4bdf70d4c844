"""Connections shared out evenly among the workers.

All workers wait at one listening socket, and the first to wake takes what comes: of sixteen connections opened at once one
worker may get fifteen, and the processors of the others stay idle for as long as these live. So each worker says in memory
common to all how many it holds, and who holds more than another lets that one go first, for a moment.
"""

from __future__ import annotations

import mmap
from typing import Final

COURTESY: Final = 0.002
"""Seconds a worker with more connections lets the others go first; then it takes the connection itself."""
_NONE: Final = 0xFFFF_FFFF


class Balance:
    """The counts. Made before the first fork; a slot belongs to one worker at a time."""

    def __init__(self, workers: int) -> None:
        """``workers``: as many as are configured; while they are being replaced there are twice as many."""
        slots = 2 * workers
        self._counts = memoryview(mmap.mmap(-1, 4 * slots)).cast("I")
        for slot in range(slots):
            self._counts[slot] = _NONE

    def claim(self) -> int | None:
        """A slot for a worker that is about to be forked; None when all are taken, and then it does without."""
        slot = next((slot for slot, count in enumerate(self._counts) if count == _NONE), None)
        if slot is not None:
            self._counts[slot] = 0
        return slot

    def free(self, slot: int) -> None:
        """That worker is no more."""
        self._counts[slot] = _NONE

    def tell(self, slot: int, connections: int) -> None:
        """The worker of this slot holds so many."""
        self._counts[slot] = connections

    def least(self) -> int:
        """The fewest that any worker holds."""
        return min(self._counts)
