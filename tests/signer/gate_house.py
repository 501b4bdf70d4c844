"""A house with the people an official document takes: a leader, a numberer and a clerk of one agency, and its seal."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from audit.log import SYSTEM, Actor
from core.content import Content
from core.db import Database
from core.settings import ActivationConfig, Config
from hsm.keys import KeySpec
from pki.crl import CrlPublisher
from registry.models import SubscriberKind
from registry.registry import add_agency, add_subscriber, agency_with_code, grant
from signer.activation import Activations, Proof, Scope
from signer.activation_holders import ActivationHolders
from signer.options import PdfOptions
from signer.register import Register, Wanted
from tests.conftest import Clock
from tests.signer.house import CLIENT, OFFICER, SEAL, House, build_house
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
class Desk:
    """What a test needs of the house and its gates."""

    house: House
    clock: Clock
    register: Register
    activations: Activations
    holders: ActivationHolders

    @property
    def database(self) -> Database:
        return self.house.database

    def sign(self, document: bytes, *, activation: str | None = None, actor: Actor = CLIENT, **options: object) -> bytes:
        """Sign at B-B, as ``options`` say; an official profile with a picture, at a place of its own."""
        profile = options.get("profile", "plain")
        places = {} if profile == "plain" else {"rectangle": "300,100,420,220"}
        if profile == "agency-issue" and "number" in options:
            places |= {"number_rectangle": "60,700,260,720"}
        wanted = PdfOptions.model_validate({"level": "B-B", **places, **options})
        image = PICTURES.get(str(profile))
        signed = self.house.signer.sign_pdf(Content.of(document), wanted, actor, image, activation=activation)
        return signed.read(0, signed.size)

    def approved(self, signer: str = OFFICER, **options: object) -> bytes:
        """A document its leader signed."""
        return self.sign(make_pdf(), signer=signer, **options)

    def number(self, symbol: str = "QĐ-UBND", person: str = NUMBERER, number: int | None = None) -> str:
        """A number held for the document."""
        return self.register.hold(AGENCY, Wanted(symbol, person, number=number), CLIENT).text

    def token(self, person: str = CLERK, scope: Scope | None = None, minutes: int = 5) -> str:
        """An activation of the seal by its clerk."""
        proof = Proof(PIN, None)
        return self.activations.activate(SEAL, person, proof, scope or Scope(), minutes=minutes, actor=CLIENT)[0]

    def give_pin(self, person: str = CLERK, key: str = SEAL, pin: str = PIN) -> None:
        """Let a person activate the key with a PIN of their own."""
        given = self.holders.give(key, person, "pin", ADMIN)
        self.activations.change_pin(key, person, Proof(given.pin, None), new=pin, actor=CLIENT)


def build_desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    """A desk whose clerk has a PIN; the officer of another agency has a key as well."""
    house = build_house(database, keys, clock, seal=True)
    with database.write() as db:
        at = clock()
        agency = agency_with_code(db, AGENCY)
        other = add_agency(db, at=at, actor=SYSTEM, code=ELSEWHERE, name="Ủy ban nhân dân xã Khác", locality="Cà Mau")
        people = ((CLERK, "Lê Văn Thư", agency), (NUMBERER, "Trần Cấp Số", agency), (OUTSIDER, "Phạm Nơi Khác", other))
        for handle, name, of in people:
            add_subscriber(db, at=at, actor=SYSTEM, handle=handle, kind=SubscriberKind.OFFICER, common_name=name, agency=of)
        for handle in (OUTSIDER, CLERK):
            grant(db, at=at, actor=SYSTEM, client=CLIENT.name, subscriber=handle)
    for handle in (OUTSIDER, CLERK):
        house.ca.issue_for_key(profile="officer", subscriber=handle, reference="02/PYC", spec=KeySpec.P_256, actor=SYSTEM)
    publisher = CrlPublisher(database=database, keys=keys, now=clock, config=Config(home=Path()))
    for authority in ("root", "issuing"):
        publisher.publish(authority, actor=SYSTEM)
    desk = Desk(
        house,
        clock,
        Register(database=database, now=clock),
        Activations(database=database, now=clock, config=ActivationConfig()),
        ActivationHolders(database=database, now=clock),
    )
    desk.give_pin()
    return desk
