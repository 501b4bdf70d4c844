"""Events leave the outbox once somebody takes them: signed, retried, given up, never by two at once; with their history."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import falcon
import falcon.testing
import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from audit.log import SYSTEM, AuditEntry
from core.config import parse_config
from core.db import Database
from core.errors import Rejected
from core.settings import NoticesConfig
from notices import http, outbox
from notices.contacts import set_contact
from notices.courier import Courier
from notices.models import Channel, Delivery, DeliveryState, OutboxEvent
from pki.reminders import Reminders
from registry import registry
from registry.models import Role
from tests.conftest import Clock
from tests.pki.test_inventory import Shelf
from tests.service import free_port
from web import problems
from web.access import ApiKeys, Shell

SECRET = b"a secret of some length"


class Receiver:
    """An HTTP server of ours that keeps what it is sent and answers what it is told to."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers), body))
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mailbox:
    """What the mail server was handed; it refuses addresses at ``refused.example``."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], Any]] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address.endswith("@refused.example"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - the same
        self.letters.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Listens on the loopback."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, int]]:
    """A mail server that is not ours (aiosmtpd), and its port."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield mailbox, controller.port
    controller.stop()


@pytest.fixture
def config(tmp_path: Path, receiver: Receiver) -> NoticesConfig:
    """One webhook, no mail."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "records").write_bytes(SECRET + b"\n")
    return NoticesConfig(webhooks={"records": receiver.url}, secrets=tmp_path / "hooks", attempts=3)


def _record(database: Database, clock: Clock, subject: str = "ab1") -> None:
    with database.write() as db:
        outbox.record(db, at=clock(), kind="certificate.issued", subject=subject, profile="officer", name="Nguyễn")


def _deliveries(database: Database) -> list[Delivery]:
    with database.read() as db:
        loaded = sa.orm.selectinload(Delivery.history)
        return list(db.scalars(sa.select(Delivery).options(loaded).order_by(Delivery.id)))


def _courier(database: Database, config: NoticesConfig, clock: Clock) -> Courier:
    return Courier(database=database, config=config, now=clock)


def test_a_webhook_is_signed_and_sent_once(database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver) -> None:
    _record(database, clock)
    courier = _courier(database, config, clock)
    assert [courier.deliver(), courier.deliver()] == [1, 0]
    [(headers, body)] = receiver.received
    event = json.loads(body)
    assert (event["kind"], event["subject"]) == ("certificate.issued", "ab1")
    assert event["data"] == {"profile": "officer", "name": "Nguyễn"}
    parts = dict(part.split("=") for part in headers["Condau-Signature"].split(","))
    assert parts["t"] == str(int(clock().timestamp()))
    assert hmac.compare_digest(parts["v1"], hmac.new(SECRET, parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest())
    [delivery] = _deliveries(database)
    assert (delivery.state, [attempt.problem for attempt in delivery.history]) == ("delivered", [None])


@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_is_refused_is_tried_again_later_and_given_up_at_last(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver, status: int
) -> None:
    _record(database, clock)
    receiver.status = status
    courier = _courier(database, config, clock)
    assert [courier.deliver(), courier.deliver()] == [1, 0]
    clock.move(seconds=30)
    assert courier.deliver() == 1
    clock.move(seconds=59)
    assert courier.deliver() == 0
    clock.move(seconds=1)
    assert courier.deliver() == 1
    clock.move(days=1)
    assert courier.deliver() == 0
    [delivery] = _deliveries(database)
    assert (delivery.state, delivery.attempts, len(receiver.received)) == ("dead", 3, 3)
    assert [attempt.problem for attempt in delivery.history] == [f"answered {status}"] * 3
    assert len({json.loads(body)["id"] for _, body in receiver.received}) == 1


def test_what_was_given_up_is_tried_again_by_hand_with_its_history(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver
) -> None:
    _record(database, clock)
    receiver.status = 500
    courier = _courier(database, replace(config, attempts=1), clock)
    courier.deliver()
    [dead] = _deliveries(database)
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=database), body_limit=10_000)])
    problems.install(app)
    app.add_route("/v1/deliveries/{identifier:int}/redelivery", http.Redelivery(database=database, now=clock))
    with database.write() as db:
        headers = {"Authorization": f"Bearer {registry.add_client(db, at=clock(), actor=SYSTEM, name='a', role=Role.ADMIN)}"}
    client = falcon.testing.TestClient(app, headers=headers)
    for status in (200, 409):
        assert client.simulate_post(f"/v1/deliveries/{dead.id}/redelivery").status_code == status
    assert client.simulate_post("/v1/deliveries/999/redelivery").status_code == 404
    assert courier.deliver() == 1
    with database.write() as db:
        outbox.revive(db, dead.id, at=clock(), actor=SYSTEM)
    receiver.status = 204
    assert courier.deliver() == 1
    [delivery] = _deliveries(database)
    assert (delivery.state, [attempt.problem for attempt in delivery.history]) == ("delivered", ["answered 500"] * 2 + [None])
    with database.read() as db:
        retried = sa.select(AuditEntry.actor).where(AuditEntry.action == "delivery.retry").order_by(AuditEntry.id)
        assert db.scalars(retried).all() == ["a", "condau"]


def test_only_what_everybody_was_told_long_ago_is_forgotten(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver
) -> None:
    courier = _courier(database, replace(config, attempts=1, keep_days=100), clock)
    _record(database, clock, "told")
    courier.deliver()
    receiver.status = 500
    _record(database, clock, "dead")
    courier.deliver()
    _record(database, clock, "waiting")
    clock.move(days=99)
    receiver.status = 204
    _record(database, clock, "new")
    assert courier.prune() == 0
    clock.move(days=2)
    assert _courier(database, replace(config, keep_days=0), clock).prune() == 0
    assert [courier.prune(), courier.prune()] == [1, 0]
    with database.read() as db:
        assert db.scalars(sa.select(OutboxEvent.subject).order_by(OutboxEvent.id)).all() == ["dead", "waiting", "new"]
    assert len(_deliveries(database)) == 1


def test_no_event_and_no_delivery_has_the_number_of_one_that_was_forgotten(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver
) -> None:
    """A receiver that has seen a number ignores what comes with it."""
    courier = _courier(database, replace(config, keep_days=100), clock)
    for _ in range(3):
        _record(database, clock, "told")
        courier.deliver()
        clock.move(days=200)
        courier.prune()
    numbers = [json.loads(body)["id"] for _, body in receiver.received]
    assert len(set(numbers)) == 3
    with database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Delivery)) == 1


def test_a_receiver_that_is_away_and_a_missing_secret_stop_nobody_else(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver
) -> None:
    webhooks = {"away": "http://127.0.0.1:1/", "no-secret": receiver.url, "records": receiver.url}
    (config.secrets / "away").write_bytes(SECRET)
    _record(database, clock)
    assert _courier(database, replace(config, webhooks=webhooks), clock).deliver() == 3
    states = {delivery.recipient: (delivery.state, delivery.history[0].problem) for delivery in _deliveries(database)}
    assert states["records"] == ("delivered", None)
    assert "ConnectionRefusedError" in str(states["away"][1])
    assert "cannot be read" in str(states["no-secret"][1])
    assert states["away"][0] == states["no-secret"][0] == "pending"


def test_an_event_that_is_rolled_back_is_never_told(database: Database, clock: Clock, config: NoticesConfig) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as db:  # noqa: PT012 - that is the transaction
        outbox.record(db, at=clock(), kind="certificate.issued", subject="ab1")
        raise ZeroDivisionError
    assert _courier(database, config, clock).deliver() == 0


def test_many_couriers_at_once_deliver_each_event_once(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver
) -> None:
    for number in range(40):
        _record(database, clock, format(number, "x"))
    threads = [threading.Thread(target=_courier(database, config, clock).deliver) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(json.loads(body)["subject"] for _, body in receiver.received) == sorted(format(n, "x") for n in range(40))
    assert {delivery.state for delivery in _deliveries(database)} == {"delivered"}


def test_a_lease_keeps_others_off_until_it_ends_and_then_decides_no_more(
    database: Database, clock: Clock, config: NoticesConfig, receiver: Receiver
) -> None:
    """The courier that leased it died: another delivers it later, and a late word of the first changes nothing."""
    _record(database, clock)
    with database.write() as db:
        outbox.dispatch(db, at=clock(), webhooks=["records"])
    with database.write() as db:
        [lost] = outbox.lease(db, at=clock(), until=clock() + timedelta(minutes=5), most=10)
    courier = _courier(database, config, clock)
    assert courier.deliver() == 0
    clock.move(minutes=5)
    assert courier.deliver() == 1
    with database.write() as db:
        assert not outbox.settle(db, lost, at=clock(), problem="late", next_at=None)
    [delivery] = _deliveries(database)
    assert (delivery.state, len(delivery.history), len(receiver.received)) == (DeliveryState.DELIVERED, 2, 1)


def test_reminders_go_to_the_holder_then_the_agency_then_the_operator(
    database: Database, clock: Clock, config: NoticesConfig, mail: tuple[Mailbox, int]
) -> None:
    mailbox, port = mail
    mailed = replace(
        config,
        smtp_host="127.0.0.1",
        smtp_port=port,
        smtp_security="none",
        mail_from="condau@pki.example",
        operator_email="operator@pki.example",
    )
    shelf = Shelf(database, clock)
    with database.write() as db:
        for kind, name, email in (("subscriber", "an", "an@pki.example"), ("agency", "H26.1", "agency@pki.example")):
            set_contact(db, kind, name, email, at=clock(), actor=SYSTEM)
    serial = shelf.put("an", days=61)
    shelf.put("dat", days=300)
    told, letters = [], []
    for days in (0, 2, 31, 22, 1):
        clock.move(days=days)
        Reminders(database=database, config=mailed, now=clock).remind()
        _courier(database, mailed, clock).deliver()
        told.append(sorted(recipient for recipients, _ in mailbox.letters for recipient in recipients))
        letters += [letter for _, letter in mailbox.letters]
        mailbox.letters = []
    both = ["agency@pki.example", "an@pki.example"]
    assert told == [[], ["an@pki.example"], both, [*both, "operator@pki.example"], []]
    letter = letters[0]
    assert "Nguyễn Văn An sắp hết hạn" in letter["Subject"]
    assert serial in letter.get_content()
    assert letter.get_content().index("sẽ hết hạn lúc") < letter.get_content().index("expires at")
    assert letter["Message-ID"].endswith("@pki.example>")


def test_a_holder_with_a_later_certificate_is_left_alone(database: Database, clock: Clock, config: NoticesConfig) -> None:
    shelf = Shelf(database, clock)
    shelf.put("an", days=20)
    shelf.put("an", days=900)
    shelf.put("dat", days=20, revoked_at=clock(), revocation_reason="superseded")
    assert Reminders(database=database, config=config, now=clock).remind() == 0


def test_two_processes_remind_once(database: Database, clock: Clock, config: NoticesConfig) -> None:
    shelf = Shelf(database, clock)
    for _ in range(3):
        shelf.put(None, days=5, profile="tsa")
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(Reminders(database=database, config=config, now=clock).remind()))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(counts) == 3
    with database.read() as db:
        assert len(db.scalars(sa.select(OutboxEvent.key)).all()) == 3


def test_a_refused_address_is_kept_in_the_history(
    database: Database, clock: Clock, config: NoticesConfig, mail: tuple[Mailbox, int]
) -> None:
    mailed = replace(
        config, smtp_host="127.0.0.1", smtp_port=mail[1], smtp_security="none", mail_from="condau@pki.example", webhooks={}
    )
    shelf = Shelf(database, clock)
    with database.write() as db:
        set_contact(db, "subscriber", "an", "an@refused.example", at=clock(), actor=SYSTEM)
    shelf.put("an", days=50)
    Reminders(database=database, config=mailed, now=clock).remind()
    assert _courier(database, mailed, clock).deliver() == 1
    [delivery] = _deliveries(database)
    assert (delivery.channel, delivery.state) == (Channel.EMAIL, "pending")
    assert "no such mailbox" in str(delivery.history[0].problem)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"webhooks": {"x": "ftp://h/"}}, "notices.webhooks.x"),
        ({"webhooks": {"x": "http://user@h/"}}, "notices.webhooks.x"),
        ({"webhooks": {"../x": "http://h/"}}, "notices.webhooks.../x"),
        ({"agency_days": 90}, "notices.officer_days"),
        ({"smtp_host": "h"}, "notices.mail_from"),
        ({"smtp_security": "maybe"}, "notices.smtp_security"),
        ({"smtp_user": "u", "smtp_security": "none"}, "notices.smtp_user"),
        ({"attempts": 0}, "notices.attempts"),
        ({"keep_days": 60}, "notices.keep_days"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse_config({"notices": settings}, tmp_path)
    assert refused.value.violations[0].field == field


def test_secrets_lie_in_the_instance_s_folder(tmp_path: Path) -> None:
    notices = parse_config({}, tmp_path).notices
    assert notices.secrets == tmp_path / "secrets" / "webhooks"
    assert notices.smtp_password_file == tmp_path / "secrets" / "smtp-password"
