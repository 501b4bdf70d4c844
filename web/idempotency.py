"""``Idempotency-Key``: a request sent twice is carried out once, and answered twice with the first answer (docs/adr/0018)."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import falcon
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core.clock import Now
from core.db import Database
from core.errors import CondauError, Conflict, Rejected, Unavailable
from web.models import StoredAnswer

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
KEPT: Final = timedelta(hours=24)
LOST: Final = timedelta(minutes=2)
"""A request begun longer ago and without an answer belongs to a process that is gone; its key may be taken over."""
_PATIENCE: Final = 5.0
_LOOK_AGAIN: Final = 0.05
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that has the key to itself: whoever carries it out finishes or gives up with this."""

    record: int
    token: str

    @property
    def origin(self) -> str:
        """The same for every attempt of this request, and never another's (see :class:`audit.log.Actor`)."""
        return f"key/{self.record}"


class StoredAnswers:
    """The answers given under idempotency keys, for 24 hours."""

    def __init__(self, *, database: Database, now: Now, patience: float = _PATIENCE) -> None:
        """``patience``: seconds a second request waits for the first one's answer."""
        self._database = database
        self._now = now
        self._patience = patience

    def begin(self, req: falcon.Request, resp: falcon.Response, *, caller: str, body: bytes) -> Attempt | None:
        """Take the request's key, or answer with what was answered before (then None); ``body`` is the SHA-256 of the body.

        Raises Rejected (no key), Conflict (the key was used for another request), Unavailable (the first one is still at it).
        """
        found = self.reserve(caller, req.get_header(HEADER) or "", _digest(req, body))
        if isinstance(found, Attempt):
            return found
        _replay(resp, found)
        return None

    def reserve(self, caller: str, key: str, said: str) -> Attempt | StoredAnswer:
        """Take a key for a request whose digest is ``said``, or find what was answered to it; errors as :meth:`begin`."""
        check_key(key)
        deadline = time.monotonic() + self._patience
        while True:
            found = self._take(caller, key, said)
            if isinstance(found, Attempt):
                return found
            if found is not None and found.request_sha256 != said:
                raise Conflict(f"this {HEADER} was used for another request: take a new one")
            if found is not None and found.status is not None:
                return found
            if time.monotonic() > deadline:
                raise Unavailable(
                    "request", f"the first request with this {HEADER} is not answered yet: send it again", retry_after=5
                )
            time.sleep(_LOOK_AGAIN)

    def finish(self, attempt: Attempt, resp: falcon.Response) -> None:
        """Keep the answer, unless another attempt has taken over meanwhile."""
        text = resp.text
        body = text.encode() if text is not None else bytes(resp.data or b"")
        self.keep(attempt, str(resp.status), body, content_type=resp.content_type, location=resp.get_header("Location"))

    def keep(
        self, attempt: Attempt, status: str, body: bytes, *, content_type: str | None = None, location: str | None = None
    ) -> None:
        """The same for an answer that is none of HTTP."""
        values = {"status": status, "content_type": content_type, "location": location, "body": body}
        with self._database.write() as db:
            db.execute(sa.update(StoredAnswer).where(*_own(attempt)).values(**values))

    def give_up(self, attempt: Attempt, error: CondauError) -> None:
        """Free the key: the request was refused, nothing happened.

        Where a part was away it may have happened all the same (the database can go away when it has stored the act). Then the
        key stays this request's, and its next attempt begins at once under the same origin.
        """
        freed = sa.delete(StoredAnswer).where(*_own(attempt))
        left = sa.update(StoredAnswer).where(*_own(attempt)).values(begun_at=self._now() - 2 * LOST)
        with self._database.write() as db:
            db.execute(left if isinstance(error, Unavailable) else freed)

    def reconcile(self, _before: datetime) -> int:
        """Forget answers older than 24 hours; a key without an answer frees itself when it is used again."""
        with self._database.write() as db:
            old = sa.delete(StoredAnswer).where(StoredAnswer.begun_at < self._now() - KEPT)
            return len(db.execute(old.returning(StoredAnswer.id)).all())

    def _take(self, caller: str, key: str, said: str) -> Attempt | StoredAnswer | None:
        """The key, or who has it; None when it changed hands at this very moment: look again."""
        token, at = uuid.uuid4().hex, self._now()
        with self._database.read() as db:
            row = db.scalar(sa.select(StoredAnswer).where(StoredAnswer.caller == caller, StoredAnswer.key == key))
        if row is None:
            # Drawn, not counted: SQLite gives the number of a deleted row out again, and this one names the act (``origin``)
            record = secrets.randbits(62)
            values: dict[str, Any] = {"caller": caller, "key": key, "request_sha256": said, "attempt": token, "begun_at": at}
            try:
                with self._database.write() as db:
                    db.execute(sa.insert(StoredAnswer).values(id=record, **values))
            except IntegrityError:
                return None
            return Attempt(record, token)
        if row.status is None and row.request_sha256 == said and row.begun_at < at - LOST:
            theirs = sa.update(StoredAnswer).where(
                StoredAnswer.id == row.id, StoredAnswer.attempt == row.attempt, StoredAnswer.status.is_(None)
            )
            with self._database.write() as db:
                taken = db.execute(theirs.values(attempt=token, begun_at=at).returning(StoredAnswer.id)).first()
            return None if taken is None else Attempt(row.id, token)
        return row


def check_key(key: str) -> None:
    """Raise Rejected for what is no idempotency key."""
    if not _KEY.fullmatch(key):
        raise Rejected(HEADER, "must be 1 to 255 visible ASCII characters, new for each request that is not a repetition")


def _own(attempt: Attempt) -> tuple[sa.ColumnElement[bool], ...]:
    return (StoredAnswer.id == attempt.record, StoredAnswer.attempt == attempt.token)


def _digest(req: falcon.Request, body: bytes) -> str:
    hashed = hashlib.sha256()
    for part in (req.method, req.path, req.query_string, req.content_type or "", req.accept):
        hashed.update(f"{part}\n".encode("utf-8", "surrogateescape"))
    hashed.update(body)
    return hashed.hexdigest()


def _replay(resp: falcon.Response, answer: StoredAnswer) -> None:
    resp.status = answer.status or falcon.HTTP_200
    resp.content_type = answer.content_type
    resp.data = answer.body
    if answer.location is not None:
        resp.location = answer.location
    resp.set_header(REPLAYED, "true")
