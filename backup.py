"""``condau backup`` and ``condau restore``: database, embedded token, settings and secrets, with a manifest of hashes.

The database is copied as it stood at one moment, while the service goes on: SQLite by its online backup, PostgreSQL by COPY of
every table inside one repeatable-read transaction, which needs no more rights than the service itself has. A restore goes
into an empty folder and an empty database only, and touches neither before every hash in the manifest has been checked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql

from audit.log import Actor, AuditEntry, append
from bootstrap import Services
from core.config import load_config
from core.db import Database
from core.errors import Conflict, Rejected
from hsm.softhsm_guard import load_settings
from migrations.schema import revision_of, upgrade
from migrations.tables import metadata
from pki.models import Authority, Backup

MANIFEST: Final = "manifest.json"
_SQLITE: Final = "database.sqlite3"
_TABLES: Final = "tables"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    at: str
    version: str
    database: str
    """``sqlite`` or ``postgresql``."""
    revision: str
    """Of the schema."""
    audit_head: int
    """The id of an audit entry in it. Those after it are to be kept elsewhere; the first of them may be in it as well."""
    crl_numbers: dict[str, int]
    files: dict[str, dict[str, Any]]
    """Path, below the backup's folder: ``sha256`` and ``mode``."""


def create_backup(services: Services, folder: Path, actor: Actor) -> Manifest:
    """Write a complete backup into ``folder``, which must not exist yet; whole or not at all. It holds secrets: mode 0700.

    Raises Rejected (inside the instance), Conflict (it exists) or Unavailable (the database is away).
    """
    if folder.is_relative_to(services.config.home):
        raise Rejected("folder", f"{folder} lies in the instance's own folder: a backup belongs elsewhere")
    if folder.exists():
        raise Conflict(f"{folder} exists already: give each backup a folder of its own")
    at = services.now()
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        head, numbers = _counters(services.database)  # before the copy: what comes meanwhile is counted as newer than it
        revision = _copy_database(services.database, draft)
        for path in _instance_files(services):
            target = draft / "home" / path.relative_to(services.config.home)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copy2(path, target)
        files = {str(path.relative_to(draft)): _facts(path) for path in _files(draft)}
        kind = "sqlite" if services.database.is_sqlite else "postgresql"
        version = importlib.metadata.version("condau")
        manifest = Manifest(at.isoformat(), version, kind, revision, head, numbers, files)
        text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False, sort_keys=True)
        (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already when all went well
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    with services.database.write() as db:
        db.add(Backup(at=at, sha256=digest))
        append(db, at=at, actor=actor, action="backup.create", subject=digest, audit_head=manifest.audit_head)
    return manifest


def check_backup(folder: Path) -> Manifest:
    """Hold every file of a backup against its manifest; raises Rejected naming each that differs, is missing or too many."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise Rejected("folder", f"{folder} holds no backup: its {MANIFEST} cannot be read") from error
    found = {str(path.relative_to(folder)): path for path in _files(folder) if path.name != MANIFEST or path.parent != folder}
    wrong = sorted(set(found) ^ set(manifest.files))
    wrong += sorted(name for name in set(found) & set(manifest.files) if _sha256(found[name]) != manifest.files[name]["sha256"])
    if wrong:
        raise Rejected("folder", f"the backup is damaged; differing, missing or additional: {', '.join(wrong[:20])}")
    return manifest


def restore_backup(folder: Path, home: Path) -> Manifest:
    """Put a backup into the empty ``home`` and its empty database. Raises Rejected (damaged) or Conflict (not empty).

    The settings restored say which database; ``CONDAU_DATABASE_URL`` overrides them. Afterwards :func:`pki.recovery.recover`.
    """
    manifest = check_backup(folder)
    if home.exists() and any(home.iterdir()):
        raise Conflict(f"{home} is not empty: a restore goes into an empty folder")
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    for name, facts in manifest.files.items():
        if name.startswith("home/"):
            target = home / name.removeprefix("home/")
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(folder / name, target)
            target.chmod(facts["mode"])
    _move_store(home)
    database = Database(load_config(home).database_url)
    try:
        if database.is_sqlite != (manifest.database == "sqlite"):
            raise Conflict(f"the backup is of {manifest.database}, and the settings name another kind of database")
        _restore_database(database, folder, manifest)
    finally:
        database.close()
    return manifest


def _instance_files(services: Services) -> Iterator[Path]:
    """Settings, secrets and the embedded token's store: all in the instance's folder but database, documents, logs and locks."""
    home = services.config.home
    database = str(services.database.url.database)
    left_out = {database, f"{database}-wal", f"{database}-shm"}
    for path in _files(home):
        if path.is_relative_to(services.config.server.spool):
            continue  # documents that wait, which are their senders' to keep
        if str(path) not in left_out and path.suffix not in (".lock", ".log"):
            yield path


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(path: Path) -> dict[str, Any]:
    return {"sha256": _sha256(path), "mode": path.stat().st_mode & 0o777}


def _counters(database: Database) -> tuple[int, dict[str, int]]:
    """The last audit entry's id, and the last CRL's number of each authority."""
    with database.read() as db:
        numbers = dict(db.execute(sa.select(Authority.name, Authority.crl_number)).all())
        return db.scalar(sa.select(sa.func.max(AuditEntry.id))) or 0, numbers


def _copy_database(database: Database, draft: Path) -> str:
    if database.is_sqlite:
        source = sqlite3.connect(f"file:{database.url.database}?mode=ro", uri=True)
        target = sqlite3.connect(draft / _SQLITE)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
        (draft / _SQLITE).chmod(0o600)
        return revision_of(database)
    (draft / _TABLES).mkdir()
    engine = database.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with engine.connect() as connection, connection.begin():
        cursor: Any = connection.connection.cursor()
        for table in metadata.sorted_tables:
            # the ids upwards, so that a row comes after the one of its own table that it refers to
            rows = sql.SQL("COPY (SELECT {} FROM {} ORDER BY 1) TO STDOUT").format(_columns(table), sql.Identifier(table.name))
            with (draft / _TABLES / table.name).open("wb") as file, cursor.copy(rows) as copy:
                for block in copy:
                    file.write(block)
        return revision_of(database)


def _restore_database(database: Database, folder: Path, manifest: Manifest) -> None:
    if database.is_sqlite:
        path = Path(str(database.url.database))
        if path.exists():
            raise Conflict(f"{path} exists already: a restore goes into an empty database")
        shutil.copyfile(folder / _SQLITE, path)
        path.chmod(0o600)
        return
    if sa.inspect(database.engine).get_table_names():
        raise Conflict("the database is not empty: a restore goes into an empty one")
    upgrade(database, manifest.revision)
    with database.engine.begin() as connection:
        cursor: Any = connection.connection.cursor()
        for table in metadata.sorted_tables:
            rows = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), _columns(table))
            with (folder / _TABLES / table.name).open("rb") as file, cursor.copy(rows) as copy:
                while block := file.read(1 << 20):
                    copy.write(block)
            if "id" in table.columns and isinstance(table.columns["id"].type, sa.Integer):
                _set_sequence(connection, table.name)


def _columns(table: sa.Table) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)


def _set_sequence(connection: sa.Connection, table: str) -> None:
    """Count on after the highest id; the names come from our own tables."""
    sequence = connection.execute(sa.select(sa.func.pg_get_serial_sequence(table, "id"))).scalar()
    if sequence is not None:
        highest = sa.select(sa.func.coalesce(sa.func.max(sa.column("id")), 0) + 1).select_from(sa.table(table)).scalar_subquery()
        connection.execute(sa.select(sa.func.setval(sequence, highest, False)))


def _move_store(home: Path) -> None:
    """SoftHSM's settings name its store by an absolute path: the one of the folder restored into."""
    conf = home / "softhsm" / "softhsm2.conf"
    if conf.exists():
        settings = {**load_settings(conf), "directories.tokendir": str(conf.parent / "tokens")}
        conf.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()), encoding="utf-8")
