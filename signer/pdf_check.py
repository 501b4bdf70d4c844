"""Reading back what we are about to hand out, as a stranger would."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pyhanko.pdf_utils.generic import IndirectObject

from core.cms import check_signed_data
from core.content import Content
from core.errors import Malformed
from core.pdf_reader import BoundedReader
from core.signatures import fitting_hash
from signer.pdf_update import open_reader, reading, signature_fields

_BYTE_RANGE = re.compile(rb"/ByteRange\s*\[\s*0\s+(\d+)\s+(\d+)\s+(\d+)\s*\]")


Ranges = Sequence[tuple[int, int, int]]
"""The last three numbers of ByteRanges."""


def check_output(
    document: Content,
    original: Content,
    *,
    certificate: x509.Certificate,
    password: str | None,
    earlier: BoundedReader | None = None,
    ranges: Ranges | None = None,
) -> None:
    """``document`` is ``original`` with one signature by ``certificate`` behind it, over everything but its own value.

    ``earlier``: a reader of ``original``, where there is one: its cross-reference sections are not read again. ``ranges``: what
    :func:`read_byte_ranges` found in a document that goes on behind this one.
    Raises Malformed when a reader does not find the signature by way of the form (the file's own structure is too broken to
    carry one), ValueError for anything that only a mistake of ours, or of the token, can bring about.
    """
    if not document.startswith(original):
        raise ValueError("the document handed in is not a prefix of the signed one")
    ranges = read_byte_ranges(document, original, password, earlier) if ranges is None else ranges
    before, after, rest = byte_range_up_to(document.size, ranges)
    brackets = document.read(before, before + 1) + document.read(after - 1, after)
    if after + rest != document.size or before <= original.size or brackets != b"<>":
        raise ValueError("the ByteRange does not cover everything but the hole")
    digest = hashes.Hash(fitting_hash(certificate.public_key()))
    for chunk in chain(document.chunks(0, before), document.chunks(after)):
        digest.update(chunk)
    content = bytes.fromhex(document.read(before + 1, after - 1).decode("ascii"))
    check_signed_data(content[: _der_length(content)], certificate=certificate, message_digest=digest.finalize())


def read_byte_ranges(document: Content, original: Content, password: str | None, earlier: BoundedReader | None = None) -> Ranges:
    """The ByteRanges of the signatures and timestamps behind ``original``, found by way of the form.

    The cross-reference table leads to the signature dictionary and its bytes are read as they stand: to have pyHanko parse
    the hexadecimal digits in it, one by one, would cost more than everything else.
    """
    reader, tail = open_reader(document, password, earlier), document.read(original.size, document.size)
    ranges = []
    with reading():
        for _, _, field in signature_fields(reader.root):
            value = field.raw_get("/V") if "/V" in field else None
            start = reader.xrefs[value.reference] if isinstance(value, IndirectObject) else None
            if isinstance(start, int) and start >= original.size:
                start -= original.size
                found = _BYTE_RANGE.search(tail, start, tail.index(b"endobj", start))
                if found is not None:
                    before, after, rest = map(int, found.groups())
                    ranges.append((before, after, rest))
    return ranges


def byte_range_up_to(end: int, ranges: Ranges) -> tuple[int, int, int]:
    """The one that ends there. Raises Malformed when a reader found none."""
    for before, after, rest in ranges:
        if after + rest == end:
            return before, after, rest
    raise Malformed("document", "this PDF is too broken to carry a signature that readers find: repair it and send it again")


def _der_length(data: bytes) -> int:
    """Of the one DER value at the start of ``data``, header included; what follows it is padding."""
    first = data[1]
    if first < 0x80:
        return 2 + first
    size = first & 0x7F
    return 2 + size + int.from_bytes(data[2 : 2 + size], "big")
