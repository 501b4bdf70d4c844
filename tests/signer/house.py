"""A small house to sign in: two authorities, an agency with seal and officer, a time-stamping unit, software keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import SYSTEM, Actor
from core.content import Content
from core.db import Database
from core.settings import Config, SignerConfig, TsaConfig
from hsm.keys import KeySpec
from pki.ca import CertificateAuthority
from pki.certificates import Identity, signing_identity
from pki.profile import build_subject
from registry.models import Role, SubscriberKind
from registry.registry import add_agency, add_client, add_subscriber, grant
from signer.options import PdfOptions
from signer.service import Signer, TimestampSource
from tests.software_keys import SoftwareKeys
from tsa.authority import TimestampAuthority

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
    signer: Signer

    def identity(self, signer: str = OFFICER) -> Identity:
        with self.database.read() as db:
            return signing_identity(db, client=CLIENT.name, signer=signer, at=self.now())

    def signer_with(self, stamp: TimestampSource) -> Signer:
        return Signer(database=self.database, keys=self.keys, now=self.now, stamp=stamp, font=FONT)

    def root_file(self, folder: Path) -> Path:
        """The root in PEM, for programs that want a trust anchor."""
        path = folder / "root.pem"
        path.write_bytes(self.root.public_bytes(Encoding.PEM))
        return path

    @property
    def root(self) -> x509.Certificate:
        return self.identity().chain[-1]


def build_house(
    database: Database, keys: SoftwareKeys, now: Callable[[], datetime], *, spec: KeySpec = KeySpec.P_256, seal: bool = False
) -> House:
    """A house whose officer (and seal, when asked for) has a certificate over a key of this kind, usable by the client ``dms``."""
    config = Config(home=Path())
    ca = CertificateAuthority(database=database, keys=keys, now=now, config=config)
    name = {"organization": "Cơ quan thử nghiệm", "locality": "Cà Mau"}
    root, issuing = (build_subject(common_name=common_name, **name) for common_name in ("Gốc thử nghiệm", "CA thử nghiệm"))
    ca.create_authority("root", subject=root, spec=spec, issuer=None, actor=SYSTEM)
    ca.create_authority("issuing", subject=issuing, spec=spec, issuer="root", actor=SYSTEM)
    unit = build_subject(common_name="Cấp dấu thời gian", **name)
    ca.issue_service(profile="tsa", subject=unit, issuer="issuing", spec=KeySpec.P_256, actor=SYSTEM)
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
    tsa = TimestampAuthority(database=database, keys=keys, now=now, config=TsaConfig())
    signer = Signer(database=database, keys=keys, now=now, stamp=tsa.stamp, font=FONT)
    return House(database, keys, now, ca, tsa, signer)


def sign_pdf(signer: Signer, document: bytes, options: PdfOptions, actor: Actor, image: bytes | None = None) -> bytes:
    """What ``signer`` makes of a document in memory, in memory."""
    signed = signer.sign_pdf(Content.of(document), options, actor, image=image)
    return signed.read(0, signed.size)
