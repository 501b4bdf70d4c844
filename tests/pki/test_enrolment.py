"""Renewal and rekey: the successor, its term, and what may not be followed; and all of it behind approvals and keys."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import falcon.testing
import pytest

from approvals.service import Approvals
from audit.log import Actor
from core.errors import Conflict, Rejected
from core.settings import ApprovalsConfig
from hsm.keys import KeySpec
from pki.acts import RevocationActs, build_acts
from pki.enrolment import Enrolments
from pki.profile_changes import ProfileChanges
from pki.views import CertificateRequest, RekeyRequest, RenewalRequest
from registry import registry
from registry.models import Role
from tests.interleaving import before_write
from tests.pki.house import ADMIN, REFERENCE, House, make_app, make_csr
from tests.software_keys import make_key

RENEWAL = RenewalRequest(reference="02/PYC")
REKEY = RekeyRequest(reference="02/PYC", key=KeySpec.P_256)
OTHER = Actor("another-admin", "admin", "request-7")


def test_a_renewal_has_the_same_key_and_names_its_predecessor_and_both_are_valid(house: House) -> None:
    old = house.enrolments.issue(
        CertificateRequest(profile="agency-seal", subscriber="seal", reference="1", key=KeySpec.P_256), ADMIN
    )
    new = house.enrolments.renew(old.serial, RENEWAL, ADMIN)
    before, after = house.row(old.serial), house.row(new.serial)
    assert (after.spki_sha256, after.key_label, after.predecessor_id) == (before.spki_sha256, before.key_label, before.id)
    assert (before.revoked_at, after.revoked_at) == (None, None)
    assert after.request_reference == "02/PYC"


def test_a_rekey_has_a_new_key_in_the_token_or_from_a_request(house: House) -> None:
    old = house.issue()
    for request in (REKEY, RekeyRequest(reference="3", csr=make_csr().decode())):
        after = house.row(house.enrolments.rekey(old.serial, request, ADMIN).serial)
        assert after.spki_sha256 != house.row(old.serial).spki_sha256
        assert (after.key_label is not None) == (request.key is not None)
        assert after.predecessor_id == house.row(old.serial).id


@pytest.mark.parametrize(("days", "accepted"), [(1096, True), (1097, False)])
def test_a_successor_lives_three_years_at_most(house: House, days: int, accepted: bool) -> None:
    old = house.issue()
    if accepted:
        new = house.enrolments.renew(old.serial, RenewalRequest(reference="1", days=days), ADMIN)
        assert house.row(new.serial).not_after - house.row(new.serial).not_before <= timedelta(days=days)
        return
    with pytest.raises(Rejected, match="renewal"):
        house.enrolments.renew(old.serial, RenewalRequest(reference="1", days=days), ADMIN)


def test_a_key_is_renewed_once(house: House) -> None:
    old = house.issue()
    new = house.enrolments.renew(old.serial, RENEWAL, ADMIN)
    with pytest.raises(Rejected, match="once already"):
        house.enrolments.renew(new.serial, RENEWAL, ADMIN)
    house.enrolments.rekey(new.serial, REKEY, ADMIN)


def test_a_key_is_renewed_by_one_of_two(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's intent is stored when this one has found nothing against it, and before its own is."""
    old = house.issue()
    before_write(monkeypatch, lambda: house.enrolments.renew(old.serial, RENEWAL, ADMIN))
    with pytest.raises(Conflict, match="once already"):
        house.enrolments.renew(old.serial, RENEWAL, ADMIN)
    house.enrolments.rekey(old.serial, REKEY, ADMIN)


@pytest.mark.parametrize("verb", ["revoke", "suspend"])
def test_what_is_revoked_or_suspended_meanwhile_is_not_followed(house: House, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    old = house.issue()
    before_write(monkeypatch, lambda: getattr(house.revocations, verb)(old.serial, actor=ADMIN))
    with pytest.raises(Conflict, match="issue a new one"):
        house.enrolments.renew(old.serial, RENEWAL, ADMIN)


def test_a_rekey_over_the_old_key_is_refused(house: House) -> None:
    key = make_key(KeySpec.P_256)
    old = house.issue(csr=make_csr(key))
    with pytest.raises(Rejected, match="key of the old"):
        house.enrolments.rekey(old.serial, RekeyRequest(reference="1", csr=make_csr(key).decode()), ADMIN)


def test_what_is_revoked_suspended_or_expired_is_not_followed(house: House) -> None:
    revoked, suspended, expired = house.issue(), house.issue(), house.issue()
    house.revocations.revoke(revoked.serial, actor=ADMIN)
    house.revocations.suspend(suspended.serial, actor=ADMIN)
    for serial in (revoked.serial, suspended.serial):
        with pytest.raises(Conflict, match="issue a new one"):
            house.enrolments.renew(serial, RENEWAL, ADMIN)
    house.clock.move(days=1200)
    with pytest.raises(Conflict, match="expired"):
        house.enrolments.rekey(expired.serial, REKEY, ADMIN)


def test_the_same_origin_issues_once(house: House) -> None:
    actor = replace(ADMIN, origin="key/1")
    request = CertificateRequest(profile="agency-seal", subscriber="seal", reference="1", key=KeySpec.P_256)
    first = house.enrolments.issue(request, actor)
    assert house.enrolments.issue(request, actor).serial == first.serial
    renewing = replace(ADMIN, origin="key/2")
    successor = house.enrolments.renew(first.serial, RENEWAL, renewing)
    assert house.enrolments.renew(first.serial, RENEWAL, renewing).serial == successor.serial
    assert len(house.rows("issued")) == len({row.serial for row in house.rows("issued")})


class Api:
    """The routes as two admins call them."""

    def __init__(self, house: House) -> None:
        self.client = falcon.testing.TestClient(make_app(house))
        with house.database.write() as db:
            names = ("first", "second")
            self.keys = {name: registry.add_client(db, at=house.clock(), actor=ADMIN, name=name, role=Role.ADMIN) for name in names}

    def post(self, path: str, body: dict[str, Any], name: str = "first", **headers: str) -> Any:
        return self.client.simulate_post(path, json=body, headers={"Authorization": f"Bearer {self.keys[name]}", **headers})


ORDER = {"profile": "agency-seal", "subscriber": "seal", "reference": REFERENCE, "key": "p-256"}


def test_an_issuance_sent_twice_under_one_key_is_one_certificate(house: House) -> None:
    api = Api(house)
    before = len(house.rows("issued"))
    answers = [api.post("/v1/certificates", ORDER, **{"Idempotency-Key": "abc"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json == answers[1].json
    assert len(house.rows("issued")) == before + 1


def test_behind_approvals_issue_renew_and_revoke_wait_and_show_what_they_will_do(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(issue=("agency-seal",), revoke=("*",))))
    api = Api(house)
    before = len(house.rows("issued"))
    answer = api.post("/v1/certificates", ORDER)
    assert answer.status_code == 202
    assert "CN=Người dùng seal" in answer.json["payload"]["subject"]
    assert len(house.rows("issued")) == before
    done = house.approvals.approve(answer.json["id"], payload_sha256=answer.json["payload_sha256"], actor=OTHER)
    assert (done.state, len(house.rows("issued"))) == ("executed", before + 1)
    assert done.result is not None
    serial = done.result["serial"]
    for path, body in (("renewal", {"reference": "2"}), ("rekey", {"reference": "2", "key": "p-256"}), ("revocation", {})):
        answer = api.post(f"/v1/certificates/{serial}/{path}", body)
        assert answer.status_code == 202
        seen = house.approvals.approve(answer.json["id"], payload_sha256=answer.json["payload_sha256"], actor=OTHER)
        assert seen.state == "executed", seen.detail
    assert house.row(serial).revoked_at is not None
    assert api.post(f"/v1/certificates/{serial}/revocation", {}).status_code == 409


def test_a_suspension_ends_with_approval_only_and_only_the_one_that_was_shown(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(resume=("device",))))
    api, serial = Api(house), house.issue().serial
    assert api.post(f"/v1/certificates/{serial}/resumption", {}).status_code == 409
    shown = []
    for _ in range(2):
        assert api.post(f"/v1/certificates/{serial}/suspension", {}).status_code == 200, "suspending never waits"
        answer = api.post(f"/v1/certificates/{serial}/resumption", {})
        assert (answer.status_code, house.row(serial).revocation_reason) == (202, "certificateHold")
        shown.append(answer.json)
        house.clock.move(seconds=1)
        if len(shown) == 1:
            house.revocations.resume(serial, actor=ADMIN)
    first, second = (
        house.approvals.approve(item["id"], payload_sha256=item["payload_sha256"], actor=OTHER).state for item in shown
    )
    assert (first, second, house.row(serial).revoked_at) == ("failed", "executed", None)


def test_a_profile_that_needs_no_approval_is_issued_at_once(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(issue=("officer",))))
    assert Api(house).post("/v1/certificates", ORDER).status_code == 201


def test_a_name_changed_after_the_request_is_not_issued_on_the_old_approval(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(issue=("*",))))
    answer = Api(house).post("/v1/certificates", ORDER)
    with house.database.write() as db:
        holder = registry.subscriber_named(db, "seal")
        registry.change_subscriber(db, holder, at=house.clock(), actor=ADMIN, common_name="Tên khác")
    done = house.approvals.approve(answer.json["id"], payload_sha256=answer.json["payload_sha256"], actor=OTHER)
    assert (done.state, done.detail.startswith("the registry or the profile was changed")) == ("failed", True)


def test_a_wrong_request_is_refused_before_anybody_is_asked(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(issue=("*",))))
    assert Api(house).post("/v1/certificates", {**ORDER, "subscriber": "nobody"}).status_code == 422


def test_a_changed_profile_is_issued_under_only_after_approval(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(profile=("agency-seal",))))
    request = CertificateRequest.model_validate(ORDER)
    house.enrolments.issue(request, ADMIN)  # the first version of all
    authority = house.ca
    authority.profiles = {**authority.profiles, "agency-seal": replace(authority.profiles["agency-seal"], version=99, days=30)}
    enrolments = Enrolments(authority=authority, database=house.database, now=house.clock, config=house.config)
    with pytest.raises(Conflict, match="version 99 of the profile agency-seal waits for approval"):
        enrolments.issue(request, ADMIN)
    changes = ProfileChanges(database=house.database, now=house.clock, profiles=authority.profiles)
    acts = build_acts(enrolments, RevocationActs(database=house.database, revocations=house.revocations), changes)
    approvals = Approvals(database=house.database, now=house.clock, config=house.config.approvals, acts=acts)
    payload = changes.describe("agency-seal")
    assert (payload["terms"]["days"], payload["before"]["days"]) == (30, 1095)
    asked = approvals.ask("profile.change", {"agency-seal"}, payload, ADMIN)
    assert asked is not None
    assert approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER).state == "executed"
    assert house.row(enrolments.issue(request, ADMIN).serial).profile_version == 99


def test_a_ceremony_is_permitted_once_it_was_approved_and_only_that_one(house: House) -> None:
    house = replace(house, config=replace(house.config, approvals=ApprovalsConfig(authority=("*",))))
    payload = {"authority": "issuing-2", "definition_sha256": "a" * 64, "plan": "…"}
    asked = house.approvals.permit("authority.ceremony", {"issuing-2"}, payload, ADMIN)
    again = house.approvals.permit("authority.ceremony", {"issuing-2"}, payload, ADMIN)
    assert asked is not None
    assert again is not None
    assert again.id == asked.id
    house.approvals.approve(asked.id, payload_sha256=asked.payload_sha256, actor=OTHER)
    assert house.approvals.permit("authority.ceremony", {"issuing-2"}, payload, ADMIN) is None
    other = {**payload, "definition_sha256": "b" * 64}
    assert house.approvals.permit("authority.ceremony", {"issuing-2"}, other, ADMIN) is not None
