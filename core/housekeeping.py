"""What the service does without being asked: every so often, in a thread of each worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from core.errors import CondauError

Task = Callable[[], object]
_log = logging.getLogger("condau.housekeeping")


class Housekeeper:
    """Runs each task once in ``every`` seconds until stopped.

    Several workers do so at once: a task must bear that (each settles or takes what is due under a row's lock). A task that
    fails is logged and tried again at the next round; it never stops the others.
    """

    def __init__(self, tasks: Mapping[str, Task], *, every: float = 30.0) -> None:
        self._tasks = tasks
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin; the first round comes after one interval."""
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for a round under way."""
        self._stop.set()
        self._thread.join(timeout=10)

    def round(self) -> None:
        """Run every task once."""
        for name, task in self._tasks.items():
            try:
                task()
            except CondauError as error:
                _log.warning("task failed", extra={"fields": {"task": name, "detail": error.detail}})
            except Exception:  # noqa: BLE001 - a bug in one task must not end the others: it is logged with its traceback
                _log.exception("task broke", extra={"fields": {"task": name}})

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.round()
