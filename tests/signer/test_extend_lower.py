"""Extending while a part is away: refused, or by policy as far as can be had, told and written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from cryptography import x509
from falcon import testing

from audit.log import AuditEntry
from core.content import Content
from core.errors import Unavailable
from pki.crl import CrlPublisher
from pki.material import Material, ValidationMaterial
from registry.models import ApiClient
from registry.registry import key_digest
from signer.extend import ExtendOptions, ExtensionLevel
from signer.http_archive import Extensions
from signer.levels import Reached
from signer.options import PadesLevel, PdfOptions
from signer.plan import ArchivePlan, PlanQuery
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import make_pdf
from tests.signer.test_extend import extend, judge
from tests.signer.test_levels import Away
from verifier.verdict import Conclusion
from web import problems
from web.access import ApiKeys, Shell


def run(house: House, document: bytes, level: ExtensionLevel = "B-LTA", **parts: Any) -> tuple[bytes, list[Reached]]:
    told: list[Reached] = []
    extended = house.extender(**{"when_away": "lower", **parts}).extend(
        Content.of(document), ExtendOptions(level=level), CLIENT, lowered=told.append
    )
    return extended.read(0, extended.size), told


def signed_at(house: House, level: PadesLevel) -> bytes:
    return sign_pdf(house.signer, make_pdf(), PdfOptions(level=level), CLIENT)


def entries(house: House) -> list[dict[str, Any]]:
    with house.database.read() as db:
        return [one.detail for one in db.scalars(sa.select(AuditEntry).where(AuditEntry.action == "document.extend"))]


@pytest.fixture
def no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CRL can be had: the token that signs them is away."""

    def away(*_: object, **__: object) -> None:
        raise Unavailable("hsm", "the token is away")

    monkeypatch.setattr(CrlPublisher, "current", away)


@pytest.mark.parametrize("at_once", [True, False])
def test_without_timestamps_a_stamped_signature_comes_to_lt(house: House, at_once: bool) -> None:
    document = signed_at(house, "B-T")
    with pytest.raises(Unavailable, match="it is away"):
        run(house, document, when_away="refuse", stamper=Away(house, at_once=at_once))
    assert entries(house) == []
    extended, told = run(house, document, stamper=Away(house, at_once=at_once))
    assert [(one.level, one.why) for one in told] == [("B-LT", "it is away")]
    (entry,) = entries(house)
    assert (entry["level"], entry["asked"], entry["why"]) == ("B-LT", "B-LTA", "it is away")
    assert house.plan().page(PlanQuery()).documents == []
    assert judge(house, extended) == (Conclusion.VALID, ["B-LT"])
    assert judge(house, extend(house, extended)) == (Conclusion.VALID, ["B-LTA"])  # later, when it is back


def test_lt_needs_no_timestamping_where_every_signature_is_stamped(house: House) -> None:
    extended, told = run(house, signed_at(house, "B-T"), "B-LT", when_away="refuse", stamper=Away(house, at_once=True))
    assert judge(house, extended) == (Conclusion.VALID, ["B-LT"])
    assert told == []


def test_where_nothing_would_be_gained_it_is_refused_whatever_the_policy(house: House) -> None:
    for document in (signed_at(house, "B-B"), signed_at(house, "B-LT"), signed_at(house, "B-LTA")):
        with pytest.raises(Unavailable, match="it is away"):
            run(house, document, stamper=Away(house, at_once=True))
    assert entries(house) == []


@pytest.mark.usefixtures("no_lists")
def test_without_a_status_a_bare_signature_comes_to_t_and_a_stamped_one_nowhere(house: House) -> None:
    for level in ("B-LT", "B-LTA"):
        _, told = run(house, signed_at(house, "B-B"), level)
        assert [one.level for one in told] == ["B-T"]
    assert [(one["level"], one["asked"]) for one in entries(house)] == [("B-T", "B-LT"), ("B-T", "B-LTA")]
    with pytest.raises(Unavailable, match="no revocation status"):
        run(house, signed_at(house, "B-T"))
    with pytest.raises(Unavailable, match="no revocation status"):
        run(house, signed_at(house, "B-B"), when_away="refuse")


def test_what_the_file_holds_is_not_asked_for_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Years later those who answered for the older parts may be gone."""
    asked: list[x509.Certificate] = []
    collect = ValidationMaterial.collect

    def note(self: ValidationMaterial, leaves: Sequence[x509.Certificate], **rest: Any) -> Material:
        asked.extend(leaves)
        return collect(self, leaves, **rest)

    document = signed_at(house, "B-LTA")
    monkeypatch.setattr(ValidationMaterial, "collect", note)
    run(house, document, when_away="refuse")
    assert {one.subject for one in asked} == {one.subject for one in house.tsa.signers()}


def test_over_http_the_header_says_what_was_reached(house: House) -> None:
    with house.database.write() as db:
        db.execute(sa.update(ApiClient).where(ApiClient.name == CLIENT.name).values(key_sha256=key_digest("a-key")))
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=1_000_000)])
    problems.install(app)
    for path, when_away in (("/lower", "lower"), ("/refuse", "refuse")):
        app.add_route(path, Extensions(extender=house.extender(when_away, Away(house, at_once=True))))
    headers = {"Authorization": "Bearer a-key", "Content-Type": "application/pdf"}
    document = signed_at(house, "B-T")
    answer = testing.TestClient(app).simulate_post("/lower", body=document, headers=headers)
    assert (answer.status_code, answer.headers["condau-level"]) == (200, "B-LT; asked=B-LTA")
    refused = testing.TestClient(app).simulate_post("/refuse", body=document, headers=headers)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)


def test_what_became_of_a_document_is_written_down_whole_or_not_at_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    document, follow = signed_at(house, "B-LTA"), ArchivePlan.follow
    (planned,) = house.plan().page(PlanQuery()).documents

    def cut_off(*given: Any, **named: Any) -> None:
        follow(*given, **named)
        raise Unavailable("database", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(ArchivePlan, "follow", cut_off)
        with pytest.raises(Unavailable):
            extend(house, document)
    assert entries(house) == []
    assert house.plan().page(PlanQuery()).documents == [planned]
    extend(house, document)
    (successor,) = house.plan().page(PlanQuery()).documents
    assert successor.digest == entries(house)[0]["result"]
