"""Clients that sign, stamp, issue and ask OCSP as fast as they are answered, and remember what was acknowledged."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from rfc3161_client import TimestampRequestBuilder, decode_timestamp_response

from tests.service import Service

SAMPLE_PDF = (Path(__file__).parent.parent / "examples" / "cong-van.pdf").read_bytes()


@dataclass
class Tally:
    """What one run of the load saw. ``acknowledged`` holds, by kind, what the service said is done."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, kind: str, status: int, took: float, done: str | None) -> None:
        """Note one answer; ``done`` identifies what was acknowledged."""
        with self.lock:
            self.statuses[status] += 1
            if done is not None:
                self.seconds[kind].append(took)
                self.acknowledged[kind].append(done)

    def report(self, elapsed: float) -> list[str]:
        """One line for each kind: rate, median and p99."""
        lines = []
        for kind, seconds in sorted(self.seconds.items()):
            ordered = sorted(seconds)
            p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
            rate, median, p99 = len(ordered) / elapsed, statistics.median(ordered) * 1e3, p99 * 1e3
            lines.append(f"{kind:6} {len(ordered):7} done {rate:8.1f}/s   median {median:7.1f} ms   p99 {p99:7.1f} ms")
        return lines

    @property
    def server_errors(self) -> int:
        """How many answers were a 5xx."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


class Load:
    """``clients`` threads in turn signing a PDF, stamping, issuing from a CSR, and asking OCSP, each on a connection it keeps."""

    def __init__(self, service: Service, *, clients: int = 8) -> None:
        self.tally = Tally()
        self._service = service
        self._stop = threading.Event()
        self._keys = {name: service.api_key(name) for name in ("client", "admin")}
        self._issuing, self._root = _authority(service, "issuing"), _authority(service, "root")
        kinds: list[Callable[[Connection], None]] = [self._sign, self._stamp, self._issue, self._ask]
        self._threads = [
            threading.Thread(target=self._run, args=(kinds[number % len(kinds)],), daemon=True) for number in range(clients)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """End, and give what was seen."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
        return self.tally

    def _run(self, act: Callable[[Connection], None]) -> None:
        connection = Connection(self._service.port)
        while not self._stop.is_set():
            try:
                act(connection)
            except (OSError, http.client.HTTPException) as error:  # the service was killed: nothing was acknowledged
                with self.tally.lock:
                    self.tally.broken[type(error).__name__] += 1
                connection.close()
                time.sleep(0.05)
        connection.close()

    def _sign(self, connection: Connection) -> None:
        request_id = uuid.uuid4().hex
        headers = self._headers("client", "application/pdf") | {"X-Request-Id": request_id}
        status, _, took = connection.post("/v1/signatures/pdf?level=B-T", SAMPLE_PDF, headers)
        self.tally.answered("sign", status, took, request_id if status == 200 else None)

    def _stamp(self, connection: Connection) -> None:
        query = TimestampRequestBuilder().data(uuid.uuid4().bytes).build()
        status, body, took = connection.post("/tsa", query.as_bytes(), {"Content-Type": "application/timestamp-query"})
        reply = decode_timestamp_response(body) if status == 200 else None
        if reply is not None and reply.status != 0:  # an outage in the words of RFC 3161: counted like those of the other calls
            reply, status = None, 503
        serial = None if reply is None else format(reply.tst_info.serial_number, "x")
        self.tally.answered("stamp", status, took, serial)

    def _issue(self, connection: Connection) -> None:
        headers = self._headers("admin", "application/pkcs10")
        path = "/v1/certificates?profile=device&subscriber=demo-device&reference=bench"
        status, body, took = connection.post(path, make_csr(), headers)
        self.tally.answered("issue", status, took, json.loads(body)["serial"] if status == 201 else None)

    def _ask(self, connection: Connection) -> None:
        request_id = uuid.uuid4().hex
        builder = ocsp.OCSPRequestBuilder().add_certificate(self._issuing, self._root, hashes.SHA256())
        request = builder.add_extension(x509.OCSPNonce(uuid.uuid4().bytes), critical=False).build()
        headers = {"Content-Type": "application/ocsp-request", "X-Request-Id": request_id}
        status, body, took = connection.post("/ocsp", request.public_bytes(serialization.Encoding.DER), headers)
        if status == 200:
            good = ocsp.load_der_ocsp_response(body).certificate_status is ocsp.OCSPCertStatus.GOOD
            status = 200 if good else 500
        self.tally.answered("ask", status, took, request_id if status == 200 else None)

    def _headers(self, key: str, kind: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[key]}", "Content-Type": kind}


class Connection:
    """A connection kept open between requests and opened anew after a failure."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, float]:
        """Status, body and the seconds it took."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        began = time.perf_counter()
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        return answer.status, data, time.perf_counter() - began

    def close(self) -> None:
        """Close it; the next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _authority(service: Service, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(service.request("GET", f"/ca/{name}.pem").body)


def make_csr() -> bytes:
    """A CSR in PEM over a new P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
