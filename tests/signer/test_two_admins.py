"""Two admins who record the same thing for the first time at one moment: one does, and the other is told so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from audit.log import SYSTEM
from core.db import Database
from core.errors import Conflict
from notices.contacts import set_contact
from pki.anchors import install_anchor
from pki.foreign_crl import keep_foreign_crl
from signer.authorisations import Authorisations, NewRule
from tests.conftest import Clock
from tests.interleaving import before_statement
from tests.signer.gate_house import ADMIN, AGENCY, build_office
from tests.verifier.authorities import Pki, crl


@dataclass(frozen=True, slots=True)
class Desk:
    """One admin's connection."""

    database: Database
    clock: Clock
    pki: Pki

    def set_contact(self) -> None:
        with self.database.write() as db:
            set_contact(db, "agency", AGENCY, "agency@pki.example", at=self.clock(), actor=ADMIN)

    def decide(self) -> None:
        rule = NewRule(one_person=None, one_person_until=None, one_series=True)
        Authorisations(database=self.database, now=self.clock).decide(AGENCY, rule, ADMIN)

    def install(self) -> None:
        certificate = self.pki.root.certificate
        pem, sha256 = certificate.public_bytes(Encoding.PEM), certificate.fingerprint(hashes.SHA256()).hex()
        with self.database.write() as db:
            install_anchor(db, at=self.clock(), actor=SYSTEM, data=pem, domain="cong-vu", sha256=sha256)

    def keep(self) -> None:
        with self.database.write() as db:
            keep_foreign_crl(db, crl(self.pki.root, (), at=self.clock()), at=self.clock(), actor=SYSTEM)


@pytest.mark.parametrize(
    ("table", "act", "first"),
    [
        ("contact", Desk.set_contact, None),
        ("agency_signing_rule", Desk.decide, None),
        ("trust_anchor", Desk.install, None),
        ("foreign_crl", Desk.keep, Desk.install),
    ],
)
def test_the_second_is_told_so(
    database: Database,
    database_kind: str,
    clock: Clock,
    table: str,
    act: Callable[[Desk], None],
    first: Callable[[Desk], None] | None,
) -> None:
    if database_kind != "postgresql":
        pytest.skip("in SQLite nobody writes between two statements of another")
    build_office(database, clock)
    mine = Desk(database, clock, Pki())
    theirs = Desk(Database(database.url.render_as_string(hide_password=False)), clock, mine.pki)
    if first is not None:
        first(mine)
    with before_statement(database, f"INSERT INTO {table} ", lambda: act(theirs)), pytest.raises(Conflict, match="moment"):
        act(mine)
    theirs.database.close()
