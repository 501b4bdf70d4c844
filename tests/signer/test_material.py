"""Material of other people's authorities: imported lists, and what may be fetched from where."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import SYSTEM
from core.errors import Conflict, Malformed, Rejected
from core.settings import FetchConfig
from hsm.keys import KeySpec
from pki.anchors import install_anchor
from pki.fetch import Fetcher
from pki.foreign_crl import keep_foreign_crl
from pki.material import Material, ValidationMaterial
from pki.profile import build_subject
from tests.conftest import Clock
from tests.signer.house import CLIENT, House
from tests.verifier.authorities import NOW, Identity, Pki, crl, issue

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def others() -> Pki:
    return Pki()


def trust(house: House, certificate: x509.Certificate) -> None:
    pem, sha256 = certificate.public_bytes(Encoding.PEM), certificate.fingerprint(hashes.SHA256()).hex()
    with house.database.write() as db:
        install_anchor(db, at=house.now(), actor=SYSTEM, data=pem, domain="cong-vu", sha256=sha256)


def keep(house: House, der: bytes) -> None:
    with house.database.write() as db:
        keep_foreign_crl(db, der, at=house.now(), actor=SYSTEM)


def collect(house: House, pki: Pki, material: ValidationMaterial | None = None, leaf: Identity | None = None) -> Material:
    hints = [pki.issuing.certificate]
    return (material or house.material()).collect([(leaf or pki.signer).certificate], hints=hints, actor=CLIENT)


def test_an_imported_list_is_the_status_of_others(house: House, others: Pki) -> None:
    assert collect(house, others).untrusted
    trust(house, others.issuing.certificate)  # anchored at the issuing authority itself
    assert collect(house, others).missing
    fresh = crl(others.issuing, (), at=NOW - HOUR)
    keep(house, fresh)
    found = collect(house, others)
    assert (found.crls, found.missing, found.untrusted) == ((fresh,), (), ())
    assert found.certificates == (others.signer.certificate, others.issuing.certificate)


def test_a_list_of_ours_is_never_older_than_the_certificate_it_is_asked_about(house: House, clock: Clock) -> None:
    """EU DSS takes no other, and rightly: it could not have known the certificate."""
    material = house.material()
    material.collect([house.identity().certificate], actor=CLIENT)
    clock.move(minutes=1)
    name = build_subject(organization="Ca", locality="Thử Nghiệm", common_name="Issuing 2")
    house.ca.create_authority("issuing-2", subject=name, spec=KeySpec.P_256, issuer="root", actor=SYSTEM)
    clock.move(minutes=1)
    leaf = house.ca.issue_service(profile="tsa", subject=name, issuer="issuing-2", spec=KeySpec.P_256, actor=SYSTEM)  # no responder
    found = house.material().collect([leaf.certificate], actor=CLIENT)
    lists = {one.issuer: one for one in map(x509.load_der_x509_crl, found.crls)}
    for certificate in (leaf.certificate, leaf.chain[0]):
        assert lists[certificate.issuer].last_update_utc >= certificate.not_valid_before_utc


def test_only_lists_of_authorities_that_are_trusted_are_kept(house: House, others: Pki) -> None:
    der = crl(others.issuing, (), at=NOW - HOUR)
    with pytest.raises(Rejected, match="install its anchor"):
        keep(house, der)
    trust(house, others.issuing.certificate)
    keep(house, der)
    with pytest.raises(Conflict, match="not older"):
        keep(house, crl(others.issuing, (), at=NOW - 2 * HOUR))
    with pytest.raises(Rejected):
        keep(house, crl(others.issuing, (), at=NOW, key=others.root.key))  # forged
    with pytest.raises(Malformed):
        keep(house, b"no list")


def test_a_list_that_has_ended_is_no_status(house: House, others: Pki) -> None:
    trust(house, others.issuing.certificate)
    keep(house, crl(others.issuing, (), at=NOW - 48 * HOUR))
    assert collect(house, others).missing


class Publisher(BaseHTTPRequestHandler):
    """Another authority's server."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/ca.crl")
            self.end_headers()
            return
        body = self.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing on standard error."""


@pytest.fixture
def publisher() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Publisher)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Publisher.files, Publisher.asked = {}, []
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def leaf_with_list(pki: Pki, url: str) -> Identity:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return issue("Có CDP", issuer=pki.issuing, extra=[x509.CRLDistributionPoints([point])])


def fetching(house: House, host: str, *, size: int = 100_000) -> ValidationMaterial:
    return house.material(Fetcher(FetchConfig(hosts=(host,), seconds=2, size=size)))


def test_lists_are_fetched_from_named_hosts(house: House, others: Pki, publisher: str) -> None:
    trust(house, others.issuing.certificate)
    der = Publisher.files["/ca.crl"] = crl(others.issuing, (), at=NOW - HOUR)
    leaf = leaf_with_list(others, f"http://{publisher}/ca.crl")
    assert collect(house, others, fetching(house, publisher), leaf).crls == (der,)
    Publisher.asked.clear()
    assert collect(house, others, fetching(house, "crl.example.vn"), leaf).missing
    assert collect(house, others, leaf=leaf).missing
    assert not Publisher.asked


@pytest.mark.parametrize("problem", ["redirect", "too large", "missing", "ended", "forged", "no list"])
def test_what_is_fetched_is_checked(house: House, others: Pki, publisher: str, problem: str) -> None:
    trust(house, others.issuing.certificate)
    good = crl(others.issuing, (), at=NOW - HOUR)
    wrong = {
        "ended": crl(others.issuing, (), at=NOW - 48 * HOUR),
        "forged": crl(others.issuing, (), at=NOW - HOUR, key=others.root.key),
        "no list": b"<html>",
        "too large": good + bytes(200_000),
    }
    Publisher.files["/ca.crl"] = wrong.get(problem, good)
    path = {"redirect": "moved", "missing": "nowhere"}.get(problem, "ca.crl")
    leaf = leaf_with_list(others, f"http://{publisher}/{path}")
    assert collect(house, others, fetching(house, publisher), leaf).missing
    assert Publisher.asked == [f"/{path}"]
