"""A signature made under another authority, extended with what that authority publishes; and answers that are none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from core.content import Content
from core.errors import Conflict, Unavailable
from core.settings import FetchConfig
from pki.fetch import Fetcher
from signer.extend import ExtendOptions, ExtensionLevel
from tests.conftest import Clock
from tests.signer.foreign import PATIENCE, Behaviour, Foreign, Handler, drip, drip_head, running, stall
from tests.signer.house import CLIENT, House
from tests.signer.test_extend import judge
from tests.signer.test_levels import read_store
from tests.signer.test_material import trust
from tests.signer.test_whole_life import judge_fields
from tests.verifier.authorities import Pki
from tests.verifier.files import plain_pdf, sign
from verifier.verdict import Conclusion


@pytest.fixture(scope="module")
def noi_khac(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    with running(tmp_path_factory.mktemp("foreign")) as foreign:
        yield foreign


@pytest.fixture
def foreign(noi_khac: Foreign) -> Foreign:
    """The same, well behaved."""
    noi_khac.behave.clear()
    noi_khac.asked.clear()
    return noi_khac


@pytest.fixture(scope="module")
def signed(noi_khac: Foreign) -> bytes:
    """A PDF that somebody signed there, with nothing but their own certificate in it."""
    pki = Pki()
    pki.issuing = noi_khac.identity("signer")  # what goes into the CMS beside the signer's
    return sign(plain_pdf(), pki, signer=noi_khac.identity("signer"))


def fetcher(*hosts: str) -> Fetcher:
    return Fetcher(FetchConfig(hosts=hosts, seconds=PATIENCE, size=20_000))


def extend(house: House, document: bytes, level: ExtensionLevel, *hosts: str) -> bytes:
    extended = house.extender(fetch=fetcher(*hosts)).extend(Content.of(document), ExtendOptions(level=level), CLIENT)
    return extended.read(0, extended.size)


@pytest.mark.parametrize("level", ["B-LT", "B-LTA"])
def test_it_is_extended_by_what_its_authority_publishes(
    house: House, clock: Clock, foreign: Foreign, signed: bytes, tmp_path: Path, level: ExtensionLevel
) -> None:
    trust(house, foreign.certificate("root"))
    extended = extend(house, signed, level, foreign.host)
    assert foreign.asked == ["/issuing.der", "/ocsp", "/root.crl"]
    clock.move(minutes=1)
    assert judge(house, extended) == (Conclusion.VALID, [level])
    assert judge_fields(tmp_path, extended)["Signature1"]  # pdfsig
    store = read_store(extended)
    assert foreign.certificate("issuing") in store.certificates
    assert foreign.certificate("ocsp") in store.certificates


def test_where_ocsp_answers_nothing_of_use_the_list_does(house: House, clock: Clock, foreign: Foreign, signed: bytes) -> None:
    trust(house, foreign.certificate("root"))
    foreign.behave["/ocsp"] = lambda handler, _: handler.give(b"\x30\x03\x0a\x01\x06")  # OCSPResponse: unauthorized
    extended = extend(house, signed, "B-LT", foreign.host)
    assert foreign.asked == ["/issuing.der", "/ocsp", "/issuing.crl", "/root.crl"]
    clock.move(minutes=1)
    assert judge(house, extended) == (Conclusion.VALID, ["B-LT"])


def redirect(handler: Handler, _: bytes) -> None:
    handler.give(b"elsewhere", status=302, Location="/root.crl")


HOSTILE: dict[str, Behaviour] = {
    "a byte at a time": drip,
    "a head without end": drip_head,
    "nothing at all": stall,
    "too large": lambda handler, answer: handler.give(answer + bytes(30_000)),
    "cut off": lambda handler, answer: handler.give(answer[:-9], length=len(answer)),
    "elsewhere": redirect,
    "an error": lambda handler, answer: handler.give(answer, status=500),
    "a page": lambda handler, _: handler.give(b"<html>xin chao</html>"),
    "nothing": lambda handler, _: handler.give(b""),
}
WRONG_ANSWERS: dict[str, dict[str, object]] = {
    "of yesterday": {"age": timedelta(days=1)},
    "of tomorrow": {"age": -timedelta(days=1)},
    "about another": {"about": "ocsp"},
    "by somebody not appointed": {"by": "signer"},
    "by the root": {"by": "root"},
}


def test_a_status_that_is_none_is_refused_by_type_within_its_time(house: House, foreign: Foreign, signed: bytes) -> None:
    trust(house, foreign.certificate("root"))
    foreign.behave["/issuing.crl"] = HOSTILE["an error"]
    wrong: dict[str, Behaviour] = {
        name: lambda handler, _, how=how: handler.give(foreign.response(**how))  # type: ignore[misc]  # how is bound now
        for name, how in WRONG_ANSWERS.items()
    }
    for name, behaviour in (HOSTILE | wrong).items():
        foreign.behave["/ocsp"] = behaviour
        foreign.asked.clear()
        with pytest.raises(Unavailable, match="no revocation status of CN=signer"):
            extend(house, signed, "B-LT", foreign.host)
        assert foreign.asked == ["/issuing.der", "/ocsp", "/issuing.crl", "/root.crl"], name
    foreign.behave["/ocsp"] = lambda handler, _: handler.give(foreign.response())  # what was made wrong above, made right
    assert extend(house, signed, "B-LT", foreign.host)


def test_an_issuer_that_is_not_had_is_refused_by_type(house: House, foreign: Foreign, signed: bytes) -> None:
    trust(house, foreign.certificate("root"))
    other = foreign.certificate("ocsp").public_bytes(Encoding.DER)
    slow = {"nothing at all", "a head without end"}
    behaviours = [behaviour for name, behaviour in HOSTILE.items() if name not in slow]
    for behaviour in (*behaviours, lambda handler, _: handler.give(other)):
        foreign.behave["/issuing.der"] = behaviour
        with pytest.raises(Conflict, match="no trusted authority is above CN=issuing"):
            extend(house, signed, "B-LT", foreign.host)


def test_nobody_is_asked_whom_the_operator_did_not_name(house: House, foreign: Foreign, signed: bytes) -> None:
    trust(house, foreign.certificate("root"))
    port = foreign.host.partition(":")[2]
    for hosts in ((), ("127.0.0.1",), (f"localhost:{port}",), ("169.254.169.254",), (f"127.0.0.1:{foreign.responder_port}",)):
        with pytest.raises(Conflict, match="no trusted authority"):
            extend(house, signed, "B-LT", *hosts)
    assert foreign.asked == []


def test_a_name_that_leads_to_this_machine_is_not_followed(foreign: Foreign) -> None:
    """What an operator named is a name; where it leads is said by whoever answers for names."""
    host = f"localhost:{foreign.host.partition(':')[2]}"
    assert fetcher(host)._get(f"http://{host}/root.crl") is None
    assert foreign.asked == []
    assert fetcher(foreign.host)._get(f"http://{foreign.host}/root.crl") == (foreign.folder / "root.crl").read_bytes()
