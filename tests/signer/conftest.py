"""Fixtures of the signing tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.db import Database
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.drawing import build_studio, issue, person
from tests.signer.house import House, furnish, open_house
from tests.signer.letters import letter, write_pdf
from tests.software_keys import SoftwareKeys


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With a house in it for a test that begins in one."""
    return databases.furnished(furnish) if "house" in request.fixturenames else databases.plain()


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    """A house with one officer whose key is P-256."""
    return open_house(database, keys, clock)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house to draw in, shared: nothing that is tested with it changes it."""
    studio = build_studio(tmp_path_factory.mktemp("studio"))
    yield studio
    studio.database.close()


@pytest.fixture(scope="session")
def letter_pdf() -> bytes:
    """The sample letter, unsigned."""
    return write_pdf([letter()])


@pytest.fixture(scope="session")
def led(studio: House, letter_pdf: bytes) -> bytes:
    """The sample letter with its leader's signature."""
    return person(studio, letter_pdf)


@pytest.fixture(scope="session")
def issued(studio: House, led: bytes) -> bytes:
    """And with number, date and seal."""
    return issue(studio, led)
