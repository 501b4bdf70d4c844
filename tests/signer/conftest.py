"""Fixtures of the signing tests."""

from __future__ import annotations

import pytest

from core.db import Database
from tests.conftest import Clock
from tests.signer.house import House, build_house
from tests.software_keys import SoftwareKeys


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    """A house with one officer whose key is P-256."""
    return build_house(database, keys, clock)
