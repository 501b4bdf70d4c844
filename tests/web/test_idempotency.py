"""``Idempotency-Key``: the first answer again, another body refused, two at once done once, a crash taken over."""

from __future__ import annotations

import threading
from typing import Any

import falcon
import falcon.testing
import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from audit.log import SYSTEM, Actor
from core.db import Database
from core.errors import Conflict, Unavailable
from registry import registry
from registry.models import Role
from tests.conftest import Clock
from tests.interleaving import before_write
from web import problems
from web.access import ApiKeys, Shell
from web.idempotency import KEPT, Attempt, StoredAnswers
from web.models import StoredAnswer
from web.operation import operation, send_json


class Order(BaseModel):
    """What is asked for."""

    item: str


class Counter:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.error: BaseException | None = None
        self.begun = threading.Event()
        self.hold = threading.Event()
        self.hold.set()

    @operation(roles={Role.ADMIN}, summary="Count", tag="test", body=Order, returns=Order, status=201, idempotent=True)
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: Order) -> None:
        """Count."""
        self.actors.append(actor)
        self.begun.set()
        self.hold.wait(30)
        if self.error is not None:
            raise self.error
        resp.location = "/somewhere"
        send_json(resp, Order(item=f"{body.item} {len(self.actors)}"))


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def shell(database: Database) -> Shell:
    return Shell(access=ApiKeys(database=database), body_limit=100_000)


@pytest.fixture
def post(database: Database, clock: Clock, counter: Counter, shell: Shell) -> Any:
    app: Any = falcon.App(middleware=[shell])
    problems.install(app)
    app.add_route("/orders", counter)
    with database.write() as db:
        keys = {name: registry.add_client(db, at=clock(), actor=SYSTEM, name=name, role=Role.ADMIN) for name in ("an", "other")}
    client = falcon.testing.TestClient(app)

    def send(item: str = "a", *, key: str | None = "k-1", caller: str = "an") -> Any:
        headers = {"Authorization": f"Bearer {keys[caller]}"} | ({"Idempotency-Key": key} if key is not None else {})
        return client.simulate_post("/orders", json={"item": item}, headers=headers)

    return send


def test_the_same_request_again_gets_the_first_answer(post: Any, counter: Counter) -> None:
    first, second = post(), post()
    assert (first.status, first.text, first.headers["location"]) == (second.status, second.text, second.headers["location"])
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(counter.actors) == 1
    assert counter.actors[0].origin.startswith("key/")


def test_without_a_key_each_request_counts(post: Any, counter: Counter) -> None:
    assert (post(key=None).status_code, post(key=None).status_code) == (201, 201)
    assert [actor.origin for actor in counter.actors] == ["", ""]


def test_the_same_key_for_another_request_is_a_conflict(post: Any, counter: Counter) -> None:
    post("a")
    assert post("b").status_code == 409
    assert len(counter.actors) == 1


def test_a_key_is_its_callers_own(post: Any, counter: Counter) -> None:
    post(caller="an")
    assert post(caller="other").status_code == 201
    assert len(counter.actors) == 2


@pytest.mark.parametrize("key", ["", " ", "k" * 256, "khóa"])
def test_a_key_that_is_none_is_refused(post: Any, key: str) -> None:
    assert post(key=key).status_code == 422


def test_an_error_frees_the_key(post: Any, counter: Counter) -> None:
    counter.error = Conflict("not now")
    assert post().status_code == 409
    counter.error = None
    assert post().status_code == 201


def test_of_two_at_once_one_does_it_and_the_other_waits(post: Any, counter: Counter) -> None:
    counter.hold.clear()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(post())) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert counter.begun.wait(30)
    counter.hold.set()
    for thread in threads:
        thread.join(30)
    assert len(counter.actors) == 1
    assert {answer.text for answer in answers} == {'{"item":"a 1"}'}


def test_who_waits_too_long_is_told_to_come_back(
    post: Any, counter: Counter, shell: Shell, database: Database, clock: Clock
) -> None:
    shell._answers = StoredAnswers(database=database, now=clock, patience=0.1)
    counter.error = RuntimeError("as if it had been killed")
    assert post().status_code == 500
    answer = post()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_a_request_that_was_cut_off_is_carried_out_again_under_the_same_origin(
    post: Any, counter: Counter, shell: Shell, database: Database, clock: Clock
) -> None:
    shell._answers = StoredAnswers(database=database, now=clock, patience=0.1)
    counter.error = RuntimeError("as if it had been killed")
    post()
    counter.error = None
    clock.move(minutes=3)
    assert post().status_code == 201
    first, second = counter.actors
    assert first.origin == second.origin
    assert post().headers["idempotency-replayed"] == "true"


def test_an_answer_is_forgotten_after_a_day(post: Any, database: Database, clock: Clock) -> None:
    post()
    answers = StoredAnswers(database=database, now=clock)
    assert answers.reconcile(clock()) == 0
    clock.move(seconds=KEPT.total_seconds() + 60)
    assert answers.reconcile(clock()) == 1
    with database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(StoredAnswer)) == 0


def test_no_other_request_has_the_same_origin(post: Any, counter: Counter, database: Database, clock: Clock) -> None:
    """What is issued for an origin is found by it: the number of a row that is gone must not come again."""
    post(key="k-1")
    counter.error = Conflict("not now")
    post(key="k-2")
    counter.error = None
    post(key="k-3", caller="other")
    clock.move(seconds=KEPT.total_seconds() + 60)
    StoredAnswers(database=database, now=clock).reconcile(clock())
    post(key="k-4")
    assert len({actor.origin for actor in counter.actors}) == 4


def test_who_took_long_and_answers_at_last_is_not_taken_over(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer comes after the second one has seen that there is none, and before that takes the key over."""
    answers = StoredAnswers(database=database, now=clock)
    first = answers.reserve("an", "k-1", "a request")
    assert isinstance(first, Attempt)
    clock.move(minutes=3)
    before_write(monkeypatch, lambda: answers.keep(first, "201 Created", b"the answer"))
    second = answers.reserve("an", "k-1", "a request")
    assert isinstance(second, StoredAnswer)
    assert second.body == b"the answer"


def test_what_may_have_been_done_is_tried_again_under_the_same_origin(post: Any, counter: Counter) -> None:
    counter.error = Unavailable("database", "the connection was lost, perhaps after the commit")
    assert post().status_code == 503
    counter.error = None
    assert post("another request").status_code == 409
    assert post().status_code == 201
    first, second = counter.actors
    assert first.origin == second.origin
