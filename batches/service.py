"""Batches: taken in whole or not at all, shown, cancelled, thrown away. What signs their items is in :mod:`batches.work`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from audit.log import Actor, append
from batches.drafts import Draft, check_names, merge_options
from batches.models import Batch, BatchItem, BatchState, ItemState
from batches.passwords import PasswordSeal
from batches.spool import BatchFolder, BatchSpool
from batches.views import (
    BatchProgress,
    BatchView,
    DigestBatch,
    ItemPage,
    ItemProblem,
    ItemQuery,
    ItemView,
    fields_of,
)
from core.clock import Now
from core.content import Content
from core.db import Database
from core.errors import Conflict, NotFound, Rejected, Violation
from core.settings import ActivationConfig, BatchesConfig
from pki.certificates import Identity, signing_identity
from registry.registry import subscriber_named
from signer.activation import KeptToken, check_many
from signer.digests import DigestSignature, DigestSigner, parse_digest
from signer.options import PdfOptions

_INSERTED_AT_ONCE = 1000
_CUT_OFF_AFTER = timedelta(hours=6)
"""An upload that nothing was written to for so long is over."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A document as it comes in: ``options`` (JSON) for it alone, ``chunks`` to be used up before the next is asked for."""

    name: str
    options: bytes | None
    chunks: Iterator[bytes]


class Batches:
    """What client systems hand in many at once."""

    def __init__(
        self,
        *,
        database: Database,
        now: Now,
        spool: BatchSpool,
        seal: PasswordSeal,
        digests: DigestSigner,
        activation: ActivationConfig,
        config: BatchesConfig,
    ) -> None:
        self._database = database
        self._now = now
        self._activation = activation
        self._spool = spool
        self._seal = seal
        self._digests = digests
        self.config = config

    def take_files(
        self, files: Iterable[SentFile], options: PdfOptions, *, key: str | None, actor: Actor, activation: str | None = None
    ) -> BatchView:
        """A batch of documents, kept in the spool until they are signed.

        ``key``: the same as of an earlier call with the same files and options, it is that call's batch. ``activation``: the token
        of one that is for all of them. Raises Rejected,
        TooLarge, Forbidden and Conflict as signing one would, Conflict for a key that was used for something else, Unavailable
        (also when the disk is full); nothing is kept then.
        """
        identity = self._identity(options.signer, actor)
        folder = self._spool.create()
        try:
            drafts = self._keep(folder, files, options)
            return self._create("pdf", drafts, identity, options, folder=folder, key=key, actor=actor, activation=activation)
        except BaseException:
            folder.delete()
            raise

    def take_digests(
        self, body: DigestBatch, options: PdfOptions, *, key: str | None, actor: Actor, activation: str | None = None
    ) -> BatchView:
        """A batch of digests; otherwise as :meth:`take_files`."""
        meaningless = sorted(set(fields_of(options)) - {"signer", "level"})
        if meaningless:
            raise Rejected.all([Violation(name, "says nothing about a digest: leave it out") for name in meaningless])
        identity = self._digests.identity(options.signer, body.algorithm, actor)
        named = [item.name or str(number) for number, item in enumerate(body.items, start=1)]
        octets = [parse_digest(item.digest, body.algorithm).hex() for item in body.items]
        drafts = [Draft(name, digest, None, {"algorithm": body.algorithm}) for name, digest in zip(named, octets, strict=True)]
        check_names(drafts)
        folder = self._spool.create()
        try:
            return self._create("digest", drafts, identity, options, folder=folder, key=key, actor=actor, activation=activation)
        except BaseException:
            folder.delete()
            raise

    def find(self, identifier: int, actor: Actor) -> BatchView:
        """A batch of the caller's; raises NotFound."""
        with self._database.read() as db:
            return self._view(db, _own(db, identifier, actor))

    def items(self, identifier: int, query: ItemQuery, actor: Actor) -> ItemPage:
        """Its items in their order, with the signatures of digests. Raises NotFound."""
        with self._database.read() as db:
            batch = _own(db, identifier, actor)
            wanted = sa.select(BatchItem).where(BatchItem.batch_id == identifier, BatchItem.number > query.after)
            if query.state is not None:
                wanted = wanted.where(BatchItem.state == query.state)
            rows = list(db.scalars(wanted.order_by(BatchItem.number).limit(query.limit)))
        views = [self._item(batch, row) for row in rows]
        return ItemPage(items=views, next=views[-1].number if len(views) == query.limit else None)

    def result(self, identifier: int, number: int, actor: Actor) -> tuple[str, str, Content]:
        """The batch's kind, an item's name and its signed document. Raises NotFound, Conflict for what is not signed (yet)."""
        with self._database.read() as db:
            batch = _own(db, identifier, actor)
            row = db.get(BatchItem, (identifier, number)) if number < 1 << 31 else None
        if row is None:
            raise NotFound("number", f"batch {identifier} has no item {number}: they go from 1 to {batch.total}")
        if row.state != ItemState.DONE or row.attempt is None:
            raise Conflict(f"item {number} of batch {identifier} is {row.state}: there is no result")
        _check_kept(batch)
        return batch.kind, row.name, self._spool.find(batch.folder).result(number, row.attempt)

    def cancel(self, identifier: int, actor: Actor) -> BatchView:
        """Sign no further item. What is signed stays signed. Raises NotFound, Conflict (ended already)."""
        with self._database.write() as db:
            batch = _own(db, identifier, actor, lock=True)
            if batch.state != BatchState.RUNNING:
                raise Conflict(f"batch {identifier} is {batch.state} already")
            ready = sa.update(BatchItem).where(BatchItem.batch_id == identifier, BatchItem.state != ItemState.DONE)
            ready = ready.where(BatchItem.state != ItemState.FAILED)
            db.execute(ready.values(state=ItemState.CANCELLED, attempt=None))
            batch.state, batch.finished_at, batch.left = BatchState.CANCELLED, self._now(), 0
            self._note(db, batch, actor, "cancel")
            view = self._view(db, batch)
        self._spool.find(batch.folder).drop_passwords()
        return view

    def discard(self, identifier: int, actor: Actor) -> BatchView:
        """Delete its results. Raises NotFound, Conflict while it runs."""
        with self._database.write() as db:
            batch = _own(db, identifier, actor, lock=True)
            if batch.state == BatchState.RUNNING:
                raise Conflict(f"batch {identifier} is running: cancel it first")
            if batch.state != BatchState.DISCARDED:
                batch.state = BatchState.DISCARDED
                self._note(db, batch, actor, "discard")
        self._spool.find(batch.folder).delete()
        return self.find(identifier, actor)

    def clean(self) -> None:
        """Delete results whose time is up, and what uploads that were cut off have left."""
        at = self._now()
        ended = Batch.state.in_([BatchState.DONE, BatchState.CANCELLED])
        old = sa.select(Batch).where(ended, Batch.finished_at < at - timedelta(hours=self.config.keep_hours))
        with self._database.read() as db:
            due = list(db.scalars(old.limit(1000)))
            known = set(db.scalars(sa.select(Batch.folder).where(Batch.state != BatchState.DISCARDED)))
        for batch in due:
            self.discard(batch.id, Actor(batch.client, batch.role, f"batch-{batch.id}"))
        for folder in self._spool.orphans(known, at - _CUT_OFF_AFTER):
            folder.delete()

    def _identity(self, signer: str | None, actor: Actor) -> Identity:
        with self._database.read() as db:
            return signing_identity(db, client=actor.name, signer=signer, at=self._now())

    def _keep(self, folder: BatchFolder, files: Iterable[SentFile], options: PdfOptions) -> list[Draft]:
        drafts: list[Draft] = []
        for number, file in enumerate(files, start=1):
            own = merge_options(options, file.options, number)
            kept = folder.keep(number, file.chunks)
            if kept.size == 0:
                raise Rejected("file", f"number {number} is empty")
            said, trace = fields_of(own), None
            said.pop("password", None)
            if own.password is not None:
                folder.keep_password(number, self._seal.seal(own.password, f"{folder.name}/{number}"))
                trace = self._seal.trace(own.password)
            drafts.append(Draft(file.name or str(number), kept.digest, kept.size, said, trace))
        if not drafts:
            raise Rejected("file", "there is none: send at least one part named file")
        check_names(drafts)
        folder.settle()
        return drafts

    def _create(
        self,
        kind: str,
        drafts: Sequence[Draft],
        identity: Identity,
        options: PdfOptions,
        *,
        folder: BatchFolder,
        key: str | None,
        actor: Actor,
        activation: str | None,
    ) -> BatchView:
        """The batch in the database; or the one there is under the key, and then the folder is not needed."""
        said = _digest([kind, options.signer, options.level, [one.said for one in drafts]])
        earlier = self._earlier(key, said, actor)
        if earlier is None:
            kept = self._check_activation(activation, identity, drafts, actor)
            batch = Batch(
                client=actor.name,
                role=actor.role,
                key=key,
                request_sha256=said,
                kind=kind,
                serial=identity.serial,
                level=options.level,
                activation=None if kept is None else kept.sha256,
                state=BatchState.RUNNING,
                folder=folder.name,
                total=len(drafts),
                left=len(drafts),
                done=0,
                failed=0,
                created_at=self._now(),
            )
            try:
                return self._insert(batch, drafts, actor)
            except IntegrityError as error:  # somebody was faster with the same key
                earlier = self._earlier(key, said, actor)
                if earlier is None:
                    raise Conflict("this Idempotency-Key was used at this moment: send the request again") from error
        folder.delete()
        return earlier

    def _check_activation(
        self, activation: str | None, identity: Identity, drafts: Sequence[Draft], actor: Actor
    ) -> KeptToken | None:
        if identity.subscriber is None:
            return None
        digests = [draft.digest for draft in drafts]
        with self._database.read() as db:
            return check_many(
                db,
                activation,
                key=subscriber_named(db, identity.subscriber),
                client=actor.name,
                digests=digests,
                config=self._activation,
                at=self._now(),
            )

    def _earlier(self, key: str | None, said: str, actor: Actor) -> BatchView | None:
        if key is None:
            return None
        with self._database.read() as db:
            batch = db.scalar(sa.select(Batch).where(Batch.client == actor.name, Batch.key == key))
            if batch is None:
                return None
            if batch.request_sha256 != said:
                raise Conflict("this Idempotency-Key was used for another batch: take a new one")
            return self._view(db, batch)

    def _insert(self, batch: Batch, drafts: Sequence[Draft], actor: Actor) -> BatchView:
        with self._database.write() as db:
            db.add(batch)
            db.flush()
            rows = [
                {
                    "batch_id": batch.id,
                    "number": number,
                    "name": draft.name,
                    "digest": draft.digest,
                    "size": draft.size,
                    "options": draft.options,
                    "state": ItemState.READY,
                    "attempts": 0,
                }
                for number, draft in enumerate(drafts, start=1)
            ]
            for start in range(0, len(rows), _INSERTED_AT_ONCE):
                db.execute(sa.insert(BatchItem), rows[start : start + _INSERTED_AT_ONCE])
            facts = {"request_sha256": batch.request_sha256, "serial": batch.serial, "level": batch.level}
            self._note(db, batch, actor, "take", items=len(rows), **facts)
            return self._view(db, batch)

    def _note(self, db: Session, batch: Batch, actor: Actor, verb: str, **detail: Any) -> None:
        append(db, at=self._now(), actor=actor, action=f"batch.{verb}", subject=f"batch/{batch.id}", kind=batch.kind, **detail)

    def _view(self, db: Session, batch: Batch) -> BatchView:
        waits = None
        if batch.state == BatchState.RUNNING:
            waiting = sa.select(BatchItem).where(BatchItem.batch_id == batch.id, BatchItem.state == ItemState.READY)
            found = db.scalar(waiting.where(BatchItem.problem.is_not(None)).order_by(BatchItem.number).limit(1))
            waits = None if found is None or found.problem is None else str(found.problem["detail"])
        kept = None if batch.finished_at is None else batch.finished_at + timedelta(hours=self.config.keep_hours)
        return BatchView(
            id=batch.id,
            kind=batch.kind,  # type: ignore[arg-type]  # the column holds no other
            state=batch.state,  # type: ignore[arg-type]
            signer=batch.serial,
            level=batch.level,  # type: ignore[arg-type]
            progress=BatchProgress(total=batch.total, left=batch.left, done=batch.done, failed=batch.failed),
            waits_for=waits,
            created_at=batch.created_at,
            finished_at=batch.finished_at,
            keeps_until=kept,
        )

    def _item(self, batch: Batch, row: BatchItem) -> ItemView:
        result = None
        if batch.kind == "digest" and row.state == ItemState.DONE and row.attempt is not None:
            try:
                found = self._spool.find(batch.folder).result(row.number, row.attempt)
                result = DigestSignature.model_validate_json(found.read(0, found.size))
            except NotFound:
                pass  # it was discarded
        problem = None if row.problem is None else ItemProblem.model_validate(row.problem)
        fields = {name: getattr(row, name) for name in ("number", "name", "digest", "size", "state", "level")}
        return ItemView(**fields, problem=problem, result=result)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")).hexdigest()


def _check_kept(batch: Batch) -> None:
    if batch.state == BatchState.DISCARDED:
        raise Conflict(f"the results of batch {batch.id} were deleted")


def _own(db: Session, identifier: int, actor: Actor, *, lock: bool = False) -> Batch:
    query = sa.select(Batch).where(Batch.id == identifier, Batch.client == actor.name).execution_options(populate_existing=True)
    batch = None if identifier >= 1 << 63 else db.scalar(query.with_for_update() if lock else query)
    if batch is None:
        raise NotFound("batch", f"there is no batch {identifier} of yours")
    return batch
