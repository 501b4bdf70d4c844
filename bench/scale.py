"""``make bench ARGS=--scale``: what issuance, OCSP, searches and CRLs cost at a million certificates, against a thousand.

What an act costs is CPU time, this process's and that of the PostgreSQL processes that serve it, so that a machine that is busy
with other things does not count.
"""

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
from pki.inventory import Page, Search, find_page
from pki.models import Authority, Certificate, StatusAct
from pki.revocation import Change, change_standing
from tests.postgresql import Cluster
from tests.service import Service

SMALL: Final = 1_000
LARGE: Final = 1_000_000
_ROUNDS: Final = 7
_PAGE: Final = 10
"""Certificates on a page: so few that a thousand fill it as well, since a page's cost is foremost what it holds."""
_MOST_RATIO: Final = 1.3
_REVOKED: Final = 100
"""Since the full CRL, for the delta."""


@dataclass(frozen=True, slots=True)
class House:
    """One instance with its services open and what the measurements ask about."""

    services: Services
    serials: Iterator[str]
    """Serial numbers in no order, again and again."""
    issuer: x509.Certificate

    def backends(self) -> Sequence[int]:
        """The process ids of what serves its database; none for SQLite, which is a library."""
        if self.services.database.is_sqlite:
            return []
        with self.services.database.read() as db:
            return db.scalars(sa.text("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")).all()


Act = Callable[[House], object]


def measure_scale(database: str) -> None:
    """Measure on a database of this kind (``sqlite``, ``postgresql``) and print it."""
    cluster = Cluster() if database == "postgresql" else None
    with tempfile.TemporaryDirectory(prefix="condau-scale-") as folder:
        try:
            houses = [_open(Path(folder) / str(size), size, cluster) for size in (SMALL, LARGE)]
            print(f"\nCPU and rows of a page at {SMALL:,} and at {LARGE:,} certificates, a tenth of them revoked, on {database}")
            ratios = [_compare(name, act, times, houses) for name, (act, times) in _acts(houses[0].services.now()).items()]
            print(f"  the dearest {max(ratios):71.2f} times (at most {_MOST_RATIO})")
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


def searches(at: datetime) -> dict[str, Search]:
    """The searches that are measured, by name: each filter, and those that are hard together."""
    soon = Search(standing="valid", expires_from=at, expires_before=at + timedelta(days=30))
    found = {
        "the newest": Search(),
        "of all agencies, valid": Search(agency="H99", standing="valid"),
        "of an agency and below, valid": Search(agency="H99.1", standing="valid"),
        "of an agency and below, revoked": Search(agency="H99.3", standing="revoked"),
        "by a common name": Search(text="nguyễn"),
        "by a rare name": Search(text="pham van an"),
        "by name, agency and profile": Search(text="tran", agency="H99.2", profile="device", key_in_hsm=True),
        "revoked": Search(standing="revoked"),
        "revoked, of a profile": Search(standing="revoked", profile="device"),
        "suspended (there is none)": Search(standing="suspended"),
        "expiring in 30 days": soon,
        "of an agency and below, expiring": dataclasses.replace(soon, agency="H99.1", expires_before=at + timedelta(days=600)),
        "expired, of a profile": Search(standing="expired", profile="device"),
        "what does not exist": Search(standing="undecided", profile="officer"),
    }
    return {name: dataclasses.replace(search, limit=_PAGE) for name, search in found.items()}


def _acts(at: datetime) -> dict[str, tuple[Act, int]]:
    """What is measured, by name, and how often in a round."""
    found: dict[str, tuple[Act, int]] = {"issuance": (_issue, 10), "OCSP, signed": (_ask, 60)}
    return found | {f"search: {name}": (_searching(search), 5) for name, search in searches(at).items()}


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
    """Both in turn; the median over the rounds of what one act costs."""
    taken: list[list[float]] = [[] for _ in houses]
    found: list[str] = []
    for one in range(_ROUNDS + 1):
        for house, seconds in zip(houses, taken, strict=True):
            began = _cpu(house)
            for _ in range(times):
                answer = act(house)
            seconds.append((_cpu(house) - began) / times)
            if not one:
                found.append(f"{len(answer.certificates):3}" if isinstance(answer, Page) else "   ")
    small, large = (statistics.median(seconds[1:]) * 1e3 for seconds in taken)  # the first round only warms up
    print(f"  {name:44} {small:8.2f} ms {found[0]} {large:8.2f} ms {found[1]} {large / small:6.2f} times", flush=True)
    return large / small


def _cpu(house: House) -> float:
    """Seconds of CPU so far, of this process and of every PostgreSQL process that is connected to the house's database."""
    own = time.process_time()
    return own + sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 for pid in house.backends())


def _lists(services: Services) -> None:
    """A full CRL of 100,000 entries and a delta of 100, in seconds of this process's CPU."""
    for name, delta, limit in (("full CRL", False, 3.0), ("delta CRL", True, 0.2)):
        if delta:
            at = services.now().replace(microsecond=0)
            with services.database.write() as db:
                good = sa.select(Certificate).where(Certificate.revoked_at.is_(None), Certificate.profile == "officer")
                rows = db.scalars(good.order_by(Certificate.id.desc()).limit(_REVOKED)).all()
                change_standing(db, rows, Change(StatusAct.REVOKE, at, "superseded"), SYSTEM)
        began, cpu = time.perf_counter(), time.process_time()
        published = services.crl.publish("issuing", actor=SYSTEM, delta=delta)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - began
        size = len(list(x509.load_der_x509_crl(published.der)))
        print(
            f"  {name:12} of {size:7,} entries, {len(published.der):9,} bytes: {cpu:5.2f} s of CPU (at most {limit}), {wall:5.2f} s"
        )
