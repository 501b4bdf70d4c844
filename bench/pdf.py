"""PDF signatures against plain pyHanko: the same key, file and time-stamping authority, every core busy.

``python -m bench.pdf HOME WHO LEVEL SECONDS`` is one process of it: it signs for so long and prints how many documents, in how
many seconds of processor and of clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from audit.log import Actor
from bench.load import SAMPLE_PDF
from bench.pyhanko_signer import PlainPyHanko
from bootstrap import Services, build
from core.config import load_config
from core.content import Content
from pki.certificates import signing_identity
from signer.options import PadesLevel, PdfOptions
from tests.service import Service
from tests.system.test_large_pdf import SIZE, appended, most_resident, write_large_pdf

OURS, THEIRS = "condau", "pyhanko"
LEVELS = ("B-B", "B-T", "B-LTA")
ACTOR = Actor("demo-client", "client", "bench")
MANY = 1000


@dataclass(frozen=True, slots=True)
class Rate:
    """What some processes did together."""

    documents: int
    processor: float
    """Seconds of processor, of all threads of all processes."""
    clock: float
    """Seconds, the mean of the processes."""

    @property
    def milliseconds(self) -> float:
        """Of processor, for one document."""
        return 1000 * self.processor / self.documents

    @property
    def per_second(self) -> float:
        """Documents a second of the whole machine."""
        return self.documents / self.clock


def measure_pdf(service: Service, seconds: int) -> None:
    """Every level, theirs before and after ours, since other work on the machine moves the rate; then memory."""
    cores = os.cpu_count() or 1
    print(
        f"\nPDF signatures, P-256, recorded, invisible, {len(SAMPLE_PDF)} bytes, {cores} processes of one thread on {cores} cores"
    )
    for level in LEVELS:
        runs = [_run(service, who, level, seconds, cores) for who in (THEIRS, OURS, THEIRS)]
        theirs, ours = _add(runs[0], runs[2]), runs[1]
        print(f"  {level:5}  plain pyHanko   {theirs.milliseconds:8.2f} ms of processor each {theirs.per_second:9.1f}/s")
        print(f"         Condau          {ours.milliseconds:8.2f} ms of processor each {ours.per_second:9.1f}/s")
        by_core, by_clock = theirs.milliseconds / ours.milliseconds, ours.per_second / theirs.per_second
        print(f"         ratio per core  {by_core:8.2f}    ratio by the clock {by_clock:8.2f}")
    _print_memory(service)


def _run(service: Service, who: str, level: str, seconds: int, processes: int) -> Rate:
    command = [sys.executable, "-m", "bench.pdf", str(service.home), who, level, str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    said = [list(map(float, process.communicate()[0].split())) for process in running]
    return Rate(int(sum(one[0] for one in said)), sum(one[1] for one in said), sum(one[2] for one in said) / len(said))


def _add(one: Rate, other: Rate) -> Rate:
    return Rate(one.documents + other.documents, one.processor + other.processor, one.clock + other.clock)


def _print_memory(service: Service) -> None:
    services = build(load_config(service.home))
    act = _signing(services, OURS, "B-LTA")
    resident = []
    for number in range(MANY):
        act()
        if number + 1 in (MANY // 10, MANY):
            resident.append(_resident())
    services.close()
    print(f"  resident after {MANY // 10} and {MANY} signatures at B-LTA: {resident[0]} and {resident[1]} MB")
    service.start()
    with tempfile.TemporaryDirectory(prefix="condau-bench-") as folder:
        path = Path(folder) / "large.pdf"
        write_large_pdf(path, SIZE)
        began = time.perf_counter()
        appended(service, path, "/v1/signatures/pdf?level=B-LTA")
        took = time.perf_counter() - began
    most = most_resident(service) // 1024
    service.stop()
    print(f"  {SIZE // 1_000_000} MB over HTTP to B-LTA and back: {took:.1f} s, a worker at most {most} MB resident")


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def _signing(services: Services, who: str, level: str) -> Callable[[], object]:
    """One document signed by ``who``, again and again."""
    if who == OURS:
        (known,) = (item for item in get_args(PadesLevel) if item == level)
        options, document = PdfOptions(level=known), Content.of(SAMPLE_PDF)
        return lambda: services.signer.sign_pdf(document, options, ACTOR)
    with services.database.read() as db:
        identity = signing_identity(db, client=ACTOR.name, signer=None, at=services.now())
    crls = [services.crl.current(name, delta=delta).der for name in services.crl.authorities() for delta in (False, True)]
    key = services.token.key(identity.key_label)
    plain = PlainPyHanko(identity, key, respond=lambda query: services.tsa.respond(query, ACTOR), crls=crls)
    return lambda: plain.sign(SAMPLE_PDF, level)


def main() -> int:
    """One process of the benchmark."""
    home, who, level, seconds = sys.argv[1:]
    services = build(load_config(Path(home)))
    act = _signing(services, who, level)
    act()  # what is made once is made now
    count, processor, began = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - began < float(seconds):
        act()
        count += 1
    print(count, time.process_time() - processor, time.perf_counter() - began)
    services.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
