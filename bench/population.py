"""A province's worth of certificates, written straight into the tables: what the service finds after years of work.

The rows are what issuance would have left, but for the certificate's bytes, which are those of one real certificate: nothing
that is measured reads them. The database is one that is thrown away: while it is filled, nothing protects it from a crash.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, cast

import psycopg
import sqlalchemy as sa

from core.db import Database
from pki.inventory import fold
from pki.models import Authority, Certificate, CertificateState, HolderAgency, HolderText, StatusAct, StatusEvent, SubjectKey
from registry.models import Agency, AgencyVersion, Subscriber

AGENCIES: Final = 500
HOLDERS: Final = 20_000
_EACH: Final = 50
"""Certificates of a holder: of few certificates only the first holders have some, so that the pages of a search are full."""
_CHUNK: Final = 20_000
_FAMILY = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Phan", "Vũ", "Võ", "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô", "Dương", "Lý")
_MIDDLE = ("Văn", "Thị", "Đức", "Minh", "Thanh", "Ngọc", "Quang", "Hữu", "Xuân", "Thu", "Kim", "Hồng")
_GIVEN = ("An", "Bình", "Châu", "Dũng", "Đạt", "Giang", "Hà", "Hạnh", "Khánh", "Lan", "Mai", "Nam")
_FIRST_AGENCY: Final = 1_000
_FIRST_HOLDER: Final = 10_000
_YEARS: Final = timedelta(days=6 * 365)
_TERM: Final = timedelta(days=3 * 365)

Row = dict[str, Any]


class Filler(Protocol):
    """Writes rows into a table as fast as its database takes them; all rows of a call have the same columns."""

    def __call__(self, table: type, rows: Sequence[Row]) -> None: ...


def populate(database: Database, *, certificates: int, revoked: int, at: datetime, holders: int = HOLDERS) -> None:
    """Add 500 agencies, their officers and so many certificates of the authority ``issuing``, spread over six years."""
    with database.read() as db:
        authority = db.execute(sa.select(Authority.id).where(Authority.name == "issuing")).scalar_one()
        der = db.scalars(sa.select(Certificate.der).where(Certificate.der.is_not(None)).order_by(Certificate.id.desc())).first()
        first = db.execute(sa.select(sa.func.max(Certificate.id))).scalar_one() + 1
    chance = random.Random(1)  # noqa: S311 - names and numbers, nothing secret
    der = der or b""
    common: Row = {
        "authority_id": authority,
        "state": CertificateState.ISSUED.value,
        "tbs": der[: len(der) * 3 // 4],
        "der": der,
        "crl_partition": 0,
    }
    keys: list[Row] = []
    having = min(holders, certificates // _EACH)
    with _filling(database) as fill:
        _fill_registry(fill, at, holders, chance)
        for start in range(0, certificates, _CHUNK):
            rows = [
                {
                    **common,
                    **_certificate(number, number % having, at + (number / certificates - 1) * _YEARS, chance),
                    "id": first + number,
                }
                for number in range(start, min(start + _CHUNK, certificates))
            ]
            for row in chance.sample(rows, len(rows) * revoked // certificates):
                row["revoked_at"], row["revocation_reason"] = row["not_before"] + timedelta(days=1), "superseded"
            fill(Certificate, rows)
            fill(StatusEvent, [_event(row) for row in rows if row["revoked_at"] is not None])
            keys += ({"spki_sha256": row["spki_sha256"], "owner": f"subscriber/officer-{row['subscriber_id']}"} for row in rows)
            _show(start + len(rows), certificates)
        fill(SubjectKey, sorted(keys, key=lambda row: row["spki_sha256"]))  # in the order of its index


def _certificate(number: int, holder: int, begun: datetime, chance: random.Random) -> Row:
    begun = begun.replace(microsecond=0)
    return {
        "serial": f"{chance.getrandbits(120) | 1 << 120:x}",
        "subscriber_id": _FIRST_HOLDER + holder,
        "agency_id": _FIRST_AGENCY + holder % AGENCIES,
        "profile": "officer" if chance.random() < 0.9 else "device",
        "subject": f"CN={_name(holder)},O=Sở số {holder % AGENCIES},C=VN",
        "key_label": f"officer-{holder}-{number}",
        "spki_sha256": f"{chance.getrandbits(256):064x}",
        "not_before": begun,
        "not_after": begun + _TERM,
        "intended_at": begun,
        "issued_at": begun,
        "revoked_at": None,
        "revocation_reason": None,
    }


def _event(row: Row) -> Row:
    known = {"reason": row["revocation_reason"], "since": row["revoked_at"], "at": row["revoked_at"], "actor": "bench"}
    return {"certificate_id": row["id"], "authority_id": row["authority_id"], "version": 0, "act": StatusAct.REVOKE.value, **known}


def _fill_registry(fill: Filler, at: datetime, count: int, chance: random.Random) -> None:
    """An agency, twenty below it, twenty-four below each of these, and the officers, each in one of the lower two ranks."""
    top = {"id": _FIRST_AGENCY - 1, "code": "H99", "code_key": "H99"}
    since = at - timedelta(days=3650)
    root: Row = {"agency_id": top["id"], "since": since, "parent_id": None, "closed": False}
    agencies: list[Row] = [top]
    versions: list[Row] = [{**root, "name": "Ủy ban Thử Nghiệm", "locality": "Thử Nghiệm"}]
    for number in range(AGENCIES):
        identifier = _FIRST_AGENCY + number
        parent = top["id"] if number < 20 else _FIRST_AGENCY + number % 20
        agencies.append({"id": identifier, "code": f"H99.{number + 1}", "code_key": f"H99.{number + 1}"})
        known = {"agency_id": identifier, "since": since, "parent_id": parent, "closed": False}
        versions.append({**known, "name": f"Sở số {number}", "locality": "Thử Nghiệm"})
    fill(Agency, agencies)
    fill(AgencyVersion, versions)
    holders, texts, places = [], [], []
    for number in range(count):
        identifier, agency = _FIRST_HOLDER + number, _FIRST_AGENCY + number % AGENCIES
        handle, name = f"officer-{number}", _name(number)
        uid = f"CCCD:{chance.randrange(10**12):012}"
        known = {"kind": "officer", "common_name": name, "agency_id": agency, "uid": uid, "dns_names": "[]"}
        holders.append({"id": identifier, "handle": handle, **known})
        words = " ".join(fold(f"{name} {handle} Sở số {number % AGENCIES} VN"))
        texts.append({"subscriber_id": identifier, "words": f" {words} "})
        places.append({"agency_id": agency, "subscriber_id": identifier})
    fill(Subscriber, holders)
    fill(HolderText, texts)
    fill(HolderAgency, places)


def _name(number: int) -> str:
    family, number = _FAMILY[number % len(_FAMILY)], number // len(_FAMILY)
    middle, number = _MIDDLE[number % len(_MIDDLE)], number // len(_MIDDLE)
    given, number = _GIVEN[number % len(_GIVEN)], number // len(_GIVEN)
    return f"{family} {middle} {given}" + (f" {number}" if number else "")


@contextmanager
def _filling(database: Database) -> Iterator[Filler]:
    """The certificates' indexes are made when the rows are there, where that is faster; statistics are fresh at the end."""
    indexes = sorted(cast("sa.Table", Certificate.__table__).indexes, key=lambda index: str(index.name))
    database.close()  # what the pool holds open would keep the journal on
    if database.is_sqlite:
        yield from _filling_sqlite(database, indexes)
    else:
        yield from _filling_postgresql(database, indexes)


def _filling_sqlite(database: Database, indexes: Sequence[sa.Index]) -> Iterator[Filler]:
    driver = sqlite3.connect(str(database.url.database), isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "temp_store = MEMORY"):
        driver.execute(f"PRAGMA {pragma}")
    driver.execute("BEGIN")
    for index in indexes:
        driver.execute(f"DROP INDEX {index.name}")

    def fill(table: type, rows: Sequence[Row]) -> None:
        if rows:
            marks = ", ".join("?" for _ in rows[0])
            driver.executemany(f"INSERT INTO {_target(table, rows)} VALUES ({marks})", _cells(rows))  # noqa: S608 - names of ours

    yield fill
    for index in indexes:
        driver.execute(str(sa.schema.CreateIndex(index).compile(database.engine)))
    driver.execute("COMMIT")
    driver.execute("PRAGMA journal_mode = WAL")
    driver.close()


def _cells(rows: Iterable[Row]) -> Iterator[list[Any]]:
    """Values as SQLAlchemy keeps them in SQLite."""
    for row in rows:
        yield [
            value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) and value.tzinfo else value
            for value in row.values()
        ]


def _filling_postgresql(database: Database, indexes: Sequence[sa.Index]) -> Iterator[Filler]:
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        for setting in ("session_replication_role = replica", "maintenance_work_mem = '512MB'"):
            driver.execute(f"SET {setting}".encode())  # no foreign key is checked: the rows are ours
        driver.execute("ALTER TABLE certificate DROP CONSTRAINT uq_certificate_serial")
        for index in indexes:
            driver.execute(f"DROP INDEX {index.name}".encode())

        def fill(table: type, rows: Sequence[Row]) -> None:
            if rows:
                with driver.cursor() as cursor, cursor.copy(f"COPY {_target(table, rows)} FROM STDIN".encode()) as copy:
                    for row in rows:
                        copy.write_row(list(row.values()))

        yield fill
        driver.execute("ALTER TABLE certificate ADD CONSTRAINT uq_certificate_serial UNIQUE (serial)")
        for index in indexes:
            driver.execute(str(sa.schema.CreateIndex(index).compile(database.engine)).encode())
        for name in ("certificate", "agency", "subscriber"):  # identifiers were chosen here: the sequences go on after them
            query = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"  # noqa: S608 - constants
            driver.execute(query.encode())
        driver.execute("VACUUM ANALYZE")
        connection.invalidate()  # its settings go with it


def _target(table: type, rows: Sequence[Row]) -> str:
    return f"{cast('Any', table).__tablename__} ({', '.join(rows[0])})"


def _show(done: int, total: int) -> None:
    """A bar on the terminal; nothing where nobody is looking."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r  [{'#' * (40 * done // total):40}] {done:,} of {total:,} certificates", end=end, file=sys.stderr, flush=True)
