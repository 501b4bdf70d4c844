"""Fixtures of this room's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.db import Database
from tests.conftest import Clock
from tests.pki.house import House, build_house
from tests.software_keys import SoftwareKeys


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> House:
    """Authorities and subscribers, fresh for each test."""
    return build_house(database, keys, clock, tmp_path)
