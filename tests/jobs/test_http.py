"""The routes of jobs."""

from __future__ import annotations

import csv
import io
from typing import Any

import falcon.testing
import pytest

from registry import registry
from registry.models import Role
from tests.jobs.house import Office, csv_of, make_app
from tests.pki.house import ADMIN

CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def post(office: Office) -> Any:
    client = falcon.testing.TestClient(make_app(office))
    with office.house.database.write() as db:
        roles = {"admin": Role.ADMIN, "auditor": Role.AUDITOR, "client": Role.CLIENT}
        keys = {
            name: registry.add_client(db, at=office.house.clock(), actor=ADMIN, name=f"the-{name}", role=role)
            for name, role in roles.items()
        }

    def send(method: str, path: str, name: str = "admin", headers: dict[str, str] | None = None, **more: Any) -> Any:
        return client.simulate_request(method, path, headers={"Authorization": f"Bearer {keys[name]}", **(headers or {})}, **more)

    return send


def test_from_a_dry_run_to_the_result_as_csv(office: Office, post: Any) -> None:
    handles = office.add_officers(3)
    body = csv_of(*(f"{handle},officer,1,,," for handle in handles), "=1+1,officer,1,,,")
    answer = post("POST", "/v1/jobs/enrolments", headers=CSV, body=body)
    assert (answer.status_code, answer.json["state"], answer.json["progress"]["refused"]) == (201, "checked", 1)
    where = answer.headers["location"]
    assert post("GET", f"{where}/rows", params={"state": "refused"}).json["rows"][0]["number"] == 5
    assert post("POST", f"{where}/execution").json["state"] == "running"
    office.jobs.work(60)
    assert post("GET", where, "auditor").json["progress"]["done"] == 3
    page = post("GET", f"{where}/rows", params={"limit": 2}).json
    rest = post("GET", f"{where}/rows", params={"limit": 2, "after": page["next"]}).json
    assert [row["number"] for row in page["rows"] + rest["rows"]] == [2, 3, 4, 5]
    exported = post("GET", f"{where}/rows", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(exported.content.decode("utf-8-sig"))))
    assert [row["state"] for row in rows] == ["done", "done", "done", "refused"]
    assert rows[-1]["subscriber"] == "'=1+1"
    assert post("GET", "/v1/jobs").json["jobs"][0]["state"] == "done"


def test_sent_twice_under_one_key_it_is_one_job(office: Office, post: Any) -> None:
    [handle] = office.add_officers(1)
    twice = [
        post(
            "POST",
            "/v1/jobs/enrolments?execute=true",
            headers={**CSV, "Idempotency-Key": "x"},
            body=csv_of(f"{handle},officer,1,,,"),
        )
        for _ in range(2)
    ]
    assert twice[0].json == twice[1].json
    assert (twice[1].json["state"], office.jobs.work(60)) == ("running", 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\x00\x01\x02", 422),
        ("subscriber".encode("utf-16"), 400),
        (b"subscriber,profile,reference", 400),
        (b"x\n" * 9, 422),
    ],
)
def test_what_is_no_table_gets_a_typed_answer(post: Any, body: bytes, status: int) -> None:
    answer = post("POST", "/v1/jobs/enrolments", headers=CSV, body=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_another_media_type_and_other_roles_are_refused(post: Any) -> None:
    assert post("POST", "/v1/jobs/enrolments", headers={"Content-Type": "application/zip"}, body=b"PK").status_code == 415
    assert post("POST", "/v1/jobs/enrolments", "auditor", headers=CSV, body=b"").status_code == 403
    assert post("GET", "/v1/jobs", "client").status_code == 403
    for path in ("/v1/jobs/7", f"/v1/jobs/{10**30}", "/v1/jobs/7/rows"):
        assert post("GET", path).status_code == 404


def test_a_replacement_says_how_many_and_how_long_before_anything_is_done(office: Office, post: Any) -> None:
    office.house.issue()
    answer = post("POST", "/v1/jobs/replacements", json={"agency": "H26.1", "reference": "3"})
    assert (answer.status_code, answer.json["progress"]["ready"]) == (201, 1)
    assert answer.json["estimate"]["seconds"] >= 0
    assert post("POST", f"/v1/jobs/{answer.json['id']}/cancellation").json["state"] == "cancelled"
    assert post("POST", "/v1/jobs/replacements", json={"agency": "H26.1", "profile": "x", "reference": "3"}).status_code == 422
    assert post("POST", "/v1/jobs/replacements", json={"agency": "H99", "reference": "3"}).status_code == 404
