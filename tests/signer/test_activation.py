"""Activating a key: wrong tries lock, codes and tokens work once, and nothing secret is kept or printed."""

from __future__ import annotations

import logging
import multiprocessing
import urllib.parse
from base64 import b32decode
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from audit.log import Actor, AuditEntry
from core.db import Database
from core.errors import Conflict, Forbidden, Refused, Rejected, TooMany
from core.settings import ActivationConfig
from registry.registry import subscriber_named
from signer.activation import Held, Proof, Scope, code_source, find_activation, needs_activation, token_digest, use_activation
from signer.activation_holders import Method, Secrets
from signer.gate_models import Activation, ActivationHolder
from signer.models import Signature
from tests.conftest import Clock
from tests.interleaving import before_write
from tests.signer.gate_house import ADMIN, CLERK, NUMBERER, OUTSIDER, PIN, Office, build_office
from tests.signer.house import CLIENT, OFFICER, SEAL

DIGEST = "ab" * 32


@pytest.fixture
def office(database: Database, clock: Clock) -> Office:
    return build_office(database, clock)


def activate(office: Office, proof: Proof, person: str = CLERK, key: str = SEAL, actor: Actor = CLIENT) -> str:
    return office.activations.activate(key, person, proof, Scope(), minutes=5, actor=actor)[0]


def give(office: Office, method: Method, person: str = NUMBERER) -> Secrets:
    """New secrets."""
    return office.holders.give(office.holders.give_payload(SEAL, person, method), ADMIN)


def find(office: Office, token: str, *, key: str = SEAL, client: str = CLIENT.name, digest: str = DIGEST) -> Held:
    with office.database.read() as db:
        return find_activation(db, token, key=subscriber_named(db, key), client=client, digest=digest, at=office.clock())


def signature(office: Office, digest: str = DIGEST) -> int:
    """The row of an intent."""
    row = Signature(
        at=office.clock(),
        client="dms",
        request_id="r",
        serial="1",
        key_label="k",
        format="pdf",
        level="B-B",
        digest=digest,
        state="intended",
    )
    with office.database.write() as db:
        db.add(row)
        db.flush()
        return row.id


def use(office: Office, held: Held, digest: str = DIGEST) -> None:
    record = signature(office, digest)
    with office.database.write() as db:
        use_activation(db, held, record, digest=digest, at=office.clock())


@pytest.mark.parametrize(
    ("person", "proof"),
    [
        (CLERK, Proof("wrong-pin", None)),
        (CLERK, Proof(None, None)),
        (CLERK, Proof(None, "123456")),
        (CLERK, Proof("\udcff\x00" * 200, None)),
        (NUMBERER, Proof(PIN, None)),
        ("nobody", Proof(PIN, None)),
    ],
)
def test_what_is_wrong_is_not_said(office: Office, person: str, proof: Proof) -> None:
    with pytest.raises(Forbidden) as caught:
        activate(office, proof, person)
    assert caught.value.detail == "the person, their PIN or their code is not right for this key"


def test_a_key_the_client_may_not_use_is_not_activated(office: Office) -> None:
    with pytest.raises(Forbidden, match="may not sign for"):
        activate(office, Proof(PIN, None), actor=Actor("another", "client"))


def test_wrong_tries_lock_for_ever_longer_and_at_last_until_an_admin(office: Office) -> None:
    delays = []
    for _ in range(10):
        with pytest.raises(Forbidden):
            activate(office, Proof("wrong-pin", None))
        with office.database.read() as db:
            until = db.scalars(sa.select(ActivationHolder.locked_until)).one()
        delays.append(0 if until is None else (until - office.clock()).total_seconds())
        if until is not None:
            with pytest.raises(TooMany):
                activate(office, Proof(PIN, None))  # right, but too early
            office.clock.move(seconds=delays[-1] + 1)
    assert delays == [0, 0, 30, 60, 120, 240, 480, 960, 1920, 3840]
    office.clock.move(days=400)
    with pytest.raises(TooMany, match="unlock-activation"):
        activate(office, Proof(PIN, None))
    office.holders.unlock({"key": SEAL, "person": CLERK}, ADMIN)
    assert activate(office, Proof(PIN, None))


def test_the_right_pin_forgets_the_wrong_ones(office: Office) -> None:
    for _ in range(4):
        for _ in range(2):
            with pytest.raises(Forbidden):
                activate(office, Proof("wrong-pin", None))
        activate(office, Proof(PIN, None))


def test_a_pin_an_admin_has_seen_activates_nothing(office: Office) -> None:
    given = give(office, "pin")
    with pytest.raises(Refused, match="admin has seen"):
        activate(office, Proof(given.pin, None), NUMBERER)
    with pytest.raises(Rejected):
        office.activations.change_pin(SEAL, NUMBERER, Proof(given.pin, None), new=given.pin or "", actor=CLIENT)


@pytest.mark.parametrize("pin", ["12345", "111111", "123456", "654321", "abcdef", "a" * 65, "12\n3456"])
def test_a_weak_pin_is_refused(office: Office, pin: str) -> None:
    with pytest.raises(Rejected):
        office.activations.change_pin(SEAL, CLERK, Proof(PIN, None), new=pin, actor=CLIENT)


def test_a_code_is_taken_once_and_only_around_its_time(office: Office) -> None:
    given = give(office, "pin+code")
    uri = urllib.parse.parse_qs(urllib.parse.urlsplit(given.code_uri or "").query)
    source = code_source(b32decode(uri["secret"][0]))

    def code(seconds: int) -> str:
        return source.generate(int(office.clock().timestamp()) + seconds).decode()

    change = Proof(given.pin, code(0))
    office.activations.change_pin(SEAL, NUMBERER, change, new=PIN, actor=CLIENT)
    with pytest.raises(Forbidden):
        activate(office, Proof(PIN, code(0)), NUMBERER)  # that one is used
    with pytest.raises(Forbidden):
        activate(office, Proof(PIN, code(-3600)), NUMBERER)
    office.clock.move(minutes=5)
    with pytest.raises(Forbidden):
        activate(office, Proof("wrong-pin", code(0)), NUMBERER)  # the code alone is not enough
    office.clock.move(minutes=5)
    assert activate(office, Proof(PIN, code(0)), NUMBERER)


def test_an_activation_is_for_its_key_client_time_and_documents(office: Office) -> None:
    token = office.token()
    assert find(office, token).person == CLERK
    listed = office.token(scope=Scope(digests=("cd" * 32, DIGEST)))
    wrong: list[tuple[str, dict[str, str]]] = [
        ("guess", {}),
        (token, {"key": OFFICER}),
        (token, {"client": "another"}),
        (listed, {"digest": "ef" * 32}),
    ]
    for shown, other in wrong:
        with pytest.raises(Refused):
            find(office, shown, **other)
    office.clock.move(minutes=5)
    with pytest.raises(Refused, match="ended"):
        find(office, token)


def test_an_activation_ends_with_the_right_to_give_it(office: Office) -> None:
    token = office.token()
    office.holders.remove({"key": SEAL, "person": CLERK}, ADMIN)
    with pytest.raises(Refused, match="ended"):
        find(office, token)


def test_a_batch_is_used_up_one_act_at_a_time(office: Office) -> None:
    held = find(office, office.token(scope=Scope(acts=2)))
    use(office, held)
    use(office, held, "cd" * 32)
    with pytest.raises(Refused, match="used up"):
        use(office, held)


def test_a_listed_document_is_signed_once(office: Office) -> None:
    held = find(office, office.token(scope=Scope(digests=("cd" * 32, DIGEST))))
    use(office, held)
    with pytest.raises(Refused, match="for this document already"):
        use(office, held)
    use(office, held, "cd" * 32)


@pytest.mark.parametrize(
    ("scope", "minutes"),
    [
        (Scope(acts=0), 5),
        (Scope(acts=501), 5),
        (Scope(), 0),
        (Scope(), 11),
        (Scope(2, (DIGEST,)), 5),
        (Scope(1, (DIGEST, DIGEST)), 5),
    ],
)
def test_a_scope_out_of_range_is_refused(office: Office, scope: Scope, minutes: int) -> None:
    with pytest.raises(Rejected):
        office.token(scope=scope, minutes=minutes)


def test_nothing_secret_is_kept_or_said(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given = give(office, "pin+code")
    token = office.token()
    with pytest.raises(Forbidden):
        activate(office, Proof("a-wrong-pin", None))
    with office.database.read() as db:
        entries = [str(vars(row)) for row in db.scalars(sa.select(AuditEntry))]
        rows = [str(vars(row)) for table in (Activation, ActivationHolder) for row in db.scalars(sa.select(table))]
        assert db.scalars(sa.select(Activation.token_sha256)).all() == [token_digest(token)]
    said = "".join([*entries, *rows, caplog.text, repr(given), repr(Proof(PIN, "123456"))])
    for secret in (PIN, token, "a-wrong-pin", given.pin or "", "123456"):
        assert secret not in said


def _take(url: str, held: Held, record: int, at: object, barrier: object, answers: object) -> None:
    database = Database(url)
    barrier.wait(60)  # type: ignore[attr-defined]  # multiprocessing's proxies are untyped
    try:
        with database.write() as db:
            use_activation(db, held, record, digest=DIGEST, at=at)  # type: ignore[arg-type]
        answers.put("used")  # type: ignore[attr-defined]
    except (Refused, Conflict):
        answers.put("refused")  # type: ignore[attr-defined]
    finally:
        database.close()


def test_of_two_processes_one_gets_the_act(office: Office) -> None:
    """And what is activated outlives the process that gave it: these know only the database."""
    held = find(office, office.token())
    records = [signature(office), signature(office)]
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    url = office.database.url.render_as_string(hide_password=False)
    workers = [
        context.Process(target=_take, args=(url, held, record, office.clock() + timedelta(seconds=1), barrier, answers))
        for record in records
    ]
    for worker in workers:
        worker.start()
    found = sorted(answers.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(30)
    assert found == ["refused", "used"]


def test_the_configuration_may_ask_for_every_seals_activation(office: Office) -> None:
    with office.database.read() as db:
        seal, officer, outsider = (subscriber_named(db, handle) for handle in (SEAL, OFFICER, OUTSIDER))
        assert needs_activation(db, seal, ActivationConfig())
        assert not needs_activation(db, officer, ActivationConfig(required=("agency", OUTSIDER)))
        assert needs_activation(db, outsider, ActivationConfig(required=(OUTSIDER,)))
        assert needs_activation(db, officer, ActivationConfig(required=("*",)))


def test_an_unknown_person_costs_as_much_as_a_known_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of the hash is done, and its comparison is the library's, in constant time."""
    judged: list[str] = []
    known = Argon2id.verify_phc_encoded

    def verify(pin: bytes, phc: str) -> None:
        judged.append(phc)
        known(pin, phc)

    monkeypatch.setattr(Argon2id, "verify_phc_encoded", staticmethod(verify))
    for person in (CLERK, "nobody", OUTSIDER):
        with pytest.raises(Forbidden):
            activate(office, Proof("wrong-pin", None), person)
    assert len(judged) == 3
    assert all(phc.startswith("$argon2id$") for phc in judged)


CHANGES: list[Callable[[Office], object]] = [
    lambda office: office.holders.remove({"key": SEAL, "person": CLERK}, ADMIN),
    lambda office: give(office, "pin", CLERK),
]


@pytest.mark.parametrize("change", CHANGES, ids=["removed", "other-secrets"])
def test_a_proof_is_worth_nothing_when_an_admin_changes_the_holder_meanwhile(
    office: Office, monkeypatch: pytest.MonkeyPatch, change: Callable[[Office], object]
) -> None:
    """The PIN is looked at between two transactions, and there the admin is."""
    before_write(monkeypatch, lambda: change(office), nth=2)
    with pytest.raises(Forbidden):
        activate(office, Proof(PIN, None))
    with office.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Activation)) == 0


def test_a_pin_that_was_proven_before_an_admin_gave_another_changes_none(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Secrets] = []
    before_write(monkeypatch, lambda: given.append(give(office, "pin", CLERK)), nth=2)
    with pytest.raises(Forbidden):
        office.activations.change_pin(SEAL, CLERK, Proof(PIN, None), new="another-pin-7", actor=CLIENT)
    office.activations.change_pin(SEAL, CLERK, Proof(given[0].pin, None), new="another-pin-7", actor=CLIENT)


@pytest.mark.parametrize("change", CHANGES, ids=["removed", "other-secrets"])
def test_what_an_admin_has_ended_is_not_used_by_who_looked_at_the_clock_before(
    office: Office, change: Callable[[Office], object]
) -> None:
    held = find(office, activate(office, Proof(PIN, None)))
    office.clock.move(seconds=1)
    record, at = signature(office), office.clock()
    office.clock.move(seconds=1)
    change(office)
    with pytest.raises(Refused), office.database.write() as db:
        use_activation(db, held, record, digest=DIGEST, at=at)


def test_leave_to_give_secrets_is_used_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that have it one gives them, also at once; and it does not come again when the right is taken away."""
    asked = office.holders.give_payload(SEAL, NUMBERER, "pin")
    before_write(monkeypatch, lambda: office.holders.give(asked, ADMIN))
    with pytest.raises(Conflict, match="meanwhile"):
        office.holders.give(asked, ADMIN)
    office.holders.remove({"key": SEAL, "person": NUMBERER}, ADMIN)
    assert office.holders.give_payload(SEAL, NUMBERER, "pin") != asked
    with pytest.raises(Conflict, match="meanwhile"):
        office.holders.give(asked, ADMIN)
