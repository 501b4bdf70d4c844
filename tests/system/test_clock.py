"""The clock gate of a running service under libfaketime, its four NTP servers ours: no wrong time ever leaves it.

This process lives in true time. The service lives in the time that libfaketime shows it, which a file changes while it runs;
its raw clock stays true, as a real one does when somebody sets the wall clock. Every time-stamp is held against true time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from asn1crypto import cms, core, tsp

from tests.faketime import FakedService, FakedTime
from tests.service import ROOT
from tests.system.conftest import Instances
from tests.tsa.ntp_server import NtpServer
from tests.tsa.requests import CERT_REQ, query

pytestmark = [pytest.mark.slow, pytest.mark.one_database]  # the clock's verdict
ACCURACY = 0.2
INTERVAL, MAX_AGE = 1, 3
YEAR = 365.25 * 86_400
QUERY = query(CERT_REQ)
SAMPLE_PDF = (ROOT / "examples" / "cong-van.pdf").read_bytes()
SETTINGS = """
[tsa]
accuracy_milliseconds = {accuracy}

[tsa.clock]
sources = {sources}
interval = {interval}
max_age = {max_age}
"""


class Response(core.Sequence):  # type: ignore[misc]  # asn1crypto is untyped
    """A TimeStampResp, whose timestamp asn1crypto's own class forgets to make optional (RFC 3161, 2.4.2)."""

    _fields = [("status", tsp.PKIStatusInfo), ("time_stamp_token", cms.ContentInfo, {"optional": True})]  # noqa: RUF012


class House:
    """The service, its time, and the servers it asks for the true one."""

    def __init__(self, service: FakedService, servers: list[NtpServer]) -> None:
        self.service = service
        self.servers = servers

    def set_clock(self, offset: float, *, rate: float = 1.0) -> None:
        """Set the wall clock ``offset`` seconds off, and let it run at ``rate`` from there."""
        self.service.time.set(offset, rate=rate)

    def heal(self) -> None:
        """True time, told by all servers; wait until time-stamps are issued again, which nobody has to restart."""
        for server in self.servers:
            server.say()
        self.set_clock(0)
        self.until(lambda: self.ask() == "granted")

    def ask(self) -> str:
        """Ask for a time-stamp: ``granted``, with the right time in it, or the refusal's failure bits."""
        before = time.time()
        answer = self.service.request("POST", "/tsa", QUERY, kind="application/timestamp-query")
        after = time.time()
        assert answer.status == 200
        response = Response.load(answer.body)
        if response["status"]["status"].native != "granted":
            return " ".join(sorted(response["status"]["fail_info"].native))
        info = response["time_stamp_token"]["content"]["encap_content_info"]["content"].parsed
        at = info["gen_time"].native.timestamp()
        assert before - ACCURACY <= at <= after + ACCURACY, f"{at - after:+.3f} s off"
        return "granted"

    def until(self, wanted: Callable[[], bool], seconds: float = 30) -> float:
        """How many seconds it took until ``wanted`` was true; fails after ``seconds``."""
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            if wanted():
                return time.monotonic() - start
            time.sleep(0.02)
        raise TimeoutError(f"not so after {seconds} s: {self.service.log()[-2000:]}")

    def refuses_for(self, seconds: float) -> None:
        """Nothing but timeNotAvailable for so long."""
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            assert self.ask() == "time_not_available"

    def clock_part(self) -> tuple[int, Any]:
        """The status of /readyz and what it says of the clock."""
        answer = self.service.request("GET", "/readyz")
        return answer.status, json.loads(answer.body)["parts"]["clock"]

    def events(self) -> list[str]:
        """What the log says of the clock."""
        lines = [json.loads(line) for line in self.service.log().splitlines() if line.startswith("{")]
        return [f"{line['code']}" for line in lines if line["log"] == "condau.tsa.clock"]

    def audited(self) -> list[str]:
        """What an auditor is told of the clock, the newest first."""
        answer = self.service.request("GET", "/v1/audit-entries?subject=clock&limit=3", key="auditor")
        return [entry["action"] for entry in json.loads(answer.body)["entries"]]


@pytest.fixture(scope="module")
def faked(new_service: Instances, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One worker, so that each request meets the same clock."""
    made = new_service.make()
    own_time = FakedTime(tmp_path_factory.mktemp("faketime"))
    service = FakedService(made.home, own_time, port=made.port, database_url=made._database_url)
    with ExitStack() as stack:
        servers = [stack.enter_context(NtpServer()) for _ in range(4)]
        stack.callback(service.end)
        settings = SETTINGS.format(
            accuracy=int(ACCURACY * 1000), sources=json.dumps([it.source for it in servers]), interval=INTERVAL, max_age=MAX_AGE
        )
        toml = service.home / "condau.toml"
        text, _, _ = toml.read_text(encoding="utf-8").partition("[tsa.clock]")
        toml.write_text(f"{text}\n[server]\nworkers = 1\n{settings}", encoding="utf-8")
        faked = House(service, servers)
        service.start()
        yield faked
        assert service.stop() == 0


@pytest.fixture
def well(faked: House) -> Iterator[House]:
    """The service when it stamps; afterwards it does so again."""
    faked.heal()
    yield faked
    faked.heal()


@pytest.mark.parametrize("offset", [-3600.0, -30.0, -0.3, 0.3, 30.0])
def test_after_a_step_nothing_is_stamped_until_the_clock_is_right_again(well: House, offset: float) -> None:
    well.set_clock(offset)
    assert well.ask() == "time_not_available"  # the very next request, whatever the last verdict was
    well.refuses_for(INTERVAL + 1)  # also when the sources have been asked anew
    well.heal()


def test_a_short_step_between_two_rounds_of_the_sources_is_caught(well: House) -> None:
    """Forth and back before the sources are asked again."""
    well.set_clock(5)
    assert well.ask() == "time_not_available"
    well.set_clock(0)
    well.until(lambda: well.ask() == "granted")


@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_a_clock_that_drifts_is_refused_before_it_is_outside_the_accuracy(well: House, rate: float) -> None:
    well.set_clock(0, rate=rate)
    seconds = well.until(lambda: well.ask() == "time_not_available")  # ask() checks every time that leaves
    assert seconds < 15
    well.until(lambda: well.clock_part()[1]["status"] == "failed")


def test_a_clock_that_has_always_been_wrong_is_refused(well: House) -> None:
    """No step: the servers agree that UTC is another one, by little more than the accuracy."""
    for server in well.servers:
        server.say(offset=ACCURACY + 0.05)
    well.until(lambda: well.ask() == "time_not_available")
    well.refuses_for(0.5)


def test_when_all_sources_are_gone_the_verdict_ages_and_stamping_ends(well: House) -> None:
    for server in well.servers:
        server.fall_silent()
    seconds = well.until(lambda: well.ask() == "time_not_available")
    assert seconds < MAX_AGE + 5
    well.until(lambda: "no reply" in well.clock_part()[1]["detail"])
    assert well.clock_part()[1]["status"] == "failed"
    well.refuses_for(1)


def test_one_liar_among_four_is_outvoted_and_two_stop_the_stamping(well: House) -> None:
    well.servers[0].say(offset=30)
    end = time.monotonic() + 2 * INTERVAL + 1
    while time.monotonic() < end:
        assert well.ask() == "granted"
    status, part = well.clock_part()
    assert status == 200
    assert well.servers[0].source not in part["detail"]
    assert all(server.source in part["detail"] for server in well.servers[1:])
    well.servers[1].say(offset=30)
    well.until(lambda: well.ask() == "time_not_available")
    well.refuses_for(0.5)


def test_servers_that_answer_rubbish_are_no_sources(well: House) -> None:
    well.servers[0].reply = lambda request: request
    well.servers[1].say(stratum=16)
    well.servers[2].say(stratum=0)
    well.until(lambda: well.ask() == "time_not_available")
    well.refuses_for(0.5)


def test_a_change_is_logged_once_and_not_for_each_request(well: House) -> None:
    before = len(well.events())
    well.set_clock(30)
    well.refuses_for(2 * INTERVAL)
    assert well.events()[before:] == ["stepped", "outside accuracy"]
    well.heal()
    assert well.events()[before:][-1] == "trusted"
    well.until(lambda: well.audited() == ["clock.trust", "clock.distrust", "clock.distrust"])


def test_a_signature_with_a_time_stamp_waits_for_the_clock(well: House) -> None:
    """Unavailable to the caller of the API; nothing half made, and the next one succeeds."""
    well.set_clock(30)
    answer = well.service.request("POST", "/v1/signatures/pdf?level=B-T", SAMPLE_PDF, key="client", kind="application/pdf")
    assert answer.status == 503
    assert json.loads(answer.body)["type"] == "urn:condau:problem:clock-untrusted"
    assert "retry-after" in answer.headers
    well.heal()
    answer = well.service.request("POST", "/v1/signatures/pdf?level=B-T", SAMPLE_PDF, key="client", kind="application/pdf")
    assert answer.status == 200


def test_years_later_a_file_for_the_archive_holds_until_its_last_time_stamp_proves_nothing(well: House) -> None:
    """What the service itself says in the years in which the signer's certificate, then the unit's has expired."""
    document = well.service.request("POST", "/v1/signatures/pdf?level=B-LTA", SAMPLE_PDF, key="client", kind="application/pdf").body
    said = []
    for years in (0, 4, 9):
        well.set_clock(years * YEAR)
        report = json.loads(well.service.request("POST", "/v1/verifications", document).body)
        said.append(report["conclusion"])
        assert report["verified_at"].startswith(str(datetime.fromtimestamp(time.time() + years * YEAR, UTC).year))
    assert said == ["valid", "valid", "indeterminate"]
