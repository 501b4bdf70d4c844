"""Batches: every item to its end, none twice, whatever is sent and whatever breaks meanwhile."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.parse
from base64 import b32decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.log import entries
from batches.models import Batch, BatchItem
from core.content import Content
from core.errors import Unavailable
from core.settings import ActivationConfig
from registry.models import ApiClient, Role
from registry.registry import add_client, key_digest
from signer.activation import Activations, Proof, Scope, code_source
from signer.activation_holders import ActivationHolders
from signer.gate_models import Activation, ActivationUse
from signer.levels import Reached
from signer.models import Signature, SignatureState
from tests.batches.conftest import KEY, Office
from tests.signer.house import CLIENT, OFFICER
from tests.signer.pdfs import judge, make_pdf

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(5)]


class Awake(Exception):
    """Raised where a worker would sleep."""


def wake(_seconds: float) -> None:
    raise Awake


def items_of(office: Office, batch: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = office.get(f"{batch}/items").json["items"]
    return found


def signatures(office: Office) -> int:
    with office.house.database.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(Signature)) or 0


def test_files_come_back_signed_and_one_bad_one_stops_no_other(office: Office, tmp_path: Path) -> None:
    documents = [make_pdf(pages=number) for number in (1, 2)]
    answer = office.post([("a.pdf", documents[0]), ("hỏng.pdf", b"no PDF"), ("c.pdf", documents[1])])
    assert (answer.status_code, answer.json["state"]) == (201, "running")
    assert answer.headers["location"] == f"/v1/signatures/batches/{answer.json['id']}"
    assert office.new_worker().work(60) == 3
    batch = office.get("1").json
    assert (batch["state"], batch["progress"]) == ("done", {"total": 3, "left": 0, "done": 2, "failed": 1})
    found = items_of(office, 1)
    assert [item["state"] for item in found] == ["done", "failed", "done"]
    assert [item["level"] for item in found] == ["B-B", None, "B-B"]
    assert [item["name"] for item in found] == ["a.pdf", "hỏng.pdf", "c.pdf"]
    assert found[0]["digest"] == hashlib.sha256(documents[0]).hexdigest()
    assert found[1]["problem"]["error"] == "malformed"
    assert found[1]["problem"]["violations"][0]["field"] == "document"
    for number, document in ((1, documents[0]), (3, documents[1])):
        signed = office.get(f"1/items/{number}/document")
        assert signed.content.startswith(document)
        assert judge(tmp_path, signed.content) == [True]
    assert "filename*=UTF-8''a.pdf" in office.get("1/items/1/document").headers["content-disposition"]
    assert office.get("1/items/2/document").status_code == 409
    assert office.get("1/items/4/document").status_code == 404
    with office.house.database.read() as db:
        told = [entry.action for entry in reversed(entries(db)) if entry.action.startswith("batch.")]
    assert told == ["batch.take", "batch.finish"]


def test_a_level_that_policy_lowers_is_said_for_each_item(office: Office) -> None:
    class Lowering:
        def sign_pdf(self, document: Content, *_: object, lowered: Callable[[Reached], None], **__: object) -> Content:
            lowered(Reached("B-B", "no timestamps"))
            return document

    office.post([("a.pdf", make_pdf())], query="level=B-LTA")
    office.new_worker(signer=Lowering()).work(60)
    assert items_of(office, 1)[0]["level"] == "B-B"


def test_digests_are_answered_at_once(office: Office) -> None:
    body = {"items": [{"name": f"số {number}", "digest": digest} for number, digest in enumerate(DIGESTS)]}
    answer = office.post_digests(body, query="level=B-T&wait=20")
    assert (answer.status_code, answer.json["state"]) == (201, "done")
    found = items_of(office, answer.json["id"])
    assert [item["result"]["level"] for item in found] == ["B-T"] * 5
    assert len({base64.b64decode(item["result"]["cms"]) for item in found}) == 5


def test_options_before_a_file_are_for_it_alone(office: Office) -> None:
    files = [("options", b'{"reason": "Ban h\xc3\xa0nh"}'), ("a.pdf", make_pdf()), ("b.pdf", make_pdf(pages=2))]
    office.post(files, query="level=B-B&reason=Chung&location=X&wait=20")
    signed = [office.get(f"1/items/{number}/document").content for number in (1, 2)]
    assert [b"/Reason (Chung)" in document for document in signed] == [False, True]
    assert all(b"/Location (X)" in document for document in signed)


def test_a_batch_is_its_clients_alone(office: Office) -> None:
    office.post([("a.pdf", make_pdf())], query="level=B-B&wait=20")
    with office.house.database.write() as db:
        add_client(db, at=office.clock(), actor=CLIENT, name="other", role=Role.CLIENT)
        db.execute(sa.update(ApiClient).where(ApiClient.name == "other").values(key_sha256=key_digest("b-key")))
    headers = {"Authorization": "Bearer b-key"}
    for path in ("1", "1/items", "1/items/1/document"):
        assert office.api.simulate_get(f"/v1/signatures/batches/{path}", headers=headers).status_code == 404
    assert office.api.simulate_delete("/v1/signatures/batches/1", headers=headers).status_code == 404
    assert office.api.simulate_post("/v1/signatures/batches/1/cancellation", headers=headers).status_code == 404


def test_while_the_token_is_away_items_wait_and_then_go_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_label: str) -> None:
        raise Unavailable("hsm", "unplugged")

    office.post_digests({"items": [{"digest": digest} for digest in DIGESTS]})
    worker = office.new_worker(threads=1)
    with monkeypatch.context() as broken:
        broken.setattr(office.house.keys, "key", away)
        with pytest.raises(Awake):
            office.new_worker(threads=1, sleep=wake).work(60)
    batch = office.get("1").json
    assert (batch["state"], batch["progress"]["left"], batch["waits_for"]) == ("running", 5, "unplugged")
    assert worker.work(60) == 5
    batch = office.get("1").json
    assert (batch["state"], batch["progress"]["done"], batch["waits_for"]) == ("done", 5, None)


def test_a_worker_that_is_killed_loses_its_item_to_another(office: Office) -> None:
    class Killed(BaseException):
        """kill -9, as far as a test can have it."""

    class Deadly:
        def sign(self, *_: object, **__: object) -> None:
            raise Killed

    office.post_digests({"items": [{"digest": digest} for digest in DIGESTS[:2]]})
    with pytest.raises(Killed):
        office.new_worker(threads=1, digests=Deadly()).work(60)
    assert office.new_worker().work(60) == 1  # the other item
    assert office.get("1").json["state"] == "running"
    office.clock.move(seconds=21)
    assert office.new_worker().work(60) == 1
    assert office.get("1").json["progress"] == {"total": 2, "left": 0, "done": 2, "failed": 0}


def test_an_item_that_kills_three_workers_fails(office: Office) -> None:
    class Killed(BaseException):
        """An item that nobody survives."""

    class Deadly:
        def sign(self, *_: object, **__: object) -> None:
            raise Killed

    office.post_digests({"items": [{"digest": DIGESTS[0]}]})
    for _ in range(3):
        with pytest.raises(Killed):
            office.new_worker(threads=1, digests=Deadly()).work(60)
        office.clock.move(seconds=21)
    office.new_worker(digests=Deadly()).work(60)
    assert items_of(office, 1)[0]["problem"]["detail"] == "signing it was cut off 3 times"


def test_the_first_result_counts_and_a_late_one_is_thrown_away(office: Office) -> None:
    document = make_pdf()
    office.post([("a.pdf", document)])
    first, signer = office.new_worker(), office.house.signer

    class Slow:
        def sign_pdf(self, *arguments: Any, **named: Any) -> Content:
            office.clock.move(seconds=60)
            assert first.work(60) == 1  # its lease is over: another has it, and is faster
            return signer.sign_pdf(*arguments, **named)

    office.new_worker(threads=1, signer=Slow()).work(60)
    assert office.get("1").json["progress"] == {"total": 1, "left": 0, "done": 1, "failed": 0}
    assert signatures(office) == 2
    assert office.get("1/items/1/document").status_code == 200
    assert len(list(office.folders()[0].iterdir())) == 1


def test_many_workers_sign_each_item_once(office: Office) -> None:
    office.post_digests({"items": [{"digest": hashlib.sha256(bytes([n])).hexdigest()} for n in range(40)]})
    threads = [threading.Thread(target=office.new_worker().work, args=(60,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert office.get("1").json["progress"] == {"total": 40, "left": 0, "done": 40, "failed": 0}
    assert signatures(office) == 40


def test_a_small_batch_does_not_wait_for_a_large_one(office: Office) -> None:
    office.post_digests({"items": [{"digest": hashlib.sha256(bytes([n])).hexdigest()} for n in range(30)]})
    office.post_digests({"items": [{"digest": DIGESTS[0]}]})
    calls = iter(range(4))
    signer = office.new_worker(threads=1)
    for _ in calls:
        claim = signer._claim(None)
        assert claim is not None
        signer._do(claim)
    assert office.get("2").json["state"] == "done"


def test_cancelling_stops_what_is_not_signed(office: Office) -> None:
    office.post([("a.pdf", make_pdf()), ("b.pdf", make_pdf(pages=2))])
    worker = office.new_worker(threads=1)
    claim = worker._claim(None)
    assert claim is not None
    answer = office.api.simulate_post("/v1/signatures/batches/1/cancellation", headers=KEY)
    assert (answer.json["state"], answer.json["progress"]["left"]) == ("cancelled", 0)
    assert worker._do(claim)  # too late
    assert worker.work(60) == 0
    assert [item["state"] for item in items_of(office, 1)] == ["cancelled"] * 2
    assert office.api.simulate_post("/v1/signatures/batches/1/cancellation", headers=KEY).status_code == 409


def test_results_are_deleted_when_asked_and_when_their_time_is_up(office: Office) -> None:
    office.post([("a.pdf", make_pdf())])
    assert office.api.simulate_delete("/v1/signatures/batches/1", headers=KEY).status_code == 409
    office.new_worker().work(60)
    office.post_digests({"items": [{"digest": DIGESTS[0]}]}, query="level=B-B&wait=20")
    assert len(office.folders()) == 2
    for _ in range(2):
        assert office.api.simulate_delete("/v1/signatures/batches/1", headers=KEY).json["state"] == "discarded"
    assert office.get("1/items/1/document").status_code == 409
    assert len(office.folders()) == 1
    office.batches.clean()
    assert len(office.folders()) == 1
    office.clock.move(hours=25)
    office.batches.clean()
    assert office.folders() == []
    assert office.get("2").json["state"] == "discarded"
    assert [item["result"] for item in items_of(office, 2)] == [None]


def test_an_upload_that_was_cut_off_is_swept_away(office: Office) -> None:
    orphan = office.spool / ("0" * 32)
    orphan.mkdir(parents=True)
    office.post([("a.pdf", make_pdf())])
    office.batches.clean()
    assert len(office.folders()) == 2  # it may still be coming in
    office.clock.move(hours=7)
    office.batches.clean()
    assert len(office.folders()) == 1
    assert not orphan.exists()


def test_a_disk_that_is_full_is_an_outage(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("batches.spool.os.fsync", full)
        answer = office.post([("a.pdf", make_pdf())])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert office.folders() == []
    office.post([("a.pdf", make_pdf())])
    with monkeypatch.context() as broken:
        broken.setattr("batches.spool.os.fsync", full)
        with pytest.raises(Awake):
            office.new_worker(threads=1, sleep=wake).work(60)
    assert "no room" in office.get("1").json["waits_for"]
    assert office.new_worker().work(60) == 1


def test_what_is_kept_is_for_nobody_else(office: Office) -> None:
    office.post([("a.pdf", make_pdf())])
    assert [path.stat().st_mode & 0o777 for path in (office.spool, office.folders()[0])] == [0o700, 0o700]


def test_a_certificate_revoked_meanwhile_fails_each_item_by_itself(office: Office) -> None:
    office.post_digests({"items": [{"digest": digest} for digest in DIGESTS[:2]]})
    office.clock.move(days=5000)
    office.new_worker().work(60)
    assert {item["problem"]["error"] for item in items_of(office, 1)} == {"conflict"}


def test_pages_of_items_and_states(office: Office) -> None:
    office.post_digests({"items": [{"digest": digest} for digest in DIGESTS]}, query="level=B-B&wait=20")
    page = office.get("1/items?limit=2&after=1").json
    assert ([item["number"] for item in page["items"]], page["next"]) == ([2, 3], 3)
    assert office.get("1/items?state=failed").json == {"items": [], "next": None}
    assert office.get("1/items?limit=0").status_code == 422
    with office.house.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(BatchItem)) == 5
        assert json.loads(json.dumps(db.scalars(sa.select(Batch.kind)).all())) == ["digest"]


def activate(office: Office, scope: Scope) -> str:
    """The token of an activation of the officer's key."""
    holders = ActivationHolders(database=office.house.database, now=office.clock)
    uri = holders.give(holders.give_payload(OFFICER, OFFICER, "code"), CLIENT).code_uri or ""
    secret = b32decode(urllib.parse.parse_qs(urllib.parse.urlsplit(uri).query)["secret"][0])
    code = code_source(secret).generate(int(office.clock().timestamp())).decode()
    activations = Activations(database=office.house.database, now=office.clock, config=ActivationConfig())
    return activations.activate(OFFICER, OFFICER, Proof(None, code), scope, minutes=5, actor=CLIENT)[0]


def test_one_activation_is_for_the_whole_batch(office: Office) -> None:
    token = activate(office, Scope(digests=tuple(DIGESTS[:3])))
    body = {"items": [{"digest": digest} for digest in DIGESTS[:3]]}
    refused = office.post_digests(body)
    assert (refused.status_code, refused.json["violations"][0]["field"]) == (409, "activation")
    other = {"items": [{"digest": DIGESTS[4]}]}
    assert office.post_digests(other, activation=token).status_code == 409
    assert office.post_digests(body, activation="no-token").status_code == 409
    assert office.folders() == []
    answer = office.post_digests(body, activation=token, query="level=B-B&wait=20")
    assert (answer.status_code, answer.json["progress"]["done"]) == (201, 3)
    assert office.post_digests(body, activation=token).status_code == 409  # used up
    with office.house.database.read() as db:
        assert token not in str(db.scalars(sa.select(Batch.activation)).all())


def test_an_activation_that_ends_meanwhile_ends_for_the_rest(office: Office) -> None:
    token = activate(office, Scope(acts=2))
    assert office.post_digests({"items": [{"digest": digest} for digest in DIGESTS]}, activation=token).status_code == 409
    office.post_digests({"items": [{"digest": digest} for digest in DIGESTS[:2]]}, activation=token)
    office.clock.move(minutes=6)
    office.new_worker().work(60)
    assert [item["problem"]["error"] for item in items_of(office, 1)] == ["refused"] * 2


@pytest.mark.parametrize("scope", [Scope(acts=2), Scope(digests=tuple(DIGESTS[:2]))], ids=["acts", "digests"])
def test_an_item_cut_off_after_its_key_was_used_goes_on_under_its_activation(
    office: Office, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    """Whether its worker was killed or what comes after the key was away: it is the act that was counted already."""

    class Killed(BaseException):
        """kill -9, as far as a test can have it."""

    token = activate(office, scope)
    office.post_digests({"items": [{"digest": digest} for digest in DIGESTS[:2]]}, activation=token)
    for end in (Killed(), Unavailable("tsa", "it went away")):
        with monkeypatch.context() as patched:
            patched.setattr("signer.digests._build", raising(end))
            with pytest.raises(Killed):
                office.new_worker(threads=1, sleep=raising(Killed())).work(60)
        office.clock.move(seconds=21)
    office.new_worker(threads=1).work(60)
    assert [item["problem"] for item in items_of(office, 1)] == [None, None]
    with office.house.database.read() as db:
        assert db.execute(sa.select(Activation.used, Activation.most)).one() == (2, 2)
        uses = db.scalars(sa.select(ActivationUse.signature_id).order_by(ActivationUse.signature_id)).all()
        made = db.scalars(sa.select(Signature.id).where(Signature.state == SignatureState.SIGNED).order_by(Signature.id)).all()
    assert (len(uses), len(made), max(uses)) == (2, 4, max(made))
    assert office.post_digests({"items": [{"digest": DIGESTS[2]}]}, activation=token).status_code == 409


def raising(error: BaseException) -> Callable[..., Any]:
    """What raises it, however it is called."""

    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail
