"""Several units: who answers whom, keys in turn, and successors without a pause."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import pytest
import sqlalchemy as sa

import tsa.succession
from audit.log import AuditEntry
from core.db import Database
from core.errors import NotFound, Rejected, Unavailable
from core.settings import TsaConfig, TsaUnitConfig
from hsm.keys import KeySpec
from pki.ca import CertificateAuthority
from pki.certificates import usable_until
from pki.place import Place
from pki.profile import build_subject
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.pki.house import ADMIN, House, furnish, open_house
from tests.software_keys import SoftwareKeys
from tests.tsa.requests import CERT_REQ, query, tlv
from tests.tsa.test_authority import failure_of, outage, read
from tests.tsa.unit import ACTOR
from tsa.authority import TimestampAuthority
from tsa.models import Timestamp
from tsa.succession import AHEAD, PATIENCE, Succession
from tsa.units import IDENTITY_AGE, TimestampUnits

FIRST = TsaUnitConfig(name="first", policy="1.2.3.1")
RSA = TsaUnitConfig(name="rsa", policy="1.2.3.2", key="rsa-2048")
PSS = TsaUnitConfig(name="pss", policy="1.2.3.3", key="rsa-2048", pss=True)
P384 = TsaUnitConfig(name="p384", policy="1.2.3.4", key="p-384")
P521 = TsaUnitConfig(name="p521", policy="1.2.3.5", key="p-521")
TURNS = TsaUnitConfig(name="turns", policy="1.2.3.6", keys=3)
UNITS = (FIRST, RSA, PSS, P384, P521, TURNS)


@pytest.fixture
def furnished(databases: Databases) -> Furnished:
    """With the house in it."""
    return databases.furnished(furnish)


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock, furnished: Furnished, tmp_path: Path) -> House:
    """Authorities with the one time-stamping certificate of `condau init`."""
    clock.at = furnished.at  # what a test adds ends in the same second
    return open_house(database, keys, clock, tmp_path)


def authority_of(house: House, *units: TsaUnitConfig) -> TimestampAuthority:
    return TimestampAuthority(database=house.database, keys=house.keys, now=house.clock, config=TsaConfig(units=units))


def succession_of(house: House, authority: TimestampAuthority) -> Succession:
    return Succession(database=house.database, ca=house.ca, now=house.clock, units=authority.units)


def prepared(house: House, *units: TsaUnitConfig) -> tuple[TimestampAuthority, Succession]:
    """An authority whose units all have their keys."""
    authority = authority_of(house, *units)
    succession = succession_of(house, authority)
    for unit in units:
        succession.create(unit, actor=ADMIN)
    return authority, succession


def asking(policy: str | None = None) -> bytes:
    fields = [] if policy is None else [tlv(0x06, x509_oid(policy))]
    return query(*fields, CERT_REQ)


def x509_oid(dotted: str) -> bytes:
    """1.2.3.n: the only arcs these tests use."""
    return bytes([42, *(int(arc) for arc in dotted.split(".")[2:])])


def signer_of(reply: bytes) -> tuple[str, Any, Any]:
    """The serial number the SignerInfo names, its signature algorithm, and the TSTInfo."""
    signed, info = read(reply)
    (signer,) = signed["signer_infos"]
    return format(signer["sid"].chosen["serial_number"].native, "x"), signer["signature_algorithm"], info


def row_of(house: House, reply: bytes) -> Timestamp:
    serial = format(signer_of(reply)[2]["serial_number"].native, "x")
    with house.database.read() as db:
        return db.scalars(sa.select(Timestamp).where(Timestamp.serial == serial)).one()


def test_the_policy_asked_for_chooses_the_unit(house: House) -> None:
    authority, _ = prepared(house, *UNITS)
    for unit in UNITS:
        reply = authority.respond(asking(unit.policy), ACTOR)
        assert signer_of(reply)[2]["policy"].native == unit.policy
        row = row_of(house, reply)
        assert (row.unit, row.policy, row.month) == (unit.name, unit.policy, f"{house.clock():%Y-%m}")
    assert row_of(house, authority.respond(asking(), ACTOR)).unit == "first"
    assert failure_of(authority.respond(asking("1.2.3.99"), ACTOR)) == ("rejection", {"unaccepted_policy"})


def test_the_path_chooses_the_unit_and_then_only_its_policy_will_do(house: House) -> None:
    authority, _ = prepared(house, FIRST, RSA)
    assert row_of(house, authority.respond(asking(), ACTOR, unit="rsa")).policy == RSA.policy
    assert row_of(house, authority.respond(asking(RSA.policy), ACTOR, unit="rsa")).unit == "rsa"
    assert failure_of(authority.respond(asking(FIRST.policy), ACTOR, unit="rsa")) == ("rejection", {"unaccepted_policy"})
    with pytest.raises(NotFound):
        authority.respond(asking(), ACTOR, unit="nobody")


@pytest.mark.parametrize(
    ("unit", "algorithm"),
    [
        (FIRST, "sha256_ecdsa"),
        (RSA, "sha256_rsa"),
        (PSS, "rsassa_pss"),
        (P384, "sha384_ecdsa"),
        (P521, "sha512_ecdsa"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_each_unit_signs_by_its_own_algorithm(house: House, unit: TsaUnitConfig, algorithm: str) -> None:
    authority, _ = prepared(house, *UNITS)
    assert signer_of(authority.respond(asking(unit.policy), ACTOR))[1]["algorithm"].native == algorithm


def test_the_certificate_of_init_is_the_first_units(house: House) -> None:
    authority = authority_of(house, FIRST, RSA)
    assert signer_of(authority.respond(asking(FIRST.policy), ACTOR))
    assert "condau timestamp-units" in outage(authority.respond(asking(RSA.policy), ACTOR))
    assert succession_of(house, authority).create(FIRST, actor=ADMIN) == []


def test_keys_of_a_unit_sign_in_turn(house: House) -> None:
    authority, _ = prepared(house, TURNS)
    signers = [signer_of(authority.respond(asking(), ACTOR))[0] for _ in range(9)]
    assert sorted(Counter(signers).values()) == [3, 3, 3]
    assert signers[:3] == signers[3:6] == signers[6:]


def test_a_unit_goes_on_with_the_keys_it_has(house: House, keys: SoftwareKeys, caplog: pytest.LogCaptureFixture) -> None:
    authority, _ = prepared(house, TURNS)
    label = authority.units.key(TURNS, house.clock()).identity.key_label
    del keys._keys[label]
    house.clock.move(seconds=IDENTITY_AGE.total_seconds())
    signers = {signer_of(authority.respond(asking(), ACTOR))[0] for _ in range(6)}
    assert len(signers) == 2
    assert "key not in the HSM" in caplog.text


def test_a_successor_is_made_ahead_and_takes_over_without_a_pause(house: House) -> None:
    """Second by second over the change: every request is answered, and no key signs after its usage period."""
    authority, succession = prepared(house, TURNS)
    ends = usable_until(authority.units.key(TURNS, house.clock()).identity.certificate)
    house.clock.at = ends - AHEAD - timedelta(seconds=1)
    assert succession.refresh() == 0
    house.clock.at = ends - AHEAD + timedelta(seconds=1)
    before = {signer_of(authority.respond(asking(), ACTOR))[0] for _ in range(3)}
    assert succession.refresh() == 3
    assert succession.refresh() == 0
    for _ in range(20):
        house.clock.move(seconds=0.5)
        signer_of(authority.respond(asking(), ACTOR))
    after = {signer_of(authority.respond(asking(), ACTOR))[0] for _ in range(3)}
    assert len(before) == len(after) == 3
    assert not before & after
    for offset in (-1.0, 0.0, 1.0):
        house.clock.at = ends + timedelta(seconds=offset)
        assert signer_of(authority.respond(asking(), ACTOR))[0] in after


def test_succession_is_in_the_audit_log(house: House) -> None:
    _, succession = prepared(house, RSA)
    (predecessor,) = succession.held(RSA, house.clock()).values()
    house.clock.move(minutes=1)
    (successor,) = succession.create(RSA, actor=ADMIN, successor=True)
    with house.database.read() as db:
        entry = db.scalars(sa.select(AuditEntry).where(AuditEntry.subject == successor.serial).order_by(AuditEntry.id)).all()[-1]
    assert (entry.action, entry.actor) == ("timestamp-unit.succeed", ADMIN.name)
    assert entry.detail["replaces"] == predecessor.serial
    assert house.actions(entry.detail["key"]) == ["timestamp-unit.intend", "key.generate"]


def test_of_many_at_once_one_makes_the_successor(house: House) -> None:
    authority, _ = prepared(house, RSA)
    house.clock.at = usable_until(authority.units.key(RSA, house.clock()).identity.certificate) - timedelta(days=1)
    workers = [succession_of(house, authority_of(house, RSA)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda worker: worker.refresh(), workers))
    assert sum(made) == 1


def test_a_successor_that_another_worker_finishes_meanwhile_is_seen(
    house: House, database_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate comes between the two questions that this one asks the database before it makes a key of its own."""
    if database_kind != "postgresql":
        pytest.skip("in SQLite nobody writes between two reads of a transaction that writes")
    authority, succession = prepared(house, RSA)
    house.clock.at = usable_until(authority.units.key(RSA, house.clock()).identity.certificate) - timedelta(days=1)
    claimed, go_on, done = Event(), Event(), Event()
    asked = Counter[str]()

    def issue_when_told(*given: Any, **named: Any) -> Any:
        claimed.set()
        assert go_on.wait(30)
        return issue(*given, **named)

    def let_the_other_finish(answer: Any) -> Any:
        if current_thread() is main_thread():
            asked["database"] += 1
            if asked["database"] == 2:  # the first is for what is held now
                go_on.set()
                assert done.wait(30)
        return answer

    issue, identities, certified = CertificateAuthority.issue_service, TimestampUnits.identities, tsa.succession._certified
    monkeypatch.setattr(CertificateAuthority, "issue_service", issue_when_told)
    monkeypatch.setattr(TimestampUnits, "identities", lambda *given: let_the_other_finish(identities(*given)))
    monkeypatch.setattr("tsa.succession._certified", lambda *given: let_the_other_finish(certified(*given)))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(succession_of(house, authority).refresh)
        other.add_done_callback(lambda _: done.set())
        assert claimed.wait(30)
        mine = succession.refresh()
        go_on.set()
        assert (other.result(), mine) == (1, 0)


def test_what_a_crash_cut_off_is_gone_on_with_under_the_same_label(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = authority_of(house, TURNS, RSA)
    succession = succession_of(house, authority)

    def cut_off(*_: object, **__: object) -> None:
        raise Unavailable("hsm", "the HSM is away")

    with monkeypatch.context() as patch:
        patch.setattr("pki.ca.CertificateAuthority.issue_service", cut_off)
        with pytest.raises(Unavailable):
            succession.create(RSA, actor=ADMIN)
    assert succession.refresh() == 0  # it may yet be at work
    house.clock.move(seconds=PATIENCE.total_seconds() + 1)
    assert succession.refresh() == 1
    ((_, identity),) = succession.held(RSA, house.clock()).items()
    assert house.actions(identity.key_label) == ["timestamp-unit.intend", "key.generate"]


@pytest.mark.parametrize("unit", [FIRST, RSA], ids=lambda unit: unit.name)
def test_a_revoked_key_is_replaced(house: House, unit: TsaUnitConfig) -> None:
    """Also the one of `condau init`."""
    authority, succession = prepared(house, FIRST, RSA)
    serial = signer_of(authority.respond(asking(unit.policy), ACTOR))[0]
    house.revocations.revoke(serial, reason="keyCompromise", actor=ADMIN)
    house.clock.move(seconds=IDENTITY_AGE.total_seconds())
    outage(authority.respond(asking(unit.policy), ACTOR))
    assert succession.refresh() == 1
    assert signer_of(authority.respond(asking(unit.policy), ACTOR))[0] != serial


def test_each_certificate_names_its_key_alone(house: House) -> None:
    """EN 319 422: country, organisation and a common name that no other unit has."""
    _, succession = prepared(house, TURNS, RSA)
    names = [
        identity.certificate.subject.rfc4514_string()
        for unit in (TURNS, RSA)
        for identity in succession.held(unit, house.clock()).values()
    ]
    assert len(set(names)) == 4
    assert all("CN=" in name and "O=Cơ quan Thử nghiệm" in name and "C=VN" in name for name in names)


@pytest.mark.interop
@pytest.mark.slow
def test_pkilint_finds_nothing_in_a_unit_s_certificate(house: House, tmp_path: Path) -> None:
    """But for one thing that RFC 3161, 2.3 asks for: "Extended Key Usage ... MUST be critical", where ETSI EN 319 412-2, which
    is about people's certificates, has GEN-4.3.10-1 against it."""
    house = replace(house, config=replace(house.config, public_url="http://ca.example.vn"))
    config = TsaConfig(units=UNITS, organization_identifier="VATVN-0100000000")
    authority = TimestampAuthority(database=house.database, keys=house.keys, now=house.clock, config=config)
    succession = succession_of(house, authority)
    for unit in (FIRST, RSA, P521):
        for issued in succession.create(unit, actor=ADMIN, successor=True)[:1]:
            path = tmp_path / f"{issued.serial}.pem"
            path.write_text(issued.pem)
            assert lint("lint_pkix_cert", "lint", path) == set()
            found = lint("lint_etsi_cert", "lint", "-t", "NCP-LEGAL-PERSON-CERTIFICATE", path)
            assert found == {"etsi.en_319_412_2.gen-4.3.10-1.eku_extension_is_critical"}


def lint(name: str, *arguments: str | Path) -> set[str]:
    """The codes of what a linter finds worth notice."""
    command = [Path(sys.executable).parent / name, *arguments, "-s", "NOTICE", "-f", "JSON"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    results = json.loads(done.stdout)["results"]
    return {finding["code"] for result in results for finding in result["finding_descriptions"]}


def test_a_kind_of_key_that_there_is_not_is_refused_at_start(house: House) -> None:
    with pytest.raises(Rejected) as caught:
        authority_of(house, TsaUnitConfig(name="a", key="p-257"))
    assert caught.value.violations[0].field == "tsa.units.key"


def test_successors_come_from_the_newest_generation_of_the_issuing_authority(house: House) -> None:
    """The first one has expired by then; so has the unit's key, which nobody renewed."""
    _, succession = prepared(house, FIRST)
    house.clock.move(days=9 * 365)
    name = build_subject(organization="Ca", locality="Thử Nghiệm", common_name="Issuing 2")
    place = Place(alias="issuing", generation=2)
    house.ca.create_authority("issuing-g2", subject=name, spec=KeySpec.P_256, issuer="root", actor=ADMIN, place=place)
    house.clock.move(days=366)
    assert succession.refresh() == 1
    assert succession.held(FIRST, house.clock())[0].chain[0].subject == name
