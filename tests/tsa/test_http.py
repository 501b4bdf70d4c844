"""/tsa behind the HTTP shell."""

from __future__ import annotations

from typing import Any

import falcon
import pytest
from falcon import testing

from core.clock import system_now
from core.db import Database
from core.errors import Unavailable
from core.metrics import Metrics
from core.settings import TsaLimits
from tests.tsa.requests import query
from tsa.authority import TimestampAuthority
from tsa.http import QUERY_TYPE, REPLY_TYPE, Timestamps, UnitTimestamps
from tsa.limits import Limits
from tsa.reception import Reception
from tsa.request import QUERY_LIMIT
from web import problems
from web.access import ApiKeys, Shell


def make_app(authority: TimestampAuthority, database: Database) -> Any:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1_000_000)])
    problems.install(app)
    limits = Limits(database=database, now=system_now, config=TsaLimits(), workers=1)
    reception = Reception(authority=authority, limits=limits, metrics=Metrics())
    app.add_route("/tsa", Timestamps(reception=reception))
    app.add_route("/tsa/{unit}", UnitTimestamps(reception=reception))
    return app


@pytest.fixture
def client(authority: TimestampAuthority, database: Database) -> testing.TestClient:
    return testing.TestClient(make_app(authority, database))


def post(client: testing.TestClient, body: bytes, kind: str | None = QUERY_TYPE) -> Any:
    return client.simulate_post("/tsa", body=body, headers={} if kind is None else {"Content-Type": kind})


def test_anybody_gets_a_timestamp(client: testing.TestClient) -> None:
    """RFC 3161, 3.4."""
    answer = post(client, query())
    assert (answer.status_code, answer.headers["content-type"]) == (200, REPLY_TYPE)
    assert answer.content.startswith(b"\x30\x82")
    assert bytes.fromhex("300302010030") in answer.content  # granted, with a timestamp after it


def test_a_refusal_has_status_200_too(client: testing.TestClient) -> None:
    answer = post(client, b"not DER")
    assert (answer.status_code, answer.headers["content-type"]) == (200, REPLY_TYPE)
    assert answer.content.endswith(bytes.fromhex("03020204"))  # bit 5, badDataFormat


@pytest.mark.parametrize(
    "kind", [None, "application/octet-stream", "application/timestamp-reply", "multipart/form-data; boundary=b"]
)
def test_another_media_type_is_a_problem(client: testing.TestClient, kind: str | None) -> None:
    answer = post(client, query(), kind)
    assert answer.status_code == 415
    assert QUERY_TYPE in answer.json["detail"]


def test_parameters_of_the_media_type_do_no_harm(client: testing.TestClient) -> None:
    assert post(client, query(), "Application/Timestamp-Query; charset=utf-8").status_code == 200


@pytest.mark.parametrize(("size", "status"), [(QUERY_LIMIT, 200), (QUERY_LIMIT + 1, 413)])
def test_the_body_is_bounded(client: testing.TestClient, size: int, status: int) -> None:
    assert post(client, bytes(size)).status_code == status


def test_an_outage_is_system_failure(
    client: testing.TestClient, authority: TimestampAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3161, 2.4.2: the answer of the protocol and not of HTTP, so that every client understands it."""

    def away(*_: object) -> bytes:
        raise Unavailable("hsm", "the HSM is away", retry_after=2)

    monkeypatch.setattr(authority, "_sign", away)
    answer = post(client, query())
    assert (answer.status_code, answer.headers["content-type"]) == (200, REPLY_TYPE)
    assert answer.content.endswith(bytes.fromhex("030506000000") + b"\x40")  # bit 25, systemFailure
    assert b"try again in 2 s" in answer.content


def test_an_unknown_unit_is_not_found(client: testing.TestClient) -> None:
    answer = client.simulate_post("/tsa/nobody", body=query(), headers={"Content-Type": QUERY_TYPE})
    assert answer.status_code == 404
    assert "default" in answer.json["detail"]


def test_get_is_not_for_time_stamping(client: testing.TestClient) -> None:
    assert client.simulate_get("/tsa").status_code == 405
