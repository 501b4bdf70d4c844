"""Writing requests, right and wrong, with a DER writer of our own so that any byte can be put anywhere."""

from __future__ import annotations

SHA256 = bytes.fromhex("300d06096086480165030402010500")
HASHED = bytes(range(32))


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element; the length in its shortest form."""
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def imprint(algorithm: bytes = SHA256, hashed: bytes = HASHED) -> bytes:
    return tlv(0x30, algorithm, tlv(0x04, hashed))


def query(*fields: bytes, version: bytes = integer(1), message: bytes | None = None) -> bytes:
    """A TimeStampReq with ``fields`` after the message imprint."""
    return tlv(0x30, version, imprint() if message is None else message, *fields)


CERT_REQ = tlv(0x01, b"\xff")
