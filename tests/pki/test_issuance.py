"""Issuance: what comes out, what is refused, and what a crash, a race or a full database leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from core.db import Database
from core.errors import CondauError, Conflict, Malformed, Rejected, Unavailable
from core.settings import Config
from hsm.keys import KeySpec
from pki.authorities import ISSUING, ROOT, Organisation, create_authorities
from pki.certificates import service_certificate
from pki.models import Authority, Certificate, CertificateState, Crl, SubjectKey
from tests.conftest import Clock
from tests.pki.house import ADMIN, ORGANISATION, REFERENCE, BrokenKeys, House, build_house, make_csr
from tests.software_keys import SoftwareKeys, make_key


@pytest.mark.parametrize("spec", list(KeySpec))
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_csr_becomes_a_certificate_named_by_the_registry(house: House, spec: KeySpec, encoding: Encoding) -> None:
    key = make_key(spec)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    from_key = csr.sign(key, None if spec is KeySpec.ED25519 else hashes.SHA256()).public_bytes(encoding)
    issued = house.ca.issue_from_csr(from_key, profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)
    assert issued.certificate.public_key() == key.public_key()
    assert issued.certificate.subject.rfc4514_string() == "CN=Người dùng device,L=Hà Nội,O=Sở Thử nghiệm,C=VN"
    assert len(issued.chain) == 2
    issued.certificate.verify_directly_issued_by(issued.chain[0])
    row = house.row(issued.serial)
    assert (row.state, row.key_label, row.tbs) == (CertificateState.ISSUED, None, issued.certificate.tbs_certificate_bytes)
    assert house.actions(issued.serial) == ["certificate.intend", "certificate.issue"]


def test_a_key_made_in_the_token_is_certified(house: House, keys: SoftwareKeys) -> None:
    assert not house.ca.has_certificate("seal")
    issued = house.ca.issue_for_key(profile="agency-seal", subscriber="seal", spec=KeySpec.P_256, reference=REFERENCE, actor=ADMIN)
    label = house.row(issued.serial).key_label
    assert label is not None
    assert keys.key(label).public_key() == issued.certificate.public_key()
    assert house.actions(label) == ["key.generate"]
    assert house.ca.has_certificate("seal")


def test_serials_are_159_random_bits_and_never_repeat(house: House) -> None:
    serials = [int(house.issue().serial, 16) for _ in range(20)]
    assert len(set(serials)) == 20
    assert max(serial.bit_length() for serial in serials) <= 159
    assert max(serial.bit_length() for serial in serials) > 150


def test_every_violation_is_reported_at_once(house: House) -> None:
    csr = make_csr(make_key(KeySpec.P_256), encoding=Encoding.DER)
    forged = csr[:-1] + bytes([csr[-1] ^ 1])
    with pytest.raises(Rejected) as caught:
        house.ca.issue_from_csr(forged, profile="officer", subscriber="device", days=5000, reference=REFERENCE, actor=ADMIN)
    assert [violation.field for violation in caught.value.violations] == ["csr", "days", "profile"]
    with pytest.raises(Rejected) as caught:
        house.ca.issue_from_csr(csr, profile="nothing", subscriber="nobody", reference=REFERENCE, actor=ADMIN)
    assert [violation.field for violation in caught.value.violations] == ["profile", "subscriber"]
    with pytest.raises(Malformed):
        house.ca.issue_from_csr(b"nothing", profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)
    assert house.rows("intended") == []


def test_no_certificate_outlives_its_issuer(house: House, clock: Clock) -> None:
    clock.move(days=3652 - 100)
    issued = house.issue()
    assert issued.certificate.not_valid_after_utc == issued.chain[0].not_valid_after_utc
    clock.move(days=101)
    with pytest.raises(Conflict, match="expired"):
        house.issue()


def test_a_key_belongs_to_one_subscriber_who_may_renew_with_it(house: House) -> None:
    csr = make_csr()
    first = house.ca.issue_from_csr(csr, profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)
    with pytest.raises(Rejected, match="somebody else"):
        house.ca.issue_from_csr(csr, profile="device", subscriber="other", reference=REFERENCE, actor=ADMIN)
    second = house.ca.issue_from_csr(csr, profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)
    assert first.serial != second.serial


def test_a_compromised_key_is_blocked_for_ever(house: House) -> None:
    csr = make_csr()
    issued = house.ca.issue_from_csr(csr, profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)
    house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    with pytest.raises(Rejected, match="blocked"):
        house.ca.issue_from_csr(csr, profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)


@pytest.mark.parametrize("label", ["ca-root", "ca-issuing"])
def test_the_key_of_an_authority_is_certified_for_nobody(house: House, keys: SoftwareKeys, label: str) -> None:
    with pytest.raises(Rejected, match="somebody else"):
        house.ca.issue_from_csr(make_csr(keys.key(label)), profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)


def test_a_crash_between_the_transactions_ends_abandoned_and_revoked(house: House, keys: SoftwareKeys, clock: Clock) -> None:
    """The token may have signed it: so it is on the CRL, OCSP calls it revoked, and nothing is left undecided."""
    crashed = house.with_keys(BrokenKeys(keys, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        crashed.issue()
    (left,) = house.rows("intended")
    assert house.ca.reconcile(clock()) == 0, "an intent as young as that may still be under way"
    clock.move(minutes=5)
    assert house.ca.reconcile(clock()) == 1
    assert house.ca.reconcile(clock()) == 0
    assert (house.row(left.serial).state, house.row(left.serial).revoked_at) == (CertificateState.ABANDONED, clock())
    assert left.serial in house.crl_serials()
    assert house.actions(left.serial) == ["certificate.intend", "certificate.abandon", "certificate.revoke"]


def test_an_issuance_overtaken_by_reconcile_hands_out_nothing(house: House, keys: SoftwareKeys, clock: Clock) -> None:
    """The token answers so late that the intent was given up meanwhile."""

    class SlowKeys:
        def key(self, label: str) -> Any:
            return keys.key(label)

    slow = house.with_keys(SlowKeys())
    ca = slow.ca
    complete = ca._complete

    def late(*arguments: Any) -> Any:
        clock.move(minutes=5)
        assert house.ca.reconcile(clock()) == 1
        return complete(*arguments)

    ca._complete = late  # type: ignore[method-assign,assignment]  # the moment between the token's answer and transaction 2
    with pytest.raises(Unavailable, match="given up"):
        ca.issue_from_csr(make_csr(), profile="device", subscriber="device", reference=REFERENCE, actor=ADMIN)
    assert house.rows("issued")[-1].profile != "device"
    assert len(house.rows("abandoned")) == 1


def test_a_token_that_is_away_leaves_nothing(house: House, keys: SoftwareKeys) -> None:
    class Away:
        def key(self, label: str) -> Any:
            raise Unavailable("hsm", f"no {label} now")

    before = _counts(house)
    with pytest.raises(Unavailable):
        house.with_keys(Away()).issue()
    assert _counts(house) == before
    assert keys.key("ca-issuing") is not None


def test_a_token_that_signs_something_else_is_noticed(house: House, keys: SoftwareKeys) -> None:
    class Swapped:
        def key(self, label: str) -> Any:
            return make_key(KeySpec.P_256) if label == "ca-issuing" else keys.key(label)

    with pytest.raises(Unavailable, match="does not verify"):
        house.with_keys(Swapped()).issue()
    assert len(house.rows("intended")) == 1


def test_a_locked_database_is_unavailable_and_nothing_is_half_made(house: House) -> None:
    if not house.database.is_sqlite:
        pytest.skip("PostgreSQL waits for a row, not for the database")
    before = _counts(house)
    with house.database.write() as blocker:
        blocker.execute(sa.delete(Crl).where(Crl.id < 0))  # from here on it holds the write lock
        impatient = Database(str(house.database.url))
        sa.event.listen(impatient.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
        other = House(impatient, house.keys, house.clock, house.config)
        with pytest.raises(Unavailable):
            other.issue()
        impatient.close()
    assert _counts(house) == before


def test_one_insert_that_fails_leaves_no_certificate(house: House) -> None:
    """A database trigger makes exactly the audit entry of transaction 2 fail."""
    dialect = "sqlite" if house.database.is_sqlite else "postgresql"
    with house.database.write() as db:
        for statement in _TRIGGERS[dialect]:
            db.execute(sa.text(statement))
    with pytest.raises((CondauError, sa.exc.DBAPIError)):
        house.issue()
    (left,) = house.rows("intended")
    assert left.der is None


@pytest.mark.parametrize("_", range(3))
def test_double_issue_certifies_a_key_for_one_owner_only(house: House, _: int) -> None:
    """Two processes are asked at once to certify one key for two subscribers."""
    csr = make_csr()

    def ask(subscriber: str) -> str:
        try:
            return house.ca.issue_from_csr(csr, profile="device", subscriber=subscriber, reference=REFERENCE, actor=ADMIN).serial
        except Rejected:
            return "rejected"

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(ask, ["device", "other"]))
    assert answers.count("rejected") == 1


def test_creation_cut_off_at_any_signature_is_finished_by_repeating_it(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path
) -> None:
    """The first run dies at the n-th use of a key, for every n until one run goes through."""

    class Dying:
        """Counts down the keys handed out and then dies."""

        def __init__(self, lives: int) -> None:
            self.lives = lives

        def key(self, label: str) -> Any:
            self.lives -= 1
            if self.lives < 0:
                raise KeyboardInterrupt
            return keys.key(label)

        def generate(self, label: str, spec: KeySpec) -> Any:
            return keys.generate(label, spec)

    for lives in range(40):
        dying = Dying(lives)
        try:
            build_house(database, dying, clock, tmp_path)  # type: ignore[arg-type]  # it needs no more than a key store
            break
        except KeyboardInterrupt:
            clock.move(minutes=5)
    else:
        pytest.fail("it never went through")
    house = House(database, keys, clock, Config(home=tmp_path))
    clock.move(minutes=5)
    house.ca.reconcile(clock())
    house.crl.reconcile(clock())
    assert house.rows("intended") == []
    with database.read() as db:
        assert list(db.scalars(sa.select(Authority.name).order_by(Authority.id))) == [ROOT, ISSUING]
        assert db.scalar(sa.select(sa.func.count()).where(Crl.state == "intended")) == 0
        for issuer in (ROOT, ISSUING):
            assert service_certificate(db, "ocsp-responder", clock(), issuer=issuer).chain
    assert house.issue().serial


def test_creating_again_changes_nothing_until_a_service_key_ages(house: House, clock: Clock) -> None:
    before = _counts(house)
    create_authorities(house.ca, house.crl, organisation=ORGANISATION, actor=ADMIN)
    assert _counts(house)[0] == before[0]
    clock.move(days=366 * 2 / 3 + 1)
    create_authorities(house.ca, house.crl, organisation=ORGANISATION, actor=ADMIN)
    assert _counts(house)[0] == before[0] + 2, "the two OCSP responders have successors"


def test_an_authority_stands_once(house: House) -> None:
    subject = house.issue().certificate.subject
    with pytest.raises(Conflict, match="exists already"):
        house.ca.create_authority("root", subject=subject, spec=KeySpec.P_256, issuer=None, actor=ADMIN)


def test_a_time_stamping_key_is_used_no_longer_than_its_period(house: House, clock: Clock) -> None:
    with house.database.read() as db:
        assert service_certificate(db, "tsa", clock()).profile == "tsa"
        with pytest.raises(Unavailable):
            service_certificate(db, "tsa", clock() + timedelta(days=732))


def test_another_organisation_cannot_take_over_a_creation(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path
) -> None:
    house = House(database, BrokenKeys(keys, KeyboardInterrupt()), clock, Config(home=tmp_path))
    broken = BrokenKeys(keys, KeyboardInterrupt(), label="ca-root")
    with pytest.raises(KeyboardInterrupt):
        create_authorities(house.with_keys(broken).ca, house.crl, organisation=ORGANISATION, actor=ADMIN)
    with pytest.raises(Conflict, match="another name"):
        create_authorities(house.ca, house.crl, organisation=Organisation("Khác", "Huế"), actor=ADMIN)


_TRIGGERS = {
    "sqlite": [
        (
            "CREATE TRIGGER stop BEFORE INSERT ON audit_entry WHEN NEW.action = 'certificate.issue' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    ],
    "postgresql": [
        "CREATE FUNCTION stop() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'no'; END $$ LANGUAGE plpgsql",
        (
            "CREATE TRIGGER stop BEFORE INSERT ON audit_entry FOR EACH ROW WHEN (NEW.action = 'certificate.issue') "
            "EXECUTE FUNCTION stop()"
        ),
    ],
}


def _counts(house: House) -> tuple[int, int, int]:
    with house.database.read() as db:
        counts = [db.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in (Certificate, SubjectKey, Crl)]
    return counts[0], counts[1], counts[2]
