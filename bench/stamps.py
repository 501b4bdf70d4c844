"""Time-stamps from several processes while workers are killed: ``python -m bench.stamps --tokens 100000 --database sqlite``.

Client processes ask without a pause, three of four connections on the express lane and one on the general way; meanwhile a
worker of the service is killed with -9 every so often. Each answered token is kept. At the end every one of them is in the
record with the very bytes that were answered, no serial number occurs twice, and every token verifies under the certificates of
the instance with OpenSSL's code (rfc3161-client), in as many processes as there are processors. Exit code 1 when not.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rfc3161_client import TimestampRequestBuilder, VerificationError, VerifierBuilder, decode_timestamp_response

from core.config import parse_config
from core.db import Database
from tests.postgresql import Cluster
from tests.service import Service
from tsa.models import Timestamp

_AT_ONCE = 4
"""Connections of one client process, used in turn."""
_SLICE = 2000
Answered = tuple[bytes, bytes, bytes]
"""What was stamped, the request, the answer."""


def ask(port: int, wanted: int, seed: int, path: Path, asked: Event) -> None:
    """One client process: has ``wanted`` tokens made and writes them to ``path``, each field after its length."""
    random.seed(seed)
    with path.open("wb") as file:
        threads = [
            threading.Thread(
                target=_ask,
                args=(port, wanted // _AT_ONCE + (number < wanted % _AT_ONCE), file.write, asked),
                kwargs={"whole": number > 0},
            )
            for number in range(_AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _ask(port: int, wanted: int, write: Callable[[bytes], int], asked: Event, *, whole: bool) -> None:
    """``whole``: head and body leave in one piece, as the express lane takes them; otherwise one after the other."""
    connection: socket.socket | None = None
    while wanted and not asked.is_set():
        data = os.urandom(32)
        query = TimestampRequestBuilder().data(data).nonce(nonce=True).build().as_bytes()
        try:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port), timeout=30)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            status, body = _post(connection, query, whole=whole)
        except (OSError, http.client.HTTPException):  # its worker was killed: this one was not answered
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.05)
            continue
        if status == 200 and body[:20].find(b"\x30\x03\x02\x01\x00") > 0:  # status granted
            write(b"".join(len(part).to_bytes(4, "big") + part for part in (data, query, body)))
            wanted -= 1


def _post(connection: socket.socket, query: bytes, *, whole: bool) -> tuple[int, bytes]:
    head = "POST /tsa HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/timestamp-query\r\n"
    head += f"Content-Length: {len(query)}\r\n\r\n"
    for piece in [head.encode() + query] if whole else [head.encode(), query]:
        connection.sendall(piece)
    answer = http.client.HTTPResponse(connection, method="POST")
    answer.begin()
    return answer.status, answer.read()


def read_answers(path: Path, start: int = 0) -> Iterator[tuple[int, Answered]]:
    """What :func:`ask` wrote, from byte ``start`` on, each with the byte where the next one begins."""
    with path.open("rb") as file:
        file.seek(start)
        while size := file.read(4):
            fields = [file.read(int.from_bytes(size, "big"))]
            fields += [file.read(int.from_bytes(file.read(4), "big")) for _ in range(2)]
            yield file.tell(), (fields[0], fields[1], fields[2])


def stamp(service: Service, tokens: int, *, processes: int, every: float, progress: Callable[[int, int], None]) -> list[Path]:
    """Have ``tokens`` made by ``processes`` clients, killing a worker every ``every`` seconds; the files of their answers."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    paths = [service.home / f"answers-{number}" for number in range(processes)]
    shares = [tokens // processes + (number < tokens % processes) for number in range(processes)]
    clients = [
        context.Process(target=ask, args=(service.port, share, number, path, stop), daemon=True)
        for number, (share, path) in enumerate(zip(shares, paths, strict=True))
    ]
    for client in clients:
        client.start()
    kills, at = 0, time.monotonic() + every
    try:
        while any(client.is_alive() for client in clients):
            time.sleep(0.2)
            if time.monotonic() > at:
                workers = service.worker_pids()
                if len(workers) > 1:  # the service goes on, with one worker less for a moment
                    os.kill(random.choice(workers), signal.SIGKILL)  # noqa: S311 - any of them
                    kills += 1
                at = time.monotonic() + every
            progress(sum(path.stat().st_size for path in paths if path.exists()), kills)
    finally:
        stop.set()
        for client in clients:
            client.join(timeout=60)
    return paths


@dataclass(frozen=True, slots=True)
class Slice:
    """Answers of one file that one process checks: ``count`` from byte ``start`` on."""

    path: Path
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a slice: the serial numbers in it, and what is not as it must be."""

    serials: list[str]
    found: list[str]


def findings(service: Service, paths: list[Path], tokens: int, progress: Callable[[int], None]) -> list[str]:
    """What is not as it must be."""
    url = service.environment["CONDAU_DATABASE_URL"]
    url = parse_config({"database_url": url} if url else {}, service.home).database_url
    certificates = [service.request("GET", f"/ca/{name}.pem").body for name in ("root", "issuing")]
    found, serials = list[str](), set[str]()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        tasks = [pool.submit(check, part, url, *certificates) for path in paths for part in _slices(path)]
        for task in as_completed(tasks):
            checked = task.result()
            found += checked.found + [f"{serial} was given twice" for serial in serials.intersection(checked.serials)]
            serials.update(checked.serials)
            progress(len(serials))
    database = Database(url)
    with database.read() as db:
        rows, distinct = db.execute(sa.select(sa.func.count(), sa.func.count(sa.distinct(Timestamp.serial)))).one()
    database.close()
    if len(serials) != tokens:
        found.append(f"{len(serials)} serial numbers in {tokens} answers")
    if rows != distinct:
        found.append(f"{rows} rows have {distinct} serial numbers")
    return found


def _slices(path: Path) -> Iterator[Slice]:
    start = count = end = 0
    for end, _ in read_answers(path):
        count += 1
        if count == _SLICE:
            yield Slice(path, start, count)
            start, count = end, 0
    if count:
        yield Slice(path, start, count)


def check(part: Slice, url: str, root: bytes, issuing: bytes) -> Checked:
    """Check one slice, in a process of its own; ``root`` and ``issuing`` in PEM."""
    builder = VerifierBuilder().add_root_certificate(x509.load_pem_x509_certificate(root))
    verifier = builder.add_intermediate_certificate(x509.load_pem_x509_certificate(issuing)).build()
    tokens, found = dict[str, bytes](), list[str]()
    for _, (data, _, body) in itertools.islice(read_answers(part.path, part.start), part.count):
        response = decode_timestamp_response(body)
        serial = format(response.tst_info.serial_number, "x")
        if serial in tokens:
            found.append(f"{serial} was given twice")
        tokens[serial] = response.time_stamp_token()
        try:
            verifier.verify(response, hashes.Hash.hash(hashes.SHA512(), data))
        except VerificationError as error:
            found.append(f"{serial} does not verify: {error}")
    return Checked(list(tokens), found + _missing(url, tokens))


def _missing(url: str, tokens: dict[str, bytes]) -> list[str]:
    """Those answered that the record does not hold as they were answered."""
    database = Database(url)
    with database.read() as db:
        query = sa.select(Timestamp.serial, Timestamp.der).where(Timestamp.serial.in_(sa.bindparam("serials", expanding=True)))
        there = {row.serial: row.der for row in db.execute(query, {"serials": list(tokens)})}
    database.close()
    return [f"{serial} is not in the record as it was answered" for serial, der in tokens.items() if there.get(serial) != der]


@contextmanager
def database_of(kind: str) -> Iterator[str]:
    """The URL of an empty database: a PostgreSQL of our own, or nothing for SQLite in the instance."""
    if kind == "sqlite":
        yield ""
        return
    cluster = Cluster()
    try:
        yield cluster.create_database()
    finally:
        cluster.close()


def main() -> int:
    """The whole of it on an instance of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=3, metavar="SECONDS")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="condau-stamps-") as folder, database_of(options.database) as url:
        service = Service(Path(folder), database_url=url)
        service.condau("init", "--development")
        service.start()
        began = time.monotonic()
        try:
            paths = stamp(
                service,
                options.tokens,
                processes=options.processes,
                every=options.kill_every,
                progress=lambda size, kills: print(f"\r{size / 1e6:8.1f} MB of answers, {kills} kills", end="", flush=True),
            )
            took = time.monotonic() - began
            print(f"\n{options.tokens} tokens on {options.database} in {took:.0f} s; checking", flush=True)
            found = findings(service, paths, options.tokens, lambda done: _show(done, options.tokens))
        finally:
            service.end()
        print("\n" + "\n".join(found[:20] or ["serials unique, every answered token in the record, every one verifies"]))
    return 1 if found else 0


def _show(done: int, tokens: int) -> None:
    print(f"\r[{'#' * (40 * done // tokens):40}] {done}/{tokens} checked", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
