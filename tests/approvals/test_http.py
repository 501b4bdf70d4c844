"""The routes of approvals, and of a caller's role."""

from __future__ import annotations

from typing import Any

import falcon.testing
import pytest

from core.db import Database
from registry import registry
from tests.approvals.house import Office, add_clients, make_app
from tests.conftest import Clock


@pytest.fixture
def office(database: Database, clock: Clock) -> Office:
    return Office(database, clock)


@pytest.fixture
def keys(office: Office) -> dict[str, str]:
    return add_clients(office.database, office.clock)


@pytest.fixture
def client(office: Office) -> Any:
    return falcon.testing.TestClient(make_app(office))


def _as(keys: dict[str, str], name: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys[name]}", **more}


def test_a_change_of_role_waits_and_another_admin_sees_and_approves_it(office: Office, keys: dict[str, str], client: Any) -> None:
    answer = client.simulate_post("/v1/clients/somebody/role", json={"role": "admin"}, headers=_as(keys, "an-admin"))
    assert answer.status_code == 202
    where = answer.headers["location"]
    seen = client.simulate_get(where, headers=_as(keys, "another-admin")).json
    assert seen["payload"] == {"client": "somebody", "from": "auditor", "to": "admin"}
    assert seen["summary"] == "Đổi vai trò somebody"
    body = {"payload_sha256": seen["payload_sha256"]}
    assert client.simulate_post(f"{where}/approval", json=body, headers=_as(keys, "an-admin")).status_code == 403
    done = client.simulate_post(f"{where}/approval", json=body, headers=_as(keys, "another-admin"))
    assert (done.status_code, done.json["state"]) == (200, "executed")
    with office.database.read() as db:
        assert registry.authenticate(db, keys["somebody"]).role == "admin"
    listed = client.simulate_get("/v1/approvals", headers=_as(keys, "somebody")).json
    assert [item["state"] for item in listed["approvals"]] == ["executed"]


def test_nobody_changes_their_own_role(keys: dict[str, str], client: Any) -> None:
    answer = client.simulate_post("/v1/clients/an-admin/role", json={"role": "auditor"}, headers=_as(keys, "an-admin"))
    assert answer.status_code == 403


def test_rejection_and_withdrawal(keys: dict[str, str], client: Any) -> None:
    for verb, name, state in (("rejection", "another-admin", "rejected"), ("withdrawal", "an-admin", "withdrawn")):
        asked = client.simulate_post("/v1/clients/somebody/role", json={"role": "admin"}, headers=_as(keys, "an-admin"))
        where = asked.headers["location"]
        answer = client.simulate_post(f"{where}/{verb}", json={"reason": "nhầm"}, headers=_as(keys, name))
        assert (answer.status_code, answer.json["state"], answer.json["detail"]) == (200, state, "nhầm")


@pytest.mark.parametrize("path", ["/v1/approvals/99", f"/v1/approvals/{10**40}", "/v1/approvals/x"])
def test_an_approval_that_does_not_exist_is_not_found(keys: dict[str, str], client: Any, path: str) -> None:
    assert client.simulate_get(path, headers=_as(keys, "an-admin")).status_code == 404


def test_a_client_system_sees_no_approvals(keys: dict[str, str], client: Any) -> None:
    assert client.simulate_get("/v1/approvals", headers=_as(keys, "system")).status_code == 403
