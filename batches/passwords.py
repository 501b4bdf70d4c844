"""Passwords of encrypted documents that wait to be signed: sealed on the disk, and gone with their document (docs/adr/0029)."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.errors import Rejected, Unavailable

_KEY_DIGITS: Final = 64
"""Of the key file: 256 bits in hexadecimal."""
_NONCE: Final = 12


class PasswordSeal:
    """Seals passwords with the key in a file that all processes of the service read."""

    def __init__(self, key_file: Path) -> None:
        """``key_file``: 64 hexadecimal digits on its first line; it is read when it is first needed."""
        self._key_file = key_file

    def seal(self, password: str, place: str) -> bytes:
        """The password sealed (AES-256-GCM) for one ``place``: a batch's folder and an item's number. Raises Unavailable."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self._key(b"seal")).encrypt(nonce, password.encode("utf-8", "surrogatepass"), place.encode())

    def open(self, sealed: bytes, place: str) -> str:
        """The password again; raises Rejected where it was sealed with another key or for another place, Unavailable."""
        try:
            plain = AESGCM(self._key(b"seal")).decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except (InvalidTag, ValueError) as error:
            message = "the key passwords were sealed with is not the one of this machine any more: send the document again"
            raise Rejected("password", message) from error
        return plain.decode("utf-8", "surrogatepass")

    def trace(self, password: str) -> str:
        """What tells two passwords apart and is of no use to who has not the key: an HMAC in hexadecimal. Raises Unavailable."""
        return hmac.digest(self._key(b"trace"), password.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _key(self, use: bytes) -> bytes:
        try:
            digits = self._key_file.read_text(encoding="ascii").partition("\n")[0].strip()
            secret = bytes.fromhex(digits if len(digits) == _KEY_DIGITS else "")
        except (OSError, ValueError) as error:
            raise _no_key(self._key_file) from error
        if not secret:
            raise _no_key(self._key_file)
        return HKDF(SHA256(), 32, salt=None, info=b"condau batch password " + use).derive(secret)


def _no_key(path: Path) -> Unavailable:
    return Unavailable("batches", f"passwords cannot be kept: {path.name} is missing or broken (`condau init` makes it)")
