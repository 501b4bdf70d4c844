"""A small house to sign in: two authorities, an agency with seal and officer, a time-stamping unit, software keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import SYSTEM, Actor
from bootstrap import build_broken_finder, build_signature_finder
from core.content import Content
from core.db import Database
from core.settings import Config, SignerConfig, TsaConfig
from hsm.keys import KeySpec
from pki.ca import CertificateAuthority
from pki.certificates import Identity, signing_identity
from pki.crl import CrlPublisher
from pki.material import Fetch, ValidationMaterial
from pki.ocsp import OcspResponder
from pki.profile import build_subject
from registry.models import Role, SubscriberKind
from registry.registry import add_agency, add_client, add_subscriber, grant
from signer.extend import Extender
from signer.gallery import Gallery
from signer.gates import Gates
from signer.levels import Levels, Stamper
from signer.options import PdfOptions
from signer.plan import ArchivePlan
from signer.service import Signer, TimestampSource
from tests.software_keys import SoftwareKeys
from tsa.authority import TimestampAuthority
from verifier.service import Verifier

CLIENT = Actor("dms", "client", "request-1")
OFFICER, SEAL = "nguyen-thi-ky", "ubnd-thu-nghiem"

FONT = SignerConfig().font
"""The font of the embedded default, which setup installs."""


@dataclass
class House:
    """What a test needs of the house; ``signer`` stamps with ``tsa``."""

    database: Database
    keys: SoftwareKeys
    now: Callable[[], datetime]
    ca: CertificateAuthority
    tsa: TimestampAuthority
    signer: Signer = field(init=False)

    def identity(self, signer: str = OFFICER) -> Identity:
        with self.database.read() as db:
            return signing_identity(db, client=CLIENT.name, signer=signer, at=self.now())

    def signer_with(self, stamp: TimestampSource, *, levels: Levels | None = None, font: Path = FONT) -> Signer:
        return Signer(
            database=self.database,
            keys=self.keys,
            now=self.now,
            stamp=stamp,
            levels=levels or self.levels(),
            gates=self.gates(),
            gallery=self.gallery(),
            font=font,
        )

    def gallery(self) -> Gallery:
        """Looks and pictures of this house."""
        return Gallery(database=self.database, now=self.now, font=FONT, public_url="https://kyso.thu-nghiem.example")

    def gates(self, config: SignerConfig | None = None) -> Gates:
        """The gates, with the verifier behind them."""
        find = build_signature_finder(Verifier(database=self.database, now=self.now))
        return Gates(database=self.database, now=self.now, config=config or SignerConfig(), find_signatures=find)

    def levels(self, when_away: str = "refuse", stamper: Stamper | None = None) -> Levels:
        """What brings documents to B-LT and B-LTA, with the house's time-stamping unit or another."""
        return Levels(now=self.now, stamper=stamper or self.tsa, material=self.material(), plan=self.plan(), when_away=when_away)

    def material(self, fetch: Fetch | None = None) -> ValidationMaterial:
        """Validation material from the house's own authorities, and what ``fetch`` gets."""
        shared: dict[str, Any] = {"database": self.database, "keys": self.keys, "now": self.now, "config": Config(home=Path())}
        responder, crl = OcspResponder(**shared), CrlPublisher(**shared)
        return ValidationMaterial(database=self.database, ocsp_responder=responder, crl=crl, now=self.now, fetch=fetch)

    def plan(self) -> ArchivePlan:
        """Which documents are due for an archive timestamp."""
        return ArchivePlan(database=self.database, now=self.now, config=Config(home=Path()))

    def extender(self, when_away: str = "refuse", stamper: Stamper | None = None, fetch: Fetch | None = None) -> Extender:
        """What extends signatures, with the verifier behind it, and the house's time-stamping unit or another."""
        return Extender(
            database=self.database,
            now=self.now,
            levels=self.levels(when_away, stamper),
            stamper=stamper or self.tsa,
            material=self.material(fetch),
            plan=self.plan(),
            find_broken=build_broken_finder(Verifier(database=self.database, now=self.now)),
        )

    def root_file(self, folder: Path) -> Path:
        """The root in PEM, for programs that want a trust anchor."""
        path = folder / "root.pem"
        path.write_bytes(self.root.public_bytes(Encoding.PEM))
        return path

    @property
    def root(self) -> x509.Certificate:
        return self.identity().chain[-1]


def furnish(database: Database, keys: SoftwareKeys, at: datetime) -> None:
    """What :func:`build_house` makes with an officer, for a database that is going to be copied."""
    build_house(database, keys, lambda: at)


def furnish_with_seal(database: Database, keys: SoftwareKeys, at: datetime) -> None:
    """The same with officer and seal."""
    build_house(database, keys, lambda: at, seal=True)


def open_house(database: Database, keys: SoftwareKeys, now: Callable[[], datetime]) -> House:
    """The house in a database that has one."""
    ca = CertificateAuthority(database=database, keys=keys, now=now, config=Config(home=Path()))
    tsa = TimestampAuthority(database=database, keys=keys, now=now, config=TsaConfig())
    house = House(database, keys, now, ca, tsa)
    house.signer = house.signer_with(tsa.stamp)
    return house


def build_house(
    database: Database, keys: SoftwareKeys, now: Callable[[], datetime], *, spec: KeySpec = KeySpec.P_256, seal: bool = False
) -> House:
    """A house whose officer (and seal, when asked for) has a certificate over a key of this kind, usable by the client ``dms``."""
    ca = CertificateAuthority(database=database, keys=keys, now=now, config=Config(home=Path()))
    name = {"organization": "Cơ quan thử nghiệm", "locality": "Cà Mau"}
    root, issuing = (build_subject(common_name=common_name, **name) for common_name in ("Gốc thử nghiệm", "CA thử nghiệm"))
    ca.create_authority("root", subject=root, spec=spec, issuer=None, actor=SYSTEM)
    ca.create_authority("issuing", subject=issuing, spec=spec, issuer="root", actor=SYSTEM)
    unit = build_subject(common_name="Cấp dấu thời gian", **name)
    ca.issue_service(profile="tsa", subject=unit, issuer="issuing", spec=KeySpec.P_256, actor=SYSTEM)
    responder = build_subject(common_name="Trả lời OCSP", **name)
    ca.issue_service(profile="ocsp-responder", subject=responder, issuer="issuing", spec=KeySpec.P_256, actor=SYSTEM)
    with database.write() as db:
        at = now()
        agency = add_agency(db, at=at, actor=SYSTEM, code="H12.34", name="Ủy ban nhân dân xã Thử Nghiệm", locality="Cà Mau")
        people = [(OFFICER, SubscriberKind.OFFICER, "Nguyễn Thị Ký")]
        people += [(SEAL, SubscriberKind.AGENCY, "Ủy ban nhân dân xã Thử Nghiệm")] if seal else []
        add_client(db, at=at, actor=SYSTEM, name=CLIENT.name, role=Role.CLIENT)
        for handle, kind, common_name in people:
            add_subscriber(db, at=at, actor=SYSTEM, handle=handle, kind=kind, common_name=common_name, agency=agency)
            grant(db, at=at, actor=SYSTEM, client=CLIENT.name, subscriber=handle)
    for handle, kind, _ in people:
        profile = "officer" if kind is SubscriberKind.OFFICER else "agency-seal"
        ca.issue_for_key(profile=profile, subscriber=handle, reference="01/PYC", spec=spec, actor=SYSTEM)
    return open_house(database, keys, now)


def sign_pdf(signer: Signer, document: bytes, options: PdfOptions, actor: Actor, image: bytes | None = None) -> bytes:
    """What ``signer`` makes of a document in memory, in memory."""
    signed = signer.sign_pdf(Content.of(document), options, actor, image=image)
    return signed.read(0, signed.size)
