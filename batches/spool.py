"""Where the documents of a batch wait, and their signed versions after them: one folder for each batch, numbers for names.

Nothing that a client sent is ever part of a path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from core.content import Content
from core.errors import NotFound, Unavailable

_FEW: Final = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """What was written: its SHA-256 in lower-case hex, and its bytes."""

    digest: str
    size: int


class BatchFolder:
    """The files of one batch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """What :meth:`BatchSpool.find` finds it by again."""
        return self._path.name

    def keep(self, number: int, chunks: Iterable[bytes]) -> Kept:
        """Keep an item's document. Raises Unavailable when the disk takes no more, and whatever ``chunks`` raises."""
        digest, size = hashlib.sha256(), 0
        with _room(), (self._path / f"{number}.in").open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
        return Kept(digest.hexdigest(), size)

    def settle(self) -> None:
        """All documents that were kept are on the disk when this returns. Raises Unavailable."""
        files = list(self._path.iterdir())
        with _room():
            if len(files) > _FEW:
                os.sync()  # ten thousand files one by one take minutes
                return
            for path in (*files, self._path):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def document(self, number: int) -> Content:
        """An item's document; raises NotFound when it is gone, or lies in another machine's spool."""
        return self._read(f"{number}.in")

    def keep_password(self, number: int, sealed: bytes) -> None:
        """Keep the sealed password of an item's document. Raises Unavailable when the disk takes no more."""
        with _room():
            (self._path / f"{number}.password").write_bytes(sealed)

    def password(self, number: int) -> bytes | None:
        """The sealed password of an item's document; None where it has none."""
        try:
            return (self._path / f"{number}.password").read_bytes()
        except FileNotFoundError:
            return None

    def drop_passwords(self) -> None:
        """Delete the passwords of all items."""
        for path in self._path.glob("*.password"):
            path.unlink(missing_ok=True)

    def keep_result(self, number: int, attempt: str, chunks: Iterable[bytes]) -> None:
        """Keep what an attempt has made of an item; it is on the disk when this returns. Raises Unavailable."""
        with _room(), (self._path / f"{number}.{attempt}.out").open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def result(self, number: int, attempt: str) -> Content:
        """What an attempt has made of an item; raises NotFound when it is gone."""
        return self._read(f"{number}.{attempt}.out")

    def drop_document(self, number: int) -> None:
        """Delete an item's document and its password, if they are there."""
        (self._path / f"{number}.password").unlink(missing_ok=True)
        (self._path / f"{number}.in").unlink(missing_ok=True)

    def drop_result(self, number: int, attempt: str) -> None:
        """Delete what an attempt has made, if it is there."""
        (self._path / f"{number}.{attempt}.out").unlink(missing_ok=True)

    def delete(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _read(self, name: str) -> Content:
        try:
            with (self._path / name).open("rb") as file:
                return Content.of_file(file)
        except FileNotFoundError as error:
            raise NotFound("item", "its file is no longer in the spool of this machine") from error


class BatchSpool:
    """The folder with every batch's folder, for nobody but this service."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> BatchFolder:
        """A new, empty folder; raises Unavailable."""
        folder = self._path / uuid.uuid4().hex
        with _room():
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
        return BatchFolder(folder)

    def find(self, name: str) -> BatchFolder:
        """The folder of that name, which may be gone."""
        return BatchFolder(self._path / name)

    def orphans(self, known: Collection[str], before: datetime) -> Iterator[BatchFolder]:
        """Folders that no batch of ``known`` has and that were last written to before that: an upload that was cut off."""
        if not self._path.is_dir():
            return
        for entry in self._path.iterdir():
            if entry.name not in known and datetime.fromtimestamp(entry.stat().st_mtime, UTC) < before:
                yield BatchFolder(entry)


@contextmanager
def _room() -> Iterator[None]:
    """The one place where the disk's errors become ours."""
    try:
        yield
    except OSError as error:
        raise Unavailable("disk", "the spool has no room for this at the moment", retry_after=30) from error
