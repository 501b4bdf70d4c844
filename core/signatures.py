"""Signing and verifying bytes with our own kinds of key: which hash goes with which, in the one form we use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

SigningKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def fitting_hash(key: object) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
    """The hash that goes with a public key: SHA-384 for P-384, SHA-512 for P-521 and Ed25519, SHA-256 for the rest."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return hashes.SHA512()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size > 256:
        return hashes.SHA384() if key.key_size <= 384 else hashes.SHA512()
    return hashes.SHA256()


def sign(key: SigningKey, data: bytes, hash_algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> bytes:
    """The signature over ``data``: RSA by PKCS #1 v1.5 or, with ``pss``, by PSS; EC by ECDSA (DER), Ed25519 in its pure form.

    PSS is with MGF1 over the same hash and a salt as long as it (RFC 4056, 3); ``pss`` says nothing to other kinds of key.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, rsa_padding_for(hash_algorithm, pss=pss), hash_algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hash_algorithm))
    return key.sign(data)


@runtime_checkable
class BatchKey(Protocol):
    """A key to which several messages at once cost less than one after the other."""

    def sign_all(self, messages: Sequence[bytes], algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> list[bytes]:
        """The signature over each; ``pss`` as for :func:`sign`."""
        ...


def sign_all(key: SigningKey, messages: Sequence[bytes], hash_algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> list[bytes]:
    """What :func:`sign` makes of each of ``messages``."""
    if isinstance(key, BatchKey):
        return key.sign_all(messages, hash_algorithm, pss=pss)
    return [sign(key, message, hash_algorithm, pss=pss) for message in messages]


def verify(key: object, signature: bytes, data: bytes, hash_algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> None:
    """Raises InvalidSignature unless ``signature`` is what :func:`sign` makes of ``data`` with the private half of ``key``."""
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, rsa_padding_for(hash_algorithm, pss=pss), hash_algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(hash_algorithm))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, data)
    else:
        raise InvalidSignature(f"a {type(key).__name__} signs nothing here")


def rsa_padding_for(hash_algorithm: hashes.HashAlgorithm, *, pss: bool) -> padding.AsymmetricPadding:
    """How :func:`sign` pads for an RSA key."""
    return padding.PSS(padding.MGF1(hash_algorithm), hash_algorithm.digest_size) if pss else padding.PKCS1v15()
