"""The registry: keys are known by their digest only, names are unique, grants hold."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from audit.log import SYSTEM, AuditEntry
from core.db import Database
from core.errors import Conflict, NotFound, Rejected, Unauthenticated, Unavailable
from registry import registry
from registry.clients import Clients
from registry.models import ApiClient, Role, SubscriberKind
from tests.conftest import Clock
from tests.interleaving import before_statement


def test_a_key_is_shown_once_and_only_its_digest_kept(database: Database, clock: Clock) -> None:
    with database.write() as db:
        key = registry.add_client(db, at=clock(), actor=SYSTEM, name="vic", role=Role.CLIENT)
    with database.read() as db:
        row = registry.authenticate(db, key)
        assert row.name == "vic"
        assert key not in str(db.execute(sa.select(ApiClient.__table__)).all())
        assert key not in str(db.execute(sa.select(AuditEntry.__table__)).all())


def test_a_new_key_ends_the_old_one(database: Database, clock: Clock) -> None:
    with database.write() as db:
        old = registry.add_client(db, at=clock(), actor=SYSTEM, name="vic", role=Role.CLIENT)
        new = registry.set_client_key(db, at=clock(), actor=SYSTEM, name="vic", role=Role.CLIENT)
    with database.read() as db:
        assert registry.authenticate(db, new).name == "vic"
        with pytest.raises(Unauthenticated):
            registry.authenticate(db, old)


def test_names_are_taken_once(database: Database, clock: Clock) -> None:
    with database.write() as db:
        registry.add_client(db, at=clock(), actor=SYSTEM, name="vic", role=Role.CLIENT)
    with pytest.raises(Conflict), database.write() as db:
        registry.add_client(db, at=clock(), actor=SYSTEM, name="vic", role=Role.ADMIN)


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a" * 64, "đ"])
def test_handles_are_plain(database: Database, clock: Clock, name: str) -> None:
    with pytest.raises(Rejected), database.write() as db:
        registry.add_client(db, at=clock(), actor=SYSTEM, name=name, role=Role.CLIENT)


def test_no_grant_is_left_of_a_role_that_was_taken_meanwhile(database: Database, database_kind: str, clock: Clock) -> None:
    if database_kind != "postgresql":
        pytest.skip("in SQLite nobody writes while a grant is being given")
    with database.write() as db:
        registry.add_client(db, at=clock(), actor=SYSTEM, name="vic", role=Role.CLIENT)
        agency = registry.add_agency(db, at=clock(), actor=SYSTEM, code="H00", name="Cơ quan", locality="Nơi")
        registry.add_subscriber(
            db, at=clock(), actor=SYSTEM, handle="seal", kind=SubscriberKind.AGENCY, common_name="Cơ quan", agency=agency
        )
    hasty = Database(database.url.render_as_string(hide_password=False), busy_seconds=0.2)
    change = {"client": "vic", "from": Role.CLIENT, "to": Role.AUDITOR}

    def take_the_role() -> None:
        with pytest.raises(Unavailable):  # it waits for the grant, which it then takes away
            Clients(database=hasty, now=clock).change_role(change, SYSTEM)

    with before_statement(database, "INSERT INTO signing_grant", take_the_role), database.write() as db:
        registry.grant(db, at=clock(), actor=SYSTEM, client="vic", subscriber="seal")
    Clients(database=hasty, now=clock).change_role(change, SYSTEM)
    with database.read() as db:
        assert registry.granted_subscribers(db, "vic") == []
    hasty.close()


def test_a_grant_is_for_client_systems_and_known_subscribers(database: Database, clock: Clock) -> None:
    with database.write() as db:
        registry.add_client(db, at=clock(), actor=SYSTEM, name="vic", role=Role.CLIENT)
        registry.add_client(db, at=clock(), actor=SYSTEM, name="boss", role=Role.ADMIN)
        agency = registry.add_agency(db, at=clock(), actor=SYSTEM, code="H00", name="Cơ quan", locality="Nơi")
        registry.add_subscriber(
            db, at=clock(), actor=SYSTEM, handle="seal", kind=SubscriberKind.AGENCY, common_name="Cơ quan", agency=agency
        )
        registry.grant(db, at=clock(), actor=SYSTEM, client="vic", subscriber="seal")
        registry.grant(db, at=clock(), actor=SYSTEM, client="vic", subscriber="seal")
        assert [item.handle for item in registry.granted_subscribers(db, "vic")] == ["seal"]
        with pytest.raises(Rejected):
            registry.grant(db, at=clock(), actor=SYSTEM, client="boss", subscriber="seal")
        with pytest.raises(NotFound):
            registry.grant(db, at=clock(), actor=SYSTEM, client="vic", subscriber="nobody")
        with pytest.raises(NotFound):
            registry.grant(db, at=clock(), actor=SYSTEM, client="nobody", subscriber="seal")
