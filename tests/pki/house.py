"""Authorities with software keys, and the little a test needs to ask of them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import falcon
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder, OCSPResponse, load_der_ocsp_response
from cryptography.x509.oid import NameOID

from approvals.service import Approvals
from audit.log import Actor, AuditEntry
from core.db import Database
from core.settings import Config
from hsm.keys import KeySpec
from pki import http, http_enrolment, http_ocsp, http_status
from pki.acts import RevocationActs, build_acts
from pki.authorities import Organisation, create_authorities
from pki.ca import CertificateAuthority, IssuedCertificate
from pki.crl import CrlPublisher
from pki.enrolment import Enrolments
from pki.models import Authority, Certificate
from pki.ocsp import OcspResponder
from pki.profile_changes import ProfileChanges
from pki.revocation import Revocations
from pki.status import StatusHistory
from registry import registry
from registry.models import Role, SubscriberKind
from tests.conftest import Clock
from tests.software_keys import SoftwareKeys, make_key
from web import problems
from web.access import ApiKeys, Shell

ADMIN = Actor("an-admin", "admin", "request-1")
ANYBODY = Actor("anonymous", "public", "request-2")
REFERENCE = "01/PYC"
"""A written request."""
ORGANISATION = Organisation("Cơ quan Thử nghiệm", "Hà Nội")
SUBSCRIBERS = {
    "seal": SubscriberKind.AGENCY,
    "officer": SubscriberKind.OFFICER,
    "device": SubscriberKind.DEVICE,
    "other": SubscriberKind.DEVICE,
}


@dataclass(frozen=True, slots=True)
class House:
    """Everything of one instance."""

    database: Database
    keys: Any
    clock: Clock
    config: Config

    @property
    def crl(self) -> CrlPublisher:
        """A publisher of its own each time, as another process would have."""
        return CrlPublisher(database=self.database, keys=self.keys, now=self.clock, config=self.config)

    @property
    def ca(self) -> CertificateAuthority:
        """The same for the authority."""
        return CertificateAuthority(database=self.database, keys=self.keys, now=self.clock, config=self.config)

    @property
    def revocations(self) -> Revocations:
        """The same for revoking, suspending and resuming."""
        return Revocations(database=self.database, crl=self.crl, now=self.clock)

    @property
    def enrolments(self) -> Enrolments:
        """The same for what is enrolled and followed."""
        return Enrolments(authority=self.ca, database=self.database, now=self.clock, config=self.config)

    @property
    def approvals(self) -> Approvals:
        """The same for what needs four eyes (by ``config.approvals``; nothing, unless a test says so)."""
        profiles = ProfileChanges(database=self.database, now=self.clock, profiles=self.ca.profiles)
        acts = build_acts(self.enrolments, RevocationActs(database=self.database, revocations=self.revocations), profiles)
        return Approvals(database=self.database, now=self.clock, config=self.config.approvals, acts=acts)

    @property
    def enrolling(self) -> dict[str, Any]:
        """What routes that issue are made of."""
        own = {"enrolments": self.enrolments, "approvals": self.approvals}
        return {**own, "database": self.database, "now": self.clock}

    @property
    def revoking(self) -> dict[str, Any]:
        """What routes that revoke are made of."""
        acts = RevocationActs(database=self.database, revocations=self.revocations)
        return {"revocations": self.revocations, "acts": acts, "approvals": self.approvals}

    @property
    def history(self) -> StatusHistory:
        """And for what was known when."""
        return StatusHistory(database=self.database, now=self.clock, config=self.config)

    @property
    def ocsp(self) -> OcspResponder:
        """The same for the responder."""
        return OcspResponder(database=self.database, keys=self.keys, now=self.clock, config=self.config)

    def with_keys(self, keys: Any) -> House:
        """The same house over another key store."""
        return replace(self, keys=keys)

    def with_partitions(self, parts: int) -> House:
        """The same house with its CRLs divided."""
        return replace(self, config=replace(self.config, pki=replace(self.config.pki, crl_partitions=parts)))

    def authority_id(self, name: str = "issuing") -> int:
        """The row of an authority."""
        with self.database.read() as db:
            return db.scalars(sa.select(Authority.id).where(Authority.name == name)).one()

    def issue(self, subscriber: str = "device", csr: bytes | None = None) -> IssuedCertificate:
        """A certificate for a CSR, by default with a new key."""
        return self.ca.issue_from_csr(csr or make_csr(), profile="device", subscriber=subscriber, reference=REFERENCE, actor=ADMIN)

    def row(self, serial: str) -> Certificate:
        """What the database has of a certificate."""
        with self.database.read() as db:
            return db.scalars(sa.select(Certificate).where(Certificate.serial == serial)).one()

    def rows(self, state: str) -> list[Certificate]:
        """Every certificate in this state, oldest first."""
        with self.database.read() as db:
            return list(db.scalars(sa.select(Certificate).where(Certificate.state == state).order_by(Certificate.id)))

    def actions(self, subject: str) -> list[str]:
        """What the audit log says was done to ``subject``, in order."""
        with self.database.read() as db:
            return list(db.scalars(sa.select(AuditEntry.action).where(AuditEntry.subject == subject).order_by(AuditEntry.id)))

    def crl_serials(self, authority: str = "issuing") -> set[str]:
        """The serial numbers on the current CRL."""
        return {format(item.serial_number, "x") for item in x509.load_der_x509_crl(self.crl.current(authority).der)}

    def status(self, issued: IssuedCertificate) -> OCSPResponse:
        """What the responder says of a certificate."""
        return load_der_ocsp_response(self.ocsp.respond(ocsp_request(issued), ANYBODY))


def furnish(database: Database, keys: SoftwareKeys, at: datetime) -> None:
    """What :func:`build_house` makes, for a database that is going to be copied."""
    build_house(database, keys, Clock(at), Path())


def open_house(database: Database, keys: SoftwareKeys, clock: Clock, home: Path) -> House:
    """The house in a database that has one."""
    return House(database, keys, clock, Config(home=home, public_url="http://127.0.0.1:8080"))


def build_house(database: Database, keys: SoftwareKeys, clock: Clock, home: Path) -> House:
    """Authorities, subscribers, and the client system ``system``."""
    house = open_house(database, keys, clock, home)
    create_authorities(house.ca, house.crl, organisation=ORGANISATION, actor=ADMIN)
    add_subscribers(database, clock)
    return house


def add_subscribers(database: Database, clock: Clock) -> None:
    """An agency with one subscriber of each kind and one more, and a client system granted nothing."""
    with database.write() as db:
        agency = registry.add_agency(db, at=clock(), actor=ADMIN, code="H26.1", name="Sở Thử nghiệm", locality="Hà Nội")
        for handle, kind in SUBSCRIBERS.items():
            common_name = f"Người dùng {handle}"
            registry.add_subscriber(db, at=clock(), actor=ADMIN, handle=handle, kind=kind, common_name=common_name, agency=agency)
        registry.add_client(db, at=clock(), actor=ADMIN, name="system", role=Role.CLIENT)


def make_app(house: House) -> Any:
    """The routes of this room behind the HTTP shell."""
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/ocsp", http_ocsp.OcspPost(responder=house.ocsp))
    app.add_route("/ocsp/{request:path}", http_ocsp.OcspGet(responder=house.ocsp, now=house.clock))
    app.add_route("/v1/ocsp-answers", http_ocsp.RecordedOcspAnswers(database=house.database))
    app.add_route("/crl/{file}", http_status.CrlFile(publisher=house.crl))
    app.add_route("/crl/{file}/{part}", http_status.CrlPartFile(publisher=house.crl))
    app.add_route("/v1/crls/{authority}", http_status.CrlArchive(publisher=house.crl))
    app.add_route("/v1/revocation-grounds", http_status.Grounds())
    for act in (http_status.Revocation, http_status.Suspension, http_status.Resumption):
        own = {"revocations": house.revocations} if act is http_status.Suspension else house.revoking
        app.add_route(f"/v1/certificates/{{serial}}/{act.__name__.lower()}", act(**own))
    app.add_route("/v1/certificates/{serial}/status", http_status.CertificateStatus(history=house.history))
    app.add_route("/v1/revocations", http_status.RevocationCollection(**house.revoking))
    app.add_route("/v1/revocations/{receipt}", http_status.RevocationView(revocations=house.revocations))
    app.add_route("/ca/{file}", http.AuthorityFile(database=house.database))
    app.add_route("/v1/signers", http.Signers(database=house.database, now=house.clock))
    app.add_route("/v1/certificates/{serial}/renewal", http_enrolment.Renewal(**house.enrolling))
    app.add_route("/v1/certificates/{serial}/rekey", http_enrolment.Rekey(**house.enrolling))
    app.add_route("/v1/certificates", http.Certificates(**house.enrolling))
    app.add_route("/v1/certificates/{serial}", http.CertificateView(database=house.database, now=house.clock))
    return app


def make_csr(key: Any = None, *, algorithm: Any = None, encoding: Encoding = Encoding.PEM) -> bytes:
    """A request signed by ``key`` (by default a new P-256 key); the name in it is of no consequence."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever it likes")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(key or make_key(KeySpec.P_256), algorithm or hashes.SHA256()).public_bytes(encoding)


def ocsp_request(*issued: IssuedCertificate, algorithm: Any = None, nonce: bytes | None = None) -> bytes:
    """A request about one certificate."""
    builder = OCSPRequestBuilder()
    for item in issued:
        builder = builder.add_certificate(item.certificate, item.chain[0], algorithm or hashes.SHA1())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


class BrokenKeys:
    """A key store whose keys are there and fail when they are to sign."""

    def __init__(self, keys: SoftwareKeys, error: BaseException, label: str = "ca-issuing") -> None:
        self._keys = keys
        self._error = error
        self._label = label

    def key(self, label: str) -> Any:
        found = self._keys.key(label)
        return BrokenKey(found, self._error) if label == self._label else found

    def generate(self, label: str, spec: KeySpec) -> Any:
        return self._keys.generate(label, spec)


class BrokenKey(ec.EllipticCurvePrivateKey):
    """A P-256 key whose token fails in the middle of a signature."""

    def __init__(self, key: Any, error: BaseException) -> None:
        self._key = key
        self._error = error

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:  # noqa: ARG002 - the interface
        raise self._error

    def public_key(self) -> Any:
        return self._key.public_key()

    @property
    def curve(self) -> Any:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return int(self._key.key_size)

    def exchange(self, *_: Any) -> bytes:
        raise NotImplementedError

    def private_numbers(self) -> Any:
        raise NotImplementedError

    def private_bytes(self, *_: Any) -> bytes:
        raise NotImplementedError

    def __copy__(self) -> BrokenKey:
        return self

    def __deepcopy__(self, _: Any) -> BrokenKey:
        return self


def run(*command: str | Path, check: bool = True) -> str:
    """Run a program that is not ours; everything it prints. Raises AssertionError with that when it fails."""
    done = subprocess.run([str(item) for item in command], capture_output=True, text=True, timeout=60, check=False)
    output = done.stdout + done.stderr
    assert not check or done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{output}"
    return output
