"""Further tokens of the same module (``[[hsm.tokens]]``): opened when first asked for, and no trouble to anybody while away."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

import pkcs11
from pkcs11 import Mechanism, PKCS11Error, Session

from core.errors import Unavailable
from core.settings import HsmConfig, NamedTokenConfig
from hsm.softhsm_guard import StoreGuard

PIN_ERRORS: Final = (pkcs11.PinIncorrect, pkcs11.PinLocked, pkcs11.PinExpired, pkcs11.PinInvalid, pkcs11.PinLenRange)
_BACKOFF: Final = 0.5
"""Seconds between two attempts to open a token that is away."""
_LOGIN_WAIT: Final = 10.0
"""Seconds to wait for other processes of ours that are logging in (SoftHSM)."""


class Opened(NamedTuple):
    """A session in a token, and the mechanisms its slot offers."""

    session: Session
    offered: frozenset[Mechanism]


class NamedTokens:
    """The further tokens of one configuration. Call it only while holding a turn in the module."""

    def __init__(self, config: HsmConfig, guard: StoreGuard | None) -> None:
        self._library: Any = None
        self._tokens = {token.name: token for token in config.tokens}
        self._guard = guard
        self._retry_after = config.retry_after
        self._away: dict[str, tuple[float, str]] = {}
        self._refused: dict[str, int] = {}

    def attach(self, library: Any) -> None:
        """Use this module, which has just been initialised: whoever was away may be back."""
        self._library = library
        self._away.clear()

    def open(self, name: str) -> Opened:
        """A session in the token of this name, logged in; raises Unavailable while it is away or refuses its PIN."""
        token = self._tokens.get(name)
        if token is None:
            raise self._unavailable(f"the configuration names no token {name!r}: add [[hsm.tokens]]")
        until, why = self._away.get(name, (0.0, ""))
        if time.monotonic() < until:
            raise self._unavailable(why)
        try:
            with self._guard.held("login", _LOGIN_WAIT) if self._guard else nullcontext():
                return self._open(token)
        except PIN_ERRORS as error:
            self._refused[name] = _changed(token.pin_file)
            raise self._unavailable(f"the token {name} refuses the PIN in {token.pin_file}: {type(error).__name__}") from error
        except (PKCS11Error, OSError, UnicodeDecodeError) as error:
            why = f"the token {name} ({token.token_label!r}) is not there: {type(error).__name__}"
            self._away[name] = (time.monotonic() + _BACKOFF, why)
            raise self._unavailable(why) from error

    def _open(self, token: NamedTokenConfig) -> Opened:
        if self._refused.get(token.name) == _changed(token.pin_file):  # tokens count wrong PINs, and lock
            raise self._unavailable(f"the token {token.name} refused the PIN in {token.pin_file}: correct the file")
        pin = token.pin_file.read_text(encoding="utf-8").partition("\n")[0].strip()
        if self._guard is not None:
            self._guard.mend()
        found = self._library.get_token(token_label=token.token_label)
        session = log_in(found, pin)
        if self._guard is not None:
            self._guard.keep()
        return Opened(session, frozenset(found.slot.get_mechanisms()))

    def _unavailable(self, detail: str) -> Unavailable:
        return Unavailable("hsm", detail, retry_after=self._retry_after)


def log_in(token: pkcs11.Token, pin: str) -> Session:
    """A session of the user; the login is the process's, so only the first session of a token needs the PIN."""
    try:
        return token.open(rw=True, user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open(rw=True)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns
