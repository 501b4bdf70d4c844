"""Fixtures of this room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.db import Database
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.jobs.house import Office
from tests.pki.house import furnish, open_house
from tests.software_keys import SoftwareKeys


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With the house in it for a test that begins in one."""
    return databases.furnished(furnish) if "office" in request.fixturenames else databases.plain()


@pytest.fixture
def office(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> Office:
    """Authorities, subscribers and jobs, fresh for each test."""
    return Office(open_house(database, keys, clock, tmp_path))
