"""core/der.py: the same bytes as another encoder writes."""

from __future__ import annotations

import pytest
from asn1crypto import core

from core.der import OCTET_STRING, integer, set_of, tlv


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 24])
def test_lengths_are_in_their_shortest_form(size: int) -> None:
    """X.690, 10.1."""
    assert tlv(OCTET_STRING, bytes(size)) == core.OctetString(bytes(size)).dump()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, -1, -128, -129, -256, (1 << 159) - 1, 1 << 159, -(1 << 511)])
def test_integers_have_no_superfluous_octet(value: int) -> None:
    """X.690, 8.3.2."""
    assert integer(value) == core.Integer(value).dump()


def test_a_set_of_is_sorted() -> None:
    """X.690, 11.6."""
    values = [tlv(OCTET_STRING, part) for part in (b"bb", b"a", b"", b"ab")]
    assert set_of(values) == tlv(0x31, *[tlv(OCTET_STRING, part) for part in (b"", b"a", b"ab", b"bb")])
