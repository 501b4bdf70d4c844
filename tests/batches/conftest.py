"""A house that signs in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from falcon import testing

from batches.http import BatchCancellation, BatchCollection, BatchDetail, BatchItemDocument, BatchItems
from batches.passwords import PasswordSeal
from batches.service import Batches
from batches.spool import BatchSpool
from batches.work import BatchWorker
from core.db import Database
from core.settings import ActivationConfig, BatchesConfig
from registry.models import ApiClient
from registry.registry import key_digest
from signer.digests import DigestSigner
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.house import CLIENT, House, furnish, open_house
from tests.software_keys import SoftwareKeys
from web import problems
from web.access import ApiKeys, Shell
from web.body import Spool

KEY = {"Authorization": "Bearer a-key"}


@dataclass
class Office:
    """The house with its batches, and a client of its API."""

    house: House
    clock: Clock
    spool: Path
    batches: Batches
    new_worker: Callable[..., BatchWorker]
    api: testing.TestClient

    def post(self, files: list[tuple[str, bytes]], *, key: str | None = None, query: str = "level=B-B") -> testing.Result:
        """A batch of these files; one named ``options`` goes before the next as its options."""
        parts = []
        for name, data in files:
            said = 'name="options"' if name == "options" else f'name="file"; filename="{name}"'
            parts.append(b"--b\r\nContent-Disposition: form-data; " + said.encode() + b"\r\n\r\n" + data + b"\r\n")
        headers = {**KEY, "Content-Type": "multipart/form-data; boundary=b", **({"Idempotency-Key": key} if key else {})}
        body = b"".join(parts) + b"--b--\r\n"
        return self.api.simulate_post("/v1/signatures/batches", query_string=query, body=body, headers=headers)

    def post_digests(self, body: dict[str, Any], *, activation: str | None = None, query: str = "level=B-B") -> testing.Result:
        """A batch of digests."""
        headers = {**KEY, **({"Condau-Activation": activation} if activation else {})}
        return self.api.simulate_post("/v1/signatures/batches", query_string=query, json=body, headers=headers)

    def get(self, path: str) -> testing.Result:
        """Something of a batch."""
        return self.api.simulate_get(f"/v1/signatures/batches/{path}", headers=KEY)

    def folders(self) -> list[Path]:
        """The folders in the spool."""
        return sorted(self.spool.iterdir()) if self.spool.exists() else []


def furnish_office(database: Database, keys: SoftwareKeys, at: datetime) -> None:
    """The house, whose client has a known key."""
    furnish(database, keys, at)
    with database.write() as db:
        db.execute(sa.update(ApiClient).where(ApiClient.name == CLIENT.name).values(key_sha256=key_digest("a-key")))


@pytest.fixture
def furnished(databases: Databases) -> Furnished:
    """With the house in it."""
    return databases.furnished(furnish_office)


@pytest.fixture
def office(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> Office:
    """An office whose worker does not sleep."""
    return _office(open_house(database, keys, clock), clock, tmp_path)


def _office(house: House, clock: Clock, tmp_path: Path) -> Office:
    database, keys = house.database, house.keys
    spool = BatchSpool(tmp_path / "spool" / "batches")
    digests = DigestSigner(
        database=database, keys=keys, now=clock, stamp=house.tsa.stamp, levels=house.levels(), gates=house.gates()
    )
    config = BatchesConfig(bytes=1_000_000, keep_hours=24, key_file=tmp_path / "batch-key")
    config.key_file.write_text("5a" * 32 + "\n")
    kept: dict[str, Any] = {"database": database, "now": clock, "spool": spool, "seal": PasswordSeal(config.key_file)}
    batches = Batches(**kept, digests=digests, activation=ActivationConfig(), config=config)

    def new_worker(**other: Any) -> BatchWorker:
        parts = {"signer": house.signer, "digests": digests, "threads": 2, "lease": timedelta(seconds=20), "sleep": lambda _: None}
        return BatchWorker(**kept, **{**parts, **other})

    shell = Shell(access=ApiKeys(database=database), body_limit=1_000_000, spool=Spool(tmp_path, 500_000))
    app: Any = falcon.App(middleware=[shell])
    problems.install(app)
    one = "/v1/signatures/batches/{identifier:int}"
    app.add_route("/v1/signatures/batches", BatchCollection(batches=batches, worker=new_worker()))
    app.add_route(one, BatchDetail(batches=batches, worker=new_worker()))
    app.add_route(f"{one}/items", BatchItems(batches=batches))
    app.add_route(f"{one}/items/{{number:int}}/document", BatchItemDocument(batches=batches))
    app.add_route(f"{one}/cancellation", BatchCancellation(batches=batches))
    return Office(house, clock, tmp_path / "spool" / "batches", batches, new_worker, testing.TestClient(app))
