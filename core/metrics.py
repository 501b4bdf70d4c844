"""What is counted while serving, in the form of Prometheus.

Under gunicorn each worker writes to files of its own in one folder and whoever is asked adds them up (prometheus-client's
multiprocess mode); a command or a test counts in memory.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)


def empty_folder(folder: Path) -> None:
    """Make ``folder`` and throw away what an earlier run counted; before the first worker begins."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)


class BatchHistogram(Histogram):
    """A histogram that counts what many have in common at once: each observation by itself costs as much as a log line."""

    def observe_many(self, amount: float, count: int) -> None:
        """As ``count`` times :meth:`observe`."""
        self._sum.inc(amount * count)
        bucket = next(number for number, bound in enumerate(self._upper_bounds) if amount <= bound)  # the last one is infinite
        self._buckets[bucket].inc(count)


class Metrics:
    """The counters of one process. ``folder``: where the workers of one service meet; None counts in memory.

    The folder must be in the environment variable prometheus-client reads (``core.config.export_metrics_folder``).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        if folder is not None:  # for the whole process: a labelled counter is made when its label first occurs
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # it has no types
        self._make()

    def _make(self) -> None:
        prefix, registry = "condau_timestamp", self._registry
        self.requests = Counter(f"{prefix}_requests", "TimeStampReqs answered, by outcome", ["outcome"], registry=registry)
        self.seconds = BatchHistogram(
            f"{prefix}_seconds", "From reading a batch of requests to its answers", buckets=_LATENCY, registry=registry
        )
        self.hsm_seconds = BatchHistogram(f"{prefix}_hsm_seconds", "One signature in the HSM", buckets=_LATENCY, registry=registry)
        self.commit_rows = Histogram("condau_commit_groups", "Operations that shared one commit", buckets=_SIZES, registry=registry)
        self.commit_seconds = Histogram("condau_commit_seconds", "One such commit", buckets=_LATENCY, registry=registry)
        self.clock_trusted = self._gauge("condau_clock_trusted", "1 while the clock may be stamped with")
        self.clock_offset = self._gauge("condau_clock_offset_seconds", "The likeliest UTC minus clock")
        self.clock_bound = self._gauge("condau_clock_error_bound_seconds", "The largest error the clock can have")

    def _gauge(self, name: str, told: str) -> Gauge:
        """What the worker that was asked last knows."""
        return Gauge(name, told, registry=self._registry, multiprocess_mode="mostrecent")

    def committed(self, groups: int, seconds: float) -> None:
        """One commit that ``groups`` operations shared."""
        self.commit_rows.observe(groups)
        self.commit_seconds.observe(seconds)

    def render(self) -> bytes:
        """Everything, of all workers, as the text Prometheus reads."""
        if self._folder is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=str(self._folder))  # type: ignore[no-untyped-call]  # it has no types
        return generate_latest(together)
