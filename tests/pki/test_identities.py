"""What is remembered of who signs: never anything else than what would be found by looking again."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM
from core.errors import CondauError
from hsm.keys import KeySpec
from pki import identities
from pki.certificates import signing_identity
from pki.identities import Identities
from pki.models import Certificate
from registry import registry
from registry.models import Grant
from tests.conftest import Clock
from tests.pki.house import ADMIN, REFERENCE, House

SIGNERS = (None, "seal", "officer", "nobody")


def check(house: House, remembered: Identities) -> list[str]:
    """For every way to name the signer both say the same, errors included; what that is."""
    said = []
    for signer in (*SIGNERS, *(row.serial for row in house.rows("issued") if row.subscriber_id is not None)):
        try:
            with house.database.read() as db:
                expected = signing_identity(db, client="system", signer=signer, at=house.clock()).serial
        except CondauError as error:
            with pytest.raises(type(error), match=re.escape(error.detail)):
                remembered.find(client="system", signer=signer, at=house.clock())
            expected = "none"
        else:
            for _ in range(2):
                assert remembered.find(client="system", signer=signer, at=house.clock()).serial == expected
        said.append(expected)
    return said


def issue(house: House, subscriber: str = "seal", profile: str = "agency-seal") -> str:
    return house.ca.issue_for_key(
        profile=profile, subscriber=subscriber, spec=KeySpec.P_256, reference=REFERENCE, actor=ADMIN
    ).serial


def test_every_change_is_seen_at_once(house: House, clock: Clock) -> None:
    remembered = Identities(house.database)
    with house.database.write() as db:
        registry.grant(db, at=clock(), actor=SYSTEM, client="system", subscriber="seal")
    first = issue(house)
    assert check(house, remembered)[:2] == [first, first]
    clock.move(days=1)
    second = issue(house)
    assert check(house, remembered)[:2] == [second, second]
    house.revocations.revoke(second, reason="superseded", actor=ADMIN)
    assert check(house, remembered)[:2] == [first, first]
    officer = issue(house, "officer", "officer")
    check(house, remembered)
    with house.database.write() as db:
        registry.grant(db, at=clock(), actor=SYSTEM, client="system", subscriber="officer")
    assert check(house, remembered)[:3] == ["none", first, officer]
    with house.database.write() as db:
        db.execute(sa.delete(Grant).where(Grant.subscriber_id == house.row(officer).subscriber_id))
    assert check(house, remembered)[:3] == [first, first, "none"]
    clock.move(days=-2)
    assert check(house, remembered)[:2] == ["none", "none"]
    clock.move(days=2000)
    assert check(house, remembered)[:2] == ["none", "none"]


def test_an_issuer_that_is_revoked_or_expires_is_seen_at_once(house: House, clock: Clock) -> None:
    remembered = Identities(house.database)
    with house.database.write() as db:
        registry.grant(db, at=clock(), actor=SYSTEM, client="system", subscriber="seal")
    serial = issue(house)
    assert check(house, remembered)[:2] == [serial, serial]
    with house.database.write() as db:  # outlives its issuers, which no certificate of ours does
        db.execute(sa.update(Certificate).where(Certificate.serial == serial).values(not_after=clock() + timedelta(20_000)))
    assert check(house, remembered)[:2] == [serial, serial]
    clock.move(days=15_000)
    assert check(house, remembered)[:2] == ["none", "none"]
    clock.move(days=-15_000)
    issuing = next(row for row in house.rows("issued") if row.profile == "issuing-ca")
    house.revocations.revoke(issuing.serial, reason="cACompromise", actor=ADMIN)
    assert check(house, remembered)[:2] == ["none", "none"]


def test_what_has_not_changed_is_not_looked_up_again(house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = Identities(house.database)
    with house.database.write() as db:
        registry.grant(db, at=clock(), actor=SYSTEM, client="system", subscriber="seal")
    serial = issue(house)
    found = remembered.find(client="system", signer=None, at=clock())
    monkeypatch.setattr(identities, "signing_identity", None)
    assert remembered.find(client="system", signer=None, at=clock()) is found
    assert found.serial == serial
