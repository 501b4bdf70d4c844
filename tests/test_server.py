"""What the server asks of the system before it serves."""

from __future__ import annotations

import resource

import pytest

from server import count_connections


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised_to"),
    [
        (1024, 524_288, 1000, 1250),
        (1024, resource.RLIM_INFINITY, 1000, 1250),
        (1024, 1024, 774, None),
        (256, 300, 150, 300),
        (20_000, 20_000, 1000, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 1000, None),
    ],
)
def test_there_are_descriptors_for_all_connections_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, connections: int, raised_to: int | None
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    assert count_connections() == connections
    assert limits == ([] if raised_to is None else [(raised_to, hard)])
