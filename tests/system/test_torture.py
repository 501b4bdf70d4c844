"""A short run of `make torture`: load without a 5xx, then kill -9 at random instants, then everything must be there."""

from __future__ import annotations

import pytest

from bench.torture import calm, findings, torture
from tests.system.conftest import Instances


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_kill_9(new_service: Instances) -> None:
    service = new_service.make()
    service.start()
    tally = calm(service, 5)
    assert tally.server_errors == 0, tally.statuses
    assert all(tally.acknowledged[kind] for kind in ("sign", "stamp", "issue", "ask")), tally.statuses
    hit = torture(service, 12, seed=2026, progress=lambda _number, _done: None)
    assert service.stop() == 0
    for kind, ids in tally.acknowledged.items():
        hit.acknowledged[kind] += ids
    assert findings(service, hit) == []
