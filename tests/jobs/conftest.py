"""Fixtures of this room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.db import Database
from tests.conftest import Clock
from tests.jobs.house import Office
from tests.pki.house import build_house
from tests.software_keys import SoftwareKeys


@pytest.fixture
def office(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> Office:
    """Authorities, subscribers and jobs, fresh for each test."""
    return Office(build_house(database, keys, clock, tmp_path))
