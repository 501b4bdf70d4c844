"""The token of this process: a key store that signs in an HSM, survives its absence and heals without a restart.

How it heals. A call that fails in a way that may be the HSM's (a lost session, a removed token, a dead module) stops all
calls; when none is inside the module any more, each session is tried with the probe key. If they work, the fault was the
call's own. If not, the module is finalised, initialised, logged in to again, and the keys are found anew by label and id.
Then the call is made once more. While re-opening fails, calls are refused at once and one in half a second tries again.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11 import Mechanism, PKCS11Error

from core.config import export_module_environment
from core.errors import Conflict, NotFound, Rejected, Unavailable
from core.settings import HsmConfig
from hsm.connection import PROBE_LABEL, Connection, Lane, Lost, open_connection, try_out
from hsm.keys import KeySpec, PrivateKey, split_label
from hsm.mechanisms import Choice
from hsm.named_tokens import PIN_ERRORS, NamedTokens, Opened
from hsm.objects import check_offered, find_pairs, generate_pair, new_name, private_labels
from hsm.softhsm_guard import StoreGuard, load_guard
from hsm.token_keys import KeyName, build_key

_log = logging.getLogger(__name__)
T = TypeVar("T")

_BACKOFF = 0.5
"""Seconds between attempts to re-open a token that is away: a fraction of the 5 s within which service must be back."""
_OPEN_WAIT = 5.0
"""Seconds a call waits while another thread opens the token."""
_DRAIN_WAIT = 5.0
_LOGIN_WAIT = 10.0
"""Seconds to wait for other processes of ours that are logging in (SoftHSM)."""
_LOGIN_PATIENCE = 2.0
"""Seconds of trying again while a program that is not ours disturbs our login (SoftHSM)."""
_LOGIN_PAUSE = 0.02
_GENERATE_WAIT = 20.0
"""Seconds to wait for other processes of ours that are making keys (SoftHSM)."""
_REFUSALS = (
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
    pkcs11.DataInvalid,
    pkcs11.DataLenRange,
    pkcs11.KeySizeRange,
    pkcs11.KeyTypeInconsistent,
    pkcs11.AttributeValueInvalid,
    pkcs11.TemplateIncomplete,
    pkcs11.TemplateInconsistent,
    pkcs11.DomainParamsInvalid,
    pkcs11.FunctionNotSupported,
)
"""What a healthy token answers to a request it does not serve."""

_opening = threading.Lock()
"""Held while a module is initialised or finalised: both act on the whole process."""
_holders: dict[Path, Token] = {}
"""Which token of this process has which module initialised."""


class Token:
    """Implements hsm.keys.KeyStore over one PKCS#11 token; opened at first use, one login per process.

    Two instances over the same module may live in a process; each takes the module over from the other when it is used.
    """

    def __init__(self, config: HsmConfig) -> None:
        """Raises Rejected for a configuration that cannot work; does not touch the module yet."""
        self._guard = load_guard(config)
        if self._guard is not None and config.sessions > 1:
            raise Rejected("hsm.sessions", "SoftHSM bears one call at a time in a process: set it to 1")
        self._config = config
        self._named = NamedTokens(config, self._guard)
        self._connection: Connection | None = None
        self._library: Any = None
        self._away: str | None = None
        self._try_again_at = 0.0
        self._refused_pin: int | None = None

    def key(self, label: str) -> PrivateKey:
        """The key pair with this label; raises NotFound, Conflict (several have it) or Unavailable."""
        connection = self._connection
        if connection is not None and connection.usable and label in connection.keys:
            return connection.keys[label]
        token, plain = split_label(label)
        pairs = self._run(lambda lane: lane.use(token, lambda opened: find_pairs(opened.session, plain)))
        if not pairs:
            raise NotFound("key", f"no usable key is labelled {label!r}")
        if len(pairs) > 1:
            raise Conflict(f"{len(pairs)} keys are labelled {label!r}: which one is meant cannot be told")
        name, public_key = pairs[0]
        key = build_key(self, KeyName(name.label, name.id, token), public_key)
        connection = self._connection
        if connection is not None:
            connection.keys[label] = key
        return key

    def generate(self, label: str, spec: KeySpec) -> PrivateKey:
        """A new key pair in the token, tried out before it is returned; raises Conflict, Rejected or Unavailable.

        After Unavailable it is not known whether the key was made; a key nobody was told of lies idle under its label.
        """
        begun = time.time()
        made: list[KeyName] = []
        token, plain = split_label(label)

        def work(opened: Opened) -> None:
            check_offered(spec, opened.offered)
            pairs = find_pairs(opened.session, plain)
            if any(name in made for name, _ in pairs):
                return  # made by an attempt whose answer was lost
            if pairs:
                raise Conflict(f"a key labelled {label!r} exists already")
            made.append(new_name(plain))
            generate_pair(opened.session, made[-1], spec)

        with self._guard.held("generate", _GENERATE_WAIT) if self._guard else nullcontext():
            self._run(lambda lane: lane.use(token, work))
            if self._guard is not None:
                self._guard.flush(begun)
        key = self.key(label)
        try_out(key)
        return key

    def sign(self, name: KeyName, choices: tuple[Choice, ...]) -> bytes:
        """See :class:`hsm.token_keys.SigningToken`; raises Rejected or Unavailable."""
        return self._run(lambda lane: lane.sign(name, choices))

    def sign_all(self, name: KeyName, listed: Sequence[tuple[Choice, ...]]) -> list[bytes]:
        """See :class:`hsm.token_keys.SigningToken`; raises Rejected or Unavailable, and then there is none of them."""
        return self._run(lambda lane: lane.sign_all(name, listed))

    def labels(self, token: str = "") -> list[str]:
        """The labels of all private keys in the token of this name, with that name, sorted; raises Unavailable."""
        found = self._run(lambda lane: lane.use(token, lambda opened: private_labels(opened.session)))
        return [f"{token}:{label}" for label in found] if token else found

    def probe(self) -> None:
        """Sign with the probe key and check the signature; raises Unavailable."""
        try:
            try_out(self.key(PROBE_LABEL))
        except NotFound as error:
            raise Unavailable("hsm", "the token has no probe key: run `condau init`") from error

    def ensure_probe_key(self) -> None:
        """Make the probe key if there is none; for ``init``."""
        try:
            self.key(PROBE_LABEL)
        except NotFound:
            elliptic = {Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA} <= self._connected().offered
            self.generate(PROBE_LABEL, KeySpec.P_256 if elliptic else KeySpec.RSA_2048)

    def close(self) -> None:
        """Log out and finalise the module; the next use opens it again."""
        with _opening:
            if not self._let_go():
                _log.warning("token %r is left open: a call to the HSM hangs", self._config.token_label)

    def _run(self, work: Callable[[Lane], T]) -> T:
        """``work`` on a lane, healed and tried once more if the HSM may be at fault."""
        connection = self._connected()
        failures = 0
        while True:
            try:
                return connection.run(work)
            except Lost:  # stopped while this call waited for its turn: the HSM was not asked yet
                connection = self._recover(None, None)
            except _REFUSALS as error:
                raise Rejected("key", f"the token refuses this use of a key: {_name(error)}") from error
            except PKCS11Error as error:
                failures += 1
                if failures > 1:
                    raise self._unavailable(f"the HSM failed twice: {_name(error)}") from error
                connection = self._recover(connection, error)

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and connection.usable:
            return connection
        return self._recover(None, None)

    def _recover(self, failed: Connection | None, error: Exception | None) -> Connection:
        """A usable connection; if ``failed`` is still the current one, only after it was tested. Raises Unavailable."""
        self._check_backoff()
        if not _opening.acquire(timeout=_OPEN_WAIT if self._away is None else 0):
            raise self._unavailable("the HSM is being re-opened")
        try:
            current = self._connection
            if current is not None and current.usable and current is not failed:
                return current
            self._check_backoff()
            return self._reopen(current, error)
        finally:
            _opening.release()

    def _check_backoff(self) -> None:
        if self._away is not None and time.monotonic() < self._try_again_at:
            raise self._unavailable(self._away)

    def _reopen(self, current: Connection | None, error: Exception | None) -> Connection:
        try:
            if current is not None:
                if error is not None:
                    _log.warning("a call to the HSM failed: %s", _name(error))
                if not current.drain(_DRAIN_WAIT):
                    raise self._unavailable("a call to the HSM hangs")
                self._connection = None
                if current.works():
                    current.resume()
                    self._connection, self._away = current, None
                    return current
                current.release()
            self._connection = self._open()
        except Unavailable as away:
            self._away, self._try_again_at = away.detail, time.monotonic() + _BACKOFF
            _log.warning("the HSM is away: %s", away.detail)
            raise
        self._away = None
        _log.info("token %r is open, sessions: %d", self._config.token_label, self._config.sessions)
        return self._connection

    def _open(self) -> Connection:
        """Log in, under the store's guard where there is one; raises Unavailable."""
        if not _take_module(self._config.module, self):
            raise self._unavailable("a call to the HSM hangs")
        export_module_environment(self._config)
        stamp = self._check_pin()
        pin = load_pin(self._config.pin_file)
        try:
            if self._guard is None:
                return self._log_in(pin)
            with self._guard.held("login", _LOGIN_WAIT):
                return self._log_in_guarded(self._guard, pin)
        except PIN_ERRORS as error:
            self._refused_pin = stamp
            raise self._unavailable(f"the token refuses the PIN in {self._config.pin_file}: {_name(error)}") from error
        except (PKCS11Error, OSError) as error:
            raise self._unavailable(f"the token {self._config.token_label!r} cannot be opened: {_name(error)}") from error

    def _log_in_guarded(self, guard: StoreGuard, pin: str) -> Connection:
        deadline = time.monotonic() + _LOGIN_PATIENCE
        while True:
            guard.mend()
            try:
                connection = self._log_in(pin)
            except PIN_ERRORS:
                raise
            except PKCS11Error as error:
                if time.monotonic() > deadline:
                    raise
                _log.info("logging in again: %s", _name(error))
                time.sleep(_LOGIN_PAUSE)
            else:
                guard.keep()
                return connection

    def _log_in(self, pin: str) -> Connection:
        self._finalize()
        self._library = pkcs11.lib(str(self._config.module))
        return open_connection(self._library, self._config, pin, self._named)

    def _finalize(self) -> None:
        """End this process's use of the module, whatever state it is in (a child of fork inherits an undefined one)."""
        library, self._library = self._library, None
        try:
            if library is not None:
                library.finalize()
        except PKCS11Error:
            pkcs11.unload(str(self._config.module))  # it cannot say where it stands: load it afresh

    def _check_pin(self) -> int:
        """The time the PIN file changed. A PIN that was refused is not tried again: tokens count, and lock."""
        try:
            stamp = self._config.pin_file.stat().st_mtime_ns
        except OSError as error:
            raise self._unavailable(f"the PIN file cannot be read: {_name(error)}") from error
        if stamp == self._refused_pin:
            raise self._unavailable(f"the token refused the PIN in {self._config.pin_file}: correct the file")
        return stamp

    def _let_go(self) -> bool:
        """Finalise the module once nobody is inside it; False when somebody hangs there. Call while holding ``_opening``."""
        connection = self._connection
        if connection is not None:
            if not connection.drain(_DRAIN_WAIT):
                return False
            connection.release()
        self._connection = None
        self._finalize()
        if _holders.get(self._config.module) is self:
            del _holders[self._config.module]
        return True

    def _forget_parent(self) -> None:
        """In a child of fork: the sessions are the parent's, and a lock may be held by a thread that is not here."""
        self._connection = None
        self._away = None

    def _unavailable(self, detail: str) -> Unavailable:
        return Unavailable("hsm", detail, retry_after=self._config.retry_after)


def load_pin(path: Path) -> str:
    """The PIN on the first line of a file; raises Unavailable."""
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable("hsm", f"the PIN file cannot be read: {_name(error)}") from error


@contextmanager
def sole_use(config: HsmConfig) -> Iterator[Any]:
    """The initialised module itself (python-pkcs11's ``lib``), while no :class:`Token` of this process uses it.

    For setting a token up. What the module raises inside becomes Unavailable.
    """
    with _opening:
        export_module_environment(config)
        if not _take_module(config.module, None):
            raise Unavailable("hsm", "a call to the HSM hangs")
        try:
            library = pkcs11.lib(str(config.module))
            try:
                yield library
            finally:
                library.finalize()
        except PKCS11Error as error:
            raise Unavailable("hsm", f"the token cannot be set up: {_name(error)}") from error


def _take_module(module: Path, taker: Token | None) -> bool:
    """Have whichever other token holds the module let it go; False when it cannot. Call while holding ``_opening``."""
    holder = _holders.get(module)
    if holder is not None and holder is not taker and not holder._let_go():  # noqa: SLF001 - the same module
        return False
    if taker is not None:
        _holders[module] = taker
    return True


def _name(error: BaseException) -> str:
    """What happened, in one line: PKCS#11 errors mostly say it by their type alone."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _close_all() -> None:
    """At exit, before the libraries the module itself uses are torn down: finalising after that crashes some modules."""
    for token in list(_holders.values()):
        token.close()


def _after_fork_in_child() -> None:
    global _opening  # noqa: PLW0603 - the parent's lock may be held by a thread that does not exist here
    _opening = threading.Lock()
    for token in list(_holders.values()):
        token._forget_parent()  # noqa: SLF001 - the same module


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
