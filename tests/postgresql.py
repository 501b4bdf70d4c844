"""A PostgreSQL cluster of the tests' own: made in a temporary folder, reached over a Unix socket, gone when the tests are."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
import sqlalchemy as sa

SETTINGS = (
    "listen_addresses=",  # nobody but this machine's tests gets in
    "fsync=off",  # the data is thrown away with the folder
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",  # it would visit the template while it is being copied
    "wal_level=minimal",  # nobody is going to read the log
    "max_wal_senders=0",
    "max_connections=200",
    "shared_buffers=64MB",
)
_ROOM = 2 << 30
"""Bytes for the clusters of all workers: 10 MB a database, of which each has ten at most, and 100 MB of log."""
_KEEPER = 'postgres=$1 folder=$2; shift 2; "$postgres" -D "$folder/data" "$@" & read -r _; kill -INT $!; wait; rm -rf "$folder"'
"""Runs the server until its standard input ends, which happens when the tests' process does, however it dies."""


class Cluster:
    """A running server with as many databases as are asked for.

    PostgreSQL refuses to run as root; there the server runs as ``postgres``, the user its Debian package makes.
    """

    def __init__(self, *, in_memory: bool = False) -> None:
        """``in_memory``: its folder is in memory if there is room for a suite's small databases; otherwise on the disk."""
        programs = _find_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="condau-postgresql-", dir=_roomy_memory() if in_memory else None))
        self._as_user = [] if os.geteuid() else ["runuser", "-u", "postgres", "--"]
        self._count = 0
        if self._as_user:
            shutil.chown(self._folder, "postgres", "postgres")
        self._owner = pwd.getpwuid(self._folder.stat().st_uid).pw_name
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", f"--username={self._owner}"]
        self._run([str(programs / "initdb"), "-D", str(self._folder / "data"), *options])
        settings = [part for setting in (*SETTINGS, f"unix_socket_directories={self._folder}") for part in ("-c", setting)]
        self._keeper = subprocess.Popen(
            [*self._as_user, "sh", "-c", _KEEPER, "sh", str(programs / "postgres"), str(self._folder), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the tests must not reach the server before they are done with it
        )
        self._connection = self._connect()

    def create_database(self, template: str | None = None) -> str:
        """The SQLAlchemy URL of a new database: empty, or a copy of the one at ``template``, to which nobody is connected."""
        self._count += 1
        name = f"test_{self._count}"
        source = "template0" if template is None else sa.make_url(template).database
        # Copied as files: page by page through the log, which is the default, costs twice the processor time
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY FILE_COPY')
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, cutting off whoever is still connected."""
        self._execute(f'DROP DATABASE "{sa.make_url(url).database}" WITH (FORCE)')

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._connection.close()
        self._keeper.communicate(timeout=60)

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://{self._owner}@/{name}?host={self._folder}"

    def _execute(self, statement: str) -> None:
        self._connection.execute(statement.encode())

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run([*self._as_user, *command], check=True, capture_output=True, cwd="/", timeout=60)

    def _connect(self) -> psycopg.Connection:
        """To the database that databases are made from, once the server is up."""
        until = time.monotonic() + 30
        while True:
            try:
                return psycopg.connect(host=str(self._folder), user=self._owner, dbname="postgres", autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > until or self._keeper.poll() is not None:
                    self._keeper.communicate(timeout=60)
                    raise
                time.sleep(0.05)


def _roomy_memory() -> Path | None:
    """A folder in memory, where a database of hundreds of files is copied for half the price, if it has room for them."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else None


def _find_programs() -> Path:
    """The folder of ``initdb`` and ``postgres``: Debian keeps them, one folder for each version, out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        raise FileNotFoundError("PostgreSQL's initdb is not here: `make test` installs it, or use --database=sqlite")
    return Path(initdb).resolve().parent
