"""Signing the items of batches: every worker of every process takes what nobody has, one item after the other.

An item is claimed for a while. Should its worker be killed, somebody else takes it when that while is over; should the worker
only have been slow, the first result counts and the other is thrown away. A signature made twice harms nobody (docs/adr/0026).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import Actor, append
from batches.models import Batch, BatchItem, BatchState, ItemState
from batches.passwords import PasswordSeal
from batches.spool import BatchFolder, BatchSpool
from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import CondauError, Rejected, Unavailable
from signer.activation import KeptToken
from signer.digests import DigestRequest, DigestSigner
from signer.levels import Reached
from signer.options import PdfOptions
from signer.service import Signer

LEASE: Final = timedelta(seconds=20)
"""For how long an item is its worker's, and a second more for each megabyte of it."""
_MOST_ATTEMPTS: Final = 3
"""After so many workers were lost over an item it has failed."""
_PROBLEM_SHOWN: Final = 2000
_LOOK_AGAIN: Final = 0.1
_log = logging.getLogger("condau.batches")


@dataclass(frozen=True, slots=True)
class _Claim:
    """An item that is ours for a while, and what it takes to sign it."""

    batch: Batch
    item: BatchItem
    attempt: str


class BatchWorker:
    """Works on the batches there are."""

    def __init__(
        self,
        *,
        database: Database,
        now: Now,
        spool: BatchSpool,
        seal: PasswordSeal,
        signer: Signer,
        digests: DigestSigner,
        threads: int,
        lease: timedelta = LEASE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``threads``: items signed at once in this process."""
        self._database = database
        self._now = now
        self._spool = spool
        self._seal = seal
        self._signer = signer
        self._digests = digests
        self._threads = threads
        self._lease = lease
        self._sleep = sleep

    def work(self, seconds: float = 5.0) -> int:
        """Sign items of running batches for about so many seconds, or until there are no more; returns how many."""
        if self._look(None) is None:
            return 0
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(self._threads, thread_name_prefix="batch") as pool:
            return sum(pool.map(lambda _: self._drive(until, None), range(self._threads)))

    def work_on(self, batch: int, seconds: float) -> None:
        """Sign items of one batch in this thread, and then wait for those that others have; for at most so many seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._look(batch) is not None:
                self._drive(until, batch)
            with self._database.read() as db:
                if db.scalar(sa.select(Batch.state).where(Batch.id == batch)) != BatchState.RUNNING:
                    return
            self._sleep(_LOOK_AGAIN)

    def _drive(self, until: float, batch: int | None) -> int:
        done = 0
        while time.monotonic() < until:
            claim = self._claim(batch)
            if claim is None:
                break
            done += self._do(claim)
        return done

    def _do(self, claim: _Claim) -> bool:
        """Sign an item and note what became of it; false when it must wait."""
        item, folder = claim.item, self._spool.find(claim.batch.folder)
        try:
            result, level = self._sign(claim, folder)
            folder.keep_result(item.number, claim.attempt, result.chunks())
        except Unavailable as error:
            self._put_back(claim, error)
            self._sleep(min(error.retry_after, 5))
            return False
        except CondauError as error:
            self._finish(claim, ItemState.FAILED, _problem(error))
        except Exception:  # noqa: BLE001 - a bug that one item brings out must not stop the others: it is logged with its traceback
            _log.exception("an item broke", extra={"fields": {"batch": item.batch_id, "item": item.number}})
            told = "a fault of ours; the log has it under the number of the batch and of the item"
            self._finish(claim, ItemState.FAILED, {"error": "internal", "detail": told, "violations": []})
        else:
            if not self._finish(claim, ItemState.DONE, None, level):
                folder.drop_result(item.number, claim.attempt)
                return True
        folder.drop_document(item.number)
        return True

    def _sign(self, claim: _Claim, folder: BatchFolder) -> tuple[Content, str]:
        """The signed document, or the signature of a digest as JSON; and the level it is at."""
        batch, item = claim.batch, claim.item
        actor = Actor(batch.client, batch.role, f"batch-{batch.id}-{item.number}")
        activation = None if batch.activation is None else KeptToken(batch.activation, act=f"{folder.name}/{item.number}")
        if batch.kind == "digest":
            asked = {"digest": item.digest, "algorithm": item.options["algorithm"], "signer": batch.serial, "level": batch.level}
            found = self._digests.sign(DigestRequest.model_validate(asked), actor, activation=activation)
            return Content.of(found.model_dump_json().encode()), found.level
        sealed = folder.password(item.number)
        password = None if sealed is None else self._seal.open(sealed, f"{folder.name}/{item.number}")
        said = {**item.options, "signer": batch.serial, "level": batch.level, "password": password}
        options = PdfOptions.model_validate(said)
        lowered: list[Reached] = []
        document = folder.document(item.number)
        signed = self._signer.sign_pdf(document, options, actor, activation=activation, lowered=lowered.append)
        return signed, lowered[-1].level if lowered else batch.level

    def _look(self, batch: int | None) -> int | None:
        """Some item that can be taken, without taking it."""
        with self._database.read() as db:
            return next((row.number for query in self._open(batch) for row in db.scalars(query)), None)

    def _open(self, batch: int | None) -> tuple[sa.Select[BatchItem], sa.Select[BatchItem]]:
        """First items nobody has, then those whose worker was lost. The first ones of each batch come first, so that a small
        batch need not wait for a large one."""
        mine = () if batch is None else (BatchItem.batch_id == batch,)
        items = sa.select(BatchItem).where(*mine).order_by(BatchItem.number, BatchItem.batch_id).limit(1)
        lost = items.where(BatchItem.state == ItemState.WORKING, BatchItem.lease_until < self._now())
        return items.where(BatchItem.state == ItemState.READY), lost

    def _claim(self, batch: int | None) -> _Claim | None:
        at = self._now()
        with self._database.write() as db:
            for query in self._open(batch):
                item = db.scalar(query.with_for_update(skip_locked=True))
                if item is not None:
                    break
            else:
                return None
            item.attempt, item.state = uuid.uuid4().hex, ItemState.WORKING
            item.attempts += 1
            item.lease_until = at + self._lease + timedelta(seconds=(item.size or 0) / 1e6)
            claim = _Claim(db.get_one(Batch, item.batch_id), item, item.attempt)
        if item.attempts > _MOST_ATTEMPTS:
            told = f"signing it was cut off {_MOST_ATTEMPTS} times"
            self._finish(claim, ItemState.FAILED, {"error": "internal", "detail": told, "violations": []})
            self._spool.find(claim.batch.folder).drop_document(item.number)
            return self._claim(batch)
        return claim

    def _put_back(self, claim: _Claim, error: Unavailable) -> None:
        """Let an item wait for what is away, unless somebody else has it by now."""
        _log.warning("an item must wait", extra={"fields": {"batch": claim.item.batch_id, "detail": error.detail}})
        mine = sa.update(BatchItem).where(*_row(claim), BatchItem.state == ItemState.WORKING, BatchItem.attempt == claim.attempt)
        values = {"state": ItemState.READY, "attempts": BatchItem.attempts - 1, "problem": _problem(error)}
        with self._database.write() as db:
            db.execute(mine.values(values))

    def _finish(self, claim: _Claim, state: ItemState, problem: dict[str, Any] | None, level: str | None = None) -> bool:
        """Note an item's end, the first there is; the last item ends the batch. False when it has ended already."""
        at = self._now()
        values = {"state": state, "attempt": claim.attempt, "problem": problem, "level": level, "finished_at": at}
        with self._database.write() as db:
            batch = db.scalar(sa.select(Batch).where(Batch.id == claim.batch.id).with_for_update())
            open_item = sa.update(BatchItem).where(*_row(claim), BatchItem.state == ItemState.WORKING)
            if batch is None or db.execute(open_item.values(values).returning(BatchItem.number)).first() is None:
                return False
            batch.left -= 1
            batch.done += state is ItemState.DONE
            batch.failed += state is ItemState.FAILED
            if batch.left == 0:
                self._end(db, batch, at)
        return True

    def _end(self, db: Session, batch: Batch, at: datetime) -> None:
        batch.state, batch.finished_at = BatchState.DONE, at
        actor = Actor(batch.client, batch.role, f"batch-{batch.id}")
        append(db, at=at, actor=actor, action="batch.finish", subject=f"batch/{batch.id}", done=batch.done, failed=batch.failed)


def _row(claim: _Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (BatchItem.batch_id == claim.item.batch_id, BatchItem.number == claim.item.number)


def _problem(error: CondauError) -> dict[str, Any]:
    """An error as an item keeps it."""
    violations = error.violations if isinstance(error, Rejected) else ()
    return {
        "error": "".join(f"-{char.lower()}" if char.isupper() else char for char in type(error).__name__).lstrip("-"),
        "detail": error.detail[:_PROBLEM_SHOWN],
        "violations": [{"field": item.field, "message": item.message[:_PROBLEM_SHOWN]} for item in violations[:20]],
    }
