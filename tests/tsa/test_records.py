"""The record: found again by an auditor, and taken out by whole months into a file that others can check."""

from __future__ import annotations

import base64
import fcntl
import json
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from falcon import testing

from audit.log import SYSTEM, AuditEntry
from core.db import Database
from core.errors import Conflict, Malformed, NotFound, Rejected
from registry.models import Role
from registry.registry import add_client
from tests.conftest import Clock
from tests.software_keys import SoftwareKeys
from tests.tsa.requests import HASHED, query
from tests.tsa.unit import ACTOR, Pki, install_unit, make_authority
from tsa.archive import TimestampArchive
from tsa.authority import TimestampAuthority
from tsa.http import REPLY_TYPE, TST_TYPE, RecordedTimestamp, RecordedTimestamps
from tsa.models import Timestamp
from web import problems
from web.access import ApiKeys, Shell


@pytest.fixture
def auditor(database: Database, clock: Clock) -> testing.TestClient:
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/v1/timestamps", RecordedTimestamps(database=database))
    app.add_route("/v1/timestamps/{serial}", RecordedTimestamp(database=database))
    with database.write() as db:
        key = add_client(db, at=clock(), actor=SYSTEM, name="an-auditor", role=Role.AUDITOR)
    return testing.TestClient(app, headers={"Authorization": f"Bearer {key}"})


def recorded(database: Database) -> list[Timestamp]:
    with database.read() as db:
        return list(db.scalars(sa.select(Timestamp).order_by(Timestamp.id)))


def test_an_auditor_finds_by_serial_and_by_imprint(
    auditor: testing.TestClient, authority: TimestampAuthority, database: Database
) -> None:
    for _ in range(3):
        authority.respond(query(), ACTOR)
    authority.stamp(b"another", ACTOR)
    rows = recorded(database)
    spelled = ":".join(f"{rows[1].serial:0>40}"[at : at + 2] for at in range(0, 40, 2)).upper()
    (found,) = auditor.simulate_get("/v1/timestamps", params={"serial": spelled}).json["timestamps"]
    assert (found["serial"], found["imprint"], found["unit"]) == (rows[1].serial, HASHED.hex(), "default")
    assert base64.b64decode(found["token"]) == rows[1].der
    page = auditor.simulate_get("/v1/timestamps", params={"imprint": HASHED.hex().upper(), "limit": 2}).json
    assert [one["serial"] for one in page["timestamps"]] == [rows[2].serial, rows[1].serial]
    rest = auditor.simulate_get("/v1/timestamps", params={"imprint": HASHED.hex(), "before": page["next"]}).json
    assert ([one["serial"] for one in rest["timestamps"]], rest["next"]) == ([rows[0].serial], None)


@pytest.mark.parametrize(
    ("suffix", "accept", "kind"),
    [
        (".tsr", "*/*", REPLY_TYPE),
        ("", REPLY_TYPE, REPLY_TYPE),
        (".tst", "*/*", TST_TYPE),
        ("", TST_TYPE, TST_TYPE),
        ("", "*/*", "application/json"),
    ],
)
def test_one_is_read_in_the_form_asked_for(
    auditor: testing.TestClient, authority: TimestampAuthority, database: Database, suffix: str, accept: str, kind: str
) -> None:
    sent = authority.respond(query(), ACTOR)
    (row,) = recorded(database)
    answer = auditor.simulate_get(f"/v1/timestamps/{row.serial}{suffix}", headers={"Accept": accept})
    assert answer.headers["content-type"] == kind
    if kind == "application/json":
        assert answer.json["serial"] == row.serial
    else:
        assert answer.content == (sent if kind == REPLY_TYPE else row.der)
    assert auditor.simulate_get(f"/v1/timestamps/{row.serial}.pdf").status_code == 404


@pytest.mark.parametrize("params", [{}, {"serial": "1", "imprint": "2"}, {"imprint": "g"}, {"limit": "0", "serial": "1"}])
def test_a_question_that_is_none_is_refused(auditor: testing.TestClient, params: dict[str, str]) -> None:
    assert auditor.simulate_get("/v1/timestamps", params=params).status_code == 422


def test_only_an_auditor_reads_the_record(auditor: testing.TestClient, database: Database, clock: Clock) -> None:
    with database.write() as db:
        key = add_client(db, at=clock(), actor=SYSTEM, name="a-client", role=Role.CLIENT)
    for path in ("/v1/timestamps?serial=1", "/v1/timestamps/1"):
        assert auditor.simulate_get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 403
    assert auditor.simulate_get("/v1/timestamps/1").status_code == 404


MONTHS = (datetime(2024, 11, 30, 23, 59, 59, 999000, UTC), datetime(2024, 12, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))


@pytest.fixture
def years(database: Database, keys: SoftwareKeys, clock: Clock) -> Pki:
    """Two timestamps in each of three months, the clock in the last of them."""
    clock.at = MONTHS[0]
    install_unit(database, keys, clock())
    pki = None
    for number, at in enumerate(MONTHS):
        clock.at = at
        pki = install_unit(database, keys, clock(), label=f"unit-{number}")
        authority = make_authority(database, keys, clock)
        authority.respond(query(), ACTOR)
        authority.stamp(b"another", ACTOR)
    assert pki is not None
    return pki


def test_whole_months_are_archived_and_strangers_can_check_them(
    years: Pki, database: Database, clock: Clock, tmp_path: Path
) -> None:
    before = {row.serial: row for row in recorded(database)}
    archived = TimestampArchive(database=database, now=clock).archive(tmp_path / "a.tar", before="2025-01", actor=SYSTEM)
    assert (archived.held, archived.removed) == (4, 4)
    assert [row.month for row in recorded(database)] == ["2025-01", "2025-01"]
    folder = tmp_path / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", folder], check=True, timeout=60)
    told = subprocess.run(
        ["sha256sum", "-c", "MANIFEST.sha256"], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    listed = {line.removesuffix(": OK") for line in told.stdout.splitlines()}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert listed == files - {"MANIFEST.sha256"}
    lines = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    assert [line["file"].split("/")[1] for line in lines] == ["2024-11", "2024-11", "2024-12", "2024-12"]
    for line in lines:
        row, der = before[line["serial"]], (folder / line["file"]).read_bytes()
        assert (der, line["imprint"], line["generated_at"]) == (row.der, row.imprint, row.gen_time.isoformat())
        assert (folder / "certificates" / f"{line['certificate_serial']}.cer").exists()
    with database.read() as db:
        acts = db.scalars(sa.select(AuditEntry).where(AuditEntry.subject == "a.tar").order_by(AuditEntry.id)).all()
    assert [act.action for act in acts] == ["timestamp.archive", "timestamp.remove"]
    assert acts[0].detail["sha256"] == archived.sha256
    chain = folder / "certificates" / f"{years.unit.serial_number:x}.cer"
    assert not chain.exists()  # it has signed nothing that is in here


def test_typed_again_after_a_crash_it_goes_on(
    years: Pki, database: Database, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while writing, after writing and in the middle of the removal."""
    assert years
    archive, path = TimestampArchive(database=database, now=clock), tmp_path / "a.tar"
    (tmp_path / "a.tar.partial").write_bytes(b"half of one")
    with monkeypatch.context() as patch:
        patch.setattr("tsa.archive.TimestampArchive._remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            archive.archive(path, before="2025-01", actor=SYSTEM)
    assert len(recorded(database)) == 6
    written = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("tsa.archive._BATCH", 3)
        calls = iter([None])
        delete = sa.delete
        patch.setattr("tsa.archive.sa.delete", lambda table: (next(calls), delete(table))[1])
        with pytest.raises((StopIteration, RuntimeError)):
            archive.archive(path, before="2025-01", actor=SYSTEM)
    assert len(recorded(database)) == 3
    assert archive.archive(path, before="2025-01", actor=SYSTEM).removed == 1
    assert archive.archive(path, before="2025-01", actor=SYSTEM).removed == 0
    assert path.read_bytes() == written
    with pytest.raises(NotFound):
        archive.archive(tmp_path / "b.tar", before="2025-01", actor=SYSTEM)


def test_two_runs_at_once_write_one_archive(
    years: Pki, database: Database, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done between this one's look for the file and its lock on it, and has removed what it holds."""
    assert years
    archive, path = TimestampArchive(database=database, now=clock), tmp_path / "a.tar"
    flock, written = fcntl.flock, list[bytes]()

    def lock_late(file: Any, how: int) -> None:
        monkeypatch.setattr("tsa.archive.fcntl.flock", flock)
        archive.archive(path, before="2025-01", actor=SYSTEM)
        written.append(path.read_bytes())
        flock(file, how)

    monkeypatch.setattr("tsa.archive.fcntl.flock", lock_late)
    archived = archive.archive(path, before="2025-01", actor=SYSTEM)
    assert (archived.held, archived.removed) == (4, 0)
    assert [path.read_bytes()] == written
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("a.tar")] == ["a.tar"]


def test_an_archive_that_is_not_whole_removes_nothing(years: Pki, database: Database, clock: Clock, tmp_path: Path) -> None:
    assert years
    path, archive = tmp_path / "a.tar", TimestampArchive(database=database, now=clock)
    archive._write(path, "2025-01")
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        offset = next(member.offset_data for member in tar if member.name.endswith(".tst"))
    for broken in (b"", whole[: len(whole) // 2], whole[:offset] + b"\x31" + whole[offset + 1 :], b"no tar at all" * 100):
        path.write_bytes(broken)
        with pytest.raises(Malformed):
            archive.archive(path, before="2025-01", actor=SYSTEM)
        assert len(recorded(database)) == 6


def test_what_the_file_does_not_hold_stays_and_is_told(years: Pki, database: Database, clock: Clock, tmp_path: Path) -> None:
    assert years
    archive = TimestampArchive(database=database, now=clock)
    archive.archive(tmp_path / "a.tar", before="2024-12", actor=SYSTEM)
    with pytest.raises(Conflict, match="2 timestamps before 2025-01"):
        archive.archive(tmp_path / "a.tar", before="2025-01", actor=SYSTEM)
    assert len(recorded(database)) == 4


@pytest.mark.parametrize("before", ["2025-02", "2025", "2024-13", "2024-1", "'; --"])
def test_only_months_that_are_over_are_archived(years: Pki, database: Database, clock: Clock, tmp_path: Path, before: str) -> None:
    assert years
    with pytest.raises(Rejected):
        TimestampArchive(database=database, now=clock).archive(tmp_path / "a.tar", before=before, actor=SYSTEM)


def test_two_runs_do_not_write_one_file(years: Pki, database: Database, clock: Clock, tmp_path: Path) -> None:
    assert years
    archive = TimestampArchive(database=database, now=clock)
    told: list[str] = []

    def meanwhile(*_: object) -> None:
        with pytest.raises(Conflict) as caught:
            TimestampArchive(database=database, now=clock).archive(tmp_path / "a.tar", before="2025-01", actor=SYSTEM)
        told.append(caught.value.detail)

    fill = archive._fill

    def fill_and_try(contents: Any, before: str) -> None:
        meanwhile()
        fill(contents, before)

    archive._fill = fill_and_try  # type: ignore[method-assign]  # in the middle of the writing
    assert archive.archive(tmp_path / "a.tar", before="2025-01", actor=SYSTEM).removed == 4
    assert told == ["another run is writing a.tar.partial at this moment"]
