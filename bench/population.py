"""A province's worth of certificates, written straight into the tables: what the service finds after years of work.

The rows are what issuance would have left, but for the certificate's bytes, which are those of one real certificate: nothing
that is measured reads them.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, cast

import sqlalchemy as sa

from core.db import Database
from pki.inventory import fold
from pki.models import Authority, Certificate, CertificateState, HolderText, StatusAct, StatusEvent, SubjectKey
from registry.models import Agency, AgencyVersion, Subscriber

AGENCIES: Final = 500
HOLDERS: Final = 20_000
_CHUNK: Final = 20_000
_FAMILY = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Huỳnh", "Phan", "Vũ", "Võ", "Đặng", "Bùi", "Đỗ", "Hồ", "Ngô", "Dương", "Lý")
_MIDDLE = ("Văn", "Thị", "Đức", "Minh", "Thanh", "Ngọc", "Quang", "Hữu", "Xuân", "Thu", "Kim", "Hồng")
_GIVEN = (
    "An",
    "Bình",
    "Châu",
    "Dũng",
    "Đạt",
    "Giang",
    "Hà",
    "Hạnh",
    "Khánh",
    "Lan",
    "Mai",
    "Nam",
    "Oanh",
    "Phúc",
    "Quân",
    "Sơn",
    "Yến",
)
_FIRST_AGENCY: Final = 1_000
_FIRST_HOLDER: Final = 10_000


def populate(database: Database, *, certificates: int, revoked: int, at: datetime) -> None:
    """Add 500 agencies, 20,000 officers and so many certificates of the authority ``issuing``, spread over six years."""
    with database.read() as db:
        authority = db.execute(sa.select(Authority.id).where(Authority.name == "issuing")).scalar_one()
        der = db.scalars(sa.select(Certificate.der).where(Certificate.der.is_not(None)).order_by(Certificate.id.desc())).first()
        first = db.execute(sa.select(sa.func.max(Certificate.id))).scalar_one() + 1
    chance = random.Random(1)  # noqa: S311 - names and dates, nothing secret
    with _bulk(database) as connection:
        _insert_registry(connection, at, chance)
        every = certificates // revoked
        der = der or b""
        common = {
            "authority_id": authority,
            "state": CertificateState.ISSUED.value,
            "tbs": der[: len(der) * 3 // 4],
            "der": der,
            "crl_partition": 0,
        }
        for start in range(0, certificates, _CHUNK):
            numbers = range(start, min(start + _CHUNK, certificates))
            rows = [
                {
                    **common,
                    **_certificate(number, certificates, at, revoked=number % every == 0, chance=chance),
                    "id": first + number,
                }
                for number in numbers
            ]
            _insert(connection, Certificate, rows)
            keys = [{"spki_sha256": row["spki_sha256"], "owner": f"subscriber/officer-{row['subscriber_id']}"} for row in rows]
            _insert(connection, SubjectKey, keys)
            _insert(connection, StatusEvent, [_event(row) for row in rows if row["revoked_at"] is not None])


def _certificate(number: int, total: int, at: datetime, *, revoked: bool, chance: random.Random) -> dict[str, Any]:
    holder = number % HOLDERS
    begun = at.replace(microsecond=0) - timedelta(seconds=round(6 * 365 * 86_400 * (1 - number / total)))
    end = begun + timedelta(days=3 * 365)
    return {
        "serial": secrets.token_hex(16).lstrip("0"),
        "subscriber_id": _FIRST_HOLDER + holder,
        "agency_id": _FIRST_AGENCY + holder % AGENCIES,
        "profile": "officer" if chance.random() < 0.9 else "device",
        "subject": f"CN={_name(holder)},O=Sở số {holder % AGENCIES},C=VN",
        "key_label": f"officer-{holder}-{number}",
        "spki_sha256": secrets.token_hex(32),
        "not_before": begun,
        "not_after": end,
        "intended_at": begun,
        "issued_at": begun,
        "revoked_at": begun + timedelta(days=1) if revoked else None,
        "revocation_reason": "superseded" if revoked else None,
    }


def _event(row: dict[str, Any]) -> dict[str, Any]:
    known = {"reason": row["revocation_reason"], "since": row["revoked_at"], "at": row["revoked_at"], "actor": "bench"}
    return {"certificate_id": row["id"], "authority_id": row["authority_id"], "version": 0, "act": StatusAct.REVOKE.value, **known}


def _insert_registry(connection: sa.Connection, at: datetime, chance: random.Random) -> None:
    agencies, versions = [], []
    for number in range(AGENCIES):
        identifier = _FIRST_AGENCY + number
        parent = None if number < 20 else _FIRST_AGENCY + number % 20
        agencies.append({"id": identifier, "code": f"H99.{number + 1}", "code_key": f"H99.{number + 1}"})
        versions.append(
            {
                "agency_id": identifier,
                "since": at - timedelta(days=3650),
                "name": f"Sở số {number}",
                "locality": "Thử Nghiệm",
                "parent_id": parent,
                "closed": False,
            }
        )
    _insert(connection, Agency, agencies)
    _insert(connection, AgencyVersion, versions)
    holders, texts = [], []
    for number in range(HOLDERS):
        identifier = _FIRST_HOLDER + number
        handle, name = f"officer-{number}", _name(number)
        agency = _FIRST_AGENCY + number % AGENCIES
        known = {"kind": "officer", "common_name": name, "agency_id": agency, "uid": f"CCCD:{chance.randrange(10**12):012}"}
        holders.append({"id": identifier, "handle": handle, "dns_names": [], **known})
        words = " ".join(fold(f"{name} {handle} Sở số {number % AGENCIES} VN"))
        texts.append({"subscriber_id": identifier, "words": f" {words} "})
    _insert(connection, Subscriber, holders)
    _insert(connection, HolderText, texts)


def _name(number: int) -> str:
    family, number = _FAMILY[number % len(_FAMILY)], number // len(_FAMILY)
    middle, number = _MIDDLE[number % len(_MIDDLE)], number // len(_MIDDLE)
    given, number = _GIVEN[number % len(_GIVEN)], number // len(_GIVEN)
    return f"{family} {middle} {given}" + (f" {number}" if number else "")


def _insert(connection: sa.Connection, table: type, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(cast("sa.Table", table.__table__)), rows)  # type: ignore[attr-defined]  # a mapped class


@contextmanager
def _bulk(database: Database) -> Iterator[sa.Connection]:
    """One transaction with the certificates' own indexes made at its end, where that is faster; statistics are fresh after it."""
    table = cast("sa.Table", Certificate.__table__)
    with database.engine.execution_options(condau_write=True).begin() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("PRAGMA cache_size = -400000")
        for index in table.indexes:
            index.drop(connection)
        yield connection
        for index in table.indexes:
            index.create(connection)
        if not database.is_sqlite:  # identifiers were chosen here: the sequences go on after them
            for name in ("certificate", "agency", "subscriber"):
                query = f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))"  # noqa: S608 - constants
                connection.exec_driver_sql(query)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM ANALYZE")
