"""``make bench ARGS=--scale``: what issuance, OCSP, searches and CRLs cost at a million certificates, against a thousand."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from audit.log import SYSTEM, Actor
from bench.load import make_csr
from bench.population import populate
from bootstrap import Services, build
from core.config import load_config
from pki.inventory import Search, find_page
from pki.models import Authority, Certificate
from tests.postgresql import Cluster
from tests.service import Service

SMALL: Final = 1_000
LARGE: Final = 1_000_000
_ROUNDS: Final = 5
_PAGE: Final = 10
"""Certificates on a page: so few that a thousand fill it as well, since a page's cost is foremost what it holds."""
_MOST_RATIO: Final = 1.3


@dataclass(frozen=True, slots=True)
class House:
    """One instance with its services open and what the measurements ask about."""

    services: Services
    serials: Iterator[str]
    """Serial numbers in no order, again and again."""
    issuer: x509.Certificate


Act = Callable[[House], object]


def measure_scale(database: str) -> None:
    """Measure on a database of this kind (``sqlite``, ``postgresql``) and print it."""
    cluster = Cluster() if database == "postgresql" else None
    with tempfile.TemporaryDirectory(prefix="condau-scale-") as folder:
        try:
            houses = [_open(Path(folder) / str(size), size, cluster) for size in (SMALL, LARGE)]
            print(f"\nAt {LARGE:,} certificates, {LARGE // 10:,} of them revoked, against {SMALL:,}, on {database}")
            ratios = [_compare(name, act, times, houses) for name, (act, times) in _acts(houses[0].services.now()).items()]
            print(f"  the dearest                          {max(ratios):6.2f} times (at most {_MOST_RATIO})")
            _lists(houses[1].services)
            for house in houses:
                house.services.close()
        finally:
            if cluster is not None:
                cluster.close()


def _open(home: Path, size: int, cluster: Cluster | None) -> House:
    url = "" if cluster is None else cluster.create_database()
    service = Service(home, database_url=url)
    service.condau("init", "--development")
    config = load_config(home)
    services = build(dataclasses.replace(config, database_url=url or config.database_url))
    began = time.perf_counter()
    populate(services.database, certificates=size, revoked=size // 10, at=services.now())
    print(f"{size:>9,} certificates written in {time.perf_counter() - began:.0f} s", flush=True)
    services.crl.publish("issuing", actor=SYSTEM)
    with services.database.read() as db:
        serials = db.scalars(sa.select(Certificate.serial).order_by(Certificate.spki_sha256).limit(500)).all()
        der = db.execute(sa.select(Authority.certificate_der).where(Authority.name == "issuing")).scalar_one()
    return House(services, cycle(serials), x509.load_der_x509_certificate(der or b""))


def _acts(at: datetime) -> dict[str, tuple[Act, int]]:
    """What is measured, by name, and how often in a round."""
    searches = {
        "the newest": Search(),
        "of an agency and below, valid": Search(agency="H99.1", standing="valid"),
        "of one small agency, revoked": Search(agency="H99.400", standing="revoked"),
        "by a common name": Search(text="nguyễn"),
        "by a rare name": Search(text="duong ngoc yen"),
        "by name, agency and profile": Search(text="tran", agency="H99.2", profile="device", key_in_hsm=True),
        "revoked": Search(standing="revoked"),
        "suspended (there is none)": Search(standing="suspended"),
        "expiring in 30 days": Search(standing="valid", expires_from=at, expires_before=at + timedelta(days=30)),
        "what does not exist": Search(standing="undecided", profile="officer"),
    }
    found: dict[str, tuple[Act, int]] = {"issuance": (_issue, 10), "OCSP, signed": (_ask, 60)}
    return found | {
        f"search: {name}": (_searching(dataclasses.replace(search, limit=_PAGE)), 5) for name, search in searches.items()
    }


def _searching(search: Search) -> Act:
    def act(house: House) -> object:
        with house.services.database.read() as db:
            return find_page(db, search, house.services.now())

    return act


def _issue(house: House) -> object:
    csr = make_csr()
    return house.services.ca.issue_from_csr(
        csr, profile="device", subscriber="demo-device", reference="bench", actor=Actor("bench", "admin")
    )


def _ask(house: House) -> object:
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
        *_hashes(house.issuer), serial_number=int(next(house.serials), 16), algorithm=hashes.SHA256()
    )
    request = builder.add_extension(x509.OCSPNonce(secrets.token_bytes(16)), critical=False).build()
    answer = house.services.ocsp.respond(request.public_bytes(serialization.Encoding.DER), Actor("bench", "public"))
    if ocsp.load_der_ocsp_response(answer).response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise RuntimeError("the responder refused")
    return answer


def _hashes(issuer: x509.Certificate) -> tuple[bytes, bytes]:
    key = issuer.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return hashlib.sha256(issuer.subject.public_bytes()).digest(), hashlib.sha256(key).digest()


def _compare(name: str, act: Act, times: int, houses: Sequence[House]) -> float:
    """Both in turn, so that whatever else the machine does falls on both; the median of single acts."""
    taken: list[list[float]] = [[] for _ in houses]
    for one in range(_ROUNDS + 1):
        for house, seconds in zip(houses, taken, strict=True):
            for _ in range(times):
                began = time.perf_counter()
                act(house)
                if one:  # the first round only warms up
                    seconds.append(time.perf_counter() - began)
    small, large = (statistics.median(seconds) * 1e3 for seconds in taken)
    print(f"  {name:40} {small:8.2f} ms {large:8.2f} ms {large / small:6.2f} times", flush=True)
    return large / small


def _lists(services: Services) -> None:
    """A full CRL of 100,000 entries and a delta, in seconds of this process's CPU."""
    for name, delta, limit in (("full CRL", False, 3.0), ("delta CRL", True, 0.2)):
        began, cpu = time.perf_counter(), time.process_time()
        published = services.crl.publish("issuing", actor=SYSTEM, delta=delta)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        size = len(list(x509.load_der_x509_crl(published.der)))
        print(
            f"  {name:12} of {size:7,} entries, {len(published.der):9,} bytes: {cpu:5.2f} s of CPU (at most {limit}), {wall:5.2f} s"
        )
