"""The time-stamping authority of a running service: six clients that are not ours, and every refusal over HTTP."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

from core.config import load_config
from core.db import Database
from tests.service import ROOT, Answer, Service
from tests.system.conftest import Instances, run
from tests.tsa.requests import query
from tests.tsa.test_authority import failure_of
from tests.tsa.test_request import REFUSED
from tsa.http import QUERY_TYPE, REPLY_TYPE
from tsa.models import Timestamp
from tsa.request import QUERY_LIMIT, Failure
from tsa.units import IDENTITY_AGE
from web.body import PATIENCE

UNITS = {"main": "p-256", "rsa": "rsa-2048", "pss": "rsa-2048", "p384": "p-384", "p521": "p-521"}
POLICY = "1.3.6.1.4.1.99999.1.1"
CLIENTS = ROOT / "tests" / "tsa" / "clients"
DATA = "Thông tư của Bộ\n".encode()
KNOWS_NO_PSS = set(UNITS) - {"pss"}
"""Clients built on OpenSSL's PKCS7_verify take no RSASSA-PSS from anybody; `openssl cms` does."""
every_unit = pytest.mark.parametrize("unit", UNITS)


def _units() -> str:
    tables = []
    for number, (name, key) in enumerate(UNITS.items(), start=1):
        more = {"pss": "pss = true\n", "p384": "keys = 2\n", "p521": "qualified = true\n"}.get(name, "")
        tables.append(f'[[tsa.units]]\nname = "{name}"\npolicy = "1.3.6.1.4.1.99999.1.{number}"\nkey = "{key}"\n{more}')
    return "\n".join(tables)


@pytest.fixture(scope="module")
def tsa(new_service: Instances) -> Service:
    """A service with a unit of each algorithm, its keys in the token, and certificates whose addresses answer."""
    service = new_service.initialise()
    with (service.home / "condau.toml").open("a") as config:
        config.write(f"\n{_units()}")
    told = service.condau("timestamp-units")
    assert len(told.splitlines()) == len(UNITS) + 1
    service.start()
    return service


@pytest.fixture
def folder(tsa: Service, tmp_path: Path) -> Path:
    """With data, root.pem and issuing.pem."""
    (tmp_path / "data").write_bytes(DATA)
    for name in ("root", "issuing"):
        (tmp_path / f"{name}.pem").write_bytes(tsa.request("GET", f"/ca/{name}.pem").body)
    return tmp_path


def ask(tsa: Service, folder: Path, unit: str, *options: str) -> None:
    """query.tsq by openssl, and the unit's reply.tsr."""
    run("openssl", "ts", "-query", "-data", "data", "-sha256", "-cert", *options, "-out", "query.tsq", cwd=folder)
    answer = tsa.request("POST", f"/tsa/{unit}", (folder / "query.tsq").read_bytes(), kind=QUERY_TYPE)
    assert (answer.status, answer.headers["content-type"]) == (200, REPLY_TYPE)
    (folder / "reply.tsr").write_bytes(answer.body)


@pytest.mark.interop
@pytest.mark.parametrize("unit", sorted(KNOWS_NO_PSS))
def test_openssl(tsa: Service, folder: Path, unit: str) -> None:
    ask(tsa, folder, unit)
    done = run("openssl", "ts", "-verify", "-queryfile", "query.tsq", "-in", "reply.tsr", "-CAfile", "root.pem", cwd=folder)
    assert "Verification: OK" in done.stdout + done.stderr


@pytest.mark.interop
@every_unit
def test_openssl_cms(tsa: Service, folder: Path, unit: str) -> None:
    ask(tsa, folder, unit)
    run("openssl", "ts", "-reply", "-in", "reply.tsr", "-token_out", "-out", "token.der", cwd=folder)
    trust = ["-CAfile", "root.pem", "-purpose", "timestampsign"]
    done = run("openssl", "cms", "-verify", "-inform", "DER", "-in", "token.der", "-out", "info.der", *trust, cwd=folder)
    assert "successful" in done.stderr
    assert tsp.TSTInfo.load((folder / "info.der").read_bytes())["message_imprint"]["hashed_message"].native


@pytest.mark.interop
@pytest.mark.parametrize("unit", sorted(KNOWS_NO_PSS))
def test_rfc3161_client(tsa: Service, folder: Path, unit: str) -> None:
    request = TimestampRequestBuilder().data(DATA).build()
    reply = decode_timestamp_response(tsa.request("POST", f"/tsa/{unit}", request.as_bytes(), kind=QUERY_TYPE).body)
    root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    assert VerifierBuilder.from_request(request).add_root_certificate(root).build().verify_message(reply, DATA)


@pytest.mark.interop
@every_unit
def test_jarsigner(tsa: Service, folder: Path, unit: str) -> None:
    store = ["-storepass", "changeit", "-keystore", "store.p12"]
    run("jar", "cf", "a.jar", "data", cwd=folder)
    run("keytool", "-genkeypair", "-alias", "k", "-dname", "CN=test", "-keyalg", "EC", *store, cwd=folder)
    run("keytool", "-importcert", "-noprompt", "-alias", "root", "-file", "root.pem", *store, cwd=folder)
    run("jarsigner", "-tsa", f"{tsa.url}/tsa/{unit}", *store, "a.jar", "k", cwd=folder)
    told = run("jarsigner", "-verify", "-verbose:all", "-certs", *store, "a.jar", cwd=folder).stdout
    assert "jar verified" in told
    assert "Timestamped by" in told
    assert "timestamp is invalid" not in told.lower()


@pytest.mark.interop
@every_unit
def test_bouncycastle(tsa: Service, folder: Path, unit: str) -> None:
    ask(tsa, folder, unit)
    jars = ":".join(f"/usr/share/java/{name}.jar" for name in ("bcprov", "bcutil", "bcpkix"))
    done = run("java", "-cp", jars, CLIENTS / "Judge.java", "query.tsq", "reply.tsr", "data", "root.pem", "issuing.pem", cwd=folder)
    assert done.stdout.startswith("valid CN=")


@pytest.mark.interop
@every_unit
def test_pkijs(tsa: Service, folder: Path, pkijs: Path, unit: str) -> None:
    ask(tsa, folder, unit)
    files = [folder / name for name in ("query.tsq", "reply.tsr", "data", "root.pem")]
    assert run("node", shutil.copy(CLIENTS / "pkijs" / "judge.mjs", pkijs), *files).stdout == "valid\n"


def tiny_program() -> bytes:
    """The smallest Windows program that has a place for a signature: headers and one empty section."""
    optional = struct.pack("<HBBIIIII", 0x10B, 1, 0, 512, 0, 0, 0x1000, 0x1000) + struct.pack("<I", 0x1000)
    optional += struct.pack(
        "<IIIHHHHHHIIIIHHIIIIII", 0x400000, 0x1000, 512, 4, 0, 0, 0, 4, 0, 0, 0x2000, 512, 0, 3, 0, *[4096] * 4, 0, 16
    )
    optional += bytes(128)
    header = b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, len(optional), 0x102)
    section = b".text\0\0\0" + struct.pack("<IIIIIIHHI", 512, 0x1000, 512, 512, 0, 0, 0, 0, 0x60000020)
    start = b"MZ" + bytes(58) + struct.pack("<I", 64)
    return (start + header + optional + section).ljust(512, b"\0") + bytes(512)


def write_code_signer(folder: Path) -> None:
    """A self-signed certificate for code, signer.pem, and its key."""
    key = rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lap trinh vien")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 4711, now - timedelta(hours=1), now + timedelta(days=2))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
    pem = serialization.Encoding.PEM
    (folder / "signer.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "signer.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))


@pytest.mark.interop
@every_unit
def test_osslsigncode(tsa: Service, folder: Path, unit: str) -> None:
    """It asks over HTTP by itself, fetches the CRL the unit's certificate names, and verifies the whole."""
    write_code_signer(folder)
    (folder / "a.exe").write_bytes(tiny_program())
    files = ["-in", "a.exe", "-out", "signed.exe"]
    run("osslsigncode", "sign", "-certs", "signer.pem", "-key", "signer.key", "-ts", f"{tsa.url}/tsa/{unit}", *files, cwd=folder)
    done = run("osslsigncode", "verify", "-in", "signed.exe", "-CAfile", "signer.pem", "-TSA-CAfile", "root.pem", cwd=folder)
    told = done.stdout + done.stderr
    assert "Timestamp Server Signature verification: ok" in told
    assert "Signature verification: ok" in told


@every_unit
def test_our_own_verdict(tsa: Service, folder: Path, unit: str) -> None:
    """Against the data and against the query."""
    ask(tsa, folder, unit)
    names = {"document": "reply.tsr", "data": "data", "query": "query.tsq"}
    for parts in (("document", "data"), ("document", "query"), ("document", "data", "query")):
        body = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
            % (part.encode(), (folder / names[part]).read_bytes())
            for part in parts
        )
        answer = tsa.request("POST", "/v1/verifications", body + b"--b--\r\n", kind="multipart/form-data; boundary=b")
        report = json.loads(answer.body)
        assert (report["conclusion"], report["timestamps"][0]["findings"]) == ("valid", [])


def test_the_policy_chooses_and_the_auditor_finds(tsa: Service, folder: Path) -> None:
    run("openssl", "ts", "-query", "-data", "data", "-sha512", "-tspolicy", POLICY[:-1] + "3", "-out", "query.tsq", cwd=folder)
    answer = tsa.request("POST", "/tsa", (folder / "query.tsq").read_bytes(), kind=QUERY_TYPE)
    info = tsp.TimeStampResp.load(answer.body)["time_stamp_token"]["content"]["encap_content_info"]["content"].parsed
    imprint = info["message_imprint"]["hashed_message"].native.hex()
    found = json.loads(tsa.request("GET", f"/v1/timestamps?imprint={imprint}", key="auditor").body)["timestamps"][0]
    assert (found["unit"], found["serial"]) == ("pss", format(info["serial_number"].native, "x"))
    assert tsa.request("GET", f"/v1/timestamps/{found['serial']}.tsr", key="auditor").body == answer.body


def test_a_successor_takes_over_under_load_without_a_pause(tsa: Service) -> None:
    """Made by another process than those that stamp; not one request is refused meanwhile."""
    stop = threading.Event()
    signers: set[str] = set()
    failures: list[Answer] = []

    def stamp() -> None:
        while not stop.is_set():
            answer = tsa.request("POST", "/tsa/rsa", query(), kind=QUERY_TYPE)
            try:
                signed = tsp.TimeStampResp.load(answer.body, strict=True)["time_stamp_token"]["content"]
                signers.add(format(signed["signer_infos"][0]["sid"].chosen["serial_number"].native, "x"))
            except ValueError:
                failures.append(answer)

    threads = [threading.Thread(target=stamp) for _ in range(3)]
    for thread in threads:
        thread.start()
    told = tsa.condau("timestamp-units", "rsa", "--successor")
    time.sleep(IDENTITY_AGE.total_seconds() + 2)
    deadline = time.monotonic() + 60
    while len(signers) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join(timeout=30)
    assert not failures
    assert len(signers) == 2
    assert told.split("certificate ")[1].split(",")[0] in signers


def test_the_operator_archives_a_month(tsa: Service, folder: Path) -> None:
    """A row of years ago is made of one of today."""
    ask(tsa, folder, "main")
    database = Database(tsa.environment["CONDAU_DATABASE_URL"] or load_config(tsa.home).database_url)
    with database.write() as db:
        row = db.scalars(sa.select(Timestamp).limit(1)).one()
        columns = {column.name: getattr(row, column.name) for column in sa.inspect(Timestamp).columns}
        db.add(Timestamp(**(columns | {"id": None, "serial": "abc", "month": "2024-01"})))
    database.close()
    told = tsa.condau("archive-timestamps", "--before", "2024-02", "--to", str(folder / "archive.tar"))
    assert "holds 1 timestamps, of which 1 were now removed" in told
    run("tar", "-xf", "archive.tar", cwd=folder)
    run("sha256sum", "-c", "--strict", "MANIFEST.sha256", cwd=folder)
    assert (folder / "timestamps" / "2024-01" / "abc.tst").exists()
    assert tsa.request("GET", "/v1/timestamps/abc", key="auditor").status == 404
    with pytest.raises(subprocess.CalledProcessError) as caught:
        tsa.condau("archive-timestamps", "--before", "2999-01", "--to", str(folder / "other.tar"))
    assert "only months that are over" in caught.value.stderr


NAMES = {
    Failure.BAD_ALG: "bad_alg",
    Failure.BAD_REQUEST: "bad_request",
    Failure.BAD_DATA_FORMAT: "bad_data_format",
    Failure.UNACCEPTED_POLICY: "unaccepted_policy",
    Failure.UNACCEPTED_EXTENSION: "unaccepted_extensions",
}


@pytest.mark.parametrize(("der", "failure"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused_over_http_too(tsa: Service, der: bytes, failure: Failure) -> None:
    """RFC 3161, 2.4.2 and 3.4: HTTP 200, a TimeStampResp with status rejection and the failure bit of the table."""
    answer = tsa.request("POST", "/tsa", der, kind=QUERY_TYPE)
    assert (answer.status, answer.headers["content-type"]) == (200, REPLY_TYPE)
    assert failure_of(answer.body) == ("rejection", {NAMES[failure]})


@pytest.mark.parametrize(
    "kind", [None, "text/plain", REPLY_TYPE, "application/timestamp-querys", "multipart/form-data; boundary=b"]
)
def test_another_media_type_is_415(tsa: Service, kind: str | None) -> None:
    """RFC 3161, 3.4: application/timestamp-query. Before any ASN.1 the answer is one of HTTP."""
    assert tsa.request("POST", "/tsa", query(), kind=kind).status == 415


def test_more_than_64_kb_is_413(tsa: Service) -> None:
    assert tsa.request("POST", "/tsa", bytes(QUERY_LIMIT + 1), kind=QUERY_TYPE).status == 413


def test_another_method_is_405(tsa: Service) -> None:
    """RFC 3161, 3.4: POST."""
    assert tsa.request("GET", "/tsa").status == 405


HEAD = f"POST /tsa HTTP/1.1\r\nHost: a\r\nContent-Type: {QUERY_TYPE}\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (HEAD.encode() + b"Content-Length: 100\r\n\r\n" + query()[:20], True),
        (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + query()[:20] + b"\r\n", True),
        (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + query()[:20], False),
    ],
    ids=["cut off", "cut off between chunks", "broken chunk"],
)
def test_half_a_body_is_400_at_once(tsa: Service, sent: bytes, end: bool) -> None:
    with socket.create_connection(("127.0.0.1", tsa.port), timeout=30) as connection:
        connection.sendall(sent)
        if end:
            connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")


@pytest.mark.slow
def test_a_body_that_stalls_is_given_up_and_others_are_served_meanwhile(tsa: Service) -> None:
    stalled = [socket.create_connection(("127.0.0.1", tsa.port), timeout=PATIENCE + 10) for _ in range(4)]
    began = time.monotonic()
    for connection in stalled:
        connection.sendall(HEAD.encode() + b"Content-Length: 100\r\n\r\n" + query()[:20])
    assert tsa.request("POST", "/tsa", query(), kind=QUERY_TYPE, timeout=5).status == 200
    for connection in stalled:
        said = connection.recv(4096)
        assert said == b"" or said.startswith(b"HTTP/1.1 400")
        connection.close()
    assert time.monotonic() - began < PATIENCE + 8
