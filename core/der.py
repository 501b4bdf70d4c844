"""Writing DER by hand where the declared encoder is too slow: a value is its tag, its length and its parts (X.690, 8.1 and 10.1).

What is written this way is read back by the declared decoder before it leaves (docs/adr/0020).
"""

from __future__ import annotations

from typing import Final

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
GENERALIZED_TIME: Final = 0x18


def tlv(tag: int, *parts: bytes) -> bytes:
    """One value: ``tag`` as its octet, a definite length in its shortest form, and the contents."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    if size < 0x10000:
        return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(value: int) -> bytes:
    """An INTEGER in as few octets of its two's complement as it takes (X.690, 8.3)."""
    magnitude = value if value >= 0 else ~value
    return tlv(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def set_of(values: list[bytes]) -> bytes:
    """A SET OF the encoded ``values``, sorted as DER wants (X.690, 11.6)."""
    return tlv(SET, *sorted(values))
