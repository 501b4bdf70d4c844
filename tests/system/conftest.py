"""A running service for the tests that need the whole of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import Cluster
from tests.service import Service


@pytest.fixture(scope="session")
def new_service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, database_kind: str
) -> Iterator[Instances]:
    """Makes development instances, each with its own folder, token and database."""
    instances = Instances(request, tmp_path_factory, database_kind)
    yield instances
    instances.close()


class Instances:
    """Development instances that are not yet served."""

    def __init__(self, request: pytest.FixtureRequest, folders: pytest.TempPathFactory, database_kind: str) -> None:
        self._kind = database_kind
        self._request = request
        self._folders = folders
        self._made: list[Service] = []

    def make(self) -> Service:
        """A new one, initialised."""
        url = ""
        if self._kind == "postgresql":
            cluster: Cluster = self._request.getfixturevalue("cluster")
            url = cluster.create_database()
        service = Service(self._folders.mktemp("instance"), database_url=url)
        service.condau("init", "--development")
        self._made.append(service)
        return service

    def close(self) -> None:
        """Stop those that still run."""
        for service in self._made:
            service.end()


@pytest.fixture(scope="session")
def service(new_service: Instances) -> Service:
    """One that runs for the whole session; tests must leave it as they found it."""
    service = new_service.make()
    service.start()
    return service


def run(*command: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program that is not ours; its output is text and its end is awaited for a minute at most."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload]  # cwd and env pass through
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    result: subprocess.CompletedProcess[str] = done
    return result
