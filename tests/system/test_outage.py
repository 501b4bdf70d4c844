"""The HSM is unplugged under load: only 503 while it is gone, full service within 5 s of its return, the same processes."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import SAMPLE_PDF, Load
from core.config import load_config
from tests.hsm.socket_hsm import SocketHsm
from tests.service import Service
from tests.system.conftest import Instances

pytestmark = pytest.mark.one_database  # it is the HSM that is away


@pytest.fixture
def hsm(new_service: Instances) -> Iterator[tuple[Service, SocketHsm]]:
    """A service whose module is the client of a socket HSM; the token behind it is the instance's own."""
    service = new_service.make()
    folder = Path(tempfile.mkdtemp(prefix="condau-"))  # a socket's name is short, pytest's folders are not
    socket_hsm = SocketHsm(load_config(service.home).hsm, folder / "hsm")
    socket_hsm.plug_in()
    path = service.home / "condau.toml"
    text = path.read_text()
    text = text.replace("[hsm]\n", f'[hsm]\nmodule = "{socket_hsm.config.module}"\n')
    own = 'SOFTHSM2_CONF = "{home}/softhsm/softhsm2.conf"'
    assert own in text
    path.write_text(text.replace(own, f'P11_KIT_SERVER_ADDRESS = "unix:path={folder / "hsm"}"'))
    service.start()
    yield service, socket_hsm
    service.end()
    socket_hsm.close()
    shutil.rmtree(folder)


@pytest.mark.slow
def test_an_unplugged_hsm_is_503_and_heals_without_a_restart(hsm: tuple[Service, SocketHsm]) -> None:
    service, socket_hsm = hsm
    workers = sorted(service.worker_pids())
    load = Load(service, clients=4)
    load.start()
    time.sleep(2)
    digests = json.dumps({"items": [{"digest": bytes([number] * 32).hex()} for number in range(150)]}).encode()
    batches = "/v1/signatures/batches"
    batch = json.loads(service.request("POST", f"{batches}?level=B-B", digests, key="client", kind="application/json").body)["id"]
    socket_hsm.unplug()
    unplugged = time.monotonic()
    while not json.loads(service.request("GET", f"{batches}/{batch}", key="client").body)["waits_for"]:
        assert time.monotonic() - unplugged < 20
        time.sleep(0.2)
    answer = service.request("POST", "/v1/signatures/pdf", SAMPLE_PDF, key="client", kind="application/pdf")
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert service.request("GET", "/readyz").status == 503
    assert service.request("GET", "/healthz").status == 200
    time.sleep(2)
    socket_hsm.plug_in()
    back = time.monotonic()
    service.wait_ready(seconds=15)
    healed = [service.request("POST", "/tsa?", b"", kind="application/timestamp-query").status for _ in range(20)]
    assert time.monotonic() - back < 15
    time.sleep(max(0.0, back + 5 - time.monotonic()))
    before = load.tally.statuses[503]
    time.sleep(2)
    tally = load.stop()
    assert tally.statuses[503] == before, "some were refused although the HSM was back for 5 s"
    assert set(healed) == {200}
    assert set(tally.statuses) <= {200, 201, 503}
    assert not tally.broken
    assert tally.statuses[200]
    assert tally.statuses[503]
    assert sorted(service.worker_pids()) == workers
    while (found := json.loads(service.request("GET", f"{batches}/{batch}?wait=20", key="client").body))["state"] == "running":
        assert time.monotonic() - back < 60, found
    assert (found["progress"]["done"], found["progress"]["failed"]) == (150, 0)
    service.condau("reconcile", "--older-than", "0")


@pytest.mark.slow
def test_connections_cut_under_load_are_healed_by_themselves(hsm: tuple[Service, SocketHsm]) -> None:
    service, socket_hsm = hsm
    workers = sorted(service.worker_pids())
    load = Load(service, clients=4)
    load.start()
    for _ in range(5):
        time.sleep(0.7)
        socket_hsm.cut()
    time.sleep(3)
    before = load.tally.statuses[503]
    time.sleep(2)
    tally = load.stop()
    assert tally.statuses[503] == before
    assert set(tally.statuses) <= {200, 201, 503}
    assert sorted(service.worker_pids()) == workers
