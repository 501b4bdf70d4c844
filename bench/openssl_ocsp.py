"""``openssl ocsp -multi 2`` over an index file, with a P-256 responder: the baseline for OCSP over HTTP."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.service import free_port


@contextmanager
def serve_index() -> Iterator[tuple[str, x509.Certificate]]:
    """The responder's URL and its authority's certificate, about whose serial number 2 it says good."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    authority = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("ca.pem", "key.pem", "index.txt")}
        files["ca.pem"].write_bytes(authority.public_bytes(Encoding.PEM))
        files["key.pem"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files["index.txt"].write_text(f"V\t{now + timedelta(days=1):%y%m%d%H%M%SZ}\t\t02\tunknown\t/CN=device\n", encoding="ascii")
        port = free_port()
        signer = ["-rsigner", str(files["ca.pem"]), "-rkey", str(files["key.pem"]), "-CA", str(files["ca.pem"])]
        command = [
            "openssl",
            "ocsp",
            "-index",
            str(files["index.txt"]),
            "-port",
            str(port),
            "-multi",
            "2",
            "-nmin",
            "10",
            "-ignore_err",
            *signer,
        ]
        log = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=log, stderr=log)  # -multi makes a process group of its own
        try:
            _wait(port)
            yield f"http://127.0.0.1:{port}/", authority
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=10)


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse()
        except http.client.HTTPException:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
