"""Programs we did not write ask for timestamps and judge them."""

from __future__ import annotations

import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from cryptography import x509
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response
from rfc3161_client.errors import VerificationError

from core.clock import system_now
from core.db import Database
from hsm.keys import KeySpec
from tests.software_keys import SoftwareKeys
from tests.tsa.requests import CERT_REQ, query
from tests.tsa.test_http import make_app
from tests.tsa.test_request import REFUSED
from tests.tsa.unit import ACTOR, POLICY, Pki, install_unit, make_authority
from tsa.authority import TimestampAuthority

pytestmark = pytest.mark.interop
DATA = "Thông tư của Bộ\n".encode()


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write(folder: Path, pki: Pki) -> None:
    (folder / "data").write_bytes(DATA)
    (folder / "root.pem").write_bytes(pki.pem("root"))
    (folder / "issuing.pem").write_bytes(pki.pem("issuing"))
    (folder / "chain.pem").write_bytes(pki.pem("issuing", "unit"))


@pytest.fixture(params=[KeySpec.P_256, KeySpec.RSA_2048])
def unit(request: pytest.FixtureRequest, database: Database, keys: SoftwareKeys) -> tuple[TimestampAuthority, Pki]:
    """A unit under the real clock."""
    pki = install_unit(database, keys, system_now(), spec=request.param)
    return make_authority(database, keys, system_now, accuracy_milliseconds=500), pki


ASKED = [
    *(["-cert", f"-{digest}"] for digest in ("sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512")),
    ["-sha256"],
    ["-cert", "-sha256", "-no_nonce"],
    ["-cert", "-sha512", "-tspolicy", POLICY],
]


@pytest.mark.parametrize("options", ASKED, ids=" ".join)
def test_openssl_asks_and_verifies(unit: tuple[TimestampAuthority, Pki], tmp_path: Path, options: list[str]) -> None:
    """Nonce, policy, imprint, chain, EKU and ESSCertIDv2 are all compared by openssl with its own query."""
    authority, pki = unit
    write(tmp_path, pki)
    run(tmp_path, "openssl", "ts", "-query", "-data", "data", *options, "-out", "query.tsq")
    (tmp_path / "reply.tsr").write_bytes(authority.respond((tmp_path / "query.tsq").read_bytes(), ACTOR))
    untrusted = [] if "-cert" in options else ["-untrusted", "chain.pem"]
    verify = ["openssl", "ts", "-verify", "-in", "reply.tsr", "-CAfile", "root.pem", *untrusted]
    assert "Verification: OK" in run(tmp_path, *verify, "-queryfile", "query.tsq")
    text = run(tmp_path, "openssl", "ts", "-reply", "-in", "reply.tsr", "-text")
    for line in ("Status: Granted.", "Version: 1", f"Policy OID: {POLICY}", "Ordering: no", "Extensions:\n", "0x01F4 millis"):
        assert line in text
    assert ("Nonce: unspecified" in text) == ("-no_nonce" in options)
    assert "TSA: DirName:" in text


def test_openssl_verifies_a_bare_timestamp(unit: tuple[TimestampAuthority, Pki], tmp_path: Path) -> None:
    authority, pki = unit
    write(tmp_path, pki)
    (tmp_path / "timestamp").write_bytes(authority.stamp(DATA, ACTOR))
    verify = ["openssl", "ts", "-verify", "-token_in", "-in", "timestamp", "-CAfile", "root.pem", "-data", "data"]
    assert "Verification: OK" in run(tmp_path, *verify)


def test_openssl_reads_every_refusal(authority: TimestampAuthority, tmp_path: Path) -> None:
    """Its name for the failure is the one of the table; several queries share one run of openssl for each failure."""
    names = {
        "BAD_ALG": "unrecognized or unsupported algorithm identifier",
        "BAD_REQUEST": "transaction not permitted or supported",
        "BAD_DATA_FORMAT": "the data submitted has the wrong format",
        "UNACCEPTED_POLICY": "the requested TSA policy is not supported by the TSA",
        "UNACCEPTED_EXTENSION": "the requested extension is not supported by the TSA",
    }
    for failure, der in {failure: der for der, failure in REFUSED.values()}.items():
        (tmp_path / "reply.tsr").write_bytes(authority.respond(der, ACTOR))
        text = run(tmp_path, "openssl", "ts", "-reply", "-in", "reply.tsr", "-text")
        assert "Status: Rejected." in text
        assert f"Failure info: {names[failure.name]}" in text
        assert "TST info:\nNot included." in text


@pytest.mark.parametrize("algorithm", [HashAlgorithm.SHA256, HashAlgorithm.SHA512])
@pytest.mark.parametrize("certificates", [True, False])
def test_rfc3161_client_asks_and_verifies(
    unit: tuple[TimestampAuthority, Pki], algorithm: HashAlgorithm, certificates: bool
) -> None:
    authority, pki = unit
    request = TimestampRequestBuilder().data(DATA).hash_algorithm(algorithm).cert_request(cert_request=certificates).build()
    response = decode_timestamp_response(authority.respond(request.as_bytes(), ACTOR))
    builder = VerifierBuilder.from_request(request).add_root_certificate(pki.root).policy_id(x509.ObjectIdentifier(POLICY))
    if not certificates:
        builder = builder.tsa_certificate(pki.unit).add_intermediate_certificate(pki.issuing)
    verifier = builder.build()
    assert verifier.verify_message(response, DATA)
    with pytest.raises(VerificationError):
        verifier.verify_message(response, DATA + b".")


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """No line on stderr for each request."""


@contextmanager
def serving(authority: TimestampAuthority, database: Database) -> Iterator[str]:
    with make_server("127.0.0.1", 0, make_app(authority, database), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tsa"
        finally:
            server.shutdown()
            thread.join()


def test_jarsigner_takes_it_over_http(unit: tuple[TimestampAuthority, Pki], database: Database, tmp_path: Path) -> None:
    """The JDK sends its own query, checks nonce and imprint, and later builds the unit's chain to a root it trusts."""
    authority, pki = unit
    write(tmp_path, pki)
    with zipfile.ZipFile(tmp_path / "signed.jar", "w") as jar:
        jar.writestr("data", DATA)
    store = ["-keystore", "store.p12", "-storepass", "changeit"]
    who = ["-alias", "me", "-dname", "CN=Nguoi thu", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "2"]
    run(tmp_path, "keytool", "-genkeypair", *store, *who)
    run(tmp_path, "keytool", "-importcert", "-noprompt", *store, "-alias", "root", "-file", "root.pem")
    with serving(authority, database) as url:
        run(tmp_path, "jarsigner", *store, "-tsa", url, "signed.jar", "me")
    told = run(tmp_path, "jarsigner", "-verify", "-verbose", "-certs", *store, "signed.jar")
    assert "jar verified." in told
    assert "Timestamp digest algorithm: SHA-" in told
    for warning in ("does not include a timestamp", "No -tsa", "timestamp is invalid", "TSA certificate chain is invalid"):
        assert warning not in told


def test_curl_and_openssl_are_all_a_person_needs(
    authority: TimestampAuthority, database: Database, pki: Pki, tmp_path: Path
) -> None:
    """The README's way: openssl makes the query, curl sends it, openssl verifies the reply."""
    write(tmp_path, pki)
    run(tmp_path, "openssl", "ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "query.tsq")
    with serving(authority, database) as url:
        send = ["-H", "Content-Type: application/timestamp-query", "--data-binary", "@query.tsq", "-o", "reply.tsr"]
        run(tmp_path, "curl", "-sS", "--fail", *send, url)
    verify = ["openssl", "ts", "-verify", "-queryfile", "query.tsq", "-in", "reply.tsr", "-CAfile", "root.pem"]
    assert "Verification: OK" in run(tmp_path, *verify)


def test_openssl_prints_the_certificates_it_was_given(authority: TimestampAuthority, tmp_path: Path) -> None:
    (tmp_path / "reply.tsr").write_bytes(authority.respond(query(CERT_REQ), ACTOR))
    run(tmp_path, "openssl", "ts", "-reply", "-in", "reply.tsr", "-token_out", "-out", "timestamp")
    told = run(tmp_path, "openssl", "pkcs7", "-inform", "DER", "-in", "timestamp", "-print_certs", "-noout")
    assert "TSU" in told
    assert told.count("subject=") == 2
