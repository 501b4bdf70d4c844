"""The gates before a key is used: everything that stands against an act is listed at once, and what passed is written down."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.log import AuditEntry
from core.content import Content
from core.db import Database
from core.errors import Conflict, Refused, Unavailable
from core.settings import HygieneConfig, SignerConfig
from pki.models import Certificate
from registry.registry import agency_with_code, subscriber_named
from signer.gate_models import Activation, ActivationUse, AgencySigningRule, DocumentNumber, SigningAuthorisation
from signer.gates import RULES, Request
from signer.models import Signature
from signer.options import PdfOptions
from signer.signing import Intent
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.gate_house import AGENCY, CLERK, NUMBERER, OUTSIDER, SEAL_PICTURE, Desk, furnish_desk, open_desk
from tests.signer.house import CLIENT, OFFICER, SEAL
from tests.signer.letters import letter, write_pdf
from tests.signer.pdfs import make_pdf, qpdf, text_of
from tests.signer.test_hygiene import build
from tests.software_keys import SoftwareKeys

ISSUE: dict[str, Any] = {"profile": "agency-issue", "signer": SEAL}


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With the desk in it for a test that sits at it."""
    return databases.furnished(furnish_desk) if "desk" in request.fixturenames else databases.plain()


@pytest.fixture
def desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    return open_desk(database, keys, clock)


def refusal(desk: Desk, document: bytes, **options: Any) -> list[tuple[str, str]]:
    """The violations of an act that is refused; no key may have been used for it."""
    with desk.database.read() as db:
        before = db.scalar(sa.select(sa.func.count(Signature.id)))
    with pytest.raises(Refused) as caught:
        desk.sign(document, **options)
    with desk.database.read() as db:
        assert db.scalar(sa.select(sa.func.count(Signature.id))) == before
    return [(one.field, one.message) for one in caught.value.violations]


def issue(desk: Desk, document: bytes, number: str, **options: Any) -> bytes:
    return desk.sign(document, number=number, activation=desk.token(), **{**ISSUE, **options})


def test_everything_that_stands_against_it_is_said_at_once(desk: Desk) -> None:
    violations = refusal(desk, make_pdf(), **ISSUE)
    assert sorted(name for name, _ in violations) == ["activation", "document", "number"]
    assert "/v1/activations" in dict(violations)["activation"]
    assert "profile person first" in dict(violations)["document"]


def test_a_document_with_leader_number_and_activation_is_sealed(desk: Desk) -> None:
    sealed = issue(desk, desk.approved(profile="person"), desk.number())
    with desk.database.read() as db:
        entry = db.scalars(
            sa.select(AuditEntry).where(AuditEntry.action == "signature.intend").order_by(AuditEntry.id.desc())
        ).first()
        row = db.scalar(sa.select(DocumentNumber))
    assert entry is not None
    gates = entry.detail["gates"]
    assert (gates["clerk"], gates["numberer"], gates["number"]) == (CLERK, NUMBERER, "01/QĐ-UBND")
    assert gates["leader"]["subscriber"] == OFFICER
    assert entry.detail["profile"] == "agency-issue"
    assert row is not None
    assert (row.state, row.signature_id) == ("used", entry.detail["id"])
    assert sealed.startswith(b"%PDF")


def test_a_leader_is_found_in_an_encrypted_document_by_its_password(desk: Desk, tmp_path: Path) -> None:
    document = qpdf(tmp_path, make_pdf(), "--encrypt", "mo", "chu", "256", "--")
    approved = desk.sign(document, signer=OFFICER, password="mo")
    assert issue(desk, approved, desk.number(), password="mo").startswith(approved)


def test_the_number_is_drawn_as_the_register_writes_it(desk: Desk, tmp_path: Path) -> None:
    """However the caller wrote it: with a zero before 7 (Nghị định 30/2020/NĐ-CP, Phụ lục I), and with a Vietnamese Đ."""
    assert desk.number(number=7) == "07/QĐ-UBND"
    assert "07/QĐ-UBND" in text_of(tmp_path, issue(desk, desk.approved(), "7/QÐ-UBND"))


def test_a_number_that_is_printed_without_its_zero_is_that_number(desk: Desk, tmp_path: Path) -> None:
    printed = desk.sign(write_pdf([letter(number="Số: 7/QĐ-UBND")]), signer=OFFICER)
    assert desk.number(number=7) == "07/QĐ-UBND"
    assert text_of(tmp_path, issue(desk, printed, "7/QĐ-UBND")).count("7/QĐ-UBND") == 1


def test_a_number_is_used_once(desk: Desk) -> None:
    number = desk.number()
    issue(desk, desk.approved(), number)
    violations = refusal(desk, desk.approved(), number=number, activation=desk.token(), **ISSUE)
    assert violations[0][0] == "number"
    assert "used already" in violations[0][1]


@pytest.mark.parametrize("signer", [OUTSIDER, SEAL])
def test_only_a_leader_of_the_agency_counts(desk: Desk, signer: str) -> None:
    document = desk.sign(make_pdf(), signer=signer, activation=desk.token() if signer == SEAL else None)
    violations = refusal(desk, document, number=desk.number(), activation=desk.token(), **ISSUE)
    assert [name for name, _ in violations] == ["document"]


def test_a_document_is_issued_once(desk: Desk) -> None:
    """Under one number: neither as it was handed out, nor with further signatures behind that."""
    issued = issue(desk, desk.approved(), desk.number())
    for document in (issued, desk.sign(issued, signer=OFFICER)):
        with pytest.raises(Refused) as refused:
            issue(desk, document, desk.number())
        assert [(one.field, "issued by H12.34 already" in one.message) for one in refused.value.violations] == [("document", True)]


def test_initials_make_no_leader(desk: Desk) -> None:
    document = desk.approved(profile="initial")
    violations = refusal(desk, document, number=desk.number(), activation=desk.token(), **ISSUE)
    assert "initial only" in violations[0][1]


def test_a_signature_with_something_else_changed_after_it_does_not_count(desk: Desk) -> None:
    document = desk.approved()
    spoilt = document.replace(b"(Xin", b"(Xem", 1) if b"(Xin" in document else document[:700] + b"X" + document[701:]
    violations = refusal(desk, spoilt, number=desk.number(), activation=desk.token(), **ISSUE)
    assert any("not valid" in message for _, message in violations)


def authorise(desk: Desk, capacity: str = "TUQ", kinds: tuple[str, ...] = ("QĐ",), days: float = 30, since: float = -1) -> None:
    with desk.database.write() as db:
        db.add(
            SigningAuthorisation(
                agency_id=agency_with_code(db, AGENCY).id,
                subscriber_id=subscriber_named(db, OUTSIDER).id,
                granted_by_id=subscriber_named(db, OFFICER).id,
                capacity=capacity,
                reference="12/GUQ-UBND",
                content="Quyết định về nhân sự",
                kinds=list(kinds),
                since=desk.clock() + timedelta(days=since),
                until=desk.clock() + timedelta(days=days),
                recorded_at=desk.clock(),
                recorded_by="admin",
                withdrawn_at=None,
            )
        )


def test_an_authorisation_on_record_lets_somebody_else_sign(desk: Desk) -> None:
    authorise(desk)
    issue(desk, desk.approved(OUTSIDER), desk.number())
    with desk.database.read() as db:
        entries = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "signature.intend")).all()
    assert entries[-1].detail["gates"]["leader"]["authorisation"] == "TUQ 12/GUQ-UBND"


@pytest.mark.parametrize(("kinds", "days", "since"), [(("TB",), 30, -1), (("QĐ",), -0.5, -1), (("QĐ",), 30, 1)])
def test_an_authorisation_is_limited_in_time_and_content(desk: Desk, kinds: tuple[str, ...], days: float, since: float) -> None:
    authorise(desk, kinds=kinds, days=days, since=since)
    violations = refusal(desk, desk.approved(OUTSIDER), number=desk.number(), activation=desk.token(), **ISSUE)
    assert "no authorisation" in violations[0][1]


def test_leader_numberer_and_sealer_are_three_people(desk: Desk) -> None:
    by_leader = refusal(desk, desk.approved(), number=desk.number(person=OFFICER), activation=desk.token(), **ISSUE)
    by_clerk = refusal(desk, desk.approved(), number=desk.number(person=CLERK), activation=desk.token(), **ISSUE)
    by_nobody = refusal(desk, desk.approved(), number="77/QĐ-UBND", activation=desk.token(), **ISSUE)
    leader_seals = refusal(desk, desk.approved(CLERK), number=desk.number(), activation=desk.token(), **ISSUE)
    found = [[name for name, _ in one] for one in (by_leader, by_clerk, by_nobody, leader_seals)]
    assert found == [["number"], ["number"], ["number"], ["activation"]]


@pytest.mark.parametrize(("days", "passes"), [(None, True), (1, True), (-1, False)])
def test_an_agency_may_decide_that_one_person_does_several(desk: Desk, days: int | None, passes: bool) -> None:
    with desk.database.write() as db:
        until = None if days is None else desk.clock() + timedelta(days=days)
        agency = agency_with_code(db, AGENCY).id
        rule = {"one_person": "05/QĐ-UBND", "one_person_until": until, "one_series": False}
        db.add(AgencySigningRule(agency_id=agency, **rule, changed_at=desk.clock(), changed_by="admin"))
    if passes:
        issue(desk, desk.approved(CLERK), "77/QĐ-UBND")
    else:
        assert refusal(desk, desk.approved(CLERK), number="77/QĐ-UBND", activation=desk.token(), **ISSUE)


def test_an_annex_names_a_number_that_was_issued(desk: Desk) -> None:
    number = desk.number()
    annex: dict[str, Any] = {"profile": "appendix", "signer": SEAL, "number": number}
    before = refusal(desk, make_pdf(), activation=desk.token(), **annex)
    issue(desk, desk.approved(), number)
    signed = desk.sign(make_pdf(), activation=desk.token(), **annex)
    assert before[0][0] == "number"
    assert signed.startswith(b"%PDF")


@pytest.mark.parametrize("profile", sorted(set(RULES) - {"agency-issue", "appendix"}))
def test_a_secret_document_is_refused_whatever_the_profile(desk: Desk, profile: str) -> None:
    extra = {"copy_kind": "sao-y"} if profile == "copy" else {"comment": "Chuyển"} if profile == "comment" else {}
    signer = OFFICER if profile in ("plain", "person", "initial", "comment") else SEAL
    violations = refusal(desk, make_pdf(), profile=profile, signer=signer, secrecy="Tối Mật", **extra)
    assert "secrecy" in [name for name, _ in violations]


def test_what_could_change_its_looks_and_a_mark_on_the_page_are_refused_for_official_documents(desk: Desk) -> None:
    script = build(catalog=b"/OpenAction<</S/JavaScript/JS(x)>>")
    marked = write_pdf([[("bold", 13, 70, 706, "TUYỆT MẬT")]])
    assert "JAVASCRIPT" in refusal(desk, script, profile="person", signer=OFFICER)[0][1]
    assert "TUYỆT MẬT" in refusal(desk, marked, profile="person", signer=OFFICER)[0][1]
    assert desk.sign(script, signer=OFFICER)
    report = HygieneConfig(javascript="report")
    desk.house.signer._gates = desk.house.gates(SignerConfig(hygiene=report))
    desk.approved(profile="person")
    desk.sign(script, profile="person", signer=OFFICER)
    with desk.database.read() as db:
        entries = db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "signature.intend").order_by(AuditEntry.id)).all()
    assert [entry.detail["gates"].get("hygiene") for entry in entries[-2:]] == [None, ["JAVASCRIPT"]]


def test_all_documents_are_read_for_marks_where_that_is_configured(desk: Desk) -> None:
    marked = write_pdf([[("bold", 13, 70, 706, "MẬT")]])
    assert desk.sign(marked, signer=OFFICER)
    desk.house.signer._gates = desk.house.gates(SignerConfig(secrecy="all"))
    assert refusal(desk, marked, signer=OFFICER)[0][0] == "document"


def test_a_key_with_a_pin_signs_nothing_without_it(desk: Desk) -> None:
    """Neither the way around the gates' list: the intent itself asks."""
    with pytest.raises(Refused, match="only under an activation"):
        desk.sign(make_pdf(), signer=SEAL)
    assert desk.sign(make_pdf(), signer=SEAL, activation=desk.token())
    assert desk.sign(make_pdf(), signer=OFFICER)


def test_what_a_given_up_signature_took_is_given_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number, token = desk.number(), desk.token()
    document = desk.approved()

    def away(_label: str) -> None:
        raise Unavailable("hsm", "away")

    with monkeypatch.context() as patch:
        patch.setattr(desk.house.keys, "key", away)
        with pytest.raises(Unavailable):
            desk.sign(document, number=number, activation=token, **ISSUE)
    desk.sign(document, number=number, activation=token, **ISSUE)
    with desk.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(ActivationUse)) == 1


def test_what_a_crash_left_taken_is_given_back_by_reconcile(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        """The process dies."""

    def die(_label: str) -> None:
        raise Crash

    number, token, document = desk.number(), desk.token(), desk.approved()
    with monkeypatch.context() as patch:
        patch.setattr(desk.house.keys, "key", die)
        with pytest.raises(Crash):
            desk.sign(document, number=number, activation=token, **ISSUE)
    violations = refusal(desk, desk.approved(), number=number, activation=token, **ISSUE)
    assert [name for name, _ in violations] == ["activation", "number"]
    desk.clock.move(minutes=3)
    assert desk.house.signer.reconcile(desk.clock() - timedelta(minutes=2)) == 1
    desk.sign(document, number=number, activation=token, **ISSUE)


def test_a_permit_that_takes_the_key_twice_is_used_up_once(desk: Desk) -> None:
    """A hole that was too small: the second signature takes over what the first had."""
    signer, number = desk.house.signer, desk.number()
    identity = desk.house.identity(SEAL)
    wanted = Request(
        "agency-issue", identity, CLIENT, "00" * 32, Content.of(desk.approved()), number=number, activation=desk.token()
    )
    intent = Intent(identity, CLIENT, "pdf", "B-B", "00" * 32, desk.house.gates().check(wanted))
    for _ in range(2):
        signer._keys.sign(b"data", intent)
    with desk.database.read() as db:
        last = db.scalar(sa.select(sa.func.max(Signature.id)))
        assert db.scalars(sa.select(DocumentNumber.signature_id)).all() == [last]
        assert db.execute(sa.select(ActivationUse.signature_id, Activation.used).join(Activation)).all() == [(last, 1)]


def test_the_number_of_a_document_that_never_came_out_is_given_back(desk: Desk) -> None:
    def away(_data: bytes, _actor: object) -> bytes:
        raise Unavailable("tsa", "away")

    document, number = desk.approved(), desk.number()
    options = PdfOptions.model_validate(
        {**ISSUE, "rectangle": "9,9,99,99", "number_rectangle": "60,700,260,720", "level": "B-T", "number": number}
    )
    with pytest.raises(Unavailable):
        desk.house.signer_with(away).sign_pdf(Content.of(document), options, CLIENT, SEAL_PICTURE, activation=desk.token())
    assert issue(desk, document, number)


def test_a_certificate_revoked_after_the_gates_is_not_used(desk: Desk) -> None:
    signer = desk.house.signer
    identity = desk.house.identity()
    with desk.database.write() as db:
        db.execute(sa.update(Certificate).where(Certificate.serial == identity.serial).values(revoked_at=desk.clock()))
    with pytest.raises(Conflict, match="revoked or suspended"):
        signer._keys.sign(b"data", Intent(identity, CLIENT, "pdf", "B-B", "00" * 32))
