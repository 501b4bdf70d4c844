"""Which PKCS#11 mechanism makes a given signature, and over which bytes (pure).

Modules differ in what they offer, so each kind of signature is a short list of choices in order of preference: first the
raw mechanism over a digest computed in this process, which nearly every module has, then the mechanism that hashes in the
token, possible only when the message itself is at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from pkcs11 import MGF, Mechanism

from core.errors import Rejected


class Choice(NamedTuple):
    """One way to ask the token: ``mechanism`` with its ``parameter``, over ``data``."""

    mechanism: Mechanism
    parameter: tuple[Mechanism, MGF, int] | None
    data: bytes


class _Hash(NamedTuple):
    """One hash algorithm and what PKCS#11 and PKCS#1 call it."""

    digest: Callable[[bytes], Any]
    digest_info: bytes
    """DER of DigestInfo up to the digest (RFC 8017, section 9.2, note 1); the last byte is the digest's length."""
    mechanism: Mechanism
    mgf: MGF
    ecdsa: Mechanism
    pkcs1: Mechanism
    pss: Mechanism


_HASHES = {
    "sha256": _Hash(
        hashlib.sha256,
        bytes.fromhex("3031300d060960864801650304020105000420"),
        Mechanism.SHA256,
        MGF.SHA256,
        Mechanism.ECDSA_SHA256,
        Mechanism.SHA256_RSA_PKCS,
        Mechanism.SHA256_RSA_PKCS_PSS,
    ),
    "sha384": _Hash(
        hashlib.sha384,
        bytes.fromhex("3041300d060960864801650304020205000430"),
        Mechanism.SHA384,
        MGF.SHA384,
        Mechanism.ECDSA_SHA384,
        Mechanism.SHA384_RSA_PKCS,
        Mechanism.SHA384_RSA_PKCS_PSS,
    ),
    "sha512": _Hash(
        hashlib.sha512,
        bytes.fromhex("3051300d060960864801650304020305000440"),
        Mechanism.SHA512,
        MGF.SHA512,
        Mechanism.ECDSA_SHA512,
        Mechanism.SHA512_RSA_PKCS,
        Mechanism.SHA512_RSA_PKCS_PSS,
    ),
}

HashChoice = hashes.HashAlgorithm | Prehashed | NoDigestInfo


def ecdsa_choices(data: bytes, algorithm: HashChoice, key_size: int) -> tuple[Choice, ...]:
    """ECDSA over ``data`` (the message, or its digest when ``algorithm`` is Prehashed); ``key_size`` in bits.

    Only the leftmost ``key_size`` bits of the digest enter the signature (FIPS 186-5, section 6.4.1); they are cut here
    because modules differ in whether they do it.
    """
    names, digest, prehashed = _hashed(data, algorithm)
    raw = Choice(Mechanism.ECDSA, None, digest[: (key_size + 7) // 8])
    return (raw,) if prehashed else (raw, Choice(names.ecdsa, None, data))


def ecdsa_choices_of_all(messages: Sequence[bytes], algorithm: hashes.HashAlgorithm, key_size: int) -> list[tuple[Choice, ...]]:
    """What :func:`ecdsa_choices` says of each of ``messages``."""
    names, length = _names(algorithm), (key_size + 7) // 8
    return [
        (Choice(Mechanism.ECDSA, None, names.digest(one).digest()[:length]), Choice(names.ecdsa, None, one)) for one in messages
    ]


def rsa_choices(data: bytes, padding: object, algorithm: HashChoice, key_size: int) -> tuple[Choice, ...]:
    """RSA over ``data`` (the message, or its digest when ``algorithm`` is Prehashed); PKCS1v15 or PSS; ``key_size`` in bits."""
    names, digest, prehashed = _hashed(data, algorithm)
    if isinstance(padding, rsa_padding.PKCS1v15):
        raw = Choice(Mechanism.RSA_PKCS, None, names.digest_info + digest)
        return (raw,) if prehashed else (raw, Choice(names.pkcs1, None, data))
    if not isinstance(padding, rsa_padding.PSS):
        raise Rejected("padding", "an RSA key signs with PKCS#1 v1.5 or PSS")
    parameter = _pss_parameter(padding, names, len(digest), key_size)
    raw = Choice(Mechanism.RSA_PKCS_PSS, parameter, digest)
    return (raw,) if prehashed else (raw, Choice(names.pss, parameter, data))


def _pss_parameter(padding: rsa_padding.PSS, names: _Hash, digest_size: int, key_size: int) -> tuple[Mechanism, MGF, int]:
    """CK_RSA_PKCS_PSS_PARAMS; the longest salt is emLen - hLen - 2 (RFC 8017, section 9.1.1)."""
    mgf_hash = padding.mgf._algorithm  # noqa: SLF001 - cryptography has no other way to read it
    if mgf_hash.name not in _HASHES:
        raise Rejected("padding", f"MGF1 with {mgf_hash.name} is not supported: use SHA-256, SHA-384 or SHA-512")
    salt: Any = padding._salt_length  # noqa: SLF001 - cryptography has no other way to read it
    if salt is rsa_padding.PSS.MAX_LENGTH:
        salt = (key_size + 6) // 8 - digest_size - 2
    elif salt is rsa_padding.PSS.DIGEST_LENGTH:
        salt = digest_size
    elif not isinstance(salt, int):
        raise Rejected("padding", "the salt's length must be known when signing: give DIGEST_LENGTH or a number")
    return names.mechanism, _HASHES[mgf_hash.name].mgf, salt


def _hashed(data: bytes, algorithm: HashChoice) -> tuple[_Hash, bytes, bool]:
    """The names of the hash, the digest of ``data``, and whether ``data`` was that digest already."""
    prehashed = isinstance(algorithm, Prehashed)
    names = _names(algorithm._algorithm if isinstance(algorithm, Prehashed) else algorithm)  # noqa: SLF001 - no other way
    if not prehashed:
        return names, names.digest(data).digest(), False
    if len(data) != names.digest_info[-1]:
        raise ValueError(f"a digest by this hash has {names.digest_info[-1]} bytes, not {len(data)}")
    return names, data, True


def _names(algorithm: object) -> _Hash:
    name = getattr(algorithm, "name", type(algorithm).__name__)
    names = _HASHES.get(name)
    if names is None:
        raise Rejected("hash", f"{name} is not supported: use SHA-256, SHA-384 or SHA-512")
    return names
