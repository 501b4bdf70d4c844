"""The record of every use of a key: intents, crashes, rivals."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from audit.log import entries
from core.db import Database
from core.errors import NotFound, Unavailable
from core.signatures import fitting_hash, verify
from hsm.keys import KeySpec, PrivateKey
from signer.models import Signature
from signer.options import PdfOptions
from signer.service import Signer
from signer.signing import Intent, RecordedKeys
from tests.conftest import Clock
from tests.signer.house import CLIENT, FONT, House, sign_pdf
from tests.signer.pdfs import make_pdf
from tests.software_keys import SoftwareKeys, make_key

B_B = PdfOptions(level="B-B")


def intent_of(house: House) -> Intent:
    return Intent(house.identity(), CLIENT, "pdf", "B-B", "ab" * 32)


def records(database: Database) -> list[Signature]:
    with database.read() as db:
        return list(db.query(Signature).order_by(Signature.id))


def actions(database: Database) -> list[str]:
    """What the audit log says of signatures, oldest first."""
    with database.read() as db:
        return [entry.action for entry in reversed(entries(db)) if entry.action.startswith("signature.")]


class Keys(SoftwareKeys):
    """Keys that do something else first, once they are asked for."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house
        self.answer: PrivateKey | BaseException | None = None
        self.seen: list[str] = []

    def key(self, label: str) -> PrivateKey:
        self.seen = [row.state for row in records(self._house.database)]
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer or self._house.keys.key(label)


def recorded(house: House, keys: Keys) -> RecordedKeys:
    return RecordedKeys(database=house.database, keys=keys, now=house.now, permits=house.gates().permits)


def test_the_intent_is_written_before_the_key_is_used(house: House) -> None:
    keys = Keys(house)
    value = recorded(house, keys).sign(b"data", intent_of(house))
    assert keys.seen == ["intended"]
    public_key = house.identity().certificate.public_key()
    verify(public_key, value, b"data", fitting_hash(public_key))
    row = records(house.database)[0]
    assert (row.state, row.value, row.client, row.serial) == ("signed", value, "dms", house.identity().serial)
    assert actions(house.database) == ["signature.intend", "signature.sign"]


def test_a_token_that_is_away_leaves_no_open_intent(house: House) -> None:
    keys = Keys(house)
    keys.answer = Unavailable("hsm", "unplugged")
    with pytest.raises(Unavailable, match="unplugged"):
        recorded(house, keys).sign(b"data", intent_of(house))
    assert [row.state for row in records(house.database)] == ["abandoned"]
    assert actions(house.database) == ["signature.intend", "signature.abandon"]


def test_a_key_missing_from_the_token_is_an_outage(house: House) -> None:
    keys = Keys(house)
    keys.answer = NotFound("key", "no such key")
    with pytest.raises(Unavailable, match="not in the token"):
        recorded(house, keys).sign(b"data", intent_of(house))


def test_a_value_that_its_certificate_does_not_verify_never_leaves(house: House) -> None:
    keys = Keys(house)
    keys.answer = make_key(KeySpec.P_256)
    with pytest.raises(Unavailable, match="does not verify"):
        recorded(house, keys).sign(b"data", intent_of(house))
    assert [(row.state, row.value) for row in records(house.database)] == [("abandoned", None)]


def test_a_crash_leaves_an_intent_that_reconcile_settles(house: House, clock: Clock) -> None:
    class Crash(BaseException):
        """kill -9, as far as a test can have it."""

    keys = Keys(house)
    keys.answer = Crash()
    with pytest.raises(Crash):
        recorded(house, keys).sign(b"data", intent_of(house))
    assert [row.state for row in records(house.database)] == ["intended"]
    signer = Signer(
        database=house.database,
        keys=house.keys,
        now=clock,
        stamp=house.tsa.stamp,
        levels=house.levels(),
        gates=house.gates(),
        gallery=house.gallery(),
        font=FONT,
    )
    assert signer.reconcile(clock()) == 0  # not older than that moment
    clock.move(minutes=5)
    assert signer.reconcile(clock() - timedelta(minutes=1)) == 1
    assert signer.reconcile(clock()) == 0
    assert [row.state for row in records(house.database)] == ["abandoned"]
    assert actions(house.database) == ["signature.intend", "signature.abandon"]


def test_a_signature_given_up_while_it_was_made_never_leaves(house: House, clock: Clock) -> None:
    class Slow(Keys):
        def key(self, label: str) -> PrivateKey:
            clock.move(minutes=10)
            RecordedKeys(database=house.database, keys=house.keys, now=clock, permits=house.gates().permits).reconcile(clock())
            return super().key(label)

    with pytest.raises(Unavailable, match="given up"):
        recorded(house, Slow(house)).sign(b"data", intent_of(house))
    assert [(row.state, row.value) for row in records(house.database)] == [("abandoned", None)]


def test_two_clients_at_once_each_get_their_own_signature(house: House) -> None:
    documents = [make_pdf(pages=number) for number in (1, 2)]
    signed: dict[int, bytes] = {}

    def work(number: int) -> None:
        for _ in range(5):
            signed[number] = sign_pdf(house.signer, documents[number], B_B, CLIENT)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert all(signed[number].startswith(documents[number]) for number in (0, 1))
    rows = records(house.database)
    assert [row.state for row in rows] == ["signed"] * 10
    assert len({row.value for row in rows}) == 10
