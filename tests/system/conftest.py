"""A running service for the tests that need the whole of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import Databases
from tests.service import Service


@pytest.fixture(scope="session")
def new_service(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    """Makes development instances, each with its own folder, token and database."""
    instances = Instances(databases, tmp_path_factory)
    yield instances
    instances.close()


class Instances:
    """Development instances that are not yet served."""

    def __init__(self, databases: Databases, folders: pytest.TempPathFactory) -> None:
        self._databases = databases
        self._folders = folders
        self._made: list[Service] = []
        self._model: tuple[Service, str] | None = None

    def make(self) -> Service:
        """A new one, a copy of one that was initialised once: the addresses in its certificates are not its own."""
        if self._model is None:
            self._model = self._initialise()
        (model, model_url), home = self._model, self._folders.mktemp("instance")
        shutil.copytree(model.home, home, dirs_exist_ok=True)
        service = Service(home, database_url=self._databases.server_copy(model_url))
        for name, old, new in (
            ("softhsm/softhsm2.conf", str(model.home), str(home)),
            ("condau.toml", model.url, service.url),
        ):
            (home / name).write_text((home / name).read_text().replace(old, new))
        self._made.append(service)
        return service

    def initialise(self) -> Service:
        """A new one by `condau init`, whose certificates bear its own address."""
        service, _ = self._initialise()
        self._made.append(service)
        return service

    def _initialise(self) -> tuple[Service, str]:
        url = self._databases.server_copy(None)
        service = Service(self._folders.mktemp("instance"), database_url=url)
        service.condau("init", "--development")
        return service, url

    def close(self) -> None:
        """Stop those that still run."""
        for service in self._made:
            service.end()


@pytest.fixture(scope="session")
def service(new_service: Instances) -> Service:
    """One that runs for the whole session; tests must leave it as they found it."""
    service = new_service.initialise()
    service.start()
    return service


def run(*command: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program that is not ours; its output is text and its end is awaited for a minute at most."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload]  # cwd and env pass through
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    result: subprocess.CompletedProcess[str] = done
    return result
