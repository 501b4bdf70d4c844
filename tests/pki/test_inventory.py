"""The inventory finds what it should, page by page, and nothing else; the pages together are the whole."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM
from core.db import Database
from core.errors import Rejected
from pki import inventory, walk
from pki.export import format_csv, format_lines, summarise
from pki.inventory import Page, Search, find_all, find_page, fold
from pki.models import Authority, Certificate, CertificateState, HolderText
from pki.summary import load_counts, refresh_counts
from registry import agencies, registry
from registry.models import Subscriber, SubscriberKind
from tests.conftest import Clock

HOLDERS = {
    "an": "Nguyễn Văn An",
    "dat": "Đặng Thị Đạt",
    "em": "Em Nguyễn",
}


class Shelf:
    """An authority, three officers of two agencies (one below the other), and certificates as a test puts them there."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self._count = 0
        with database.write() as db:
            db.add(Authority(name="issuing", subject="CN=issuing", key_label="ca-issuing"))
            upper = registry.add_agency(db, at=clock(), actor=SYSTEM, code="H26", name="Ủy ban Thử nghiệm", locality="Hà Nội")
            lower = registry.add_agency(
                db, at=clock(), actor=SYSTEM, code="H26.1", name="Sở Thử nghiệm", locality="Hà Nội", parent=upper
            )
            for handle, name in HOLDERS.items():
                registry.add_subscriber(
                    db,
                    at=clock(),
                    actor=SYSTEM,
                    handle=handle,
                    kind=SubscriberKind.OFFICER,
                    common_name=name,
                    agency=upper if handle == "em" else lower,
                )

    def put(self, holder: str | None = "an", *, days: int = 100, **other: Any) -> str:
        """A certificate that ends in ``days``; its serial number."""
        self._count += 1
        at = self.clock()
        name = HOLDERS[holder] if holder else "Dấu thời gian"
        values = {
            "serial": format(0x1000 + self._count, "x"),
            "authority_id": 1,
            "profile": "officer",
            "subject": f"CN={name},L=Hà Nội,C=VN",
            "spki_sha256": format(self._count, "064x"),
            "state": CertificateState.ISSUED,
            "tbs": b"tbs",
            "der": b"der",
            "not_before": at - timedelta(days=1000),
            "not_after": at + timedelta(days=days),
            "intended_at": at,
            **other,
        }
        with self.database.write() as db:
            if holder is not None:
                values["subscriber_id"] = db.scalar(sa.select(Subscriber.id).where(Subscriber.handle == holder))
            row = Certificate(**values)
            inventory.enter(db, row)
            db.add(row)
        return str(values["serial"])

    def page(self, search: Search) -> Page:
        with self.database.read() as db:
            return find_page(db, search, self.clock())

    def serials(self, **search: Any) -> list[str]:
        """Everything a search finds, over all its pages, in its order."""
        return [row.serial for row in find_all(self.database, Search(**search), self.clock())]


@pytest.fixture
def shelf(database: Database, clock: Clock) -> Shelf:
    """Fresh for each test."""
    return Shelf(database, clock)


def test_words_have_no_accents_no_case_and_no_order() -> None:
    assert fold("Đặng Thị ĐẠT, Sở Nội vụ (Huế) – an") == ["an", "dang", "dat", "hue", "noi", "so", "thi", "vu"]
    assert fold("Nguyễn") == fold("Nguyễn") == fold("NGUYEN")
    assert fold("% _ '") == []


@pytest.mark.parametrize("text", ["Nguyễn An", "nguyen an", "AN nguy", "văn", "n v a"])
def test_a_holder_is_found_by_beginnings_of_words_with_or_without_accents(shelf: Shelf, text: str) -> None:
    wanted = shelf.put("an")
    shelf.put("dat")
    assert shelf.serials(text=text) == [wanted]


def test_a_holder_is_found_by_a_former_name_and_by_the_handle(shelf: Shelf) -> None:
    old, new = shelf.put("an"), shelf.put("an", subject="CN=Trần Văn An,C=VN")
    assert shelf.serials(text="trần") == shelf.serials(text="nguyễn van") == shelf.serials(subscriber="an") == [new, old]
    assert shelf.serials(text="guyen") == []


@pytest.mark.parametrize("text", ["", "%", "_", "' -- \""])
def test_a_text_without_a_word_is_rejected(shelf: Shelf, text: str) -> None:
    with pytest.raises(Rejected, match="word"):
        shelf.page(Search(text=text))


def test_an_agency_brings_those_below_it_and_those_merged_into_it(shelf: Shelf) -> None:
    below, above, service = shelf.put("an"), shelf.put("em"), shelf.put(None, profile="tsa")
    assert shelf.serials(agency="H26") == [above, below]
    assert shelf.serials(agency="H26.1") == [below]
    assert shelf.serials() == [service, above, below]
    with shelf.database.write() as db:
        at = shelf.clock()
        other = registry.add_agency(db, at=at, actor=SYSTEM, code="H27", name="Sở Khác", locality="Huế")
        merged = registry.agency_with_code(db, "H26.1")
        agencies.merge(db, merged, agencies.Change(effective=at + timedelta(days=1), at=at, actor=SYSTEM), into=other)
    assert shelf.serials(agency="H27") == []
    shelf.clock.move(days=2)
    assert shelf.serials(agency="H27") == [below]
    assert shelf.serials(agency="H26") == [above]
    with pytest.raises(Rejected, match="H99"):
        shelf.page(Search(agency="H99"))


def test_each_certificate_has_one_standing(shelf: Shelf) -> None:
    at = shelf.clock()
    revoked: dict[str, Any] = {"revoked_at": at - timedelta(days=1), "revocation_reason": "keyCompromise"}
    held: dict[str, Any] = {"revoked_at": at - timedelta(days=1), "revocation_reason": "certificateHold"}
    put = {
        "valid": [shelf.put("an")],
        "expired": [shelf.put("an", days=-1)],
        "revoked": [shelf.put("an", **revoked), shelf.put("an", days=-5, **revoked)],
        "suspended": [shelf.put("an", **held)],
        "not-yet-valid": [shelf.put("an", not_before=at + timedelta(hours=1))],
        "undecided": [shelf.put("an", state=CertificateState.INTENDED, der=None)],
    }
    for standing, serials in put.items():
        found = shelf.serials(standing=standing)
        assert found == serials[::-1], standing
        with shelf.database.read() as db:
            rows = db.scalars(sa.select(Certificate).where(Certificate.serial.in_(serials)))
            assert {inventory.standing_of(row, at) for row in rows} == {standing}
    assert load_counts(shelf.database, at).by_standing == {standing: len(serials) for standing, serials in put.items()}


def test_what_expires_soon_comes_first(shelf: Shelf) -> None:
    later, soon, past = shelf.put(days=20), shelf.put(days=3), shelf.put(days=-3)
    shelf.put(days=31)
    at = shelf.clock()
    assert shelf.serials(expires_from=at, expires_before=at + timedelta(days=30), limit=1) == [soon, later]
    assert shelf.serials(expires_before=at, subscriber="an") == [past]


def test_a_key_and_a_serial_number_are_found_however_they_are_written(shelf: Shelf) -> None:
    serial = shelf.put(spki_sha256="ab" * 32, key_label="an-1")
    shelf.put()
    assert (
        shelf.serials(spki_sha256="AB" * 32) == shelf.serials(serial=f"00:{serial}") == shelf.serials(key_in_hsm=True) == [serial]
    )


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "eyJpZCI6LTF9", "eyJpZCI6MSwiZW5kIjoieCJ9", "e30", "W10", "é"])
def test_a_cursor_that_is_none_of_ours_is_rejected(shelf: Shelf, cursor: str) -> None:
    with pytest.raises(Rejected, match="next"):
        shelf.page(Search(cursor=cursor))


def test_any_combination_finds_what_a_plain_look_at_every_row_finds(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a page may look at few rows only, and where holders and agencies count as many."""
    chance = random.Random(7)
    at = shelf.clock()
    for _ in range(120):
        reason = chance.choice([None, None, None, "keyCompromise", "certificateHold"])
        shelf.put(
            chance.choice(list(HOLDERS)),
            days=chance.randrange(-30, 60),
            profile=chance.choice(["officer", "device"]),
            key_label=chance.choice([None, "k"]),
            revoked_at=at if reason else None,
            revocation_reason=reason,
        )
    with shelf.database.read() as db:
        rows = list(db.scalars(sa.select(Certificate).order_by(Certificate.id.desc())))
        holders = {row.id: row.subscriber.handle if row.subscriber else "" for row in rows}
    for few, most in ((200, 1_000), (0, 4)):
        monkeypatch.setattr(inventory, "_MOST_HOLDERS", few)
        monkeypatch.setattr(inventory, "_FEW", few)
        monkeypatch.setattr(walk, "MOST_EXAMINED", most)
        monkeypatch.setattr(walk, "_MANY", few)
        for _ in range(40):
            wanted: dict[str, Any] = {
                "subscriber": chance.choice([None, None, "an", "em"]),
                "agency": chance.choice([None, "H26", "H26.1"]),
                "profile": chance.choice([None, "officer"]),
                "standing": chance.choice([None, "valid", "revoked", "suspended", "expired"]),
                "key_in_hsm": chance.choice([None, True, False]),
                "text": chance.choice([None, "nguyen", "dang"]),
                "expires_before": chance.choice([None, at + timedelta(days=30)]),
            }
            found = shelf.serials(**wanted, limit=chance.choice([1, 7, 100]))
            expected = {row.serial for row in rows if _meets(row, holders[row.id], wanted, at)}
            assert len(found) == len(set(found))
            assert set(found) == expected, wanted


def _meets(row: Certificate, holder: str, wanted: dict[str, Any], at: datetime) -> bool:
    in_agency = {None: True, "H26": True, "H26.1": holder != "em"}[wanted["agency"]]
    words = {None: True, "nguyen": holder in ("an", "em"), "dang": holder == "dat"}[wanted["text"]]
    return (
        in_agency
        and words
        and wanted["subscriber"] in (None, holder)
        and wanted["profile"] in (None, row.profile)
        and wanted["standing"] in (None, inventory.standing_of(row, at))
        and wanted["key_in_hsm"] in (None, row.key_label is not None)
        and (wanted["expires_before"] is None or row.not_after < wanted["expires_before"])
    )


def test_pages_hold_while_certificates_are_added(shelf: Shelf) -> None:
    first = [shelf.put() for _ in range(5)]
    page = shelf.page(Search(limit=2))
    shelf.put()
    rest = shelf.serials(cursor=page.next, limit=2)
    assert [row.serial for row in page.certificates] + rest == first[::-1]


def test_an_export_is_complete_and_harmless_to_spreadsheets(shelf: Shelf) -> None:
    shelf.put("an", subject="=cmd|' /C calc'!A0")
    shelf.put("dat")
    at = shelf.clock()
    rows = [summarise(row, at) for row in find_all(shelf.database, Search(limit=1), at)]
    table = list(csv.DictReader(io.StringIO(b"".join(format_csv(iter(rows))).decode("utf-8-sig"))))
    assert [row["subscriber"] for row in table] == ["dat", "an"]
    assert table[1]["subject"].startswith("'=cmd")
    lines = [json.loads(line) for line in b"".join(format_lines(iter(rows))).splitlines()]
    assert [line["agency"] for line in lines] == ["H26.1", "H26.1"]


def test_counts_are_kept_for_a_quarter_of_an_hour(shelf: Shelf) -> None:
    shelf.put()
    at = shelf.clock()
    assert load_counts(shelf.database, at).total == 1
    shelf.put(None, profile="tsa")
    assert not refresh_counts(shelf.database, at + timedelta(minutes=14))
    assert load_counts(shelf.database, at).total == 1
    assert refresh_counts(shelf.database, at + timedelta(minutes=15))
    counts = load_counts(shelf.database, at)
    assert counts.by_profile == {"officer": 1, "tsa": 1}
    assert [(item.agency, item.profile) for item in counts.counts] == [(None, "tsa"), ("H26.1", "officer")]


def test_words_of_two_writers_are_kept_once(shelf: Shelf) -> None:
    shelf.put("an")
    shelf.put("an")
    with shelf.database.read() as db:
        assert [row.words for row in db.scalars(sa.select(HolderText))] == [" an ha nguyen noi van vn "]


def test_a_page_carries_on_from_its_cursor_alone(shelf: Shelf) -> None:
    serials = [shelf.put(days=days) for days in (9, 8, 7)]
    search = Search(expires_from=shelf.clock(), limit=2)
    page = shelf.page(search)
    assert [row.serial for row in page.certificates] == [serials[2], serials[1]]
    assert [row.serial for row in shelf.page(replace(search, cursor=page.next)).certificates] == [serials[0]]
