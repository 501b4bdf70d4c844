"""OCSP of a running service: both ways to it answer alike, and what another process revokes is known to the next answer."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from bench.load import make_csr
from pki.http_ocsp import OCSP_REQUEST, OCSP_RESPONSE
from tests.service import Service

ISSUE = "/v1/certificates?profile=device&subscriber=demo-device&reference=01/CV-TN"


class Asked:
    """A certificate of the service, and requests about it."""

    def __init__(self, service: Service) -> None:
        issued = json.loads(service.request("POST", ISSUE, make_csr(), key="admin", kind="application/pkcs10").body)
        self.serial: str = issued["serial"]
        self._certificate = x509.load_pem_x509_certificate(issued["pem"].encode())
        self._issuer = x509.load_pem_x509_certificate(service.request("GET", "/ca/issuing.pem").body)

    def request(self, nonce: bytes | None = None, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
        """One about it."""
        builder = ocsp.OCSPRequestBuilder().add_certificate(self._certificate, self._issuer, algorithm or hashes.SHA256())
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.build().public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def asked(service: Service) -> Asked:
    """A certificate that stays good."""
    return Asked(service)


def _long(asked: Asked) -> bytes:
    """One of more than 8 KiB, with a nonce that is not too long: 90 certificates."""
    der = asked.request(algorithm=hashes.SHA256())
    single = der[der.index(b"\x30", 6) :]
    return _sequence(_sequence(_sequence(single * 90)))


def _sequence(content: bytes) -> bytes:
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


REQUESTS: dict[str, tuple[Callable[[Asked], bytes], str]] = {
    "plain": (lambda asked: asked.request(), "good"),
    "SHA-1 and nonce": (lambda asked: asked.request(b"n", hashes.SHA1()), "good n"),
    "longest nonce": (lambda asked: asked.request(b"n" * 32), "good " + "n" * 32),
    "nonce that is ignored": (lambda asked: asked.request(b"n" * 33), "good"),
    "no octet of nonce": (lambda asked: asked.request(b""), "malformed_request"),
    "endless nonce": (lambda asked: asked.request(b"n" * 1000), "malformed_request"),
    "trailing byte": (lambda asked: asked.request(b"n") + b"\x00", "malformed_request"),
    "BER length": (lambda asked: b"\x30\x82\x00" + asked.request()[1:], "malformed_request"),
    "indefinite length": (lambda asked: b"\x30\x80" + asked.request()[2:] + b"\x00\x00", "malformed_request"),
    "cut off": (lambda asked: asked.request()[:-1], "malformed_request"),
    "another hash": (lambda asked: asked.request(algorithm=hashes.SHA512()), "unauthorized"),
    "a stranger's": (lambda asked: asked.request().replace(b"\x04\x20", b"\x04\x20\xff", 1)[:-1], "malformed_request"),
    "no request": (lambda _: b"GET", "malformed_request"),
    "zeros, 9 KiB": (lambda _: bytes(9000), "malformed_request"),
    "of 90 certificates": (_long, "good 90 times"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_answer_alike(service: Service, asked: Asked, name: str) -> None:
    """The express lane takes what comes whole; in two pieces, or on a connection that is not kept, it goes the general way."""
    build, expected = REQUESTS[name]
    der = build(asked)
    for further, pieces in (("", 1), ("", 2), ("Connection: close\r\n", 1), ("Authorization: Bearer nobody\r\n", 1)):
        assert _tell(_post(service, der, further, pieces)) == expected


def test_what_another_process_revokes_is_known_to_the_next_answer_of_every_worker(service: Service) -> None:
    asked = Asked(service)

    def ask() -> set[str]:
        """Of both workers, on both ways, with the short cache and without."""
        ways = [(der, pieces) for der in (asked.request(), asked.request(b"n")) for pieces in (1, 2)]
        return {_tell(_post(service, der, "", pieces)).partition(" ")[0] for der, pieces in ways * 4}

    assert ask() == {"good"}
    for command, status in (("suspend", "revoked"), ("resume", "good"), ("revoke", "revoked")):
        service.condau(command, asked.serial)
        assert ask() == {status}


def _post(service: Service, der: bytes, further: str, pieces: int) -> bytes:
    """The OCSPResponse to a POST whose head and body are sent in so many pieces."""
    head = f"POST /ocsp HTTP/1.1\r\nHost: h\r\nContent-Type: {OCSP_REQUEST}\r\nContent-Length: {len(der)}\r\n{further}\r\n".encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        for piece in (head + der,) if pieces == 1 else (head, der):
            connection.sendall(piece)
            time.sleep(0.02 * (pieces - 1))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.getheader("Content-Type")) == (200, OCSP_RESPONSE)
        return answer.read()


def _tell(der: bytes) -> str:
    answer = ocsp.load_der_ocsp_response(der)
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return answer.response_status.name.lower()
    statuses = [item.certificate_status.name.lower() for item in answer.responses]
    nonces = [item.value.nonce.decode() for item in answer.extensions if isinstance(item.value, x509.OCSPNonce)]
    more = nonces if len(statuses) == 1 else [f"{len(statuses)} times"]
    return " ".join([statuses[0], *more])
