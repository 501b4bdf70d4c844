"""Two processes at once on one PostgreSQL: who wins, and that nothing is lost or said twice."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from core.db import Database
from core.errors import Conflict, Rejected
from core.settings import Config
from pki.models import Authority, Certificate, Crl, StatusEvent, SubjectKey
from registry import agencies, registry
from registry.models import Agency, AgencyVersion, SubscriberKind
from tests.conftest import Clock
from tests.pki.house import ADMIN, REFERENCE, House, make_csr
from tests.software_keys import SoftwareKeys

ROUNDS = 5
Act = Callable[[House, str], str]


@pytest.fixture(autouse=True)
def _on_postgresql(database_kind: str) -> None:
    if database_kind != "postgresql":
        pytest.skip("two processes race on PostgreSQL: --database=postgresql")


def revoke(house: House, serial: str) -> str:
    """One revocation."""
    return str(house.revocations.revoke(serial, reason="superseded", actor=ADMIN).crl_number)


def compromise(house: House, serial: str) -> str:
    """One that locks the key as well."""
    return str(house.revocations.revoke(serial, reason="keyCompromise", actor=ADMIN).crl_number)


def compromise_first(house: House, serials: str) -> str:
    """The first of two certificates over one key."""
    return compromise(house, serials.split(maxsplit=1)[0])


def compromise_second(house: House, serials: str) -> str:
    """The second of two certificates."""
    return compromise(house, serials.split()[1])


def suspend(house: House, serial: str) -> str:
    """One suspension."""
    return str(house.revocations.suspend(serial, actor=ADMIN).crl_number)


def resume(house: House, serial: str) -> str:
    """One resumption."""
    return str(house.revocations.resume(serial, actor=ADMIN).crl_number)


def publish(house: House, _: str) -> str:
    """One CRL."""
    return str(house.crl.publish("issuing", actor=ADMIN).number)


def issue_device(house: House, csr: str) -> str:
    """A certificate for one subscriber."""
    return _issue(house, csr, "device")


def issue_other(house: House, csr: str) -> str:
    """And for another."""
    return _issue(house, csr, "other")


def _issue(house: House, csr: str, subscriber: str) -> str:
    issued = house.ca.issue_from_csr(csr.encode(), profile="device", subscriber=subscriber, reference=REFERENCE, actor=ADMIN)
    return issued.serial


def issue_within(house: House, thing: str) -> str:
    """A certificate for the officer of an agency; or the agency closed, where that is what both do."""
    verb, code, handle = thing.split()
    if verb == "close-too":
        return change_agency(house, thing)
    issued = house.ca.issue_from_csr(make_csr(), profile="officer", subscriber=handle, reference=REFERENCE, actor=ADMIN)
    return f"{issued.serial} {code}"


def change_agency(house: House, thing: str) -> str:
    """The agency closed, renamed or merged, from now on."""
    verb, code, _ = thing.split()
    change = agencies.Change(at=house.clock(), actor=ADMIN, effective=house.clock())
    with house.database.write() as db:
        agency = registry.agency_with_code(db, code)
        if verb == "rename":
            agencies.rename(db, agency, change, name=f"Cơ quan mới {code}")
        elif verb == "merge":
            agencies.merge(db, agency, change, into=registry.agency_with_code(db, "H26.1"))
        else:
            agencies.close(db, agency, change)
    return verb


def _work(url: str, ders: dict[str, bytes], at: datetime, act: Act, things: list[str], barrier: Barrier, answers: Any) -> None:
    """What each process does: the same act on each thing in turn, both beginning each round at once."""
    database = Database(url)
    keys = SoftwareKeys()
    keys._keys = {label: load_der_private_key(der, None) for label, der in ders.items()}  # type: ignore[misc]  # of our kinds
    house = House(database, keys, Clock(at), Config(home=Path("/nonexistent"), public_url="http://127.0.0.1:8080"))
    for index, thing in enumerate(things):
        barrier.wait(timeout=60)
        try:
            answers.put((index, act.__name__, act(house, thing)))
        except (Conflict, Rejected) as error:
            answers.put((index, act.__name__, type(error).__name__))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must hear of it
            answers.put((index, act.__name__, f"broke: {error!r}"))
    database.close()


def _race(house: House, first: Act, second: Act, things: list[str]) -> dict[int, list[tuple[str, str]]]:
    """What each act answered about each thing; an answer that nobody expected fails the test."""
    ders = {label: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) for label, key in house.keys._keys.items()}
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    url = house.database.url.render_as_string(hide_password=False)
    common = (things, barrier, answers)
    processes = [context.Process(target=_work, args=(url, ders, house.clock(), act, *common)) for act in (first, second)]
    for process in processes:
        process.start()
    told = [answers.get(timeout=120) for _ in range(2 * len(things))]
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    assert not [answer for *_, answer in told if answer.startswith("broke")]
    return {index: [(act, answer) for at, act, answer in told if at == index] for index in range(len(things))}


@pytest.mark.parametrize("second", [revoke, compromise])
def test_revoke_against_revoke(house: House, second: Act) -> None:
    serials = [house.issue().serial for _ in range(ROUNDS)]
    for told in _race(house, revoke, second, serials).values():
        assert [answer for _, answer in told].count("Conflict") == 1
    for serial in serials:
        assert house.actions(serial).count("certificate.revoke") == 1
    assert set(serials) <= house.crl_serials()
    _check_numbers(house)


def test_revoking_two_certificates_of_one_key_does_not_deadlock(house: House) -> None:
    pairs = []
    for _ in range(ROUNDS):
        csr = make_csr()
        pairs.append((house.issue(csr=csr).serial, house.issue(csr=csr).serial))
    told = _race(house, compromise_first, compromise_second, [f"{one} {two}" for one, two in pairs])
    assert all([answer for _, answer in item].count("Conflict") == 1 for item in told.values())
    assert set(itertools.chain(*pairs)) <= house.crl_serials()


def test_revoke_against_crl_build(house: House) -> None:
    """Whoever comes first: the CRL a receipt names lists it, and no CRL knows less than one with a lower number."""
    serials = [house.issue().serial for _ in range(ROUNDS)]
    for index, told in _race(house, revoke, publish, serials).items():
        number = int(dict(told)["revoke"])
        named = x509.load_der_x509_crl(house.crl.published_at("issuing", at=None, number=number).der)
        assert named.get_revoked_certificate_by_serial_number(int(serials[index], 16)) is not None
    assert set(serials) <= house.crl_serials()
    _check_numbers(house)


def test_two_crl_builders(house: House) -> None:
    told = _race(house, publish, publish, ["" for _ in range(ROUNDS)])
    numbers = [int(answer) for item in told.values() for _, answer in item]
    assert len(set(numbers)) == 2 * ROUNDS
    _check_numbers(house)


def test_double_issue(house: House) -> None:
    """One key, two subscribers: one gets the certificate, the other is told that the key is somebody else's."""
    told = _race(house, issue_device, issue_other, [make_csr().decode() for _ in range(ROUNDS)])
    assert all([answer for _, answer in item].count("Rejected") == 1 for item in told.values())
    with house.database.read() as db:
        owners = db.scalars(
            sa.select(SubjectKey.owner).where(SubjectKey.owner.in_(["subscriber/device", "subscriber/other"]))
        ).all()
        assert len(owners) == ROUNDS
        assert db.scalar(sa.select(sa.func.count()).where(Certificate.profile == "device", Certificate.state == "issued")) == ROUNDS


def test_an_agency_closed_merged_or_renamed_against_an_issuance_within(house: House) -> None:
    """The change is made once; who was issued a certificate was an officer of the open agency, under one of its names."""
    things = []
    for number, verb in enumerate(["close", "merge", "rename", "close-too"] * 3):
        code, handle = f"H7{number}", f"can-bo-{number}"
        things.append(f"{verb} {code} {handle}")
        with house.database.write() as db:
            known: dict[str, Any] = {"at": house.clock(), "actor": ADMIN}
            agency = registry.add_agency(db, code=code, name=f"Cơ quan {code}", locality="Hà Nội", **known)
            registry.add_subscriber(db, handle=handle, kind=SubscriberKind.OFFICER, common_name="A", agency=agency, **known)
    house.clock.move(hours=1)
    for index, told in _race(house, issue_within, change_agency, things).items():
        verb, code, _ = things[index].split()
        answers = dict(told)
        if verb == "close-too":
            assert sorted(answers.values()) == ["Conflict", "close-too"]
            continue
        assert answers["change_agency"] == verb
        if answers["issue_within"] == "Conflict":
            assert verb != "rename"
            continue
        names = x509.load_der_x509_certificate(house.row(answers["issue_within"].split()[0]).der or b"").subject
        organisations = [item.value for item in names if "Cơ quan" in str(item.value)]
        assert organisations in ([f"Cơ quan {code}"], [f"Cơ quan mới {code}"])
    with house.database.read() as db:
        count = sa.select(sa.func.count()).where(AgencyVersion.agency_id == Agency.id, Agency.code.like("H7%"))
        assert db.scalar(count) == 2 * len(things)


def test_suspend_against_resume(house: House) -> None:
    """Each begins suspended: resumed, and perhaps suspended again; the history is one chain, and ends with what is said now."""
    serials = [house.issue().serial for _ in range(ROUNDS)]
    for serial in serials:
        house.revocations.suspend(serial, actor=ADMIN)
    for told in _race(house, suspend, resume, serials).values():
        assert dict(told)["resume"] != "Conflict"
    for serial in serials:
        row = house.row(serial)
        with house.database.read() as db:
            acts = list(db.scalars(sa.select(StatusEvent.act).where(StatusEvent.certificate_id == row.id).order_by(StatusEvent.id)))
        assert acts in (["suspend", "resume"], ["suspend", "resume", "suspend"])
        assert (row.revoked_at is not None) == (acts[-1] == "suspend") == (serial in house.crl_serials())
    _check_numbers(house)


def _check_numbers(house: House) -> None:
    """Numbers rise strictly, and along them only a suspension that ended leaves the list."""
    with house.database.read() as db:
        query = sa.select(Crl).join(Authority).where(Authority.name == "issuing", Crl.state == "issued", ~Crl.delta)
        rows = list(db.scalars(query.order_by(Crl.number)))
        resumed = sa.select(Certificate.serial).join(StatusEvent, StatusEvent.certificate_id == Certificate.id)
        left = {int(serial, 16) for serial in db.scalars(resumed.where(StatusEvent.act == "resume"))}
    assert len({row.number for row in rows}) == len(rows)
    history = [x509.load_der_x509_crl(row.der or b"") for row in rows]
    for before, after in itertools.pairwise(history):
        assert {item.serial_number for item in before} - left <= {item.serial_number for item in after}
        assert before.last_update_utc <= after.last_update_utc <= datetime.now(UTC)
