"""A small SNTP client (RFC 5905: packet format 7.3, on-wire protocol 8, kiss-o'-death 7.4): one exchange, one estimate.

Our own because all that is needed is one packet each way, and what libraries there are report an offset without the error
bound that a verdict is made of. A reply is hostile input: it counts only if it repeats the 64 random bits of our request.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.errors import Malformed
from tsa.clock_verdict import DRIFT_PPM, SECOND, Estimate, Failure, Moment

PORT: Final = 123
TIMEOUT: Final = 0.5
"""Seconds one exchange may take; a later reply is none, and would be of little use."""
ATTEMPTS: Final = 2
"""Exchanges before a server counts as silent: UDP loses packets."""
HEADER: Final = struct.Struct(">BBbbIII8s8s8sQ")
"""LI/VN/mode, stratum, poll, precision, root delay, root dispersion, reference id, reference, origin, receive (as bytes) and
transmit time. Fields that follow (extensions, MAC) are not ours."""
UNIX_EPOCH: Final = 2_208_988_800
"""Seconds from 1900, NTP's epoch, to 1970."""
ERA: Final = 1 << 32
"""Seconds after which an NTP timestamp begins anew (for the first time in 2036)."""
CLIENT, SERVER, VERSION = 3, 4, 4
UNSYNCHRONISED, LEAPS = 3, (1, 2)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of a synchronised server: times in nanoseconds since 1970, the rest in nanoseconds."""

    received: int
    sent: int
    root_delay: int
    root_dispersion: int
    precision: int
    leap: bool


@dataclass(frozen=True, slots=True)
class Kiss:
    """A kiss-o'-death: the server asks us to stay away; ``code`` says how (RFC 5905, 7.4)."""

    code: str


def build_request(cookie: bytes) -> bytes:
    """A client packet that tells the server nothing: its transmit time is the 8 octets of ``cookie``, and all else is zero."""
    return bytes([VERSION << 3 | CLIENT]) + bytes(39) + cookie


def parse_reply(packet: bytes, cookie: bytes, *, near: int) -> Reply | Kiss:
    """What a server answered to the request with ``cookie``; ``near`` (since 1970) tells NTP's eras apart.

    Raises Malformed for what is no reply to that request, or comes from a server that does not know the time.
    """
    if len(packet) < HEADER.size:
        raise Malformed("ntp", f"a reply of {len(packet)} octets is cut short")
    flags, stratum, _, precision, delay, dispersion, reference, _, origin, received, sent = HEADER.unpack_from(packet)
    if flags & 7 != SERVER or flags >> 3 & 7 not in (3, VERSION):
        raise Malformed("ntp", "not a reply of an NTP server")
    if not secrets.compare_digest(origin, cookie):
        raise Malformed("ntp", "a reply to another request")
    if stratum == 0:
        return Kiss("".join(chr(octet) if 32 < octet < 127 else "?" for octet in reference.to_bytes(4, "big")))
    if stratum > 15 or flags >> 6 == UNSYNCHRONISED:
        raise Malformed("ntp", "the server is not synchronised")
    if not any(received) or not sent:
        raise Malformed("ntp", "the server does not say the time")
    reply = Reply(
        received=_to_nanoseconds(int.from_bytes(received, "big"), near),
        sent=_to_nanoseconds(sent, near),
        root_delay=delay * SECOND >> 16,
        root_dispersion=dispersion * SECOND >> 16,
        precision=SECOND >> -precision if -62 < precision < 0 else SECOND,
        leap=flags >> 6 in LEAPS,
    )
    if reply.sent < reply.received:
        raise Malformed("ntp", "the server answered before it was asked")
    return reply


def build_estimate(source: str, reply: Reply, *, asked: int, heard: int) -> Estimate | Failure:
    """UTC against the raw clock, which showed ``asked`` and ``heard`` as the packets left and came (RFC 5905, 8 and 11.2).

    The bound is the root distance: half of both delays, the dispersion, what the clocks cannot resolve, and their drift.
    """
    delay = (heard - asked) - (reply.sent - reply.received)
    if delay < 0:
        return Failure(source, "claims to have worked for longer than we waited")
    middle = ((reply.received - asked) + (reply.sent - heard)) // 2
    drift = (heard - asked) * DRIFT_PPM // 1_000_000
    bound = (delay + reply.root_delay) // 2 + reply.root_dispersion + reply.precision + drift + 1
    return Estimate(source, heard, middle - bound, middle + bound, reply.leap)


class NtpServer:
    """One server, asked for one estimate at a time."""

    def __init__(self, host: str, port: int = PORT, *, read_moment: Callable[[], Moment]) -> None:
        """``read_moment`` is how the machine's clocks are read."""
        self.name = f"ntp://{host}" if port == PORT else f"ntp://{host}:{port}"
        self._address = host, port
        self._read_moment = read_moment
        self._kisses = 0
        self._rounds_to_skip = 0
        self._dismissed = ""

    def estimate(self) -> Estimate | Failure:
        """Ask, twice if need be. A server that sent a kiss-o'-death is left alone as long as that demands."""
        if self._dismissed:
            return Failure(self.name, f"told us to stay away ({self._dismissed})", silent=True)
        if self._rounds_to_skip:
            self._rounds_to_skip -= 1
            return Failure(self.name, "told us to ask less often", silent=True)
        answer: Estimate | Failure | Kiss = Failure(self.name, "not asked", silent=True)
        for _ in range(ATTEMPTS):
            try:
                answer = self._exchange()
            except OSError as error:
                answer = Failure(self.name, error.strerror or str(error) or "no reply", silent=True)
            if not (isinstance(answer, Failure) and answer.silent):
                break
        if isinstance(answer, Kiss):
            return self._obey(answer)
        if isinstance(answer, Estimate):
            self._kisses = 0
        return answer

    def _obey(self, kiss: Kiss) -> Failure:
        """RFC 5905, 7.4: DENY and RSTR end the association, RATE makes us ask less often, each time by half."""
        if kiss.code in ("DENY", "RSTR"):
            self._dismissed = kiss.code
        elif kiss.code == "RATE":
            self._kisses = min(self._kisses + 1, 6)
            self._rounds_to_skip = 2**self._kisses - 1
        return Failure(self.name, f"kiss-o'-death {kiss.code}")

    def _exchange(self) -> Estimate | Failure | Kiss:
        """One packet out, and the first that answers it in; anything else that arrives meanwhile is passed over."""
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        passed_over = ""
        with socket.socket(family, kind, protocol) as channel:
            channel.connect(address)  # so that only this address and port are heard
            cookie = secrets.token_bytes(8)
            start = self._read_moment()
            channel.send(build_request(cookie))
            deadline = start.raw + int(TIMEOUT * SECOND)
            heard = self._read_moment()
            while heard.raw < deadline:
                channel.settimeout((deadline - heard.raw) / SECOND)
                try:
                    packet = channel.recv(1024)
                except TimeoutError:
                    break
                heard = self._read_moment()
                try:
                    reply = parse_reply(packet, cookie, near=heard.wall)
                except Malformed as error:
                    passed_over = error.detail  # the true reply may still be on its way
                    continue
                if isinstance(reply, Kiss):
                    return reply
                return build_estimate(self.name, reply, asked=start.raw - start.doubt, heard=heard.raw + heard.doubt)
        if passed_over:
            return Failure(self.name, passed_over)
        return Failure(self.name, "no reply", silent=True)


def _to_nanoseconds(timestamp: int, near: int) -> int:
    """An NTP timestamp (32.32 bits) as nanoseconds since 1970, in the era that brings it nearest to ``near``."""
    seconds, fraction = timestamp >> 32, timestamp & (ERA - 1)
    era = round((near // SECOND + UNIX_EPOCH - seconds) / ERA)
    return (seconds + era * ERA - UNIX_EPOCH) * SECOND + (fraction * SECOND >> 32)
