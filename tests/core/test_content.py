"""A document in parts, read as one."""

from __future__ import annotations

import tempfile
from typing import BinaryIO, cast

from hypothesis import given
from hypothesis import strategies as st

from core.content import Content


def _mixed(pieces: list[bytes]) -> Content:
    with tempfile.TemporaryFile() as file:
        file.write(pieces[0] if pieces else b"")
        content = Content.of_file(cast("BinaryIO", file))
    for piece in pieces[1:]:
        content = content.append(piece)
    return content


@given(st.lists(st.binary(max_size=40), max_size=5), st.integers(0, 250), st.integers(0, 250))
def test_parts_read_as_one(pieces: list[bytes], start: int, end: int) -> None:
    content, whole = _mixed(pieces), b"".join(pieces)
    assert content.size == len(whole)
    assert content.read(start, end) == whole[start:end]
    assert content.stream().read() == whole
    stream = content.stream()
    stream.seek(start)
    assert (stream.read(7), stream.tell()) == (whole[start : start + 7], max(start, min(start + 7, len(whole))))


@given(st.binary(max_size=60), st.integers(0, 60), st.binary(min_size=1, max_size=5))
def test_a_prefix_is_known_by_its_bytes(whole: bytes, cut: int, other: bytes) -> None:
    content = _mixed([whole[: cut // 2], whole[cut // 2 :]])
    assert content.startswith(Content.of(whole[:cut]))
    assert not content.startswith(Content.of(whole + other))
    if cut and cut <= len(whole):
        changed = bytes([whole[0] ^ 1]) + whole[1:cut]
        assert not content.startswith(Content.of(changed))


def test_large_files_come_in_pieces() -> None:
    data = bytes(range(256)) * 10_000
    content = _mixed([data, b"tail"])
    assert max(map(len, content.chunks())) <= 1 << 20
    assert b"".join(content.chunks()) == data + b"tail"
