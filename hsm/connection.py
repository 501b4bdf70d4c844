"""One login to the token, and the sessions it is used through.

python-pkcs11 initialises a module with ``C_Initialize(NULL)``, which promises it a single thread, so with one session every
call of the process goes through one lock. A lane is one PKCS#11 session with the key handles found through it; a thread
holds a lane for one call. All lanes together are the module: whoever holds them all may finalise it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from pkcs11 import Mechanism, ObjectClass, PKCS11Error, Session

from core.errors import CondauError, Rejected, Unavailable
from core.settings import HsmConfig
from hsm.keys import PrivateKey
from hsm.mechanisms import Choice
from hsm.named_tokens import NamedTokens, Opened, log_in
from hsm.objects import find, find_pairs
from hsm.token_keys import KeyName, build_key

T = TypeVar("T")
PROBE_LABEL = "condau-probe"
"""The key that the health probe signs with; it signs nothing else."""
_TRIAL_TEXT = b"condau: trial of a key in its token; this signature attests nothing"
_WAIT = 10.0
"""Seconds a call waits for its turn; an RSA-4096 key is made well within it."""
_STALLED_WAIT = 0.1
"""The same once a call has waited in vain: the module hangs, and nobody else shall hang with it for long."""


def try_out(key: PrivateKey) -> None:
    """Sign a fixed text that attests nothing and check the signature; raises Unavailable when it is wrong."""
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            signature = key.sign(_TRIAL_TEXT, PKCS1v15(), hashes.SHA256())
            key.public_key().verify(signature, _TRIAL_TEXT, PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            ecdsa = ec.ECDSA(hashes.SHA256())
            key.public_key().verify(key.sign(_TRIAL_TEXT, ecdsa), _TRIAL_TEXT, ecdsa)
        else:
            key.public_key().verify(key.sign(_TRIAL_TEXT), _TRIAL_TEXT)
    except InvalidSignature as error:
        raise Unavailable("hsm", f"the HSM made a wrong signature with {key!r}") from error


class Lost(Exception):
    """This connection is given up; there is or will be another."""


class Lane:
    """One session, one more for each further token that was asked for, and the keys found through them."""

    __slots__ = ("_handles", "_named", "_offered", "_opened", "session")

    def __init__(self, session: Session, offered: frozenset[Mechanism], named: NamedTokens | None = None) -> None:
        self.session = session
        self._offered = offered
        self._named = named
        self._opened: dict[str, Opened] = {}
        self._handles: dict[bytes, Any] = {}

    def use(self, token: str, work: Callable[[Opened], T]) -> T:
        """``work`` with the session in this token (empty: the default one); a session that failed is opened anew at its next use.

        Raises what ``work`` raises, and Unavailable for a further token that is not there.
        """
        if not token or self._named is None:
            return work(Opened(self.session, self._offered))
        if token not in self._opened:
            self._opened[token] = self._named.open(token)
        try:
            return work(self._opened[token])
        except PKCS11Error:
            self._opened.pop(token)
            self._handles.clear()
            raise

    def sign(self, name: KeyName, choices: tuple[Choice, ...]) -> bytes:
        """Sign by the first choice the token offers; raises PKCS11Error, or Rejected when it offers none."""
        return self.use(name.token, lambda opened: self._sign(opened, name, choices))

    def sign_all(self, name: KeyName, listed: Sequence[tuple[Choice, ...]]) -> list[bytes]:
        """The same for each of ``listed``."""
        return self.use(name.token, lambda opened: [self._sign(opened, name, choices) for choices in listed])

    def _sign(self, opened: Opened, name: KeyName, choices: tuple[Choice, ...]) -> bytes:
        handle = self._handles.get(name.id)
        if handle is None:
            handle = self._handles[name.id] = self._find(opened.session, name)
        for mechanism, parameter, data in choices:
            if mechanism in opened.offered:
                signature: bytes = handle.sign(data, mechanism=mechanism, mechanism_param=parameter)
                return signature
        wanted = ", ".join(choice.mechanism.name for choice in choices)
        raise Rejected("key", f"the token offers none of {wanted}: use another kind of key or signature")

    def _find(self, session: Session, name: KeyName) -> Any:
        found = find(session, ObjectClass.PRIVATE_KEY, name.label, name.id)
        if len(found) != 1:
            raise pkcs11.NoSuchKey(f"{len(found)} private keys are {name.label!r} with id {name.id.hex()}")
        return found[0]

    def forget(self) -> None:
        """Find every key again at its next use."""
        self._handles.clear()


class Connection:
    """A logged-in token. :meth:`run` is safe from any thread."""

    def __init__(self, token: pkcs11.Token, sessions: list[Session], named: NamedTokens | None = None) -> None:
        self.offered: frozenset[Mechanism] = frozenset(token.slot.get_mechanisms())
        self.keys: dict[str, PrivateKey] = {}
        """What this connection has found so far, by label."""
        self.probe_pairs = find_pairs(sessions[0], PROBE_LABEL)
        """The probe key, if it has been made."""
        self._all = [Lane(session, self.offered, named) for session in sessions]
        self._free: SimpleQueue[Lane] = SimpleQueue()
        self._open = False
        self._stalled = False
        self.resume()

    @property
    def usable(self) -> bool:
        """Whether calls may go through it."""
        return self._open

    def run(self, work: Callable[[Lane], T]) -> T:
        """``work`` with a lane of its own; raises what it raises, Lost, or Unavailable when no lane comes free in time."""
        try:
            lane = self._free.get(timeout=_STALLED_WAIT if self._stalled else _WAIT)
        except Empty:
            self._stalled = True
            raise Unavailable("hsm", "the HSM is still busy with earlier requests") from None
        try:
            if not self._open:
                raise Lost
            result = work(lane)
            self._stalled = False
            return result
        finally:
            self._free.put(lane)

    def drain(self, timeout: float) -> bool:
        """Let no new call through and wait until the running ones are done: afterwards nobody is inside the module.

        Returns False when a call hangs longer than ``timeout`` seconds; then the module must not be touched.
        """
        self._open = False
        taken: list[Lane] = []
        deadline = time.monotonic() + timeout
        with suppress(Empty):
            while len(taken) < len(self._all):
                taken.append(self._free.get(timeout=max(deadline - time.monotonic(), 0)))
        if len(taken) == len(self._all):
            return True
        for lane in taken:
            self._free.put(lane)
        return False

    def works(self) -> bool:
        """Whether every lane of a drained connection still signs with the probe key; False too when there is none."""
        try:
            for lane in self._all:
                lane.forget()
                for name, public_key in self.probe_pairs:
                    try_out(build_key(lane, name, public_key))
        except (PKCS11Error, CondauError):
            return False
        return bool(self.probe_pairs)

    def resume(self) -> None:
        """Let calls through again after :meth:`drain`."""
        self._open = True
        for lane in self._all:
            self._free.put(lane)

    def release(self) -> None:
        """After :meth:`drain`, for good: whoever still waits for a lane gets Lost at once."""
        for lane in self._all:
            self._free.put(lane)


def open_connection(library: Any, config: HsmConfig, pin: str, named: NamedTokens) -> Connection:
    """Log in to the configured token of an initialised module; raises PKCS11Error. The ``named`` ones are opened when asked for."""
    named.attach(library)
    token = library.get_token(token_label=config.token_label)
    first = log_in(token, pin)
    return Connection(token, [first, *(token.open(rw=True) for _ in range(config.sessions - 1))], named)
