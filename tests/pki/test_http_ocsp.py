"""The routes of OCSP, and of the record of it."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus, load_der_ocsp_response

from registry.models import Role
from tests.conftest import Clock
from tests.pki.house import ANYBODY, House, ocsp_request
from tests.pki.test_http import Caller


@pytest.fixture
def anybody(house: House) -> Caller:
    return Caller(house, None)


@pytest.mark.parametrize("prefix", ["/ocsp/", "/ocsp//", "/ocsp///"])
@pytest.mark.parametrize("safe", ["", "/+="])
def test_ocsp_by_get_with_slashes_plus_and_padding(house: House, anybody: Caller, prefix: str, safe: str) -> None:
    issued = house.issue()
    for size in (1, 2, 3, 32):
        text = base64.b64encode(ocsp_request(issued, nonce=b"\xfb\xff\xbf" * 10 + b"\xff" * size)).decode()
        answer = load_der_ocsp_response(anybody("GET", prefix + quote(text, safe=safe)).content)
        assert answer.response_status is OCSPResponseStatus.SUCCESSFUL
        assert answer.certificate_status is OCSPCertStatus.GOOD
    assert load_der_ocsp_response(anybody("GET", prefix + "M!!!").content).response_status is OCSPResponseStatus.MALFORMED_REQUEST


def test_a_repeated_answer_says_how_long_it_may_still_be_kept(house: House, anybody: Caller, clock: Clock) -> None:
    text = quote(base64.b64encode(ocsp_request(house.issue())).decode(), safe="")
    first = anybody("GET", f"/ocsp/{text}")
    clock.move(seconds=29)
    again = anybody("GET", f"/ocsp/{text}")
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert "max-age=600" in first.headers["cache-control"]
    assert "max-age=571" in again.headers["cache-control"]
    assert again.headers["expires"] == first.headers["expires"]


def test_an_auditor_reads_what_was_said_of_a_serial_number(house: House) -> None:
    auditor, issued, other = Caller(house, Role.AUDITOR), house.issue(), house.issue()
    for item in (issued, other, issued, issued):
        house.ocsp.respond(ocsp_request(item, nonce=b"n"), ANYBODY)
    path = f"/v1/ocsp-answers?serial={issued.serial.upper()}&limit=2"
    first = auditor("GET", path).json
    second = auditor("GET", f"{path}&before={first['next']}").json
    assert [len(page["answers"]) for page in (first, second)] == [2, 1]
    assert second["next"] is None
    assert {(item["serial"], item["authority"], item["status"]) for item in first["answers"]} == {
        (issued.serial, "issuing", "good")
    }
    assert auditor("GET", "/v1/ocsp-answers?serial=abc").json["answers"] == []
    assert auditor("GET", "/v1/ocsp-answers?serial=xyz").status_code == 404
    for role in (Role.ADMIN, Role.CLIENT):
        assert Caller(house, role)("GET", path).status_code == 403
