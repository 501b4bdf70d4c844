"""Digests over parts of a document: right, and what several share is read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import pytest

from core.content import Content
from core.errors import Malformed
from verifier import octets
from verifier.octets import Digests, Octets, sha256

DATA = os.urandom(100_000)


class Counted(Content):
    """Counts the bytes that are read."""

    taken = 0

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        for chunk in super().chunks(start, end):
            Counted.taken += len(chunk)
            yield chunk


def test_fifty_signatures_read_what_they_share_once() -> None:
    Counted.taken = 0
    digests = Digests(Counted.of(DATA))
    for number in range(50):
        hole = 90_000 + 200 * number
        ranges = (0, hole), (hole + 100, hole + 200)
        expected = hashlib.sha256(DATA[:hole] + DATA[hole + 100 : hole + 200]).digest()
        assert digests.digest("sha256", ranges) == digests.digest("sha256", ranges) == expected
    assert digests.digest("sha512", ((0, 7), (9, 12))) == hashlib.sha512(DATA[:7] + DATA[9:12]).digest()
    assert digests.digest("sha256", ((5, 9),)) == hashlib.sha256(DATA[5:9]).digest()
    assert sha256(digests) == hashlib.sha256(DATA).hexdigest()
    assert Counted.taken < 2 * len(DATA)


def test_the_time_a_reading_takes_is_told() -> None:
    told: list[float] = []
    digests = Digests(Content.of(DATA))
    digests.excuse = told.append
    digests.digest("sha256", ((0, 10), (20, 30)))
    assert len(told) == 2
    assert min(told) >= 0


def test_holes_at_the_beginning_of_a_document_do_not_keep_us_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(octets, "_ALWAYS", 0)
    digests = Digests(Content.of(DATA))
    for number in range(5):
        digests.digest("sha256", ((0, 10 + number), (20 + number, len(DATA))))
    with pytest.raises(Malformed, match="too much"):
        digests.digest("sha256", ((0, 30), (40, len(DATA)), (50, len(DATA))))
    assert sha256(digests) == hashlib.sha256(DATA).hexdigest()


def test_only_what_fits_into_memory_is_taken_there(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = Octets(Digests(Content.of(DATA)), ((0, 10), (20, 30)))
    assert signed.held() == DATA[:10] + DATA[20:30]
    assert Octets.of(DATA).digest("sha1") == hashlib.sha1(DATA, usedforsecurity=False).digest()
    monkeypatch.setattr(octets, "_HELD", 19)
    with pytest.raises(Malformed):
        signed.held()
