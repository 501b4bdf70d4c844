"""Anchors and external certificates over HTTP."""

from __future__ import annotations

from typing import Any

import falcon
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from falcon import testing

from audit.log import SYSTEM
from pki import http_domains as domains
from pki.anchors import fingerprint
from pki.external import ExternalCertificates
from registry import registry
from registry.models import Role
from tests.pki.house import House
from tests.pki.test_external import Elsewhere
from web import problems
from web.access import ApiKeys, Shell


@pytest.fixture
def client(house: House) -> testing.TestClient:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=1_000_000)])
    problems.install(app)
    externals = ExternalCertificates(database=house.database, keys=house.keys, now=house.clock)
    app.add_route("/v1/trust-anchors", domains.Anchors(database=house.database, now=house.clock))
    app.add_route("/v1/trust-anchors/{sha256}", domains.AnchorView(database=house.database, now=house.clock))
    app.add_route("/v1/external-certificates", domains.Externals(externals=externals))
    app.add_route("/v1/external-certificates/{number}/certificate", domains.ExternalImport(externals=externals))
    app.add_route("/v1/external-certificates/{number}/withdrawal", domains.ExternalWithdrawal(externals=externals))
    with house.database.write() as db:
        key = registry.add_client(db, at=house.clock(), actor=SYSTEM, name="admin", role=Role.ADMIN)
    return testing.TestClient(app, headers={"Authorization": f"Bearer {key}"})


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def test_from_the_anchor_to_the_withdrawal(house: House, client: testing.TestClient) -> None:
    elsewhere = Elsewhere(house.clock())
    anchor = {"certificate": _pem(elsewhere.root), "domain": "cong-vu", "sha256": fingerprint(elsewhere.root)}
    assert client.simulate_post("/v1/trust-anchors", json={**anchor, "sha256": "0" * 64}).status_code == 422
    assert client.simulate_post("/v1/trust-anchors", json=anchor).status_code == 201
    assert client.simulate_post("/v1/trust-anchors", json=anchor).status_code == 409
    assert [item["domain"] for item in client.simulate_get("/v1/trust-anchors").json["anchors"]] == ["cong-vu"]

    made = client.simulate_post("/v1/external-certificates", json={"subscriber": "seal", "key": "p-256"})
    assert made.status_code == 201
    assert x509.load_pem_x509_csr(made.json["csr"].encode()).is_signature_valid
    path = f"/v1/external-certificates/{made.json['id']}"
    row = ExternalCertificates(database=house.database, keys=house.keys, now=house.clock).one(made.json["id"])
    answer = {"certificates": _pem(elsewhere.answer(row)) + _pem(elsewhere.issuing)}
    taken = client.simulate_put(f"{path}/certificate", json=answer)
    assert (taken.status_code, taken.json["domain"], taken.json["status"]) == (200, "cong-vu", "unknown here")
    assert client.simulate_put(f"{path}/certificate", json=answer).status_code == 409
    assert client.simulate_put(f"{path}/certificate", json={"certificates": "no"}).status_code in (400, 422)
    assert client.simulate_put("/v1/external-certificates/x/certificate", json=answer).status_code == 404

    assert client.simulate_post(f"{path}/withdrawal", json={"why": "revoked there"}).status_code == 200
    listed = client.simulate_get("/v1/external-certificates").json["external_certificates"]
    assert [item["withdrawn_at"] is None for item in listed] == [False]
    assert client.simulate_delete(f"/v1/trust-anchors/{anchor['sha256']}").status_code == 204
    assert client.simulate_delete(f"/v1/trust-anchors/{anchor['sha256']}").status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"subscriber": "seal"}, {"subscriber": "nobody", "key": "p-256"}, {"subscriber": "seal", "key": "x"}]
)
def test_a_bad_request_for_a_key_is_told_what_is_wrong(client: testing.TestClient, body: dict[str, str]) -> None:
    assert client.simulate_post("/v1/external-certificates", json=body).status_code in (404, 422)
