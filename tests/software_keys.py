"""A key store of software keys, for tests of what lies above the token."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from core.errors import Conflict, NotFound
from hsm.keys import KeySpec, PrivateKey

_CURVES: dict[KeySpec, ec.EllipticCurve] = {
    KeySpec.P_256: ec.SECP256R1(),
    KeySpec.P_384: ec.SECP384R1(),
    KeySpec.P_521: ec.SECP521R1(),
}


class SoftwareKeys:
    """Implements hsm.keys.KeyStore in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, PrivateKey] = {}

    def copy(self) -> SoftwareKeys:
        """A store of its own with the same keys."""
        other = SoftwareKeys()
        other._keys = dict(self._keys)
        return other

    def key(self, label: str) -> PrivateKey:
        try:
            return self._keys[label]
        except KeyError:
            raise NotFound("key", f"no key is labelled {label}") from None

    def generate(self, label: str, spec: KeySpec) -> PrivateKey:
        if label in self._keys:
            raise Conflict(f"a key labelled {label} exists already")
        self._keys[label] = make_key(spec)
        return self._keys[label]


def make_key(spec: KeySpec) -> PrivateKey:
    """A software key of this kind."""
    if spec is KeySpec.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if spec in _CURVES:
        return ec.generate_private_key(_CURVES[spec])
    return rsa.generate_private_key(65537, int(spec.value.removeprefix("rsa-")))
