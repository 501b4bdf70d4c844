"""Digests and signature algorithms: which are taken, and the check itself, bound to the kind of key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Scheme = Literal["rsa-pkcs1v15", "rsa-pss", "ecdsa", "ed25519"]

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "md5": hashes.MD5(),  # noqa: S303 - read and reported as weak, never written
    "sha1": hashes.SHA1(),  # noqa: S303 - the same
    "sha224": hashes.SHA224(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha512_224": hashes.SHA512_224(),
    "sha512_256": hashes.SHA512_256(),
    "sha3_224": hashes.SHA3_224(),
    "sha3_256": hashes.SHA3_256(),
    "sha3_384": hashes.SHA3_384(),
    "sha3_512": hashes.SHA3_512(),
}
_WEAK = {"md5", "sha1"}
_SMALLEST_RSA = 2048
_SMALLEST_CURVE = 256


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """``digest``: its name as in :func:`digest`; ``salt_length`` and ``mask_digest`` for RSASSA-PSS only."""

    scheme: Scheme
    digest: str
    salt_length: int = 0
    mask_digest: str = ""


def known_digest(name: str) -> bool:
    """Whether we can compute it; ``name`` like ``sha256`` or ``sha3_256``."""
    return name in _HASHES


def new_digest(name: str) -> Any:
    """A running digest as hashlib has it; ValueError for a name we do not know."""
    if name not in _HASHES:
        raise ValueError(f"unknown digest algorithm {name}")
    return hashlib.new(name, usedforsecurity=name not in _WEAK)


def digest(name: str, chunks: Iterable[bytes]) -> bytes:
    """The digest called ``name`` over the chunks one after another; ValueError for a name we do not know."""
    running = new_digest(name)
    for chunk in chunks:
        running.update(chunk)
    value: bytes = running.digest()
    return value


def weak_digest(name: str) -> bool:
    """Whether collisions in it can be made: a signature over it proves nothing about which document was meant."""
    return name in _WEAK


def weak_key(key: PublicKeyTypes) -> str | None:
    """What is too weak about the key (``RSA 1024``), or None; sizes as in Thông tư 15/2025/TT-BKHCN, annex I."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}" if key.key_size < _SMALLEST_RSA else None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}" if key.key_size < _SMALLEST_CURVE else None
    return None if isinstance(key, ed25519.Ed25519PublicKey) else type(key).__name__.strip("_")


def signature_holds(
    key: PublicKeyTypes, algorithm: SignatureAlgorithm, signature: bytes, *, signed: bytes | None, hashed: bytes
) -> bool:
    """Whether ``signature`` was made with ``key``'s private half.

    ``signed``: the bytes signed, or None where only their digest ``hashed`` (by ``algorithm.digest``) is at hand; Ed25519
    needs the bytes. A key of another kind than the algorithm's never verifies.
    """
    try:
        hashing = utils.Prehashed(_HASHES[algorithm.digest])
        match key, algorithm.scheme:
            case rsa.RSAPublicKey(), "rsa-pkcs1v15":
                key.verify(signature, hashed, padding.PKCS1v15(), hashing)
            case rsa.RSAPublicKey(), "rsa-pss":
                mask = padding.MGF1(_HASHES[algorithm.mask_digest])
                key.verify(signature, hashed, padding.PSS(mask, algorithm.salt_length), hashing)
            case ec.EllipticCurvePublicKey(), "ecdsa":
                key.verify(signature, hashed, ec.ECDSA(hashing))
            case ed25519.Ed25519PublicKey(), "ed25519":
                if signed is None:
                    return False
                key.verify(signature, signed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, KeyError):
        return False
    return True
