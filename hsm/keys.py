"""What the rest of the house sees of a key: a cryptography private key, found by its label."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
"""A key that signs; whether in this process or in a token, its user cannot tell."""


class KeySpec(StrEnum):
    """The kinds of key a token makes for us."""

    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    P_256 = "p-256"
    P_384 = "p-384"
    P_521 = "p-521"
    ED25519 = "ed25519"


def split_label(label: str) -> tuple[str, str]:
    """The token's name (empty: the default one) and the label in it, of a label as everybody else writes it."""
    name, colon, rest = label.partition(":")
    return (name, rest) if colon else ("", label)


class KeyStore(Protocol):
    """Keys by label; one in another token than the default has that token's name and a colon before it (``root:ca-root``).

    :class:`hsm.token.Token` is one; tests use one of software keys.
    """

    def key(self, label: str) -> PrivateKey:
        """The key with this label; raises NotFound, or Unavailable while the token is away."""
        ...

    def generate(self, label: str, spec: KeySpec) -> PrivateKey:
        """A new key under a label nobody has; raises Conflict, Rejected (a kind the token lacks) or Unavailable."""
        ...
