"""Fixtures every test may use."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer

from core.db import Database
from tests.databases import Databases, Furnished
from tests.postgresql import Cluster
from tests.scheduling import ByFile, longest_first
from tests.software_keys import SoftwareKeys

_KINDS = ("sqlite", "postgresql")
settings.register_profile("condau", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("condau")


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
def keys(request: pytest.FixtureRequest) -> SoftwareKeys:
    """A store with the software keys of whatever the test's database is furnished with: by default none."""
    furnished: Furnished | None = request.getfixturevalue("furnished") if "database" in request.fixturenames else None
    return SoftwareKeys() if furnished is None else furnished.keys.copy()


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
    choices = (*_KINDS, "both")
    parser.addoption("--database", choices=choices, default="sqlite", help="where the tests keep their data")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With ``--database=both`` a test that learns where data is kept is two tests, unless the database is beside its point."""
    if "database_kind" in metafunc.fixturenames and metafunc.config.getoption("--database") == "both":
        kinds = _KINDS[:1] if _needs_one_database(metafunc.definition) else _KINDS
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that never learns where data is kept is the same test on both: it runs on SQLite's turn only."""
    longest_first(items)
    if config.getoption("--database") == "postgresql":
        told = {True: list[pytest.Item](), False: list[pytest.Item]()}
        for item in items:
            told["database_kind" in getattr(item, "fixturenames", ()) and not _needs_one_database(item)].append(item)
        items[:] = told[True]
        config.hook.pytest_deselected(items=told[False])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """How the tests are shared out."""
    return ByFile(config, log)


def _needs_one_database(node: pytest.Item) -> bool:
    """Whether what a test proves cannot differ by database: another program judges a document, or the module says so."""
    return any(node.get_closest_marker(name) is not None for name in ("interop", "one_database"))


@pytest.fixture(scope="session")
def database_kind(request: pytest.FixtureRequest) -> str:
    """Where the test keeps its data: ``sqlite`` or ``postgresql``. Whoever makes a database asks for this."""
    return str(getattr(request, "param", None) or request.config.getoption("--database"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of this process's own (with xdist each worker has one)."""
    cluster = Cluster(in_memory=True)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Databases:
    """As many databases of the kind asked for as a test wants."""
    cluster: Cluster | None = request.getfixturevalue("cluster") if database_kind == "postgresql" else None
    return Databases(folder=tmp_path_factory.mktemp("databases"), cluster=cluster)


@pytest.fixture
def database_url(databases: Databases, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    with databases.empty(tmp_path) as url:
        yield url


@pytest.fixture
def furnished(databases: Databases) -> Furnished:
    """What a test's database is a copy of: nothing but the schema. A room whose tests begin in a house overrides this."""
    return databases.plain()


@pytest.fixture
def database(databases: Databases, furnished: Furnished, tmp_path: Path) -> Iterator[Database]:
    """A fresh database with the schema of this version, as the migrations make it, and what the room furnished it with."""
    with databases.copy(furnished, tmp_path) as database:
        yield database
