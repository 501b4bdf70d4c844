"""Fixtures of the time-stamping tests."""

from __future__ import annotations

import pytest

from core.db import Database
from tests.conftest import Clock
from tests.software_keys import SoftwareKeys
from tests.tsa.unit import Pki, install_unit, make_authority
from tsa.authority import TimestampAuthority


@pytest.fixture
def pki(database: Database, keys: SoftwareKeys, clock: Clock) -> Pki:
    """The certificates of a P-256 unit that is in the database."""
    return install_unit(database, keys, clock())


@pytest.fixture
def authority(database: Database, keys: SoftwareKeys, clock: Clock, pki: Pki) -> TimestampAuthority:
    """The authority over that unit; ``pki`` is what it answers with."""
    del pki  # asked for so that it is there
    return make_authority(database, keys, clock)
