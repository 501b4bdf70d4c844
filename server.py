"""Serving: gunicorn over the API, each worker with its own login to the token."""

from __future__ import annotations

import gc
import importlib
import resource
from typing import Any, Final

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from api import create_app, create_express
from bootstrap import Services, build
from core.config import export_metrics_folder
from core.housekeeping import Housekeeper
from core.logs import JsonLines, configure_logs
from core.metrics import Metrics, empty_folder
from core.settings import Config
from web.balance import Balance
from web.worker import ExpressWorker

_LEFT_FOR_LATER: Final = ("alembic.script", "fontTools.subset", "verifier.pdf")
"""What is imported where it is needed, so that commands start without it. Here it is there before the workers are made: they
share it, and no request waits for it."""

GRACE_SECONDS = 10
"""How long a worker that is told to stop may finish what it began."""
_CONNECTIONS = 1000
"""How many a worker holds at most; further ones wait until some are gone."""
_OTHER_DESCRIPTORS = 250
"""What a worker may need beside: the database, the token, documents in files."""
_WORK_EVERY = 1.0
"""Seconds after which a worker looks for rows of jobs again."""


class Server(BaseApplication):
    """Runs until SIGTERM or SIGINT.

    The application is built in each worker, after the fork: PKCS#11 leaves a module undefined in a forked child.
    """

    def __init__(self, config: Config) -> None:
        for name in _LEFT_FOR_LATER:
            importlib.import_module(name)
        self._config = config
        self.express_threads = config.hsm.sessions + 1  # one for each call the HSM bears, and one that waits for the disk
        self._balance = Balance(config.server.workers)
        self._metrics_folder = config.home / "metrics"
        empty_folder(self._metrics_folder)
        export_metrics_folder(self._metrics_folder)
        self._services: Services | None = None
        self._housekeepers: list[Housekeeper] = []
        super().__init__()

    def load_config(self) -> None:
        """Hand gunicorn its settings; it reads no file, environment or command line of its own."""
        server = self._config.server
        settings: dict[str, Any] = {
            "bind": f"{server.host}:{server.port}",
            "workers": server.workers,
            "threads": server.threads,
            "worker_class": "web.worker.ExpressWorker",
            "worker_connections": count_connections(),
            "graceful_timeout": GRACE_SECONDS,
            "timeout": 120,
            "keepalive": 5,
            "control_socket_disable": True,  # nobody asked for a second way in
            "logconfig_dict": _gunicorn_logs(),
            "pre_fork": self._share_out,
            "child_exit": self._forget_worker,
            "post_worker_init": self._begin_housekeeping,
            "worker_exit": self._give_back,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The application of one worker."""
        configure_logs()
        self._services = build(self._config, metrics=Metrics(self._metrics_folder))
        self.express = create_express(self._services)
        app = create_app(self._services)
        gc.collect()
        gc.freeze()  # what is there now stays: to look through it again and again would only make requests wait
        return app

    def _share_out(self, _arbiter: Arbiter, worker: ExpressWorker) -> None:
        worker.balance, worker.slot = self._balance, self._balance.claim()

    def _forget_worker(self, _arbiter: Arbiter, worker: ExpressWorker) -> None:
        if worker.slot is not None:
            self._balance.free(worker.slot)

    def _begin_housekeeping(self, _worker: Worker) -> None:
        assert self._services is not None  # noqa: S101 - gunicorn calls load() first
        self._services.clock.start()
        self._housekeepers = [
            Housekeeper(self._services.housekeeping),
            Housekeeper(self._services.background_work, every=_WORK_EVERY),
            Housekeeper(self._services.signing_work, every=_WORK_EVERY),
        ]
        for housekeeper in self._housekeepers:
            housekeeper.start()
        self._services.watcher.start()

    def _give_back(self, _arbiter: Arbiter, _worker: Worker) -> None:
        for housekeeper in self._housekeepers:
            housekeeper.stop()
        if self._services is not None:
            self._services.close()


def serve(config: Config) -> None:
    """Serve until stopped; does not return."""
    Server(config).run()


def count_connections() -> int:
    """How many a worker can hold: each takes a file descriptor, of which a process often has 1024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + _OTHER_DESCRIPTORS
    if resource.RLIM_INFINITY != soft < wanted and soft != hard:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _CONNECTIONS if soft == resource.RLIM_INFINITY else min(_CONNECTIONS, max(soft - _OTHER_DESCRIPTORS, soft // 2))


def _gunicorn_logs() -> dict[str, Any]:
    """Gunicorn's own log in the same JSON lines as ours."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
            "gunicorn.access": {"handlers": [], "propagate": False},
        },
    }
