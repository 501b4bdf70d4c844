"""The routes about the standing of certificates."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509

from pki.grounds import Ground
from registry.models import Role
from tests.conftest import Clock
from tests.pki.house import House
from tests.pki.test_http import Caller


@pytest.fixture
def admin(house: House) -> Caller:
    return Caller(house, Role.ADMIN)


@pytest.fixture
def anybody(house: House) -> Caller:
    return Caller(house, None)


def test_suspend_resume_revoke_and_the_receipt_again(house: House, admin: Caller) -> None:
    path = f"/v1/certificates/{house.issue().serial}"
    held = admin("POST", f"{path}/suspension", {"ground": "agency-request"})
    assert (held.status_code, held.json["reason"], held.json["ground"]) == (200, "certificateHold", "agency-request")
    assert admin("POST", f"{path}/suspension", {}).status_code == 409
    assert admin("POST", f"{path}/resumption").json["act"] == "resume"
    assert admin("POST", f"{path}/resumption").status_code == 409
    receipt = admin("POST", f"{path}/revocation", {"ground": "key-exposed", "invalidity_date": "2026-01-01T00:00:00Z"}).json
    assert (receipt["reason"], receipt["invalidity_date"]) == ("keyCompromise", "2026-01-01T00:00:00Z")
    assert admin("GET", f"/v1/revocations/{receipt['id']}").json == receipt
    assert admin("GET", "/v1/revocations/none").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"key": "0" * 64, "agency": "H26.1"}, 422),
        ({"key": "xyz"}, 422),
        ({"key": "0" * 64, "subtree": True}, 422),
        ({"key": "0" * 64}, 404),
        ({"agency": "H00"}, 404),
        ({"agency": "H26.1", "ground": "no-ground"}, 422),
        ({"agency": "H26.1", "ground": "died", "reason": "keyCompromise"}, 422),
        ({"agency": "H26.1", "reason": "certificateHold"}, 422),
    ],
)
def test_an_order_that_cannot_be_is_refused(admin: Caller, body: dict[str, Any], status: int) -> None:
    assert admin("POST", "/v1/revocations", body).status_code == status


def test_an_agency_is_revoked_after_a_dry_run(house: House, admin: Caller) -> None:
    serials = [house.issue().serial, house.issue("other").serial]
    body = {"agency": "H26.1", "ground": "organisation-ended"}
    shown = admin("POST", "/v1/revocations", {**body, "subtree": True, "dry_run": True}).json
    assert shown == {"dry_run": True, "serials": serials, "by_agency": {"H26.1": 2}, "receipts": []}
    assert all(row.revoked_at is None for row in house.rows("issued"))
    answer = admin("POST", "/v1/revocations", body).json
    assert (answer["serials"], len(answer["receipts"])) == (serials, 2)
    assert admin("POST", "/v1/revocations", body).status_code == 409


def test_a_status_at_a_moment_links_to_its_proof(house: House, admin: Caller, anybody: Caller, clock: Clock) -> None:
    serial, before = house.issue().serial, clock()
    clock.move(hours=1)
    admin("POST", f"/v1/certificates/{serial}/revocation", {"reason": "superseded"})
    for at, status in ((before, "good"), (clock(), "revoked")):
        told = admin("GET", f"/v1/certificates/{serial}/status?at={quote(at.isoformat())}").json
        assert told["status"] == status
        evidence = told["evidence"]
        fetched = anybody("GET", evidence["url"].removeprefix("http://127.0.0.1:8080"))
        assert fetched.content == base64.b64decode(evidence["crl"])
    assert admin("GET", f"/v1/certificates/{serial}/status?at=2999-01-01T00:00:00Z").status_code == 422
    assert admin("GET", f"/v1/certificates/{serial}/status?at=2026-01-01T00:00:00").status_code == 422
    assert admin("GET", "/v1/certificates/abc/status").status_code == 404


def test_only_an_admin_changes_a_standing(house: House) -> None:
    serial = house.issue().serial
    for caller in (Caller(house, Role.CLIENT), Caller(house, Role.AUDITOR), Caller(house, None)):
        for act in ("suspension", "resumption", "revocation"):
            assert caller("POST", f"/v1/certificates/{serial}/{act}", {}).status_code in (401, 403)
        assert caller("POST", "/v1/revocations", {"agency": "H26.1"}).status_code in (401, 403)
    assert house.row(serial).revoked_at is None


def test_every_ground_is_published_in_both_languages(anybody: Caller) -> None:
    grounds = anybody("GET", "/v1/revocation-grounds").json["grounds"]
    assert {item["ground"] for item in grounds} == {ground.value for ground in Ground}
    assert all(item["vietnamese"] and item["english"] and item["reasons"] for item in grounds)


def test_deltas_parts_and_the_past_are_published(house: House, anybody: Caller) -> None:
    delta = x509.load_der_x509_crl(anybody("GET", "/crl/issuing/delta.crl").content)
    assert delta.extensions.get_extension_for_class(x509.DeltaCRLIndicator).critical
    assert anybody("GET", "/v1/crls/issuing?number=1").content == house.crl.current("issuing").der
    for path in (
        "/crl/issuing/1.crl",
        "/crl/issuing/x.crl",
        "/crl/issuing/0.crl",
        "/crl/nobody/delta.crl",
        "/v1/crls/issuing?number=99",
    ):
        assert anybody("GET", path).status_code == 404
    assert anybody("GET", "/v1/crls/issuing?number=0").status_code == 422
