"""Odd and hostile ways to bring a query to the running service: bounded time, bounded memory, and nobody else waits."""

from __future__ import annotations

import http.client
import re
import socket
import time
from pathlib import Path

from rfc3161_client import TimestampRequestBuilder

from tests.service import Service

QUERY = TimestampRequestBuilder().data(b"brought").build().as_bytes()
HEAD = b"POST /tsa HTTP/1.1\r\nHost: h\r\nContent-Type: application/timestamp-query\r\n"


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=30)


def whole(body: bytes = QUERY) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_status(connection: socket.socket) -> int:
    answer = http.client.HTTPResponse(connection, method="POST")
    answer.begin()
    answer.read()
    return answer.status


def test_in_however_many_pieces_it_comes_it_is_answered(service: Service) -> None:
    for cut in (1, 20, len(HEAD), len(whole()) - len(QUERY), len(whole()) - 1):
        with connect(service) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(whole()[:cut])
            time.sleep(0.1)
            connection.sendall(whole()[cut:])
            assert read_status(connection) == 200
            connection.sendall(whole())  # and the connection is good for the lane afterwards
            assert read_status(connection) == 200


def test_two_queries_in_one_piece_get_two_answers(service: Service) -> None:
    with connect(service) as connection:
        connection.sendall(whole() + whole(b"junk"))
        data = b""
        while data.count(b"HTTP/1.1 200 OK\r\n") < 2:
            part = connection.recv(65_536)
            assert part
            data += part


def test_chunks_are_put_together(service: Service) -> None:
    with connect(service) as connection:
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(QUERY), QUERY)
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert read_status(connection) == 200


def test_more_than_64_kib_is_refused_before_it_is_sent(service: Service) -> None:
    for announced in (b"65537", b"10000000000"):
        with connect(service) as connection:
            began = time.monotonic()
            connection.sendall(HEAD + b"Content-Length: " + announced + b"\r\n\r\n" + bytes(1000))
            assert read_status(connection) == 413
            assert time.monotonic() - began < 10


def test_stalled_bodies_keep_nobody_else_waiting_and_cost_little_memory(service: Service) -> None:
    before = memory(service)
    stalled = [connect(service) for _ in range(60)]  # more than there are threads
    try:
        for connection in stalled:
            connection.sendall(HEAD + b"Content-Length: 60000\r\n\r\n" + bytes(100))
        time.sleep(0.5)
        began = time.monotonic()
        with connect(service) as connection:
            connection.sendall(whole())
            assert read_status(connection) == 200
        assert time.monotonic() - began < 10
        assert memory(service) - before < 60_000
    finally:
        for connection in stalled:
            connection.close()


def memory(service: Service) -> int:
    """What the workers hold, in kB."""
    found = (re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in service.worker_pids())
    return sum(int(match[1]) for match in found if match)
