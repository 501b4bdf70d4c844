"""The pages that QR codes lead to: opened with the intent, found only once the file has left, and nothing in them to guess."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import SYSTEM, AuditEntry
from core.db import Database
from core.errors import Unavailable
from core.settings import Config
from pki.crl import CrlPublisher
from pki.models import ExternalCertificate
from pki.revocation import Revocations
from registry.models import Subscriber
from signer.models import Signature, VerificationPage
from signer.options import PdfOptions
from signer.verification_pages import CODE_BITS, PublishedSignature, draft_page, find_page, format_code, parse_code
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.house import CLIENT, SEAL, House, furnish_with_seal, open_house, sign_pdf
from tests.signer.letters import appendix, write_pdf
from tests.software_keys import SoftwareKeys

OPTIONS = PdfOptions(profile="incoming", signer=SEAL, number="321", rectangle="20,700,170,790", level="B-T", qr=True)


@pytest.fixture
def furnished(databases: Databases) -> Furnished:
    return databases.furnished(furnish_with_seal)


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    return open_house(database, keys, clock)


def published(house: House) -> tuple[PublishedSignature, bytes]:
    signed = sign_pdf(house.signer, write_pdf([appendix()]), OPTIONS, CLIENT)
    with house.database.read() as db:
        page = find_page(db, db.scalars(sa.select(VerificationPage.code)).one(), house.now())
    assert page is not None
    return page, signed


def test_the_page_says_what_the_document_says_and_not_who_asked_for_it(house: House) -> None:
    page, signed = published(house)
    assert (page.profile, page.level, page.number, page.issued_on) == ("incoming", "B-T", "321", None)
    assert (page.sha256, page.size) == (hashlib.sha256(signed).hexdigest(), len(signed))
    assert page.certificate == house.identity(SEAL).certificate
    told = repr([getattr(page, item.name) for item in fields(page)])
    assert not [secret for secret in (CLIENT.name, CLIENT.request_id, house.identity(SEAL).key_label) if secret in told]
    with house.database.read() as db:
        entry = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "signature.publish")).one()
    assert (entry.detail["page"], entry.detail["sha256"]) == (page.code, page.sha256)


def test_a_document_that_never_left_has_no_page(house: House) -> None:
    def away(*_: Any) -> bytes:
        raise Unavailable("tsa", "it is away")

    with pytest.raises(Unavailable):
        sign_pdf(house.signer_with(away), write_pdf([appendix()]), OPTIONS, CLIENT)
    with house.database.read() as db:
        code = db.scalars(sa.select(VerificationPage.code)).one()
        assert find_page(db, code, house.now()) is None


def test_the_certificate_is_shown_as_it_is_now(house: House, clock: Clock) -> None:
    page, _ = published(house)
    crl = CrlPublisher(database=house.database, keys=house.keys, now=house.now, config=Config(home=Path()))
    revocations = Revocations(database=house.database, crl=crl, now=clock)
    serial = house.identity(SEAL).serial
    assert found(house, page.code) == ("good", None)
    clock.move(hours=1)
    revocations.suspend(serial, actor=SYSTEM)
    assert found(house, page.code) == ("suspended", clock())
    revocations.resume(serial, actor=SYSTEM)
    assert found(house, page.code) == ("good", None)
    began = clock()
    clock.move(days=2000)
    assert found(house, page.code) == ("expired", page.certificate.not_valid_after_utc)
    clock.at = began
    revocations.revoke(serial, reason="keyCompromise", actor=SYSTEM)
    clock.move(days=2000)
    assert found(house, page.code) == ("revoked", began)


def test_of_a_certificate_of_another_authority_the_status_is_not_known_here(house: House) -> None:
    page, _ = published(house)
    certificate = house.identity().certificate
    with house.database.write() as db:
        row = db.scalars(sa.select(Signature)).one()
        row.serial, row.key_label = "abc", "their-key"
        subscriber_id = db.scalars(sa.select(Subscriber.id)).first()
        external = ExternalCertificate(
            subscriber_id=subscriber_id,
            key_label="their-key",
            spki_sha256="00",
            requested_at=house.now(),
            serial="abc",
            domain="cong-vu",
            der=certificate.public_bytes(Encoding.DER),
        )
        db.add(external)
    with house.database.read() as db:
        shown = find_page(db, page.code, house.now())
    assert shown is not None
    assert (shown.certificate, shown.status, shown.since) == (certificate, "unknown", None)


def found(house: House, code: str) -> tuple[str, Any]:
    with house.database.read() as db:
        page = find_page(db, code, house.now())
    assert page is not None
    return page.status, page.since


def test_a_code_is_random_and_read_as_people_write_it() -> None:
    codes = {draft_page(PdfOptions()).code for _ in range(1000)}
    assert len(codes) == 1000
    assert CODE_BITS >= 100
    code = "0123456789ABCDEFGHJK"
    assert format_code(code) == "0123-4567-89AB-CDEF-GHJK"
    assert parse_code(" oi23-4567-89ab-cdef-ghjk ") == code
    for wrong in ("", code[:-1], code + "0", "U" + code[1:], "%" + code[1:], "\u0660" + code[1:], "\u212a" + code[1:]):
        assert parse_code(wrong) is None


def test_the_draft_takes_number_and_date_along() -> None:
    options = PdfOptions(profile="agency-issue", number="12/UBND-VP", issued_on=date(2025, 4, 5), qr=True)
    draft = draft_page(options)
    assert (draft.number, draft.issued_on) == ("12/UBND-VP", date(2025, 4, 5))
