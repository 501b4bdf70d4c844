"""A certificate that may not sign at this moment is a typed refusal before any key is used, in every format."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from core.content import Content
from core.errors import Conflict
from pki.models import Authority, Certificate
from signer.digests import DigestRequest, DigestSigner
from signer.models import Signature
from signer.options import PdfOptions
from signer.xml_options import XmlOptions
from tests.conftest import Clock
from tests.signer.house import CLIENT, House
from tests.signer.pdfs import make_pdf

Spoil = Callable[[House, Clock], None]


def revoke(reason: str) -> Spoil:
    def act(house: House, clock: Clock) -> None:
        with house.database.write() as db:
            mine = sa.update(Certificate).where(Certificate.profile == "officer")
            db.execute(mine.values(revoked_at=clock(), revocation_reason=reason))

    return act


def revoke_issuer(house: House, clock: Clock) -> None:
    with house.database.write() as db:
        root = sa.select(Authority.id).where(Authority.name == "root").scalar_subquery()
        db.execute(sa.update(Certificate).where(Certificate.authority_id == root).values(revoked_at=clock()))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (revoke("keyCompromise"), "was revoked"),
        (revoke("certificateHold"), "is suspended since"),
        (revoke_issuer, "revoked issuer"),
        (lambda _house, clock: clock.move(days=4 * 366), "expired"),
        (lambda _house, clock: clock.move(days=-1), "not valid before"),
    ],
    ids=["revoked", "suspended", "issuer", "expired", "not yet valid"],
)
def test_it_is_refused_before_a_key_is_used(
    house: House, clock: Clock, spoil: Spoil, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(house, clock)
    used: list[str] = []
    monkeypatch.setattr(house.keys, "key", used.append)
    digests = DigestSigner(
        database=house.database, keys=house.keys, now=clock, stamp=house.tsa.stamp, levels=house.levels(), gates=house.gates()
    )
    for call in (
        lambda: house.signer.sign_pdf(Content.of(make_pdf()), PdfOptions(level="B-B"), CLIENT),
        lambda: house.signer.sign_xml(b"<a>1</a>", XmlOptions(level="B-B"), CLIENT),
        lambda: digests.sign(DigestRequest(digest="ab" * 32, level="B-B"), CLIENT),
    ):
        with pytest.raises(Conflict, match=says):
            call()
    with house.database.read() as db:
        assert db.scalar(sa.select(sa.func.count(Signature.id))) == 0
    assert used == []
