"""Several processes have tokens made while workers are killed: a short piece of `make stamps`."""

from __future__ import annotations

import pytest

from bench.stamps import findings, stamp
from tests.system.conftest import Instances


@pytest.mark.slow
def test_every_answered_token_is_recorded_once_and_verifies(new_service: Instances) -> None:
    service = new_service.make()
    service.start()
    tokens = 1000
    paths = stamp(service, tokens, processes=4, every=1.5, progress=lambda _size, _kills: None)
    service.wait_ready()
    assert findings(service, paths, tokens, lambda _: None) == []
    service.stop()
