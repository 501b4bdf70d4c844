"""Keys in a token as cryptography's private keys: everything above signs with them without knowing where they are.

Only ``sign`` and ``public_key`` work. What would need the private key itself in this process raises
:class:`~core.errors.Rejected`; copies are the same object, since there is nothing to copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.utils import Buffer
from pkcs11 import Mechanism

from core.errors import Rejected
from core.signatures import rsa_padding_for
from hsm.keys import PrivateKey
from hsm.mechanisms import Choice, HashChoice, ecdsa_choices, ecdsa_choices_of_all, rsa_choices

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class KeyName:
    """How one key pair is found in the token: CKA_LABEL and CKA_ID together."""

    label: str
    id: bytes
    token: str = ""
    """The name of the token; empty for the default one."""


class SigningToken(Protocol):
    """What a key asks of the token it lies in."""

    def sign(self, name: KeyName, choices: tuple[Choice, ...]) -> bytes:
        """The signature by the first of ``choices`` that the token offers, in PKCS#11's own encoding."""
        ...

    def sign_all(self, name: KeyName, listed: Sequence[tuple[Choice, ...]]) -> list[bytes]:
        """The same several times with one key, without letting anybody else in between."""
        ...


class _InToken:
    """What the three kinds have in common."""

    def __init__(self, token: SigningToken, name: KeyName, public_key: Any) -> None:
        self._token = token
        self._public_key = public_key
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name.label!r}>"

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise Rejected("key", f"the private key {self.name.label!r} never leaves its token: it can only sign")

    private_numbers = private_bytes = private_bytes_raw = exchange = decrypt = _refuse


class TokenRSAKey(_InToken, rsa.RSAPrivateKey):
    """An RSA key that signs in its token (PKCS#1 v1.5 and PSS)."""

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return int(self._public_key.key_size)

    def public_key(self) -> rsa.RSAPublicKey:
        """The public half, an ordinary key of this process."""
        key: rsa.RSAPublicKey = self._public_key
        return key

    def sign(self, data: Buffer, padding: AsymmetricPadding, algorithm: HashChoice) -> bytes:
        """The signature over ``data`` (the message, or its digest with Prehashed)."""
        return self._token.sign(self.name, rsa_choices(bytes(data), padding, algorithm, self.key_size))

    def sign_all(self, messages: Sequence[bytes], algorithm: HashAlgorithm, *, pss: bool = False) -> list[bytes]:
        """What :meth:`sign` makes of each message, by PKCS#1 v1.5 or PSS; the way to the token is gone once."""
        padding, size = rsa_padding_for(algorithm, pss=pss), self.key_size
        return self._token.sign_all(self.name, [rsa_choices(one, padding, algorithm, size) for one in messages])


class TokenECKey(_InToken, ec.EllipticCurvePrivateKey):
    """An EC key that signs in its token (ECDSA)."""

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256, P-384 or P-521."""
        curve: ec.EllipticCurve = self._public_key.curve
        return curve

    @property
    def key_size(self) -> int:
        """Bits of the curve's order."""
        return self.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half, an ordinary key of this process."""
        key: ec.EllipticCurvePublicKey = self._public_key
        return key

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """DER ECDSA-Sig-Value (RFC 3279, section 2.2.3) over ``data`` (the message, or its digest with Prehashed)."""
        if not isinstance(signature_algorithm, ec.ECDSA) or signature_algorithm.deterministic_signing:
            raise Rejected("key", "an EC key in a token signs with randomised ECDSA only")
        return _to_der(self._token.sign(self.name, ecdsa_choices(bytes(data), signature_algorithm.algorithm, self.key_size)))

    def sign_all(self, messages: Sequence[bytes], algorithm: HashAlgorithm, *, pss: bool = False) -> list[bytes]:  # noqa: ARG002 - says nothing to an EC key
        """What :meth:`sign` makes of each message; the way to the token, a fifth of a P-256 signature's cost, is gone once."""
        return [_to_der(raw) for raw in self._token.sign_all(self.name, ecdsa_choices_of_all(messages, algorithm, self.key_size))]


class TokenEd25519Key(_InToken, ed25519.Ed25519PrivateKey):
    """An Ed25519 key that signs in its token (pure EdDSA, RFC 8032)."""

    def public_key(self) -> ed25519.Ed25519PublicKey:
        """The public half, an ordinary key of this process."""
        key: ed25519.Ed25519PublicKey = self._public_key
        return key

    def sign(self, data: Buffer) -> bytes:
        """64 bytes over the message ``data``."""
        return self._token.sign(self.name, (Choice(Mechanism.EDDSA, None, bytes(data)),))


def _to_der(raw: bytes) -> bytes:
    """ECDSA-Sig-Value of what PKCS#11 gives: r and s side by side, each as long as the curve's order."""
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def build_key(token: SigningToken, name: KeyName, public_key: PublicKey) -> PrivateKey:
    """The private key of the kind that belongs to ``public_key``."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return TokenRSAKey(token, name, public_key)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return TokenECKey(token, name, public_key)
    return TokenEd25519Key(token, name, public_key)
