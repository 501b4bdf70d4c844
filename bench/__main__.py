"""``make bench``: what Condau does a second, as ratios to a bare baseline measured in the same run.

Absolute figures are those of one machine on one day; only the ratios travel. Every rate over HTTP is of the service as it is
shipped, with the record and the audit log on, driven by wrk from the same machine (so the two cores are shared).
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from rfc3161_client import TimestampRequestBuilder

from audit.log import SYSTEM
from bench.cost import seconds_of, seconds_of_children
from bench.load import SAMPLE_PDF, make_csr
from bench.openssl_ocsp import serve_index
from bench.pdf import LEVELS, measure_pdf
from bench.scale import measure_scale
from bench.wrk import Rate, measure
from bootstrap import build
from core.config import load_config
from hsm.keys import KeySpec
from pki.certificates import Identity, service_certificate
from pki.http_ocsp import OCSP_REQUEST
from tests.service import Service

STEPS = ("timestamps", "pdf", "certificates", "statuses")
CONNECTIONS = (16, 64, 128)


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    parser.add_argument("--only", choices=STEPS, help="this part alone")
    parser.add_argument("--scale", action="store_true", help="instead: a million certificates against a thousand (minutes)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="of --scale")
    options = parser.parse_args()
    if options.scale:
        measure_scale(options.database)
        return 0
    with tempfile.TemporaryDirectory(prefix="condau-bench-") as folder:
        service = Service(Path(folder))
        service.condau("init", "--development")
        bench = Bench(service, options.seconds)
        for step in [options.only] if options.only else STEPS:
            getattr(bench, step)()
    return 0


class Bench:
    """One run: each step starts the service where it needs it and prints its lines."""

    def __init__(self, service: Service, seconds: int) -> None:
        self._service = service
        self._seconds = seconds

    def timestamps(self) -> None:
        """Time-stamps over HTTP against bare signatures with the same key, and against requests that cost nothing.

        The bare rate is taken before and after, since other work on the machine moves it. Rates are those of the best number
        of connections among CONNECTIONS, the latencies those of 16. Processor time is that of the workers and of wrk.
        """
        query = TimestampRequestBuilder().data(b"bench").nonce(nonce=False).build().as_bytes()
        for name, spec in (("P-256", KeySpec.P_256), ("RSA-2048", KeySpec.RSA_2048)):
            label = self._new_unit(spec)
            before, cost_before = self._bare(label, 2)
            self._service.start()
            empty = measure(f"{self._service.url}/healthz", seconds=self._seconds)
            refusal = self._post("/tsa", b"0", "application/timestamp-query")
            taken = {number: self._cost(query, "application/timestamp-query", number) for number in CONNECTIONS}
            self._service.stop()
            after, cost_after = self._bare(label, 2)
            bare, bare_cost = (before + after) / 2, min(cost_before, cost_after)
            best = max(rate.per_second for rate, _ in taken.values())
            print(f"\nTime-stamps, {name}")
            print(f"  bare python-pkcs11, 2 processes   {bare:9.0f} signatures/s, {bare_cost:.0f} us of processor time each")
            print(f"  an empty handler (/healthz)       {empty.per_second:9.0f} requests/s")
            print(f"  a refusal at /tsa: no key, no row {refusal.per_second:9.0f} requests/s")
            for number, (rate, cost) in taken.items():
                _print_rate(f"time-stamps, {number} connections", rate)
                print(
                    f"    processor time each             {cost:9.0f} us; ratio of a bare signature to that {bare_cost / cost:.2f}"
                )
            print(f"  ratio to bare, 2 processes        {best / bare:9.2f}")
            print(f"  ratio to the empty handler        {best / empty.per_second:9.2f}")
            print(f"  ratio to the refusal              {best / refusal.per_second:9.2f}")
            print(f"  p99 to median, 16 connections     {taken[16][0].p99 / taken[16][0].median:9.2f}")

    def pdf(self) -> None:
        """PDF signatures against plain pyHanko with the same key on the same file; then over HTTP."""
        measure_pdf(self._service, self._seconds)
        self._service.start()
        over_http = {level: self._sign_over_http(level) for level in LEVELS}
        self._service.stop()
        for level, rate in over_http.items():
            _print_rate(f"{level} over HTTP", rate)

    def certificates(self) -> None:
        """Certificates from one CSR over HTTP, each drafted, linted, written ahead, signed, checked and recorded."""
        self._service.start()
        path = "/v1/certificates?profile=device&subscriber=demo-device&reference=bench"
        rate = self._post(path, make_csr(), "application/pkcs10", key="admin")
        self._service.stop()
        print("\nCertificates, P-384 issuer")
        _print_rate("certificates over HTTP", rate)

    def statuses(self) -> None:
        """OCSP answers over HTTP, each signed (the request has a nonce) and recorded, against openssl's own responder on P-256.

        openssl answers one request a connection; ours are kept open, as clients that ask often keep them. Each is judged by its
        best number of connections.
        """
        services = build(load_config(self._service.home))
        with services.database.read() as db:
            identity: Identity = service_certificate(db, "tsa", services.now())
        services.close()
        theirs = {number: self._ask_openssl(number) for number in CONNECTIONS}
        self._service.start()
        body = _ocsp_request(identity.chain[0], identity.certificate.serial_number)
        ours = {number: self._post("/ocsp", body, OCSP_REQUEST, connections=number) for number in CONNECTIONS}
        self._service.stop()
        print("\nOCSP, P-256, signed live")
        for name, rates in (("openssl ocsp -multi 2", theirs), ("answers over HTTP", ours)):
            for number, rate in rates.items():
                _print_rate(f"{name}, {number} conn.", rate)
        best, baseline = (max(rate.per_second for rate in rates.values()) for rates in (ours, theirs))
        print(f"  ratio to openssl                  {best / baseline:9.2f}")

    def _ask_openssl(self, connections: int) -> Rate:
        """By a responder of its own: openssl's does not outlive clients that leave in the middle of a request."""
        with serve_index() as (url, authority):
            headers = {"Content-Type": OCSP_REQUEST}
            return measure(url, seconds=self._seconds, connections=connections, body=_ocsp_request(authority, 2), headers=headers)

    def _new_unit(self, spec: KeySpec) -> str:
        """A new time-stamping unit, which is used from then on; the label of its key."""
        services = build(load_config(self._service.home))
        with services.database.read() as db:
            subject = service_certificate(db, "tsa", services.now()).certificate.subject
        services.ca.issue_service(profile="tsa", subject=subject, issuer="issuing", spec=spec, actor=SYSTEM)
        with services.database.read() as db:
            label = service_certificate(db, "tsa", services.now()).key_label
        services.close()
        return label

    def _bare(self, label: str, processes: int) -> tuple[float, float]:
        """Bare signatures a second of so many processes together, and the processor time of one in microseconds."""
        command = [sys.executable, "-m", "bench.bare", str(self._service.home), label, str(self._seconds)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        figures = [[float(figure) for figure in process.communicate()[0].split()] for process in running]
        return sum(rate for rate, _ in figures), min(cost for _, cost in figures)

    def _cost(self, query: bytes, kind: str, connections: int) -> tuple[Rate, float]:
        """The rate of a query to ``/tsa``, and the processor time of each in microseconds, workers and load generator together."""
        pids = self._service.worker_pids()
        before = seconds_of(pids) + seconds_of_children()
        rate = self._post("/tsa", query, kind, connections=connections)
        used = seconds_of(pids) + seconds_of_children() - before
        return rate, used / (rate.per_second * self._seconds) * 1e6

    def _loop(self, act: Callable[[], object]) -> float:
        act()  # what is made once is made now
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < self._seconds:
            act()
            count += 1
        return count / elapsed

    def _sign_over_http(self, level: str) -> Rate:
        return self._post(f"/v1/signatures/pdf?level={level}", SAMPLE_PDF, "application/pdf", key="client")

    def _post(self, path: str, body: bytes, kind: str, *, key: str | None = None, connections: int = 16) -> Rate:
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {self._service.api_key(key)}"} if key else {})
        return measure(self._service.url + path, seconds=self._seconds, connections=connections, body=body, headers=headers)


def _ocsp_request(issuer: x509.Certificate, serial: int) -> bytes:
    key = issuer.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    name_hash, key_hash = (hashlib.sha256(part).digest() for part in (issuer.subject.public_bytes(), key))
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, serial, hashes.SHA256())
    nonce = x509.OCSPNonce(secrets.token_bytes(16))
    return builder.add_extension(nonce, critical=False).build().public_bytes(serialization.Encoding.DER)


def _print_rate(name: str, rate: Rate) -> None:
    refused = f"   {rate.refused} REFUSED" if rate.refused else ""
    print(f"  {name:32}  {rate.per_second:9.1f}/s   median {rate.median:6.1f} ms   p99 {rate.p99:6.1f} ms{refused}")


if __name__ == "__main__":
    sys.exit(main())
