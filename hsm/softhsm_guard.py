"""What keeps SoftHSM's file store whole when its processes are killed.

SoftHSM 2.6 rewrites ``token.object`` at every login: it empties the file, then writes it again. A process killed in between
leaves it empty, and a token whose ``token.object`` cannot be read is gone from the slot list with all its keys. Two
processes that log in at once can read each other's empty file. So of our processes one at a time logs in, under a lock
file; the content is kept aside after each login that succeeded; and what was left damaged is put back before the next one.
Nothing else in the store is ever rewritten: a key's file is written when the key is made.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import Unavailable
from core.settings import HsmConfig

_log = logging.getLogger(__name__)
_TOKEN_FILE = "token.object"  # noqa: S105 - a file's name
_POLL = 0.01
_SETTLE = 0.25
"""Seconds a damaged file must stay so before it counts as abandoned: a living writer is done within a millisecond."""
_WORD = 8
_BOOLEAN, _INTEGER, _BYTES = 1, 2, 3
_VENDOR = 0x8000_0000 + 0x5348  # SoftHSM's own attributes: "SH"
_LABEL, _SERIAL, _FLAGS, _SO_PIN, _USER_PIN = (_VENDOR + offset for offset in (1, 2, 3, 4, 5))
_IDENTITY = (_LABEL, _SERIAL, _SO_PIN, _USER_PIN)
"""What makes the token this token; the rest are a counter and the PIN flags, which every login rewrites."""


class StoreGuard:
    """Guards every token of one SoftHSM file store. Copies and lock files lie in ``guard`` beside the store."""

    def __init__(self, store: Path) -> None:
        """``store``: the folder ``directories.tokendir`` names, one folder per token in it."""
        self._store = store
        self._folder = store.parent / "guard"

    @contextmanager
    def held(self, what: str, timeout: float) -> Iterator[None]:
        """Be the only process of ours that does ``what``; raises Unavailable after ``timeout`` seconds.

        The lock is the kernel's (flock), so it falls with its holder, however that died.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        deadline = time.monotonic() + timeout
        with (self._folder / f"{what}.lock").open("a") as lock:
            while not _locked(lock.fileno()):
                if time.monotonic() > deadline:
                    raise Unavailable("hsm", f"another process has held the token store ({what}) for {timeout:g} s")
                time.sleep(_POLL)
            yield

    def mend(self) -> None:
        """Put back every ``token.object`` that is damaged and stays so; call while holding the login lock."""
        for copy in self._folder.glob(f"*.{_TOKEN_FILE}"):
            path = self._store / copy.name.removesuffix(f".{_TOKEN_FILE}") / _TOKEN_FILE
            if path.parent.is_dir() and not _sound(path) and not _settles(path):
                _log.warning("token.object in %s was damaged: put back from its copy", path.parent)
                replace_file(path, copy.read_bytes())

    def keep(self) -> None:
        """Keep aside every ``token.object``; call while holding the login lock, after a login that succeeded."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._store.glob(f"*/{_TOKEN_FILE}"):
            content = path.read_bytes()
            found, copy = parse_object(content), self._folder / f"{path.parent.name}.{_TOKEN_FILE}"
            if _complete(found) and (not copy.exists() or not _same_token(found, parse_object(copy.read_bytes()))):
                replace_file(copy, content)

    def flush(self, since: float) -> None:
        """Bring what changed ``since`` (seconds of the epoch) to the disk: a key that was acknowledged survives a power loss."""
        changed = (path for path in self._store.glob("*/*.object") if path.stat().st_mtime >= since - 1)
        for path in (*changed, *self._store.glob("*")):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def load_guard(config: HsmConfig) -> StoreGuard | None:
    """The guard this configuration needs: SoftHSM, told by ``SOFTHSM2_CONF`` where its file store is; else None."""
    conf = config.environment.get("SOFTHSM2_CONF")
    if conf is None or "softhsm" not in config.module.name:
        return None
    settings = load_settings(Path(conf))
    if "directories.tokendir" not in settings or settings.get("objectstore.backend", "file") != "file":
        return None
    return StoreGuard(Path(settings["directories.tokendir"]))


def load_settings(conf: Path) -> dict[str, str]:
    """The settings in a ``softhsm2.conf``; empty when there is none yet."""
    try:
        lines = conf.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split("#")[0].partition("=") for line in lines)
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def parse_object(content: bytes) -> dict[int, bytes] | None:
    """The attributes in one file of SoftHSM's store by number, or None when it is empty, cut short or no such file.

    The file is a counter, then per attribute its number, its type and its value, numbers as 8 bytes, big-endian.
    """
    attributes: dict[int, bytes] = {}
    at = _WORD
    while at + 2 * _WORD <= len(content):
        number, kind = _integer(content, at), _integer(content, at + _WORD)
        at += 2 * _WORD
        if kind == _BYTES:
            length = _integer(content, at)
            at += _WORD
        elif kind in (_BOOLEAN, _INTEGER):
            length = 1 if kind == _BOOLEAN else _WORD
        else:
            return None
        attributes[number] = content[at : at + length]
        at += length
    return attributes if at == len(content) and attributes else None


def _integer(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + _WORD], "big")


def _complete(attributes: dict[int, bytes] | None) -> bool:
    return attributes is not None and all(attributes.get(number) for number in (*_IDENTITY, _FLAGS))


def _same_token(one: dict[int, bytes] | None, other: dict[int, bytes] | None) -> bool:
    return one is not None and other is not None and all(one.get(number) == other.get(number) for number in _IDENTITY)


def _sound(path: Path) -> bool:
    return path.exists() and _complete(parse_object(path.read_bytes()))


def _settles(path: Path) -> bool:
    """Whether somebody who is writing ``path`` at this moment brings it to an end."""
    deadline = time.monotonic() + _SETTLE
    while time.monotonic() < deadline:
        if _sound(path):
            return True
        time.sleep(_POLL)
    return False


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file (mode 0600) in one step: at any instant, a power loss included, it is the old one or the new one."""
    draft = path.with_name(path.name + ".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
