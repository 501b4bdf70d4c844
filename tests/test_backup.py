"""The drill: back up, go on, lose everything, restore the older backup, and find what the world has seen meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509

import backup
from audit.log import SYSTEM, AuditEntry
from backup import MANIFEST, check_backup, create_backup, restore_backup
from bootstrap import Services, build
from core.config import load_config
from core.db import Database
from core.errors import Conflict, Rejected
from hsm.connection import try_out
from hsm.keys import KeySpec
from instance import initialise
from pki.authorities import Organisation
from pki.crl_der import crl_number
from pki.models import Authority, Certificate
from pki.recovery import check_keys, recover
from registry.models import Agency
from tests.pki.house import make_csr

ORGANISATION = Organisation("Cơ quan Thử nghiệm", "Hà Nội")


@dataclass
class Drill:
    """An instance, and what it takes to lose it."""

    home: Path
    database_url: str
    services: Services

    def issue(self, subscriber: str = "demo-device") -> str:
        return self.services.ca.issue_from_csr(
            make_csr(), profile="device", subscriber=subscriber, reference="Số 1", actor=SYSTEM
        ).serial


@pytest.fixture
def drill(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drill]:
    monkeypatch.setenv("CONDAU_DATABASE_URL", database_url)
    home = tmp_path / "home"
    if database_url.startswith("sqlite"):
        database_url = f"sqlite:///{home / 'condau.sqlite3'}"
        monkeypatch.setenv("CONDAU_DATABASE_URL", database_url)
    services = initialise(home, public_url="http://127.0.0.1:8080", organisation=ORGANISATION, development=True)
    drill = Drill(home, database_url, services)
    yield drill
    drill.services.close()


def _destroy(drill: Drill) -> None:
    """The machine is gone: the folder, and the database's contents."""
    drill.services.close()
    shutil.rmtree(drill.home)
    if not drill.database_url.startswith("sqlite"):
        engine = sa.create_engine(drill.database_url)
        with engine.begin() as db:
            db.execute(sa.text("DROP SCHEMA public CASCADE"))
            db.execute(sa.text("CREATE SCHEMA public"))
        engine.dispose()


@pytest.mark.slow
def test_after_a_restore_from_an_older_backup_nothing_published_is_forgotten(
    drill: Drill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = drill.services
    before = drill.issue()
    meanwhile: list[str] = []

    def copy(database: Database, draft: Path) -> str:
        revision = copy_database(database, draft)
        meanwhile.append(drill.issue())  # the copy is of the moment before
        return revision

    copy_database = backup._copy_database
    monkeypatch.setattr(backup, "_copy_database", copy)
    (drill.home / "spool" / "batches" / "a").mkdir(parents=True)
    (drill.home / "spool" / "batches" / "a" / "1.in").write_bytes(b"somebody's document")
    manifest = create_backup(services, tmp_path / "backup", SYSTEM)
    assert not any("spool" in name for name in manifest.files)
    assert any(name.endswith("secrets/batch-key") and facts["mode"] == 0o600 for name, facts in manifest.files.items())
    assert check_backup(tmp_path / "backup") == manifest

    lost_revoked, lost_valid = drill.issue(), drill.issue()  # the world goes on
    for serial in (before, lost_revoked):
        services.revocations.revoke(serial, reason="keyCompromise", actor=SYSTEM)
    published = services.crl.publish("issuing", actor=SYSTEM)
    with services.database.read() as db:
        newer = db.execute(sa.select(AuditEntry.action, AuditEntry.subject).where(AuditEntry.id > manifest.audit_head)).all()
    exported = [json.dumps({"action": action, "subject": subject}) for action, subject in newer]
    _destroy(drill)

    restored = restore_backup(tmp_path / "backup", drill.home)
    assert restored == manifest
    for name, facts in manifest.files.items():
        if name.startswith("home/"):
            assert (drill.home / name.removeprefix("home/")).stat().st_mode & 0o777 == facts["mode"]
    drill.services = services = build(load_config(drill.home))
    gap = services.config.pki.restore_gap
    at = services.now()
    found = recover(services.database, at=at, actor=SYSTEM, gap=gap, crls=[published.der], audit=exported)
    assert found.revoked == (before,)
    assert found.lost == tuple(sorted((lost_revoked, lost_valid, *meanwhile)))
    assert found.crl_numbers["issuing"] == published.number + gap
    assert list(check_keys(services.database, services.token)) == []

    after = services.crl.publish("issuing", actor=SYSTEM)
    crl = x509.load_der_x509_crl(after.der)
    assert crl_number(crl) > published.number + gap
    missing = {item.serial_number for item in x509.load_der_x509_crl(published.der)} - {item.serial_number for item in crl}
    assert missing == set()
    try_out(services.token.key("ca-issuing"))  # the token came back too
    drill.issue()  # and the instance works
    with services.database.read() as db:
        row = db.scalars(sa.select(Certificate).where(Certificate.serial == before)).one()
    assert row.revocation_reason == "keyCompromise"


@pytest.mark.slow
def test_keys_and_certificates_that_do_not_belong_together_are_named(drill: Drill) -> None:
    services = drill.services
    services.token.generate("made-after-the-backup", KeySpec.P_256)
    services.token.generate("another", KeySpec.P_256)
    with services.database.write() as db:
        db.execute(sa.update(Authority).where(Authority.name == "root").values(key_label="gone"))
        db.execute(sa.update(Authority).where(Authority.name == "issuing").values(key_label="another"))
    found = {finding.label: finding.problem for finding in check_keys(services.database, services.token)}
    assert found["made-after-the-backup"] == "no certificate names this key"
    assert "not in the token" in found["gone"]
    assert "not the one" in found["another"]


@pytest.mark.slow
def test_a_backup_that_was_touched_or_a_place_that_is_taken_is_refused(drill: Drill, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    create_backup(drill.services, folder, SYSTEM)
    assert folder.stat().st_mode & 0o077 == 0
    with pytest.raises(Conflict, match="exists already"):
        create_backup(drill.services, folder, SYSTEM)
    with pytest.raises(Rejected, match="own folder"):
        create_backup(drill.services, drill.home / "backup", SYSTEM)
    with pytest.raises(Conflict, match="not empty"):
        restore_backup(folder, drill.home)
    pin = folder / "home" / "secrets" / "user-pin"
    kept = pin.read_bytes()
    for spoil in (lambda: pin.write_bytes(b"other\n"), pin.unlink, lambda: (folder / "more").write_bytes(b"")):
        spoil()
        with pytest.raises(Rejected, match="damaged"):
            restore_backup(folder, tmp_path / "elsewhere")
        pin.write_bytes(kept)
    assert not (tmp_path / "elsewhere").exists()
    (folder / MANIFEST).unlink()
    with pytest.raises(Rejected, match="no backup"):
        check_backup(folder)


@pytest.mark.slow
def test_a_restored_database_counts_on_where_it_was(drill: Drill, tmp_path: Path) -> None:
    """On PostgreSQL the sequences are not part of the rows: an identity that was used again would be refused."""
    create_backup(drill.services, tmp_path / "backup", SYSTEM)
    _destroy(drill)
    restore_backup(tmp_path / "backup", drill.home)
    drill.services = build(load_config(drill.home))
    drill.issue()
    with drill.services.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Agency)) == 1
    drill.services.revocations.revoke(drill.issue(), reason="superseded", actor=SYSTEM)
