"""What becomes of a number when the making of its document is cut off: no two documents ever come out with one number."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from audit.log import AuditEntry
from core.content import Content
from core.db import Database
from core.errors import Conflict, Refused, Unavailable
from registry.agencies import VIETNAM
from signer import pdf
from signer.models import VerificationPage
from signer.register import HELD_FOR
from signer.signing import RecordedKeys
from signer.verification_pages import find_page
from tests.conftest import Clock
from tests.signer.gate_house import ADMIN, AGENCY, CLERK, Desk, build_desk
from tests.signer.house import CLIENT, SEAL
from tests.software_keys import SoftwareKeys

ISSUE: dict[str, Any] = {"profile": "agency-issue", "signer": SEAL}


@pytest.fixture
def desk(database: Database, keys: SoftwareKeys, clock: Clock) -> Desk:
    return build_desk(database, keys, clock)


class Killed(BaseException):
    """The process ends: nothing of ours runs any more."""


def cut_off(desk: Desk, document: bytes, number: str, patch: pytest.MonkeyPatch) -> None:
    """Sign up to the key's use and its record, and no further."""

    def die(*_: object) -> Content:
        raise Killed

    with patch.context() as patched:
        patched.setattr(pdf, "finish", die)
        with pytest.raises(Killed):
            desk.sign(document, number=number, activation=desk.token(), **ISSUE)


def this_year(desk: Desk) -> int:
    """The register's, which begins seven hours before that of the clock."""
    return desk.clock().astimezone(VIETNAM).year


def state(desk: Desk, number: str) -> str:
    return desk.register.find(AGENCY, number, this_year(desk)).state


def told(desk: Desk, action: str) -> list[dict[str, Any]]:
    with desk.database.read() as db:
        return [entry.detail for entry in db.scalars(sa.select(AuditEntry).where(AuditEntry.action == action))]


def pages(desk: Desk) -> list[bool]:
    """In the order they were opened, whether each can be found."""
    with desk.database.read() as db:
        codes = db.scalars(sa.select(VerificationPage.code).order_by(VerificationPage.id)).all()
        return [find_page(db, code, desk.clock()) is not None for code in codes]


def test_a_number_is_used_when_its_document_is_complete_and_not_before(desk: Desk) -> None:
    number = desk.number()
    desk.sign(desk.approved(), number=number, activation=desk.token(), **ISSUE)
    assert state(desk, number) == "used"
    (entry,) = told(desk, "number.use")
    assert entry["series"] == "QĐ"


def test_the_same_document_takes_its_number_up_again_and_no_other_does(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number, document = desk.number(), desk.approved()
    cut_off(desk, document, number, monkeypatch)
    assert state(desk, number) == "open"
    desk.clock.move(minutes=1)
    with pytest.raises(Refused, match="is being signed, or was"):
        desk.sign(desk.approved(), number=number, activation=desk.token(), **ISSUE)
    with pytest.raises(Refused, match="is being signed, or was"):
        desk.number(number=1)
    assert desk.sign(document, number=number, activation=desk.token(), **ISSUE).startswith(document)
    assert state(desk, number) == "used"
    with pytest.raises(Refused, match="used already"):
        desk.sign(document, number=number, activation=desk.token(), **ISSUE)


def test_of_two_that_sign_one_document_only_the_later_comes_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is slow; meanwhile its client has given up waiting and sent it again."""
    number, document, finish = desk.number(), desk.approved(), pdf.finish
    came: list[bytes] = []

    def slow(*given: Any) -> Content:
        monkeypatch.setattr(pdf, "finish", finish)
        came.append(desk.sign(document, number=number, activation=desk.token(), **ISSUE))
        return finish(*given)

    monkeypatch.setattr(pdf, "finish", slow)
    with pytest.raises(Conflict, match="given back while the document was being signed"):
        desk.sign(document, number=number, activation=desk.token(), **ISSUE)
    assert len(came) == 1
    assert state(desk, number) == "used"


@pytest.mark.parametrize("actor", [CLIENT, ADMIN])
def test_a_number_that_was_cut_off_is_given_back_with_a_reason(desk: Desk, monkeypatch: pytest.MonkeyPatch, actor: Any) -> None:
    number, document = desk.number(), desk.approved()
    cut_off(desk, document, number, monkeypatch)
    desk.register.let_go(AGENCY, number, this_year(desk), actor, reason="máy chủ mất điện")
    assert state(desk, number) == "free"
    assert told(desk, "number.let-go") == [{"series": "QĐ", "before": "open", "reason": "máy chủ mất điện"}]
    assert desk.number() == number


def test_a_document_whose_number_was_given_back_meanwhile_does_not_come_out(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number, finish = desk.number(), pdf.finish

    def slow(*given: Any) -> Content:
        desk.register.let_go(AGENCY, number, this_year(desk), ADMIN, reason="nhầm")
        assert desk.number() == number  # somebody else has it by now
        return finish(*given)

    monkeypatch.setattr(pdf, "finish", slow)
    with pytest.raises(Conflict, match="given back"):
        desk.sign(desk.approved(), number=number, activation=desk.token(), **ISSUE)
    assert state(desk, number) == "held"


def test_the_page_of_a_document_that_did_not_come_out_is_not_found(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number, document, finish = desk.number(), desk.approved(), pdf.finish

    def slow(*given: Any) -> Content:
        desk.register.let_go(AGENCY, number, this_year(desk), ADMIN, reason="nhầm")
        return finish(*given)

    monkeypatch.setattr(pdf, "finish", slow)
    with pytest.raises(Conflict, match="given back"):
        desk.sign(document, number=number, activation=desk.token(), qr=True, **ISSUE)
    assert pages(desk) == [False]


def test_number_and_page_count_together_or_not_at_all(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number = desk.number()

    def away(*_: object, **__: object) -> int:
        raise Unavailable("database", "it went away")

    with monkeypatch.context() as patched:
        patched.setattr("signer.signing.publish_page", away)
        with pytest.raises(Unavailable):
            desk.sign(desk.approved(), number=number, activation=desk.token(), qr=True, **ISSUE)
    assert (state(desk, number), told(desk, "number.use"), pages(desk)) == ("held", [], [False])
    desk.sign(desk.approved(), number=number, activation=desk.token(), qr=True, **ISSUE)
    assert (state(desk, number), len(told(desk, "number.use")), pages(desk)) == ("used", 1, [False, True])


def test_a_used_number_is_never_given_back_and_a_void_one_is_nobodys(desk: Desk) -> None:
    number, year = desk.number(), this_year(desk)
    document = desk.approved()
    desk.sign(document, number=number, activation=desk.token(), **ISSUE)
    for actor in (CLIENT, ADMIN):
        with pytest.raises(Conflict, match="its document may have left; a number is had once a year"):
            desk.register.let_go(AGENCY, number, year, actor, reason="nhầm")
    desk.register.void(AGENCY, number, year, ADMIN, reason="không nhận được văn bản")
    assert told(desk, "number.void") == [{"series": "QĐ", "before": "used", "reason": "không nhận được văn bản"}]
    with pytest.raises(Refused, match="is void"):
        desk.sign(document, number=number, activation=desk.token(), **ISSUE)
    with pytest.raises(Conflict, match="void for good"):
        desk.register.let_go(AGENCY, number, year, ADMIN, reason="nhầm")
    with pytest.raises(Conflict, match="void already"):
        desk.register.void(AGENCY, number, year, ADMIN, reason="nhầm")
    with pytest.raises(Conflict, match="not taken"):
        desk.register.void(AGENCY, "99/QĐ-UBND", year, ADMIN, reason="nhầm")
    assert desk.number() == "02/QĐ-UBND"


def test_a_number_stays_used_when_the_database_is_lost_right_after_it_was_written_down(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says that it is used, and nobody is told so: the document was not handed out, and yet no other has its number."""

    def hand_out(keys: RecordedKeys, *given: Any) -> None:
        original(keys, *given)
        raise Unavailable("database", "the connection was lost")

    number, document = desk.number(), desk.approved()
    original = RecordedKeys.hand_out
    monkeypatch.setattr(RecordedKeys, "hand_out", hand_out)
    with pytest.raises(Unavailable):
        desk.sign(document, number=number, activation=desk.token(), **ISSUE)
    assert state(desk, number) == "used"
    assert len(told(desk, "number.use")) == 1


def test_a_client_gives_back_its_own_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number = desk.number()
    cut_off(desk, desk.approved(), number, monkeypatch)
    other = type(CLIENT)("other", "client", "request-9")
    with pytest.raises(Conflict, match="not held by other"):
        desk.register.let_go(AGENCY, number, this_year(desk), other, reason="thử")


def test_what_nobody_took_up_again_is_given_back_after_half_an_hour(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    number, document = desk.number(), desk.approved()
    cut_off(desk, document, number, monkeypatch)
    desk.clock.move(minutes=5)
    desk.house.signer.reconcile(desk.clock() - timedelta(minutes=2))
    assert state(desk, number) == "open"
    desk.clock.at += HELD_FOR
    desk.house.signer.reconcile(desk.clock() - timedelta(minutes=2))
    assert state(desk, number) == "held"  # by its numberer, for half an hour more
    assert told(desk, "number.release") == [{"series": "QĐ", "why": "its document was never completed"}]
    assert desk.sign(document, number=number, activation=desk.token(), **ISSUE)


def test_a_failure_after_the_key_gives_the_number_back_at_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> Content:
        raise Unavailable("tsa", "is away")

    number, document = desk.number(), desk.approved()
    monkeypatch.setattr(pdf, "finish", away)
    with pytest.raises(Unavailable):
        desk.sign(document, number=number, activation=desk.token(CLERK), **ISSUE)
    assert state(desk, number) == "held"
