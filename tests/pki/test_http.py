"""The routes of this room behind the HTTP shell."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus, load_der_ocsp_response
from falcon import testing

from audit.log import SYSTEM
from core.errors import Unavailable
from registry import registry
from registry.models import Role
from tests.pki.house import REFERENCE, BrokenKeys, House, make_app, make_csr, ocsp_request
from tests.software_keys import SoftwareKeys

PKCS10 = {"Content-Type": "application/pkcs10"}


class Caller:
    """Sends requests as one role."""

    def __init__(self, house: House, role: Role | None) -> None:
        self._client = testing.TestClient(make_app(house))
        self._headers: dict[str, str] = {}
        if role is not None:
            with house.database.write() as db:
                key = registry.add_client(db, at=house.clock(), actor=SYSTEM, name=f"caller-{role}", role=role)
            self._headers = {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        sent = {"json": body} if isinstance(body, dict) else {"body": body}
        return self._client.simulate_request(method, path, headers=self._headers | (headers or {}), **sent)


@pytest.fixture
def admin(house: House) -> Caller:
    return Caller(house, Role.ADMIN)


@pytest.fixture
def anybody(house: House) -> Caller:
    return Caller(house, None)


def test_one_line_of_curl_issues_a_certificate(admin: Caller) -> None:
    answer = admin("POST", "/v1/certificates?profile=device&subscriber=device&reference=01/PYC", make_csr(), PKCS10)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/certificates/{answer.json['serial']}"
    leaf, issuing, root = (x509.load_pem_x509_certificate(pem.encode()) for pem in [answer.json["pem"], *answer.json["chain"]])
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    assert (answer.json["state"], answer.json["key_in_hsm"], answer.json["issuer"]) == ("issued", False, "issuing")


def test_accept_pem_answers_the_bare_certificate(admin: Caller) -> None:
    headers = {**PKCS10, "Accept": "application/x-pem-file"}
    answer = admin("POST", "/v1/certificates?profile=device&subscriber=device&reference=01/PYC", make_csr(), headers)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/x-pem-file")
    serial = format(x509.load_pem_x509_certificate(answer.content).serial_number, "x")
    again = admin("GET", f"/v1/certificates/{serial}", headers={"Accept": "application/x-pem-file"})
    assert again.content == answer.content


def test_json_carries_a_csr_or_asks_for_a_key_in_the_hsm(admin: Caller) -> None:
    answer = admin(
        "POST",
        "/v1/certificates",
        {"profile": "device", "subscriber": "device", "reference": REFERENCE, "csr": make_csr().decode()},
    )
    assert (answer.status_code, answer.json["key_in_hsm"]) == (201, False)
    answer = admin(
        "POST", "/v1/certificates", {"profile": "agency-seal", "subscriber": "seal", "reference": REFERENCE, "key": "p-256"}
    )
    assert (answer.status_code, answer.json["key_in_hsm"]) == (201, True)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"profile": "device", "subscriber": "device", "reference": REFERENCE}, ["body"]),
        ({"profile": "device", "subscriber": "device", "reference": REFERENCE, "key": "p-256", "csr": "x"}, ["body"]),
        ({"profile": "device", "subscriber": "device", "reference": REFERENCE, "key": "p-192"}, ["key"]),
        ({"subscriber": "device", "reference": REFERENCE, "key": "p-256"}, ["profile"]),
        ({"profile": "root", "subscriber": "nobody", "reference": REFERENCE, "key": "p-256"}, ["profile", "subscriber"]),
        ({"profile": "device", "subscriber": "device", "reference": REFERENCE, "key": "p-256", "days": 9999}, ["days"]),
        ({"profile": "device", "subscriber": "device", "reference": REFERENCE, "key": "p-256", "label": "mine"}, ["label"]),
    ],
)
def test_what_is_wrong_is_named(admin: Caller, body: dict[str, str], fields: list[str]) -> None:
    answer = admin("POST", "/v1/certificates", body)
    assert answer.status_code == 422
    assert [violation["field"] for violation in answer.json["violations"]] == fields


def test_garbage_is_a_400_and_another_media_type_a_415(admin: Caller) -> None:
    path = "/v1/certificates?profile=device&subscriber=device&reference=01/PYC"
    assert admin("POST", path, b"no request", PKCS10).status_code == 400
    assert admin("POST", path, make_csr(), {"Content-Type": "text/plain"}).status_code == 415
    assert admin("POST", path, b"x" * 70_000, PKCS10).status_code == 413


def test_revocation_answers_a_receipt_then_a_conflict(house: House, admin: Caller) -> None:
    path = f"/v1/certificates/{house.issue().serial}/revocation"
    receipt = admin("POST", path, {"reason": "keyCompromise"})
    assert (receipt.status_code, receipt.json["crl_number"], receipt.json["reason"]) == (200, 2, "keyCompromise")
    again = admin("POST", path, {"reason": "keyCompromise"})
    assert again.status_code == 409
    assert "revoked already" in again.json["detail"]


@pytest.mark.parametrize("reason", ["removeFromCRL", "certificateHold", "because"])
def test_a_reason_that_is_none_is_rejected(house: House, admin: Caller, reason: str) -> None:
    answer = admin("POST", f"/v1/certificates/{house.issue().serial}/revocation", {"reason": reason})
    assert (answer.status_code, answer.json["violations"][0]["field"]) == (422, "reason")


def test_a_revocation_without_its_crl_still_answers_200(house: House, keys: SoftwareKeys) -> None:
    issued = house.issue()
    admin = Caller(house.with_keys(BrokenKeys(keys, Unavailable("hsm", "gone"))), Role.ADMIN)
    receipt = admin("POST", f"/v1/certificates/{issued.serial}/revocation", {})
    assert (receipt.status_code, receipt.json["crl_number"]) == (200, None)
    assert house.row(issued.serial).revoked_at is not None


def test_an_unknown_serial_is_a_404(admin: Caller) -> None:
    assert admin("GET", "/v1/certificates/abc").status_code == 404
    assert admin("POST", "/v1/certificates/abc/revocation", {}).status_code == 404


def test_the_list_is_paged_and_filtered(house: House, admin: Caller) -> None:
    serials = [house.issue().serial for _ in range(5)]
    seen: list[str] = []
    query = "?subscriber=device&limit=2"
    path = query
    while path:
        page = admin("GET", f"/v1/certificates{path}").json
        seen += [item["serial"] for item in page["certificates"]]
        path = f"{query}&cursor={quote(page['next'])}" if page["next"] else ""
    assert seen == serials[::-1]
    assert admin("GET", "/v1/certificates?state=abandoned").json["certificates"] == []
    assert len(admin("GET", "/v1/certificates").json["certificates"]) == 5 + 5


@pytest.mark.parametrize("role", [None, Role.CLIENT, Role.AUDITOR])
def test_only_an_admin_issues_and_revokes(house: House, role: Role | None) -> None:
    caller = Caller(house, role)
    expected = 401 if role is None else 403
    serial = house.issue().serial
    body = {"profile": "device", "subscriber": "device", "reference": REFERENCE, "key": "p-256"}
    assert caller("POST", "/v1/certificates", body).status_code == expected
    assert caller("POST", f"/v1/certificates/{serial}/revocation", {}).status_code == expected
    assert caller("GET", "/v1/certificates").status_code == (200 if role is Role.AUDITOR else expected)
    assert house.row(serial).revoked_at is None


def test_a_client_lists_its_signers(house: House) -> None:
    caller = Caller(house, Role.CLIENT)
    assert caller("GET", "/v1/signers").json == {"signers": []}
    with house.database.write() as db:
        registry.grant(db, at=house.clock(), actor=SYSTEM, client="caller-client", subscriber="seal")
    admin = Caller(house, Role.ADMIN)
    issued = admin(
        "POST", "/v1/certificates", {"profile": "agency-seal", "subscriber": "seal", "reference": REFERENCE, "key": "p-256"}
    ).json
    (signer,) = caller("GET", "/v1/signers").json["signers"]
    assert (signer["signer"], signer["serial"]) == ("seal", issued["serial"])


def test_authorities_are_published_in_pem_and_der(anybody: Caller) -> None:
    for name in ("root", "issuing"):
        pem = anybody("GET", f"/ca/{name}.pem")
        der = anybody("GET", f"/ca/{name}.cer")
        assert pem.headers["content-type"] == "application/x-pem-file"
        assert der.headers["content-type"] == "application/pkix-cert"
        assert x509.load_pem_x509_certificate(pem.content) == x509.load_der_x509_certificate(der.content)
    for file in ("nothing.pem", "root", "root.key", "root.crl"):
        assert anybody("GET", f"/ca/{file}").status_code == 404


def test_crls_are_published_in_der(house: House, anybody: Caller) -> None:
    answer = anybody("GET", "/crl/issuing.crl")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pkix-crl")
    assert answer.content == house.crl.current("issuing").der
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert anybody("GET", "/crl/nothing.crl").status_code == 404
    assert anybody("GET", "/crl/issuing.pem").status_code == 404


def test_ocsp_by_post(house: House, anybody: Caller) -> None:
    answer = anybody("POST", "/ocsp", ocsp_request(house.issue()), {"Content-Type": "application/ocsp-request"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/ocsp-response")
    assert load_der_ocsp_response(answer.content).certificate_status is OCSPCertStatus.GOOD


def test_ocsp_by_get_however_the_base64_is_written(house: House, anybody: Caller) -> None:
    """With slashes, pluses and padding in it, percent-encoded or as they are."""
    awkward = _request_with(house, "//", "+")
    for path in (quote(awkward, safe=""), quote(awkward, safe="/"), quote(awkward, safe="/+"), awkward):
        answer = anybody("GET", f"/ocsp/{path}")
        assert answer.status_code == 200, path
        assert load_der_ocsp_response(answer.content).certificate_status is OCSPCertStatus.GOOD, path


def test_a_cacheable_answer_says_until_when(house: House, anybody: Caller) -> None:
    """RFC 5019, 6.2; an answer to somebody's nonce is for nobody else."""
    issued = house.issue()
    answer = anybody("GET", "/ocsp/" + _path(ocsp_request(issued)))
    assert answer.headers["cache-control"] == "max-age=600, public, no-transform, must-revalidate"
    assert {"etag", "expires", "last-modified"} <= set(answer.headers)
    answer = anybody("GET", "/ocsp/" + _path(ocsp_request(issued, nonce=b"0123456789abcdef")))
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/ocsp/AAAA", "/ocsp/!!", "/ocsp/", "/ocsp/%FF"])
def test_garbage_by_get_is_answered_in_the_protocol(anybody: Caller, path: str) -> None:
    answer = anybody("GET", path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert load_der_ocsp_response(answer.content).response_status is OCSPResponseStatus.MALFORMED_REQUEST


def test_every_answer_fits_its_declared_model(admin: Caller) -> None:
    """The list and the single view say the same of one certificate."""
    listed = admin("GET", "/v1/certificates?limit=1").json["certificates"][0]
    single = admin("GET", f"/v1/certificates/{listed['serial']}").json
    assert {name: single[name] for name in listed} == listed
    assert json.dumps(single)


def _path(der: bytes) -> str:
    return quote(base64.b64encode(der).decode(), safe="")


def _request_with(house: House, *wanted: str) -> str:
    """A request in base64 that has these in it: the nonce is changed until it does."""
    issued = house.issue()
    for number in range(100_000):
        text = base64.b64encode(ocsp_request(issued, nonce=b"\xff\xff" + number.to_bytes(6, "big"))).decode()
        if all(item in text for item in wanted):
            return text
    raise AssertionError(f"no request with {wanted}")
