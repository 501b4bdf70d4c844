"""A million mutated requests against the reader of TimeStampReqs: ``python -m bench.fuzz_tsa --inputs 1000000``.

Each input is a valid request, or one taken apart into its TLVs and put together wrongly (lengths, tags, values, order, nesting,
doubled and missing parts), or plain changed bytes. Whatever it is, the reader returns a Query or a Refusal, and takes less
than 50 ms of processor time; anything else is printed with the input and makes the exit code 1. A seed repeats a run.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

from rfc3161_client import TimestampRequestBuilder

from tsa.request import Query, parse_query

SLOWEST = 0.05
"""Seconds of processor time that one input may take."""
POLICIES = frozenset({"1.3.6.1.4.1.99999.1.1"})
_LONGEST = 65_536
_POLICY = bytes.fromhex("060a2b06010401868d1f0101")


class Mutator:
    """Makes inputs out of valid requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - it chooses mutations; a seed repeats them
        self._valid = [
            TimestampRequestBuilder().data(b"fuzz").nonce(nonce=nonce).cert_request(cert_request=certificates).build().as_bytes()
            for nonce in (False, True)
            for certificates in (False, True)
        ]
        imprint = take_apart(self._valid[0])[1][1]
        self._valid += [tlv(0x30, tlv(2, b"\x01") + imprint + rest) for rest in (_POLICY, _POLICY + tlv(1, b"\xff"), PARTS[-1])]
        self._ways: list[Callable[[bytes], bytes]] = [
            self._flip,
            self._cut,
            self._insert,
            self._repeat,
            self._nest,
            self._length,
            *([self._restructure] * 10),
        ]

    def next(self) -> bytes:
        """One input, at most as long as the service takes."""
        data = self._random.choice(self._valid)
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 5))):
            data = self._random.choice(self._ways)(data)
        return data[:_LONGEST]

    def _at(self, data: bytes) -> int:
        return self._random.randrange(len(data) + 1)

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 4))):
            if changed:
                changed[self._random.randrange(len(changed))] = self._byte()
        return bytes(changed)

    def _byte(self) -> int:
        return self._random.choice((0, 1, 2, 4, 5, 6, 0x17, 0x30, 0x31, 0x7F, 0x80, 0x84, 0xA0, 0xFF, self._random.randrange(256)))

    def _cut(self, data: bytes) -> bytes:
        begin, end = sorted((self._at(data), self._at(data)))
        return data[:begin] + data[end:]

    def _insert(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + bytes(self._byte() for _ in range(self._random.choice((1, 2, 8, 64)))) + data[at:]

    def _repeat(self, data: bytes) -> bytes:
        begin, end = sorted((self._at(data), self._at(data)))
        return data[:begin] + data[begin:end] * self._random.choice((2, 3, 50)) + data[end:]

    def _nest(self, data: bytes) -> bytes:
        for _ in range(self._random.choice((1, 5, 200))):
            data = tlv(self._random.choice((0x30, 0x31, 0xA0, 0x24)), data)[:_LONGEST]
        return data

    def _length(self, data: bytes) -> bytes:
        """A length in another form: long, too long, indefinite, enormous."""
        if len(data) < 2:
            return data
        forms = (b"\x80", b"\x81" + data[1:2], b"\x84\xff\xff\xff\xff", b"\x82\x00" + data[1:2], b"\xff", b"\x88" + b"\x7f" * 8)
        return data[:1] + self._random.choice(forms) + data[2:]

    def _restructure(self, data: bytes) -> bytes:
        """Taken apart, one thing changed somewhere in the tree, and put together with right lengths."""
        tag, parts = take_apart(data)
        if not parts:
            return self._flip(data)
        at = self._random.randrange(len(parts))
        way = self._random.randrange(7)
        if way == 0:
            parts[at] = self._restructure(parts[at])
        elif way == 1:
            del parts[at]
        elif way == 2:
            parts.insert(at, self._random.choice(parts))
        elif way == 3:
            self._random.shuffle(parts)
        elif way == 4:
            parts[at] = bytes([self._byte()]) + parts[at][1:]
        elif way == 5:
            parts.insert(at, self._random.choice(PARTS))
        else:
            parts[at] = tlv(parts[at][0], self._random.randbytes(self._random.choice((0, 1, 20, 32, 64, 65, 200, 5000))))
        return tlv(tag, b"".join(parts))


def tlv(tag: int, content: bytes) -> bytes:
    """Tag, the shortest length, content."""
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


PARTS = (
    tlv(2, b"\x00"),
    tlv(2, b"\x7f" * 65),
    tlv(2, b"\xff" * 20_000),
    tlv(5, b""),
    tlv(1, b"\x00"),
    tlv(1, b"\x01"),
    tlv(6, b"\x80\x01"),
    tlv(6, b"\x2a" + b"\xff" * 300 + b"\x01"),
    tlv(0xA0, b""),
    tlv(0xA0, tlv(0x30, tlv(6, b"\x2a\x03\x04") + tlv(1, b"\xff") + tlv(4, b"x"))),
)
"""What may be put where it does not belong."""


def take_apart(data: bytes) -> tuple[int, list[bytes]]:
    """The tag of a constructed value and the TLVs in it; none when it cannot be taken apart."""
    if len(data) < 2 or not data[0] & 0x20:
        return 0x30, []
    content, parts = _content(data), []
    while content:
        size = len(content) - len(_after(content))
        if size <= 0:
            return data[0], []
        parts.append(content[:size])
        content = content[size:]
    return data[0], parts


def _header(data: bytes) -> tuple[int, int]:
    """Sizes of header and content; (0, 0) for what has none of the shortest forms."""
    if len(data) < 2:
        return 0, 0
    if data[1] < 128:
        return 2, data[1]
    octets = data[1] & 0x7F
    return (2 + octets, int.from_bytes(data[2 : 2 + octets], "big")) if 0 < octets < 4 else (0, 0)


def _content(data: bytes) -> bytes:
    header, size = _header(data)
    return data[header : header + size]


def _after(data: bytes) -> bytes:
    header, size = _header(data)
    return data[header + size :]


def fuzz(inputs: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> tuple[Counter[str], float, list[str]]:
    """How often each outcome occurred, the slowest input's seconds of processor time, and what must not be, input by input."""
    mutator, outcomes, slowest, found = Mutator(seed), Counter[str](), 0.0, list[str]()
    for number in range(inputs):
        data = mutator.next()
        began = time.thread_time()
        try:
            parsed = parse_query(data, policies=POLICIES)
        except Exception as error:  # noqa: BLE001 - this is what is being looked for
            found.append(f"{type(error).__name__}: {error}: {data.hex()}")
            continue
        took = time.thread_time() - began
        slowest = max(slowest, took)
        if took > SLOWEST:
            found.append(f"{took:.3f} s: {data[:100].hex()}")
        outcomes["granted" if isinstance(parsed, Query) else parsed.failure.name] += 1
        if number % 10_000 == 0:
            progress(number)
    return outcomes, slowest, found


def main() -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    began = time.monotonic()
    outcomes, slowest, found = fuzz(
        options.inputs, options.seed, lambda done: print(f"\r{done:9}/{options.inputs}", end="", flush=True)
    )
    print(f"\r{options.inputs} inputs, seed {options.seed}, {time.monotonic() - began:.0f} s; slowest {slowest * 1e3:.2f} ms")
    print(*(f"  {name:24} {count:9}" for name, count in outcomes.most_common()), sep="\n")
    print(*(found[:20] or ["no exception, none too slow"]), sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
