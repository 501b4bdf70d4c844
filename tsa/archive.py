"""Taking whole months of timestamps out of the database into a file that proves itself without us.

The file is a tar: ``timestamps/2025-12/<serial>.tst`` (TimeStampTokens, DER), ``certificates/<serial>.cer`` (those of the
units and of the authorities above them), ``index.jsonl`` (what the database said of each timestamp), ``README.txt`` and, last,
``MANIFEST.sha256``, which `sha256sum -c` reads. Rows leave the database only after the file was written, synchronised and read
again; typed again after a crash the command goes on where that happened.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Final

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import Actor, append
from core.clock import Now
from core.db import Database
from core.errors import Conflict, Malformed, NotFound, Rejected
from pki.certificates import authority_chain, certificate_with_serial, format_serial
from tsa.models import Timestamp

_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_BATCH: Final = 500
_MANIFEST: Final = "MANIFEST.sha256"
_TIMESTAMP: Final = re.compile(r"timestamps/\d{4}-\d{2}/([0-9a-f]{1,40})\.tst")
_README: Final = """\
Kho lưu trữ dấu thời gian RFC 3161. Kiểm tra tính toàn vẹn: sha256sum -c MANIFEST.sha256
timestamps/THÁNG/SỐ.tst là dấu thời gian (TimeStampToken, DER); certificates/ là chứng thư của dịch vụ và các cơ quan cấp trên;
index.jsonl là thông tin kèm theo từng dấu.

An archive of RFC 3161 timestamps. To check that it is whole: sha256sum -c MANIFEST.sha256
timestamps/MONTH/SERIAL.tst are the timestamps (TimeStampToken, DER); certificates/ holds the units' certificates and those of the
authorities above; index.jsonl says what was recorded of each. To check one, with the PEM of the root in root.pem:
openssl ts -verify -token_in -in timestamps/MONTH/SERIAL.tst -data FILE -CAfile root.pem -untrusted chain.pem
"""


@dataclass(frozen=True, slots=True)
class Archived:
    """How many timestamps ``path`` holds, its SHA-256 (hex), and how many rows left the database this time."""

    path: Path
    sha256: str
    held: int
    removed: int


class TimestampArchive:
    """Writes archives and removes what they hold."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now

    def archive(self, path: Path, *, before: str, actor: Actor) -> Archived:
        """Move every timestamp of the months before ``before`` (``2026-01``) into ``path``.

        Where ``path`` is there already it is read and only the removal is finished. Raises Rejected (``before`` is no month, or
        its months are not over), NotFound (nothing to archive), Malformed (``path`` is not whole), Conflict (another run is
        writing it; or timestamps of these months are not in it).
        """
        if not _MONTH.fullmatch(before) or before > f"{self._now():%Y-%m}":
            raise Rejected("before", "a month such as 2026-01, this one at the latest: only months that are over are archived")
        if not path.exists():
            self._write(path, before)
        held = _check(path)
        sha256 = _sha256_of(path)
        with self._database.write() as db:
            append(db, at=self._now(), actor=actor, action="timestamp.archive", subject=path.name, sha256=sha256, held=held)
        removed = self._remove(path)
        with self._database.write() as db:
            append(db, at=self._now(), actor=actor, action="timestamp.remove", subject=path.name, sha256=sha256, removed=removed)
        left = self._count(before)
        if left:
            raise Conflict(f"{left} timestamps before {before} are not in {path.name}: archive those to another file")
        return Archived(path, sha256, held, removed)

    def _count(self, before: str) -> int:
        with self._database.read() as db:
            return db.scalar(sa.select(sa.func.count()).select_from(Timestamp).where(Timestamp.month < before)) or 0

    def _write(self, path: Path, before: str) -> None:
        """The whole file under another name, on the disk, and only then under its own."""
        if not self._count(before):
            raise NotFound("before", f"there is no timestamp of a month before {before}")
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"another run is writing {partial.name} at this moment") from error
            if path.exists():  # another run was done between our look and our lock: this may be the very file, under its own name
                partial.unlink(missing_ok=True)
                return
            file.truncate(0)  # what a run that was cut off has left
            with (
                tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar,
                _Spool(path) as index,
                _Spool(path) as manifest,
            ):
                contents = _Contents(tar, index, manifest, self._now())
                self._fill(contents, before)
                contents.finish()
            file.flush()
            os.fsync(file.fileno())
            partial.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _fill(self, contents: _Contents, before: str) -> None:
        contents.add("README.txt", _README.encode())
        certificates: set[str] = set()
        last = 0
        while True:
            with self._database.read() as db:
                query = sa.select(Timestamp).where(Timestamp.month < before, Timestamp.id > last).order_by(Timestamp.id)
                rows = db.scalars(query.limit(_BATCH)).all()
            if not rows:
                break
            for row in rows:
                contents.add_timestamp(row)
            certificates |= {row.certificate_serial for row in rows}
            last = rows[-1].id
        for name, certificate in sorted(self._certificates(certificates).items()):
            contents.add(f"certificates/{name}.cer", certificate.public_bytes(Encoding.DER))

    def _certificates(self, serials: set[str]) -> dict[str, x509.Certificate]:
        """By serial number, the certificates of the units and of every authority above them."""
        found: dict[str, x509.Certificate] = {}
        with self._database.read() as db:
            for serial in serials:
                row = certificate_with_serial(db, serial)
                if row.der is None:
                    raise Conflict(f"the certificate {serial}, which signed timestamps, is not in the database")
                chain = (x509.load_der_x509_certificate(row.der), *authority_chain(db, row.authority_id))
                found |= {format_serial(one.serial_number): one for one in chain}
        return found

    def _remove(self, path: Path) -> int:
        """Delete the rows whose token the file holds, byte for byte."""
        removed = 0
        timestamps = _timestamps(path)
        while batch := dict(islice(timestamps, _BATCH)):
            with self._database.write() as db:
                rows = db.execute(sa.select(Timestamp.id, Timestamp.serial, Timestamp.der).where(Timestamp.serial.in_(batch))).all()
                differing = [row.serial for row in rows if row.der != batch[row.serial]]
                if differing:
                    raise Conflict(
                        f"the timestamp {differing[0]} in {path.name} is not the one in the database: nothing more is removed"
                    )
                db.execute(sa.delete(Timestamp).where(Timestamp.id.in_([row.id for row in rows])))
            removed += len(rows)
        return removed


class _Spool:
    """A file without a name beside the archive, for what is only complete at the end."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent

    def __enter__(self) -> IO[bytes]:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Contents:
    """A tar being filled, its manifest kept along."""

    def __init__(self, tar: tarfile.TarFile, index: IO[bytes], manifest: IO[bytes], at: datetime) -> None:
        self._tar = tar
        self._index = index
        self._at = int(at.timestamp())
        self._manifest = manifest

    def add(self, name: str, data: bytes) -> None:
        """One file."""
        self._put(name, io.BytesIO(data), len(data))
        self._manifest.write(_line(name, hashlib.sha256(data).hexdigest()))

    def add_timestamp(self, row: Timestamp) -> None:
        """One timestamp, and its line of the index."""
        name = f"timestamps/{row.month}/{row.serial}.tst"
        self.add(name, row.der)
        columns = ("serial", "hash_algorithm", "imprint", "policy", "unit", "key_label", "certificate_serial", "client")
        told = {"file": name, "generated_at": row.gen_time.astimezone(UTC).isoformat()}
        told |= {column: getattr(row, column) for column in columns}
        self._index.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")

    def finish(self) -> None:
        """The index and the manifest."""
        self._put_spooled("index.jsonl", self._index)
        self._put_spooled(_MANIFEST, self._manifest)

    def _put_spooled(self, name: str, file: IO[bytes]) -> None:
        size = file.tell()
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it is a binary file
        file.seek(0)
        self._put(name, file, size)
        self._manifest.write(_line(name, sha256))

    def _put(self, name: str, file: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, self._at, 0o444
        self._tar.addfile(member, file)


def _line(name: str, sha256: str) -> bytes:
    return f"{sha256}  {name}\n".encode()


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every file in the archive."""
    with tarfile.open(path, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                raise tarfile.ReadError(f"{member.name} is no file")
            yield member.name, content


def _check(path: Path) -> int:
    """Read the archive and compare every file with its manifest; how many timestamps it holds. Raises Malformed."""
    computed, held, stated = hashlib.sha256(), 0, None
    try:
        for name, content in _members(path):
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # it is a binary file
            if name == _MANIFEST:
                stated = sha256
                break
            computed.update(_line(name, sha256))
            held += _TIMESTAMP.fullmatch(name) is not None
    except (tarfile.TarError, EOFError) as error:
        raise Malformed("to", f"{path.name} cannot be read as an archive ({error}): nothing was removed") from error
    if stated != computed.hexdigest():
        raise Malformed(
            "to", f"{path.name} does not hold what its manifest says: nothing was removed; move it away and archive again"
        )
    return held


def _timestamps(path: Path) -> Iterator[tuple[str, bytes]]:
    """Serial number and token of every timestamp in the archive."""
    for name, content in _members(path):
        found = _TIMESTAMP.fullmatch(name)
        if found:
            yield found[1], content.read()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
