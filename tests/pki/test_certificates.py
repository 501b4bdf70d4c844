"""Whose certificate a client system may sign with."""

from __future__ import annotations

import pytest

from audit.log import SYSTEM
from core.errors import Conflict, Forbidden, NotFound, Rejected
from hsm.keys import KeySpec
from pki.ca import IssuedCertificate
from pki.certificates import Identity, parse_serial, signing_identities, signing_identity
from registry import registry
from tests.conftest import Clock
from tests.pki.house import ADMIN, REFERENCE, House


def _grant(house: House, *subscribers: str) -> None:
    with house.database.write() as db:
        for subscriber in subscribers:
            registry.grant(db, at=house.clock(), actor=SYSTEM, client="system", subscriber=subscriber)


def _key_in_token(house: House, subscriber: str = "seal", profile: str = "agency-seal") -> IssuedCertificate:
    return house.ca.issue_for_key(profile=profile, subscriber=subscriber, spec=KeySpec.P_256, reference=REFERENCE, actor=ADMIN)


def _identity(house: House, signer: str | None) -> Identity:
    with house.database.read() as db:
        return signing_identity(db, client="system", signer=signer, at=house.clock())


def test_the_only_one_is_the_default_and_handle_and_serial_name_it_too(house: House) -> None:
    issued = _key_in_token(house)
    _grant(house, "seal")
    for signer in (None, "seal", issued.serial, issued.serial.upper()):
        identity = _identity(house, signer)
        assert identity.certificate == issued.certificate
        assert identity.chain == issued.chain
        assert (identity.serial, identity.subscriber, identity.profile) == (issued.serial, "seal", "agency-seal")
        assert house.keys.key(identity.key_label).public_key() == issued.certificate.public_key()


def test_the_newest_valid_certificate_is_taken(house: House, clock: Clock) -> None:
    first = _key_in_token(house)
    _grant(house, "seal")
    clock.move(days=1)
    second = _key_in_token(house)
    assert _identity(house, None).serial == second.serial
    house.revocations.revoke(second.serial, reason="superseded", actor=ADMIN)
    assert _identity(house, None).serial == first.serial


def test_what_is_not_granted_is_forbidden(house: House) -> None:
    officer = _key_in_token(house, "officer", "officer")
    with pytest.raises(Forbidden):
        _identity(house, None)
    _grant(house, "seal")
    for signer in ("officer", officer.serial):
        with pytest.raises(Forbidden):
            _identity(house, signer)
    tsa = next(row for row in house.rows("issued") if row.profile == "tsa")
    with pytest.raises(Forbidden):
        _identity(house, tsa.serial)


@pytest.mark.parametrize("signer", ["nobody", "abcdef", "", "Sở Thử nghiệm"])
def test_an_unknown_signer_is_rejected_by_name(house: House, signer: str) -> None:
    _grant(house, "seal")
    with pytest.raises(Rejected) as caught:
        _identity(house, signer)
    assert caught.value.violations[0].field == "signer"


def test_several_possible_signers_are_listed(house: House) -> None:
    _grant(house, "seal", "officer", "device")
    _key_in_token(house)
    assert _identity(house, None).subscriber == "seal", "the others have nothing to sign with"
    _key_in_token(house, "officer", "officer")
    with pytest.raises(Rejected, match="officer, seal"):
        _identity(house, None)


def test_revoked_expired_and_not_yet_valid_are_conflicts(house: House, clock: Clock) -> None:
    issued = _key_in_token(house)
    _grant(house, "seal")
    clock.move(days=-1)
    with pytest.raises(Conflict, match="not valid before"):
        _identity(house, None)
    clock.move(days=1100)
    with pytest.raises(Conflict, match="expired"):
        _identity(house, "seal")
    clock.move(days=-1098)
    house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    for signer in (None, "seal", issued.serial):
        with pytest.raises(Conflict, match="was revoked"):
            _identity(house, signer)


def test_a_key_that_is_elsewhere_cannot_sign_here(house: House) -> None:
    issued = house.issue("device")
    _grant(house, "device")
    with pytest.raises(Conflict, match="elsewhere"):
        _identity(house, issued.serial)
    with pytest.raises(Conflict, match="no certificate"):
        _identity(house, None)


def test_a_revoked_issuer_takes_its_certificates_along(house: House) -> None:
    _key_in_token(house)
    _grant(house, "seal")
    issuing = next(row for row in house.rows("issued") if row.profile == "issuing-ca")
    house.revocations.revoke(issuing.serial, reason="cACompromise", actor=ADMIN)
    with pytest.raises(Conflict, match="revoked issuer"):
        _identity(house, None)


def test_a_client_sees_what_it_may_sign_with(house: House) -> None:
    _key_in_token(house)
    _grant(house, "seal", "officer")
    with house.database.read() as db:
        found = signing_identities(db, client="system", at=house.clock())
    assert [identity.subscriber for identity in found] == ["seal"]


@pytest.mark.parametrize("text", ["0A:b1", "ab1", " AB1 ", "000ab1", "0x0AB1"])
def test_a_serial_is_read_however_it_is_written(text: str) -> None:
    assert parse_serial(text) == "ab1"


@pytest.mark.parametrize("text", ["", "0", "xyz", "-5", "f" * 41])
def test_what_can_be_no_serial_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        parse_serial(text)
