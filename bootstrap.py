"""Wiring: the one place where configuration becomes objects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from core.clock import Now, system_now
from core.config import Config
from core.db import Database
from core.errors import Unavailable
from core.housekeeping import Task
from core.metrics import Metrics
from hsm.token import Token
from migrations.schema import is_current
from pki.ca import CertificateAuthority
from pki.crl import CrlPublisher
from pki.ocsp import OcspResponder
from signer.service import Signer
from tsa.authority import TimestampAuthority
from tsa.clock import TrustedClock, build_sources
from tsa.limits import Limits
from tsa.reception import Reception
from tsa.succession import Succession
from verifier.service import Verifier
from web.health import Check

UNDECIDED_AFTER: Final = timedelta(minutes=2)
"""An intent older than this belongs to a process that is gone: no request lives so long. Should one, its result is refused."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the API and the command line work with."""

    config: Config
    database: Database
    token: Token
    now: Now
    ca: CertificateAuthority
    crl: CrlPublisher
    ocsp: OcspResponder
    clock: TrustedClock
    tsa: TimestampAuthority
    reception: Reception
    metrics: Metrics
    units: Succession
    signer: Signer
    verifier: Verifier

    @property
    def checks(self) -> Mapping[str, Check]:
        """What must work for the service to be ready."""
        return {"database": self._check_database, "hsm": self.token.probe, "clock": self.clock.check}

    @property
    def housekeeping(self) -> Mapping[str, Task]:
        """What is done without being asked."""
        return {
            "reconcile": lambda: self.reconcile(self.now() - UNDECIDED_AFTER),
            "crl": self.crl.refresh,
            "units": self.units.refresh,
        }

    def reconcile(self, before: datetime) -> int:
        """Settle every intent written before ``before`` that has no result; returns how many there were."""
        return self.ca.reconcile(before) + self.crl.reconcile(before) + self.signer.reconcile(before)

    def render_metrics(self) -> bytes:
        """What Prometheus is told, the clock as it is at this moment."""
        state = self.clock.state()
        self.metrics.clock_trusted.set(state.trusted)
        self.metrics.clock_offset.set(math.nan if state.offset is None else state.offset)
        self.metrics.clock_bound.set(math.nan if state.bound is None else state.bound)
        return self.metrics.render()

    def close(self) -> None:
        """Give back the token and the database connections."""
        self.clock.close()
        self.token.close()
        self.database.close()

    def _check_database(self) -> None:
        with self.database.read() as db:
            db.execute(sa.text("SELECT 1"))
        if not is_current(self.database):
            raise Unavailable("database", "the schema is not the one this version needs: run `condau init` again")


def build(config: Config, *, now: Now = system_now, metrics: Metrics | None = None) -> Services:
    """The services of one process. Nothing is opened yet but the configuration; call it after a fork, never before.

    ``metrics``: where it counts; by default in memory, for itself.
    """
    metrics = metrics or Metrics()
    database = Database(config.database_url, pool_size=config.server.threads + 2)
    token = Token(config.hsm)
    crl = CrlPublisher(database=database, keys=token, now=now, config=config)
    ca = CertificateAuthority(database=database, keys=token, now=now, config=config, crl=crl)
    clock = TrustedClock(
        sources=build_sources(config.tsa.clock), config=config.tsa.clock, accuracy_milliseconds=config.tsa.accuracy_milliseconds
    )
    tsa = TimestampAuthority(
        database=database, keys=token, now=clock.now, config=config.tsa, at_once=config.hsm.sessions, metrics=metrics
    )
    limits = Limits(database=database, now=now, config=config.tsa.limits, workers=config.server.workers)
    database.committed = metrics.committed
    return Services(
        config=config,
        database=database,
        token=token,
        now=now,
        ca=ca,
        crl=crl,
        ocsp=OcspResponder(database=database, keys=token, now=now, config=config),
        clock=clock,
        tsa=tsa,
        reception=Reception(authority=tsa, limits=limits, metrics=metrics),
        metrics=metrics,
        units=Succession(database=database, ca=ca, now=now, units=tsa.units),
        signer=Signer(database=database, keys=token, now=now, stamp=tsa.stamp, font=config.signer.font),
        verifier=Verifier(database=database, now=now),
    )
