"""Fixtures every test may use."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from core.db import Database, sqlite_url
from migrations.schema import upgrade
from tests.postgresql import Cluster
from tests.software_keys import SoftwareKeys


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, **by: float) -> None:
        """Move it by a timedelta's keywords."""
        self.at += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    """Starts at the real present, in whole seconds."""
    return Clock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def keys() -> SoftwareKeys:
    """An empty store of software keys."""
    return SoftwareKeys()


@pytest.fixture(scope="session")
def pkijs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with PKI.js as its lock file has it, from the npm registry; a test copies its own program there."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not here: PKI.js judges only where it is")
    folder = tmp_path_factory.mktemp("pkijs")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).parent / "tsa" / "clients" / "pkijs" / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot install PKI.js here: {done.stderr[-300:]}")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--interop", action="store_true", help="also tests/interop, for which Maven fetches 30 MB")
    parser.addoption("--database", choices=("sqlite", "postgresql"), default="sqlite", help="where the tests keep their data")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that never learns where data is kept is the same test on both: it runs on SQLite's turn only."""
    if config.getoption("--database") == "sqlite":
        return
    told = {True: list[pytest.Item](), False: list[pytest.Item]()}
    for item in items:
        told["database_kind" in getattr(item, "fixturenames", ())].append(item)
    items[:] = told[True]
    config.hook.pytest_deselected(items=told[False])


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> str:
    """Where the tests keep their data: ``sqlite`` or ``postgresql``. Whoever makes a database asks for this."""
    return str(request.config.getoption("--database"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this process's own (with xdist each worker has one)."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> Iterator[str]:
    """The URL of an empty database of the kind asked for with ``--database``."""
    if database_kind == "sqlite":
        yield sqlite_url(tmp_path / "condau.sqlite3")
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    url = cluster.create_database()
    yield url
    cluster.drop_database(url)


@pytest.fixture(scope="session")
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> str:
    """The URL of a database that the migrations have brought to its schema: made once, copied for each test."""
    if database_kind == "sqlite":
        url = sqlite_url(tmp_path_factory.mktemp("template") / "condau.sqlite3")
    else:
        url = request.getfixturevalue("cluster").create_database()
    database = Database(url)
    upgrade(database)
    database.close()
    return url


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path, template: str, database_kind: str) -> Iterator[Database]:
    """A fresh database with the schema of this version, as the migrations make it."""
    if database_kind == "sqlite":
        copy = tmp_path / "condau.sqlite3"
        shutil.copy(str(make_url(template).database), copy)
        database = Database(sqlite_url(copy))
        yield database
        database.close()
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    url = cluster.create_database(template)
    database = Database(url)
    yield database
    database.close()
    cluster.drop_database(url)
