"""The gates over HTTP, as a document system and an admin use them; and what a caller without the right sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from falcon import testing

from approvals.http import ApprovalConsent
from approvals.service import Approvals
from audit.log import SYSTEM
from core.db import Database
from core.settings import ApprovalsConfig, HygieneConfig
from registry.agencies import VIETNAM
from registry.models import ApiClient, Role
from registry.registry import add_client, key_digest
from signer.authorisations import Authorisations
from signer.http import PdfSignatures
from signer.http_activation import ActivationCollection, ActivationPin, Holder, HolderCollection, HolderUnlocking, Hygiene
from signer.http_numbers import AgencyAuthorisations, AgencyRule, AuthorisationWithdrawal, NumberReturn, Numbers, NumberVoid
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.gate_house import AGENCY, CLERK, NUMBERER, OUTSIDER, PIN, Desk, Office, build_office, furnish_desk, open_desk
from tests.signer.house import CLIENT, OFFICER, SEAL
from tests.signer.pdfs import make_pdf
from tests.signer.test_hygiene import build
from tests.software_keys import SoftwareKeys
from web import problems
from web.access import ApiKeys, Shell

Ask = Callable[..., testing.Result]


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With the desk in it for a test that sits at it."""
    return databases.furnished(furnish_desk) if "desk" in request.fixturenames else databases.plain()


@pytest.fixture
def desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    return open_desk(database, keys, clock)


@pytest.fixture
def office(database: Database, clock: Clock) -> Office:
    return build_office(database, clock)


@pytest.fixture
def ask(office: Office) -> Ask:
    return build_ask(office)


def build_ask(office: Office) -> Ask:
    """``ask(method, path, body, who=…)``: JSON in, the result out. The key of the seal is under four eyes."""
    database, now = office.database, office.clock
    with database.write() as db:
        for name in ("admin", "admin2"):
            add_client(db, at=now(), actor=SYSTEM, name=name, role=Role.ADMIN)
        for name in (CLIENT.name, "admin", "admin2"):
            db.execute(sa.update(ApiClient).where(ApiClient.name == name).values(key_sha256=key_digest(name)))
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1_000_000)])
    problems.install(app)
    approvals = Approvals(database=database, now=now, config=ApprovalsConfig(activation=(SEAL,)), acts=office.holders.acts())
    holding: dict[str, Any] = {"holders": office.holders, "approvals": approvals}
    authorisations = Authorisations(database=database, now=now)
    holder = "/v1/subscribers/{handle}/activation-holders"
    for path, resource in (
        ("/v1/activations", ActivationCollection(activations=office.activations)),
        ("/v1/activations/pin", ActivationPin(activations=office.activations)),
        ("/v1/approvals/{identifier:int}/approval", ApprovalConsent(approvals=approvals)),
        (holder, HolderCollection(**holding)),
        (holder + "/{person}", Holder(**holding)),
        (holder + "/{person}/unlocking", HolderUnlocking(**holding)),
        ("/v1/agencies/{code}/numbers", Numbers(register=office.register, database=database, now=now)),
        ("/v1/agencies/{code}/numbers/return", NumberReturn(register=office.register)),
        ("/v1/agencies/{code}/numbers/void", NumberVoid(register=office.register)),
        ("/v1/agencies/{code}/signing-rules", AgencyRule(authorisations=authorisations)),
        ("/v1/agencies/{code}/authorisations", AgencyAuthorisations(authorisations=authorisations)),
        ("/v1/authorisations/{identifier:int}/withdrawal", AuthorisationWithdrawal(authorisations=authorisations)),
        ("/v1/documents/hygiene", Hygiene(config=HygieneConfig())),
    ):
        app.add_route(path, resource)
    if isinstance(office, Desk):
        app.add_route("/v1/signatures/pdf", PdfSignatures(signer=office.house.signer))
    client = testing.TestClient(app)

    def call(method: str, path: str, body: object = None, *, who: str = CLIENT.name, **options: Any) -> testing.Result:
        headers = {"Authorization": f"Bearer {who}", **options.pop("headers", {})}
        if isinstance(body, bytes):
            return client.simulate_request(
                method, path, body=body, headers={"Content-Type": "application/pdf", **headers}, **options
            )
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        return client.simulate_request(
            method, path, body=json.dumps(body) if body is not None else None, headers=headers, **options
        )

    return call


def test_a_clerk_takes_a_number_activates_and_seals(desk: Desk) -> None:
    ask = build_ask(desk)
    number = ask("POST", f"/v1/agencies/{AGENCY}/numbers", {"symbol": "QĐ-UBND", "person": NUMBERER})
    assert (number.status_code, number.json["text"], number.json["state"]) == (201, "01/QĐ-UBND", "held")
    activation = ask("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": PIN})
    assert (activation.status_code, activation.headers["cache-control"]) == (201, "no-store")
    wanted = {"signer": SEAL, "level": "B-B"}
    signed = ask("POST", "/v1/signatures/pdf", make_pdf(), params=wanted, headers={"Condau-Activation": activation.json["token"]})
    assert signed.status_code == 200
    again = ask("POST", "/v1/signatures/pdf", make_pdf(), params=wanted, headers={"Condau-Activation": activation.json["token"]})
    assert (again.status_code, again.json["type"]) == (409, "urn:condau:problem:refused")
    assert again.json["violations"][0]["field"] == "activation"


def test_every_reason_comes_in_one_answer(desk: Desk) -> None:
    ask = build_ask(desk)
    answer = ask("POST", "/v1/signatures/pdf", make_pdf(), params={"signer": SEAL, "profile": "agency-issue", "secrecy": "MẬT"})
    assert answer.status_code == 409
    assert {item["field"] for item in answer.json["violations"]} == {"activation", "document", "number", "secrecy"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": "wrong-pin"}, 403),
        ("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": 5}, 422),
        ("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": PIN, "digests": ["zz"]}, 422),
        ("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": PIN, "acts": 9999}, 422),
        ("POST", "/v1/activations", {"signer": "x" * 999, "person": CLERK}, 422),
        ("POST", "/v1/activations/pin", {"signer": SEAL, "person": CLERK, "pin": PIN, "new_pin": "1"}, 422),
        ("PUT", f"/v1/subscribers/{SEAL}/activation-holders/{CLERK}", {}, 403),
        ("POST", f"/v1/subscribers/{SEAL}/activation-holders/{CLERK}/unlocking", None, 403),
        ("PUT", f"/v1/agencies/{AGENCY}/signing-rules", {"one_person": "1/QĐ"}, 403),
        ("POST", f"/v1/agencies/{AGENCY}/numbers", {"symbol": "Q Đ", "person": NUMBERER}, 422),
        ("POST", "/v1/agencies/H99/numbers", {"symbol": "QĐ", "person": NUMBERER}, 404),
        ("POST", f"/v1/agencies/{AGENCY}/numbers/return", {"number": "01/QĐ", "year": 2026}, 409),
        ("POST", "/v1/documents/hygiene", b"not a pdf", 400),
    ],
)
def test_what_is_wrong_is_a_problem_of_its_type(ask: Ask, method: str, path: str, body: object, status: int) -> None:
    answer = ask(method, path, body)
    assert answer.status_code == status
    assert PIN not in answer.text


def test_secrets_are_given_with_four_eyes_and_once(ask: Ask) -> None:
    path = f"/v1/subscribers/{SEAL}/activation-holders/{NUMBERER}"
    asked = ask("PUT", path, {"method": "pin+code"}, who="admin")
    assert asked.status_code == 202
    consent = {"payload_sha256": asked.json["payload_sha256"]}
    assert ask("POST", f"/v1/approvals/{asked.json['id']}/approval", consent, who="admin2").json["state"] == "executed"
    given = ask("PUT", path, {"method": "pin+code"}, who="admin")
    assert given.status_code == 200
    assert given.json["code_uri"].startswith("otpauth://totp/")
    assert ask("PUT", path, {"method": "pin+code"}, who="admin").status_code == 202  # the approval was for that one time
    listed = ask("GET", f"/v1/subscribers/{SEAL}/activation-holders", who="admin").json["holders"]
    assert [(item["person"], item["method"], item["pin_initial"]) for item in listed] == [
        (CLERK, "pin", False),
        (NUMBERER, "pin+code", True),
    ]


def test_unlocking_waits_for_somebody_else(ask: Ask) -> None:
    for _ in range(3):
        ask("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": "wrong-pin"})
    locked = ask("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": PIN})
    assert (locked.status_code, int(locked.headers["retry-after"])) == (429, 31)
    asked = ask("POST", f"/v1/subscribers/{SEAL}/activation-holders/{CLERK}/unlocking", who="admin")
    consent = {"payload_sha256": asked.json["payload_sha256"]}
    ask("POST", f"/v1/approvals/{asked.json['id']}/approval", consent, who="admin2")
    assert ask("POST", "/v1/activations", {"signer": SEAL, "person": CLERK, "pin": PIN}).status_code == 201


def test_an_auditor_sees_the_gaps(office: Office, ask: Ask) -> None:
    for number in (2, 3, 7):
        office.number(number=number)
    page = ask("GET", f"/v1/agencies/{AGENCY}/numbers", params={"series": "QĐ"}, who="admin").json
    assert [item["text"] for item in page["numbers"]] == ["02/QĐ-UBND", "03/QĐ-UBND", "07/QĐ-UBND"]
    assert page["gaps"] == [{"first": 1, "last": 1}, {"first": 4, "last": 6}]
    assert (
        ask(
            "POST",
            f"/v1/agencies/{AGENCY}/numbers/return",
            {"number": "07/QĐ-UBND", "year": office.clock().astimezone(VIETNAM).year},
        ).status_code
        == 204
    )
    page = ask("GET", f"/v1/agencies/{AGENCY}/numbers", params={"series": "QĐ"}, who="admin").json
    assert page["gaps"] == [{"first": 1, "last": 1}, {"first": 4, "last": 7}]
    void = f"/v1/agencies/{AGENCY}/numbers/void"
    third: dict[str, object] = {"number": "03/QĐ-UBND", "year": office.clock().astimezone(VIETNAM).year}
    for who, body, status in (
        ("admin", third, 422),  # without a reason
        (CLIENT.name, {**third, "reason": "nhầm"}, 403),
        ("admin", {**third, "reason": "không nhận được văn bản"}, 204),
        ("admin", {**third, "reason": "lần nữa"}, 409),
    ):
        assert ask("POST", void, body, who=who).status_code == status
    page = ask("GET", f"/v1/agencies/{AGENCY}/numbers", params={"series": "QĐ"}, who="admin").json
    assert [item["state"] for item in page["numbers"]] == ["held", "void", "free"]


def authorisation(**changes: object) -> dict[str, object]:
    body = {"subscriber": OUTSIDER, "granted_by": OFFICER, "capacity": "TUQ", "reference": "12/GUQ-UBND", "content": "Nhân sự"}
    return {**body, "kinds": ["QĐ"], "since": "2026-01-01T00:00:00+07:00", "until": "2099-01-01T00:00:00+07:00", **changes}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"until": None, "kinds": []}, {"until", "kinds"}),
        ({"until": "2025-01-01T00:00:00+07:00"}, {"until"}),
        ({"kinds": ["XYZ"]}, {"kinds"}),
        ({"granted_by": OUTSIDER}, {"granted_by"}),
        ({"subscriber": SEAL}, {"subscriber"}),
        ({"subscriber": CLERK, "granted_by": OUTSIDER}, {"granted_by"}),
    ],
)
def test_an_authorisation_is_in_writing_and_limited(ask: Ask, changes: dict[str, object], fields: set[str]) -> None:
    answer = ask("POST", f"/v1/agencies/{AGENCY}/authorisations", authorisation(**changes), who="admin")
    assert answer.status_code == 422
    assert {item["field"] for item in answer.json["violations"]} == fields


def test_what_is_given_by_authorisation_is_not_passed_on_but_by_order_to_a_deputy(ask: Ask) -> None:
    path = f"/v1/agencies/{AGENCY}/authorisations"
    passed_on = authorisation(subscriber=CLERK, granted_by=OUTSIDER, capacity="KT", kinds=[], until=None)
    first = ask("POST", path, authorisation(), who="admin")
    assert first.status_code == 201
    refused = ask("POST", path, passed_on, who="admin")
    assert "not passed on" in refused.json["violations"][0]["message"]
    ask("POST", path, authorisation(capacity="TL"), who="admin")
    assert ask("POST", path, passed_on, who="admin").status_code == 201
    assert len(ask("GET", path, who="admin").json["authorisations"]) == 3
    ended = ask("POST", f"/v1/authorisations/{first.json['id']}/withdrawal", who="admin")
    assert ended.json["withdrawn_at"] is not None
    assert ask("POST", f"/v1/authorisations/{first.json['id']}/withdrawal", who="admin").status_code == 409


def test_a_rule_is_recorded_and_shown(ask: Ask) -> None:
    path = f"/v1/agencies/{AGENCY}/signing-rules"
    assert ask("GET", path, who="admin").json["one_person"] is None
    assert ask("PUT", path, {"one_person": "05/QĐ-UBND", "one_series": True}, who="admin").status_code == 200
    assert ask("GET", path, who="admin").json["changed_by"] == "admin"
    assert ask("PUT", path, {"one_person_until": "2030-01-01T00:00:00+07:00"}, who="admin").status_code == 422


def test_a_look_at_a_document_says_what_it_holds(ask: Ask) -> None:
    answer = ask("POST", "/v1/documents/hygiene", make_pdf())
    assert (answer.status_code, answer.json["findings"], answer.json["text"]) == (200, [], "read")
    (finding,) = ask("POST", "/v1/documents/hygiene", build(catalog=b"/OpenAction<</S/JavaScript/JS(x)>>")).json["findings"]
    assert (finding["code"], finding["refused"], finding["objects"]) == ("JAVASCRIPT", True, ["1 0"])
