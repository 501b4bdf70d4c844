"""Another authority, by openssl: certificates, lists, an OCSP responder; and before it a web server that may misbehave."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp

from tests.service import free_port
from tests.verifier.authorities import Identity

Behaviour = Callable[["Handler", bytes], None]
"""Given who asks and the honest answer, it answers."""
PATIENCE: Final = 2
"""For so many seconds one answer may take, says whoever asks."""
_CA: Final = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
_CONFIG: Final = "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n"
_SERIALS: Final = {"root": 1, "issuing": 2, "signer": 3, "ocsp": 4}


@dataclass
class Foreign:
    """root -> issuing -> signer, by openssl; ``behave`` is what the web server (``host``) does at a path in place of answering."""

    folder: Path
    host: str
    responder_port: int
    behave: dict[str, Behaviour] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / f"{name}.pem").read_bytes())

    def identity(self, name: str) -> Identity:
        key: Any = load_pem_private_key((self.folder / f"{name}.key").read_bytes(), None)
        return Identity(self.certificate(name), key)

    def answer(self, path: str, request: bytes) -> bytes:
        """What an honest server answers."""
        if path != "/ocsp":
            file = self.folder / path.lstrip("/")
            return file.read_bytes() if file.is_file() else b""
        connection = http.client.HTTPConnection("127.0.0.1", self.responder_port, timeout=30)
        try:
            connection.request("POST", "/", request, {"Content-Type": "application/ocsp-request"})
            return connection.getresponse().read()
        finally:
            connection.close()

    def response(self, *, by: str = "ocsp", about: str = "signer", age: timedelta = timedelta()) -> bytes:
        """An OCSP response that openssl would not make: of another moment, by somebody else, about another certificate."""
        at, signer = datetime.now(UTC).replace(microsecond=0) - age, self.identity(by)
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=self.certificate(about),
            issuer=self.certificate("issuing"),
            algorithm=hashes.SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=at,
            next_update=at + timedelta(hours=1),
            revocation_time=None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate).certificates([signer.certificate])
        return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)


class Handler(BaseHTTPRequestHandler):
    """The web server."""

    server: Any

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, request: bytes) -> None:
        foreign: Foreign = self.server.foreign
        foreign.asked.append(self.path)
        with suppress(OSError):  # the client has gone
            foreign.behave.get(self.path, Handler.give)(self, foreign.answer(self.path, request))

    def give(self, body: bytes, *, length: int | None = None, status: int = 200, **headers: str) -> None:
        self.send_response(status if body else 404)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing on standard error."""


def drip(handler: Handler, answer: bytes) -> None:
    """A byte at a time: each comes soon enough."""
    handler.send_response(200)
    handler.end_headers()
    for byte in answer:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.1)


def drip_head(handler: Handler, answer: bytes) -> None:
    """The same before the answer begins."""
    for byte in b"HTTP/1.1 200 OK\r\nX: " + answer.hex().encode():
        handler.wfile.write(bytes([byte]))
        time.sleep(0.1)


def stall(_: Handler, __: bytes) -> None:
    """Nothing, for longer than anybody waits."""
    time.sleep(2 * PATIENCE)


@contextmanager
def running(folder: Path) -> Iterator[Foreign]:
    """The authority with its servers, on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = free_port()
    foreign = Foreign(folder, f"127.0.0.1:{server.server_port}", port)
    server.foreign = foreign  # type: ignore[attr-defined]  # for the handlers
    _make(folder, foreign.host)
    command = ["openssl", "ocsp", "-index", "index.txt", "-port", str(port), "-rsigner", "ocsp.pem", "-rkey", "ocsp.key"]
    command += ["-CA", "issuing.pem", "-ndays", "1", "-ignore_err"]
    responder = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        _wait_for(foreign)
        yield foreign
    finally:
        responder.kill()
        responder.wait()
        server.shutdown()
        server.server_close()
        thread.join()


def _wait_for(foreign: Foreign) -> None:
    """Ask it for real: openssl's responder hangs over a connection that says nothing."""
    pair = foreign.certificate("signer"), foreign.certificate("issuing")
    asked = ocsp.OCSPRequestBuilder().add_certificate(*pair, hashes.SHA1()).build().public_bytes(Encoding.DER)
    deadline = time.monotonic() + 30
    while True:
        try:
            assert foreign.answer("/ocsp", asked)
        except OSError:
            assert time.monotonic() < deadline, "openssl's responder does not listen"
            time.sleep(0.02)
        else:
            return


def _make(folder: Path, host: str) -> None:
    """Keys, certificates and lists."""

    def openssl(*command: str) -> None:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True, timeout=30)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    places = f"authorityInfoAccess=caIssuers;URI:http://{host}/issuing.der,OCSP;URI:http://{host}/ocsp\n"
    lists = "crlDistributionPoints=URI:http://{}/{}.crl\n"
    leaf = "keyUsage=critical,digitalSignature,nonRepudiation\nbasicConstraints=critical,CA:FALSE\n"
    extensions = {
        "root": (_CA, "root"),
        "issuing": (_CA + lists.format(host, "root"), "root"),
        "signer": (leaf + places + lists.format(host, "issuing"), "issuing"),
        "ocsp": ("keyUsage=critical,digitalSignature\nextendedKeyUsage=OCSPSigning\nnoCheck=ignored\n", "issuing"),
    }
    for name, (said, issuer) in extensions.items():
        (folder / f"{name}.ext").write_text(said)
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/C=VN/O=Noi khac/CN={name}")
        by = ("-signkey", "root.key") if name == "root" else ("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key")
        numbered = ("-set_serial", str(_SERIALS[name]), "-days", "300", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *by, *numbered, "-out", f"{name}.pem")
    openssl("x509", "-in", "issuing.pem", "-outform", "DER", "-out", "issuing.der")
    (folder / "ca.cnf").write_text(_CONFIG)
    (folder / "crlnumber").write_text("01\n")
    (folder / "index.txt").write_text("")
    for name in ("root", "issuing"):
        openssl("ca", "-gencrl", "-config", "ca.cnf", "-keyfile", f"{name}.key", "-cert", f"{name}.pem", "-out", f"{name}.pem.crl")
        openssl("crl", "-in", f"{name}.pem.crl", "-outform", "DER", "-out", f"{name}.crl")
    ends = (datetime.now(UTC) + timedelta(days=300)).strftime("%y%m%d%H%M%SZ")
    rows = [f"V\t{ends}\t\t{serial:02X}\tunknown\t/CN={name}\n" for name, serial in _SERIALS.items()]
    (folder / "index.txt").write_text("".join(rows))
