"""Names as RFC 5280 compares them: another case, another string type or further blanks make no other name (clause 7.1)."""

from __future__ import annotations

from functools import lru_cache

from asn1crypto import x509 as asn1_x509
from cryptography import x509

from core.errors import Malformed
from verifier.reading import reading


def name_key(name: x509.Name) -> str:
    """Equal for names that are the same; of one that cannot be read, its own bytes."""
    return _key(name.public_bytes())


def same_name(one: x509.Name, other: x509.Name) -> bool:
    """Whether two names are the same."""
    return one == other or name_key(one) == name_key(other)


@lru_cache(maxsize=1024)
def _key(der: bytes) -> str:
    try:
        with reading("name"):
            return str(asn1_x509.Name.load(der, strict=True).hashable)
    except Malformed:
        return der.hex()
