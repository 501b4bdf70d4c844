"""The registry over HTTP: agencies, subscribers, callers and grants, and who may touch them."""

from __future__ import annotations

from functools import partial
from typing import Any

import falcon
import pytest
from falcon import testing

from audit.log import SYSTEM
from core.db import Database
from registry import http_agencies, http_callers, registry
from registry.models import Role
from tests.conftest import Clock
from web import problems
from web.access import ApiKeys, Shell


class Caller:
    """One caller of the API."""

    def __init__(self, client: testing.TestClient, key: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, **params: Any) -> Any:
        sent = {} if body is None else {"json": body}
        answer = self._client.simulate_request(method, path, headers=self._headers, params=params, **sent)
        assert answer.status_code == status, answer.text
        return answer.json


@pytest.fixture
def callers(database: Database, clock: Clock) -> dict[Role, Caller]:
    """One of each role."""
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1_000_000)])
    problems.install(app)
    given: Any = {"database": database, "now": clock}
    for path, kind in (
        ("/v1/agencies", http_agencies.Agencies),
        ("/v1/agencies/{code}", http_agencies.AgencyResource),
        ("/v1/agencies/{code}/names", http_agencies.AgencyNames),
        ("/v1/agencies/{code}/parent", http_agencies.AgencyPlace),
        ("/v1/agencies/{code}/merger", http_agencies.AgencyMergers),
        ("/v1/agencies/{code}/closure", http_agencies.AgencyClosures),
        ("/v1/subscribers", http_agencies.Subscribers),
        ("/v1/subscribers/{handle}", http_agencies.SubscriberResource),
        ("/v1/clients", partial(http_callers.Callers, needs_approval=lambda _: False)),
        ("/v1/clients/{name}", http_callers.Caller),
        ("/v1/clients/{name}/disablement", http_callers.CallerDisablement),
        ("/v1/clients/{name}/grants/{subscriber}", http_callers.CallerGrant),
    ):
        app.add_route(path, kind(**given))
    client = testing.TestClient(app)
    with database.write() as db:
        keys = {role: registry.add_client(db, at=clock(), actor=SYSTEM, name=f"a-{role}", role=role) for role in Role}
    return {role: Caller(client, key) for role, key in keys.items()}


@pytest.fixture
def admin(callers: dict[Role, Caller]) -> Caller:
    """The admin, over three agencies."""
    admin = callers[Role.ADMIN]
    for code, parent in (("H12", None), ("000.00.34.H12", "H12"), ("H13", None)):
        body = {"code": code, "name": f"Cơ quan {code}", "locality": "Huế", "parent": parent, "since": "2020-01-01"}
        admin("POST", "/v1/agencies", body, status=201)
    return admin


def test_an_agency_is_added_renamed_merged_and_remembered(admin: Caller) -> None:
    renamed = admin("POST", "/v1/agencies/H12.34/names", {"name": "Xã Mới", "effective": "2025-07-01"})
    assert (renamed["name"], renamed["since"]) == ("Xã Mới", "2025-06-30T17:00:00Z")
    assert renamed["path"] == ["Cơ quan H12", "Xã Mới"]
    before = admin("GET", "/v1/agencies/000.00.34.H12", at="2025-06-30T16:59:59Z")
    assert (before["name"], before["code"], before["code_key"]) == ("Cơ quan 000.00.34.H12", "000.00.34.H12", "H12.34")
    merged = admin("POST", "/v1/agencies/H12/merger", {"into": "H13", "effective": "2025-07-02"})
    assert (merged["closed"], merged["successor"]) == (True, "H13")
    moved = admin("GET", "/v1/agencies/H12.34")
    assert moved["parent"] == "H13"
    assert len(moved["history"]) == 3
    assert [item["code"] for item in admin("GET", "/v1/agencies", parent="H13")["agencies"]] == ["000.00.34.H12"]
    assert admin("POST", "/v1/agencies/H12/closure", {}, status=409)["type"].endswith("conflict")


def test_agencies_come_in_pages(admin: Caller) -> None:
    page = admin("GET", "/v1/agencies", limit=2)
    assert [item["code_key"] for item in page["agencies"]] == ["H12", "H12.34"]
    rest = admin("GET", "/v1/agencies", limit=2, after=page["next"])
    assert ([item["code_key"] for item in rest["agencies"]], rest["next"]) == (["H13"], None)


def test_a_closed_agency_takes_no_subscribers(admin: Caller) -> None:
    admin("POST", "/v1/agencies/H13/closure", {})
    body = {"handle": "x", "kind": "officer", "common_name": "Người", "agency": "H13"}
    assert "closed" in admin("POST", "/v1/subscribers", body, status=409)["detail"]


def test_every_fault_of_a_subscriber_is_told(admin: Caller) -> None:
    body = {
        "handle": "No",
        "kind": "agency",
        "common_name": " ",
        "agency": "H12",
        "uid": "CCCD:001099000001",
        "email": "x",
        "dns_names": ["a b"],
    }
    problem = admin("POST", "/v1/subscribers", body, status=422)
    assert [item["field"] for item in problem["violations"]] == ["uid", "email", "dns_names", "dns_names", "handle", "common_name"]


def test_a_subscriber_changes_and_moves(admin: Caller) -> None:
    body = {"handle": "x", "kind": "officer", "common_name": "Người", "agency": "H12", "uid": "CCCD:001099000001"}
    admin("POST", "/v1/subscribers", body, status=201)
    changed = admin("PATCH", "/v1/subscribers/x", {"agency": "H13", "email": "x@example.gov.vn"})
    assert (changed["agency"], changed["email"], changed["uid"]) == ("H13", "x@example.gov.vn", "CCCD:001099000001")
    assert admin("PATCH", "/v1/subscribers/x", {"uid": None})["uid"] is None
    assert [item["handle"] for item in admin("GET", "/v1/subscribers", agency="H13")["subscribers"]] == ["x"]
    assert admin("GET", "/v1/subscribers", agency="H12")["subscribers"] == []
    admin("PATCH", "/v1/subscribers/nobody", {"email": None}, status=404)


def test_a_caller_is_added_granted_and_disabled(admin: Caller) -> None:
    admin("POST", "/v1/subscribers", {"handle": "x", "kind": "officer", "common_name": "N", "agency": "H12"}, status=201)
    made = admin("POST", "/v1/clients", {"name": "dms", "role": "client"}, status=201)
    assert len(made["key"]) > 40
    assert admin("PUT", "/v1/clients/dms/grants/x")["grants"] == ["x"]
    assert admin("DELETE", "/v1/clients/dms/grants/x")["grants"] == []
    admin("DELETE", "/v1/clients/dms/grants/x", status=404)
    assert admin("POST", "/v1/clients/dms/disablement")["disabled_at"] is not None
    admin("POST", "/v1/clients/dms/disablement", status=409)
    admin("POST", "/v1/clients/a-admin/disablement", status=403)
    assert "key" not in admin("GET", "/v1/clients/dms")


@pytest.mark.parametrize("path", ["/v1/agencies", "/v1/subscribers", "/v1/clients"])
def test_auditors_read_and_client_systems_do_not(callers: dict[Role, Caller], path: str) -> None:
    callers[Role.AUDITOR]("GET", path)
    callers[Role.AUDITOR]("POST", path, {}, status=403)
    callers[Role.CLIENT]("GET", path, status=403)
