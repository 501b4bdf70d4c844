"""Time-stamps from several processes while workers are killed: ``python -m bench.stamps --tokens 100000 --database sqlite``.

Client processes ask without a pause; meanwhile a worker of the service is killed with -9 every so often. Each answered token is
kept. At the end every one of them is in the record with the very bytes that were answered, no serial number occurs twice, and
every token verifies under the certificates of the instance with OpenSSL's code (rfc3161-client). Exit code 1 when not.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

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
            threading.Thread(target=_ask, args=(port, wanted // _AT_ONCE + (number < wanted % _AT_ONCE), file.write, asked))
            for number in range(_AT_ONCE)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _ask(port: int, wanted: int, write: Callable[[bytes], int], asked: Event) -> None:
    connection: http.client.HTTPConnection | None = None
    while wanted and not asked.is_set():
        data = os.urandom(32)
        query = TimestampRequestBuilder().data(data).nonce(nonce=True).build().as_bytes()
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("POST", "/tsa", query, {"Content-Type": "application/timestamp-query"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):  # its worker was killed: this one was not answered
            connection = None
            time.sleep(0.05)
            continue
        if answer.status == 200 and body[:20].find(b"\x30\x03\x02\x01\x00") > 0:  # status granted
            write(b"".join(len(part).to_bytes(4, "big") + part for part in (data, query, body)))
            wanted -= 1


def read_answers(path: Path) -> Iterator[Answered]:
    """What :func:`ask` wrote."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        fields = []
        for _ in range(3):
            size = int.from_bytes(data[at : at + 4], "big")
            fields.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        yield fields[0], fields[1], fields[2]


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


def findings(service: Service, paths: list[Path], tokens: int, progress: Callable[[int], None]) -> list[str]:
    """What is not as it must be."""
    root = x509.load_pem_x509_certificate(service.request("GET", "/ca/root.pem").body)
    issuing = x509.load_pem_x509_certificate(service.request("GET", "/ca/issuing.pem").body)
    verifier = VerifierBuilder().add_root_certificate(root).add_intermediate_certificate(issuing).build()
    url = service.environment["CONDAU_DATABASE_URL"]
    database = Database(parse_config({"database_url": url} if url else {}, service.home).database_url)
    found, serials, waiting = list[str](), set[str](), dict[str, bytes]()
    for path in paths:
        for data, _, body in read_answers(path):
            response = decode_timestamp_response(body)
            serial = format(response.tst_info.serial_number, "x")
            if serial in serials:
                found.append(f"{serial} was given twice")
            serials.add(serial)
            verifier.verify(response, hashes.Hash.hash(hashes.SHA512(), data))
            waiting[serial] = response.time_stamp_token()
            if len(waiting) == _SLICE:
                found += _missing(database, waiting)
                progress(len(serials))
    found += _missing(database, waiting)
    with database.read() as db:
        rows, distinct = db.execute(sa.select(sa.func.count(), sa.func.count(sa.distinct(Timestamp.serial)))).one()
    database.close()
    if len(serials) != tokens:
        found.append(f"{len(serials)} serial numbers in {tokens} answers")
    if rows != distinct:
        found.append(f"{rows} rows have {distinct} serial numbers")
    return found


def _missing(database: Database, waiting: dict[str, bytes]) -> list[str]:
    """Those answered that the record does not hold as they were answered; empties ``waiting``."""
    with database.read() as db:
        query = sa.select(Timestamp.serial, Timestamp.der).where(Timestamp.serial.in_(sa.bindparam("serials", expanding=True)))
        there = {row.serial: row.der for row in db.execute(query, {"serials": list(waiting)})}
    missing = [f"{serial} is not in the record" for serial, der in waiting.items() if there.get(serial) != der]
    waiting.clear()
    return missing


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
            found = findings(service, paths, options.tokens, lambda done: print(f"\r{done} checked", end="", flush=True))
        finally:
            service.end()
        print("\n" + "\n".join(found[:20] or ["serials unique, every answered token in the record, every one verifies"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
