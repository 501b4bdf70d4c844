"""kill -9 at random instants, under load, again and again; then everything that was acknowledged must be there.

``python -m bench.torture --seconds 60 --kills 300``. First the load alone: no 5xx. Then each kill hits a worker, the whole
service, or a process that is just logging in to the token; after each the service must come back by a plain restart. At
the end: the token opens, every acknowledged operation is in the database, no serial was given twice, and `reconcile`
leaves nothing undecided. Exit code 1 and the findings when not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import AuditEntry
from bench.load import Load, Tally
from core.config import parse_config
from core.db import Database
from pki.models import Certificate, Crl
from signer.models import Signature
from tests.service import ROOT, Service
from tsa.models import Timestamp

_LOGIN_LOOP = """
import os, pathlib
from core.config import load_config
from hsm.token import Token
config = load_config(pathlib.Path(os.environ["CONDAU_HOME"]))
while True:
    token = Token(config.hsm)
    token.probe()
    token.close()
"""


class Torture:
    """Kills of three kinds on one running service under load."""

    def __init__(self, service: Service, *, seed: int) -> None:
        self._service = service
        self._random = random.Random(seed)  # noqa: S311 - chooses whom to kill; a seed repeats the choice
        self.done: Counter[str] = Counter()

    def kill_once(self) -> None:
        """One kill of a random kind at a random instant, and the service ready again after it."""
        kinds: list[Callable[[], None]] = [self._kill_worker, self._kill_service, self._kill_login]
        kind = self._random.choice(kinds)
        time.sleep(self._random.uniform(0, 0.4))
        kind()
        self.done[kind.__name__.removeprefix("_kill_")] += 1
        self._service.wait_ready()

    def _kill_worker(self) -> None:
        os.kill(self._random.choice(self._service.worker_pids()), signal.SIGKILL)

    def _kill_service(self) -> None:
        self._service.kill()
        self._service.start()

    def _kill_login(self) -> None:
        """Processes that only log in, over and over, two at a time; then one kill that hits both."""
        loops = [
            subprocess.Popen(
                [sys.executable, "-c", _LOGIN_LOOP], env=self._service.environment, cwd=ROOT, stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        time.sleep(self._random.uniform(0.3, 1.2))
        for loop in loops:
            loop.kill()
            loop.wait()


def findings(service: Service, tally: Tally) -> list[str]:
    """What is not as it must be, once the service is stopped."""
    found: list[str] = []
    service.condau("check")  # the token opens and signs
    service.condau("reconcile", "--older-than", "0")
    url = service.environment["CONDAU_DATABASE_URL"]
    database = Database(parse_config({"database_url": url} if url else {}, service.home).database_url)
    with database.read() as db:
        for kind, column, state in (
            ("sign", Signature.request_id, Signature.state == "signed"),
            ("stamp", Timestamp.serial, sa.true()),
            ("issue", Certificate.serial, Certificate.state == "issued"),
        ):
            acknowledged = tally.acknowledged[kind]
            there = set(db.scalars(sa.select(column).where(state)))
            lost = [one for one in acknowledged if one not in there]
            if lost:
                found.append(f"{kind}: {len(lost)} acknowledged and not in the database: {lost[:3]}")
            if len(set(acknowledged)) != len(acknowledged):
                found.append(f"{kind}: a serial was given twice")
        told = set(_recorded_answers(db))
        if lost := [one for one in tally.acknowledged["ask"] if one not in told]:
            found.append(f"ask: {len(lost)} OCSP answers given and not in the audit log: {lost[:3]}")
        for table in (Signature, Certificate, Crl):
            undecided = db.scalar(sa.select(sa.func.count()).select_from(table).where(table.state == "intended"))
            if undecided:
                found.append(f"{table.__tablename__}: {undecided} undecided after reconcile")
    database.close()
    return found


def _recorded_answers(db: Session) -> Iterator[str]:
    """The ids of the requests whose OCSP answers are in the audit log."""
    for entry in db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "ocsp.respond")):
        yield from entry.detail.get("requests", [entry.request_id])


def calm(service: Service, seconds: float, *, clients: int = 8) -> Tally:
    """The load alone for a while."""
    load = Load(service, clients=clients)
    load.start()
    time.sleep(seconds)
    return load.stop()


def torture(service: Service, kills: int, *, seed: int, progress: Callable[[int, Counter[str]], None]) -> Tally:
    """``kills`` kills under load; the service stands when it returns."""
    load = Load(service)
    load.start()
    killer = Torture(service, seed=seed)
    for number in range(kills):
        killer.kill_once()
        progress(number + 1, killer.done)
    return load.stop()


def main() -> int:
    """The whole torture on an instance of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of load without a kill, first")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--database-url", default="", help="default: SQLite in the instance")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="condau-torture-") as folder:
        service = Service(Path(folder), database_url=options.database_url)
        service.condau("init", "--development")
        service.start()
        tally = calm(service, options.seconds)
        print(f"{options.seconds:g} s of 8 clients: {dict(tally.statuses)}", *tally.report(options.seconds), sep="\n", flush=True)
        problems = [f"{tally.server_errors} answers were 5xx"] if tally.server_errors else []
        began = time.monotonic()
        hit = torture(service, options.kills, seed=options.seed, progress=lambda n, done: _progress(n, options.kills, done))
        print(f"\n{options.kills} kills in {time.monotonic() - began:.0f} s, seed {options.seed}: answers {dict(hit.statuses)}")
        print(f"acknowledged: { {kind: len(ids) for kind, ids in hit.acknowledged.items()} }")
        service.stop()
        for kind, ids in tally.acknowledged.items():
            hit.acknowledged[kind] += ids
        problems += findings(service, hit)
        print(*(problems or ["nothing lost, nothing twice, nothing undecided"]), sep="\n")
    return 1 if problems else 0


def _progress(number: int, kills: int, done: Counter[str]) -> None:
    width = 40 * number // kills
    print(f"\r[{'#' * width:40}] {number}/{kills} {dict(done)}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
