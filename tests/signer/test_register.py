"""The register of numbers: each is had once a year, in its series, in Vietnamese time."""

from __future__ import annotations

import multiprocessing
import unicodedata
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM, Actor
from core.db import Database
from core.errors import Conflict, Forbidden, NotFound, Refused, Rejected
from registry.models import Role, SubscriberKind
from registry.registry import add_agency, add_client, add_subscriber, agency_with_code, grant
from signer.gate_models import AgencySigningRule, DocumentNumber, NumberState
from signer.numbers import parse_number, parse_symbol, series_of
from signer.register import Register, Wanted, build_claim, release_numbers, use_number
from tests.conftest import Clock

DMS, OTHER = Actor("dms", "client"), Actor("other", "client")
CODE, PERSON = "H12.34", "tran-cap-so"


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 12, 31, 16, 59, tzinfo=UTC))  # 23:59 in Vietnam


@pytest.fixture
def register(database: Database, clock: Clock) -> Register:
    with database.write() as db:
        at = clock()
        agency = add_agency(db, at=at, actor=SYSTEM, code=CODE, name="Ủy ban nhân dân xã Thử Nghiệm", locality="Cà Mau")
        strange = add_agency(db, at=at, actor=SYSTEM, code="H12.35", name="Ủy ban nhân dân xã Khác", locality="Cà Mau")
        people = [
            (PERSON, SubscriberKind.OFFICER, agency),
            ("dau", SubscriberKind.AGENCY, agency),
            ("la", SubscriberKind.OFFICER, strange),
        ]
        for handle, kind, of in people:
            add_subscriber(db, at=at, actor=SYSTEM, handle=handle, kind=kind, common_name="Tên", agency=of)
        for actor, subscriber in ((DMS, "dau"), (OTHER, "dau"), (Actor("third", "client"), "la")):
            add_client(db, at=at, actor=SYSTEM, name=actor.name, role=Role.CLIENT)
            grant(db, at=at, actor=SYSTEM, client=actor.name, subscriber=subscriber)
    return Register(database=database, now=clock)


def hold(register: Register, symbol: str = "QĐ-UBND", actor: Actor = DMS, **wanted: object) -> str:
    return register.hold(CODE, Wanted(symbol, PERSON, **wanted), actor).text  # type: ignore[arg-type]


def use(database: Database, text: str, at: datetime, client: str = "dms") -> int:
    """Use a number up, without a signature behind it."""
    with database.write() as db:
        claim = build_claim(db, agency_with_code(db, CODE).id, parse_number(text), at.date(), client)
        row = use_number(db, claim, None, at)  # type: ignore[arg-type]  # no signature is needed for what is tested here
        db.execute(sa.update(DocumentNumber).where(DocumentNumber.id == row).values(state=NumberState.USED))
        return row


def test_numbers_run_from_01_in_each_kind_and_vietnamese_year(register: Register, clock: Clock) -> None:
    texts = [hold(register), hold(register), hold(register, "UBND-VX"), hold(register, legal=True), hold(register, secret=True)]
    clock.move(minutes=1)  # the year begins in Vietnam
    texts += [hold(register), hold(register, legal=True)]
    assert texts == ["01/QĐ-UBND", "02/QĐ-UBND", "01/UBND-VX", "01/2026/QĐ-UBND", "01/QĐ-UBND", "01/QĐ-UBND", "01/2027/QĐ-UBND"]


def test_an_agency_may_count_all_administrative_documents_together(register: Register, database: Database, clock: Clock) -> None:
    with database.write() as db:
        agency = agency_with_code(db, CODE).id
        db.add(AgencySigningRule(agency_id=agency, one_series=True, changed_at=clock(), changed_by="admin"))
    assert [hold(register), hold(register, "TB-UBND"), hold(register, legal=True)] == [
        "01/QĐ-UBND",
        "02/TB-UBND",
        "01/2026/QĐ-UBND",
    ]


def test_a_number_of_ones_own_is_had_once(register: Register) -> None:
    assert hold(register, number=7) == "07/QĐ-UBND"
    assert hold(register) == "08/QĐ-UBND"
    with pytest.raises(Refused, match="held for dms"):
        hold(register, number=7, actor=OTHER)
    assert hold(register, number=7) == "07/QĐ-UBND"  # asking again for one's own changes nothing


def test_a_held_number_lapses_and_is_given_out_again_the_same_day(register: Register, clock: Clock) -> None:
    clock.move(hours=-5)
    assert hold(register) == "01/QĐ-UBND"
    clock.move(minutes=31)
    assert hold(register, actor=OTHER) == "01/QĐ-UBND"


def test_one_given_back_on_another_day_stays_a_gap(register: Register, database: Database, clock: Clock) -> None:
    clock.move(days=-3)
    hold(register)
    use(database, hold(register), clock())
    register.let_go(CODE, "01/QĐ-UBND", 2026, DMS)
    clock.move(days=1)
    assert hold(register) == "03/QĐ-UBND"


def test_one_far_ahead_that_was_a_mistake_is_not_the_next(register: Register) -> None:
    hold(register)
    hold(register, number=500)
    register.let_go(CODE, "500/QĐ-UBND", 2026, DMS)
    assert hold(register) == "02/QĐ-UBND"


def test_a_secret_number_is_given_back_in_its_own_series(register: Register) -> None:
    hold(register)
    hold(register, secret=True)
    register.let_go(CODE, "01/QĐ-UBND", 2026, DMS, secret=True)
    assert [hold(register), hold(register, secret=True)] == ["02/QĐ-UBND", "01/QĐ-UBND"]


def test_only_the_holder_lets_go(register: Register) -> None:
    hold(register)
    with pytest.raises(Conflict):
        register.let_go(CODE, "01/QĐ-UBND", 2026, OTHER)
    register.let_go(CODE, "01/QĐ-UBND", 2026, DMS)
    assert hold(register, actor=OTHER) == "01/QĐ-UBND"


def test_a_used_number_is_used(register: Register, database: Database, clock: Clock) -> None:
    use(database, hold(register), clock())
    for call in (
        lambda: use(database, "1/QĐ-UBND", clock()),
        lambda: hold(register, number=1),
        lambda: use(database, "01/QĐ-SNV", clock()),
    ):
        with pytest.raises(Refused, match="used already"):
            call()


def test_what_is_given_back_goes_to_its_numberer_first(register: Register, database: Database, clock: Clock) -> None:
    use(database, hold(register), clock())
    with database.write() as db:
        db.execute(sa.update(DocumentNumber).values(signature_id=None))
        row = db.scalars(sa.select(DocumentNumber)).one()
        assert row.state == "used"
        release_numbers(db, -1, clock())
    with pytest.raises(Refused):
        hold(register, number=1, actor=OTHER)


@pytest.mark.parametrize(
    ("text", "series"),
    [
        ("12/QĐ-UBND", "QĐ"),
        ("12/2026/QĐ-UBND", "QPPL:QĐ"),
        ("12/UBND-VX", "CV"),
        ("12/TTr-SNV", "TTr"),
        ("12/NQ/TW", "NQ"),
        (unicodedata.normalize("NFD", "12/QĐ-HĐND"), "QĐ"),
    ],
)
def test_a_symbol_tells_its_series(text: str, series: str) -> None:
    number = parse_number(text)
    assert series_of(number, one_series=False) == series
    assert number.text == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "text", ["", "12", "/QĐ", "0/QĐ-UBND", "12/ QĐ", "12/QĐ\nUBND", "1234567/QĐ", "-1/QĐ", "12/" + "Q" * 61, "١٢/-"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Rejected):
        parse_number(text)


def test_hostile_wishes_end_in_types(register: Register) -> None:
    with pytest.raises(Rejected):
        hold(register, "../x")
    with pytest.raises(Rejected):
        hold(register, number=1_000_000)
    with pytest.raises(Rejected, match="lie ahead"):
        hold(register, issued_on=date(2027, 1, 1))
    with pytest.raises(Forbidden):
        hold(register, actor=Actor("third", "client"))
    with pytest.raises(NotFound):
        register.hold("H99", Wanted("QĐ", PERSON), DMS)
    with pytest.raises(NotFound):
        register.hold(CODE, Wanted("QĐ", "nobody"), DMS)
    with pytest.raises(Rejected, match="no person"):
        register.hold(CODE, Wanted("QĐ", "dau"), DMS)


def _hold(url: str, at: datetime, count: int, barrier: object, answers: object) -> None:
    database = Database(url)
    register = Register(database=database, now=lambda: at)
    barrier.wait(60)  # type: ignore[attr-defined]  # multiprocessing's proxies are untyped
    found = [register.hold(CODE, Wanted("QĐ-UBND", PERSON), DMS).number for _ in range(count)]
    try:
        register.hold(CODE, Wanted("TB-UBND", PERSON, number=5), DMS if multiprocessing.current_process().name == "0" else OTHER)
        found.append(0)
    except Refused:
        pass
    answers.put(found)  # type: ignore[attr-defined]
    database.close()


@pytest.mark.usefixtures("register")
def test_two_processes_never_have_one_number(database: Database, clock: Clock) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    url = database.url.render_as_string(hide_password=False)
    workers = [context.Process(target=_hold, name=str(one), args=(url, clock(), 15, barrier, answers)) for one in range(2)]
    for worker in workers:
        worker.start()
    found = [number for _ in workers for number in answers.get(timeout=60)]
    for worker in workers:
        worker.join(30)
    assert sorted(found) == [0, *range(1, 31)]


@pytest.mark.parametrize("written", ["07/QÐ-UBND", "7/QĐ\u2011UBND", "7/QĐ–UBND", unicodedata.normalize("NFD", "07/QĐ-UBND")])
def test_a_number_that_looks_the_same_is_the_same(written: str) -> None:
    """Icelandic Ð as old keyboards give it, hyphens as word processors do."""
    assert parse_number(written) == parse_number("07/QĐ-UBND")


@pytest.mark.parametrize("written", ["07/ТB-UBND", "07/QĐ-UВND"])
def test_letters_of_other_alphabets_are_in_no_number(written: str) -> None:
    with pytest.raises(Rejected):
        parse_number(written)
    with pytest.raises(Rejected):
        parse_symbol(written.partition("/")[2])
