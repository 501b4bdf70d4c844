"""A house with the people an official document takes: a leader, a numberer and a clerk of one agency, and its seal."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from PIL import Image

from audit.log import SYSTEM, Actor
from core.content import Content
from core.db import Database
from core.settings import ActivationConfig, Config
from hsm.keys import KeySpec
from pki.crl import CrlPublisher
from registry.models import Role, SubscriberKind
from registry.registry import add_agency, add_client, add_subscriber, agency_with_code, grant, subscriber_named
from signer.activation import Activations, Proof, Scope
from signer.activation_holders import ActivationHolders
from signer.gate_models import ActivationHolder
from signer.options import PdfOptions
from signer.register import Register, Wanted
from tests.conftest import Clock
from tests.signer.house import CLIENT, OFFICER, SEAL, House, build_house, open_house
from tests.signer.pdfs import make_pdf
from tests.software_keys import SoftwareKeys

ADMIN = Actor("admin", "admin", "request-2")
AGENCY, ELSEWHERE = "H12.34", "H12.35"
CLERK, NUMBERER, OUTSIDER = "le-van-thu", "tran-cap-so", "pham-noi-khac"
PIN = "t6-b9-q2"


def _picture(colour: tuple[int, int, int]) -> bytes:
    image = Image.new("RGBA", (60, 60), (*colour, 255))
    image.paste((0, 0, 0, 0), (15, 15, 45, 45))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


SEAL_PICTURE = _picture((220, 0, 0))
PICTURES = {"agency-issue": SEAL_PICTURE, "person": _picture((0, 0, 200)), "initial": _picture((0, 0, 200))}


@dataclass
class Office:
    """The people of an agency and what is kept about them; nobody has a certificate."""

    database: Database
    clock: Clock

    def __post_init__(self) -> None:
        self.register = Register(database=self.database, now=self.clock)
        self.activations = Activations(database=self.database, now=self.clock, config=ActivationConfig())
        self.holders = ActivationHolders(database=self.database, now=self.clock)

    def number(self, symbol: str = "QĐ-UBND", person: str = NUMBERER, number: int | None = None) -> str:
        """A number held for the document."""
        return self.register.hold(AGENCY, Wanted(symbol, person, number=number), CLIENT).text

    def token(self, person: str = CLERK, scope: Scope | None = None, minutes: int = 5) -> str:
        """An activation of the seal by its clerk."""
        proof = Proof(PIN, None)
        return self.activations.activate(SEAL, person, proof, scope or Scope(), minutes=minutes, actor=CLIENT)[0]


@dataclass
class Desk(Office):
    """The same in a house with certificates and keys."""

    house: House

    def sign(self, document: bytes, *, activation: str | None = None, actor: Actor = CLIENT, **options: Any) -> bytes:
        """Sign at B-B, as ``options`` say; an official profile with a picture, at a place of its own."""
        profile = options.get("profile", "plain")
        places = {} if profile == "plain" else {"rectangle": "300,100,420,220"}
        if profile == "agency-issue" and "number" in options:
            places |= {"number_rectangle": "60,700,260,720"}
        wanted = PdfOptions.model_validate({"level": "B-B", **places, **options})
        image = PICTURES.get(str(profile))
        signed = self.house.signer.sign_pdf(Content.of(document), wanted, actor, image, activation=activation)
        return signed.read(0, signed.size)

    def approved(self, signer: str = OFFICER, **options: Any) -> bytes:
        """A document its leader signed."""
        return self.sign(make_pdf(), signer=signer, **options)


def build_office(database: Database, clock: Clock) -> Office:
    """An office whose clerk has a PIN."""
    at = clock()
    with database.write() as db:
        agency = add_agency(db, at=at, actor=SYSTEM, code=AGENCY, name="Ủy ban nhân dân xã Thử Nghiệm", locality="Cà Mau")
        add_client(db, at=at, actor=SYSTEM, name=CLIENT.name, role=Role.CLIENT)
        for handle, kind in ((OFFICER, SubscriberKind.OFFICER), (SEAL, SubscriberKind.AGENCY)):
            add_subscriber(db, at=at, actor=SYSTEM, handle=handle, kind=kind, common_name="Tên", agency=agency)
            grant(db, at=at, actor=SYSTEM, client=CLIENT.name, subscriber=handle)
    _add_people(database, at)
    return Office(database, clock)


def open_desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    """The desk in a database that has one."""
    return Desk(database, clock, open_house(database, keys, clock))


def furnish_desk(database: Database, keys: SoftwareKeys, at: datetime) -> None:
    """What :func:`build_desk` makes, for a database that is going to be copied."""
    build_desk(database, keys, Clock(at))


def build_desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    """A desk whose clerk has a PIN; the officer of another agency has a key as well."""
    house = build_house(database, keys, clock, seal=True)
    _add_people(database, clock())
    with database.write() as db:
        for handle in (OUTSIDER, CLERK):
            grant(db, at=clock(), actor=SYSTEM, client=CLIENT.name, subscriber=handle)
    for handle in (OUTSIDER, CLERK):
        house.ca.issue_for_key(profile="officer", subscriber=handle, reference="02/PYC", spec=KeySpec.P_256, actor=SYSTEM)
    publisher = CrlPublisher(database=database, keys=keys, now=clock, config=Config(home=Path()))
    for authority in ("root", "issuing"):
        publisher.publish(authority, actor=SYSTEM)
    return Desk(database, clock, house)


def _add_people(database: Database, at: datetime) -> None:
    with database.write() as db:
        agency = agency_with_code(db, AGENCY)
        other = add_agency(db, at=at, actor=SYSTEM, code=ELSEWHERE, name="Ủy ban nhân dân xã Khác", locality="Cà Mau")
        people = ((CLERK, "Lê Văn Thư", agency), (NUMBERER, "Trần Cấp Số", agency), (OUTSIDER, "Phạm Nơi Khác", other))
        for handle, name, of in people:
            add_subscriber(db, at=at, actor=SYSTEM, handle=handle, kind=SubscriberKind.OFFICER, common_name=name, agency=of)
        key, person = subscriber_named(db, SEAL).id, subscriber_named(db, CLERK).id
        states = {"pin_initial": False, "otp_step": 0, "failures": 0, "changes": 1}
        db.add(ActivationHolder(key_id=key, person_id=person, pin_hash=_cheap_hash(), **states))


@functools.cache
def _cheap_hash() -> str:
    """The clerk's PIN, hashed with little work: what the work is stands in the hash."""
    return Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=64).derive_phc_encoded(PIN.encode())
