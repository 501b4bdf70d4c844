"""Mutated uploads against a running service: ``python -m bench.fuzz_http --seconds 600 --clients 3``.

Several clients at once send what `bench/fuzz_pdf.py` makes of PDFs, mutated pictures, XML, digests and options, as bare bodies, as
multipart forms and as batches, to sign, extend, verify and look at; some forms are damaged themselves, and some bodies have
another length than they announce. Whatever it is, each request gets an answer, within the time one may take, that is no server
error (but 503 with Retry-After); the workers live on, within their memory, and sign as before. Anything else is kept, as the bytes
that went over the wire, in the folder --keep and makes the exit code 1. A seed repeats the requests of a run.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import itertools
import json
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.fuzz_requests import Request, Requests
from bench.load import SAMPLE_PDF
from tests.service import Answer, Service

SLOWEST: Final = 60.0
"""Seconds by the clock that a request may take on a busy machine; by processor time `bench/fuzz_pdf.py` is stricter."""
MOST_MEMORY: Final = 700
"""MB that a worker may ever have had resident."""


@dataclass(slots=True)
class Tally:
    """What came of it."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """Requests answered."""
        return sum(self.statuses.values())


def send(service: Service, data: bytes, *, honest: bool) -> Answer:
    """Send these bytes and read the answer. Raises OSError or HTTPException where there is none, or none within SLOWEST."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=SLOWEST) as connection:
        try:
            connection.sendall(data)
            if not honest:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused, and closed, before all of it was read: the answer is there all the same
        response = http.client.HTTPResponse(connection, method="POST")
        response.begin()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def find_fault(request: Request, answer: Answer, took: float) -> str | None:
    """What is wrong with an answer."""
    if took > SLOWEST:
        return f"it took {took:.0f} s"
    if answer.status >= 500 and not (answer.status == 503 and "retry-after" in answer.headers):
        return f"{answer.status}: {answer.body[:500]!r}"
    told = request.honest and answer.status != 414  # a request line beyond 4 KB never reaches the application
    if told and answer.status >= 400 and answer.headers.get("content-type") != "application/problem+json":
        return f"{answer.status} that is no problem document: {answer.headers}"
    if answer.status == 200 and request.document is not None and not answer.body.startswith(request.document):
        return "what is signed does not begin with what was handed in"
    return None


class Run:
    """A service under fire."""

    def __init__(self, service: Service, *, seed: int, clients: int, keep: Path, looks: bool = False) -> None:
        """``looks``: what the service keeps is changed as well (:class:`Requests`)."""
        self._service = service
        self._keys = {name: service.api_key(name) for name in ("client", "officer_client", "admin")}
        self._keep = keep
        self._pids = sorted(service.worker_pids())
        self._logged = len(service.log())
        self.tally = Tally()
        signed = [self.sign(SAMPLE_PDF, level) for level in ("B-B", "B-LTA")]
        signed.append(self.sign(signed[-1], "B-T"))
        self._sources = [iter(Requests(seed * 1000 + number, signed, looks=looks)) for number in range(clients)]

    def sign(self, document: bytes, level: str) -> bytes:
        """As a client whose document is sound; raises RuntimeError where it is not signed."""
        path = f"/v1/signatures/pdf?level={level}"
        answer = self._service.request("POST", path, document, key="client", kind="application/pdf", timeout=SLOWEST)
        if answer.status != 200:
            raise RuntimeError(f"a sound document is not signed: {answer.status} {answer.body!r}")
        return answer.body

    def fire(self, *, seconds: float, requests: int | None = None) -> Tally:
        """Until the time is up, or each client has sent so many ``requests``."""
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._send_all, args=(source, until, requests)) for source in self._sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._look_after()
        return self.tally

    def _send_all(self, source: Iterator[Request], until: float, requests: int | None) -> None:
        for request in itertools.islice(source, requests):
            self._try(request)
            if time.monotonic() > until:
                return

    def _try(self, request: Request) -> None:
        data, began = request.encode(self._keys.get(request.key or "")), time.monotonic()
        try:
            answer = send(self._service, data, honest=request.honest)
        except (OSError, http.client.HTTPException) as error:
            took = time.monotonic() - began
            self._note(request, 0, took, f"no answer: {error!r}")
        else:
            took = time.monotonic() - began
            self._note(request, answer.status, took, find_fault(request, answer, took))

    def _note(self, request: Request, status: int, took: float, fault: str | None) -> None:
        with self.tally.lock:
            self.tally.statuses[request.kind, status] += 1
            self.tally.slowest = max(self.tally.slowest, took)
            if fault is not None:
                self._keep.mkdir(parents=True, exist_ok=True)
                sent = request.encode("KEY")
                path = self._keep / f"{request.kind}-{hashlib.sha256(sent).hexdigest()[:12]}.http"
                path.write_bytes(sent)
                self.tally.broken.append(f"{path}: {fault}")

    def _look_after(self) -> None:
        """The service as a whole, afterwards."""
        found = self.tally.broken
        pids = sorted(self._service.worker_pids())
        found += [f"workers {self._pids} have become {pids}"] if pids != self._pids else []
        found += [f"worker {pid}: {peak} MB resident" for pid in pids if (peak := peak_memory(pid)) > MOST_MEMORY]
        for line in self._service.log()[self._logged :].splitlines():
            found += [line[:2000]] if '"level": "error"' in line else []
        verdict = json.loads(self._service.request("POST", "/v1/verifications", self.sign(SAMPLE_PDF, "B-LTA")).body)
        found += [f"a sound document signed afterwards: {verdict}"] if verdict["conclusion"] != "valid" else []


def peak_memory(pid: int) -> int:
    """MB that a process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def main() -> int:
    """Fire at an instance of its own until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--keep", type=Path, default=Path("var") / "fuzz-http", help="folder for requests that broke something")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="condau-fuzz-") as folder:
        service = Service(Path(folder))
        service.condau("init", "--development")
        service.start()
        try:
            run = Run(service, seed=options.seed, clients=options.clients, keep=options.keep, looks=True)
            tally = run.fire(seconds=options.seconds)
            peaks = [peak_memory(pid) for pid in service.worker_pids()]
        finally:
            service.end()
    for (kind, status), count in sorted(tally.statuses.items()):
        print(f"{kind:18} {status:4} {count:7}")
    print(f"{tally.count} requests; the slowest took {tally.slowest:.1f} s; workers had at most {peaks} MB resident")
    print(*tally.broken, sep="\n", file=sys.stderr)
    return 1 if tally.broken else 0


if __name__ == "__main__":
    sys.exit(main())
