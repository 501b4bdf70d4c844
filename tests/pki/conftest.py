"""Fixtures of this room's tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest

from core.db import Database
from core.settings import Config
from pki.authorities import create_authorities
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.pki.house import ADMIN, ORGANISATION, House, add_subscribers, furnish, make_app, open_house
from tests.software_keys import SoftwareKeys


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With a house in it for a test that begins in one."""
    return databases.furnished(furnish) if "house" in request.fixturenames else databases.plain()


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> House:
    """Authorities and subscribers, fresh for each test."""
    return open_house(database, keys, clock, tmp_path)


@pytest.fixture
def served(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> Iterator[House]:
    """A house whose certificates point to a server on the loopback that really answers."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with WSGIServer(("127.0.0.1", 0), Quiet) as server:
        config = Config(home=tmp_path, public_url=f"http://127.0.0.1:{server.server_port}")
        house = House(database, keys, clock, config)
        create_authorities(house.ca, house.crl, organisation=ORGANISATION, actor=ADMIN)
        add_subscribers(database, clock)
        server.set_app(make_app(house))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield house
        server.shutdown()
        thread.join()
