"""Delivering what lies in the outbox: dispatched, leased, sent, settled; again later where it could not be."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from core.clock import Now
from core.db import Database
from core.errors import CondauError
from core.settings import NoticesConfig
from notices import outbox
from notices.models import Channel, Delivery
from notices.sending import send_email, send_webhook

_log = logging.getLogger("condau.notices")
_LEASE: Final = timedelta(minutes=5)
"""Longer than all of a batch can take, each being given up after seconds."""
_BATCH: Final = 10
_ROUNDS: Final = 50
"""Batches in one round of housekeeping: what is left waits for the next."""


class Courier:
    """Delivers at least once: one that dies between sending and writing that down is followed by a second delivery."""

    def __init__(self, *, database: Database, config: NoticesConfig, now: Now) -> None:
        self._database = database
        self._config = config
        self._now = now

    def deliver(self) -> int:
        """Deliver what is due; returns how many attempts were made. Several processes may do so at once."""
        self._dispatch()
        attempts = 0
        for _ in range(_ROUNDS):
            taken = self._lease()
            attempts += len(taken)
            for delivery in taken:
                self._attempt(delivery)
            if len(taken) < _BATCH:
                break
        return attempts

    def prune(self) -> int:
        """Remove what everybody was told longer ago than the configuration keeps it; returns how many events."""
        if not self._config.keep_days:
            return 0
        pruned = 0
        for _ in range(_ROUNDS):
            at = self._now()
            with self._database.write() as db:
                removed = outbox.prune(db, at=at, before=at - timedelta(days=self._config.keep_days))
            if not removed:
                break
            pruned += removed
        return pruned

    def _dispatch(self) -> None:
        for _ in range(_ROUNDS):
            with self._database.write() as db:
                if outbox.dispatch(db, at=self._now(), webhooks=sorted(self._config.webhooks)) == 0:
                    return

    def _lease(self) -> list[Delivery]:
        at = self._now()
        with self._database.write() as db:
            return outbox.lease(db, at=at, until=at + _LEASE, most=_BATCH)

    def _attempt(self, delivery: Delivery) -> None:
        problem = None
        try:
            if delivery.channel == Channel.WEBHOOK:
                send_webhook(delivery, self._config, int(self._now().timestamp()))
            else:
                send_email(delivery, self._config)
        except CondauError as error:
            problem = error.detail
            told = {"delivery": delivery.id, "channel": delivery.channel, "recipient": delivery.recipient, "detail": problem}
            _log.warning("not delivered", extra={"fields": told})
        at = self._now()
        tried = delivery.attempts - delivery.forgiven
        next_at = None if tried >= self._config.attempts else at + outbox.back_off(tried)
        with self._database.write() as db:
            outbox.settle(db, delivery, at=at, problem=problem, next_at=next_at)
