"""Extending signatures, renewing archive timestamps, and what our own verifier says of them years later."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from falcon import testing

from audit.log import SYSTEM
from cli_archive import find_files, renew_file
from core.content import Content
from core.errors import Conflict, Rejected
from core.settings import Config
from hsm.keys import KeySpec
from notices.models import OutboxEvent
from pki.crl import CrlPublisher
from pki.profile import build_subject
from registry.models import ApiClient
from registry.registry import key_digest
from signer.extend import ExtendOptions, ExtensionLevel
from signer.http_archive import ArchivePlans, Extensions
from signer.options import PadesLevel, PdfOptions
from signer.plan import DUE, PlanQuery
from tests.conftest import Clock
from tests.signer.house import CLIENT, House, sign_pdf
from tests.signer.pdfs import make_pdf, qpdf
from tests.signer.test_levels import check_ltv, read_store
from tests.signer.test_standing import revoke
from tests.verifier.authorities import Pki, issue
from tests.verifier.files import plain_pdf, sign
from verifier.service import Verifier
from verifier.verdict import Conclusion
from web import problems
from web.access import ApiKeys, Shell


def extend(house: House, document: bytes, level: ExtensionLevel = "B-LTA") -> bytes:
    extended = house.extender().extend(Content.of(document), ExtendOptions(level=level), CLIENT)
    return extended.read(0, extended.size)


def renew_services(house: House, generation: int) -> None:
    """New certificates for time-stamping and OCSP: the old keys have served their time."""
    for profile in ("tsa", "ocsp-responder"):
        subject = build_subject(common_name=f"{profile} {generation}", organization="Cơ quan thử nghiệm", locality="Cà Mau")
        house.ca.issue_service(profile=profile, subject=subject, issuer="issuing", spec=KeySpec.P_256, actor=SYSTEM)
    house.tsa.units.forget()


def judge(house: House, document: bytes) -> tuple[Conclusion, list[str | None]]:
    """Our own verifier's word, and the level of each signature."""
    report = Verifier(database=house.database, now=house.now).verify(Content.of(document))
    return report.conclusion, [one.level for one in report.signatures]


@pytest.mark.parametrize("before", ["B-B", "B-T", "B-LT"])
@pytest.mark.parametrize("after", ["B-LT", "B-LTA"])
def test_a_signature_of_any_level_is_extended(house: House, before: PadesLevel, after: ExtensionLevel) -> None:
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(level=before), CLIENT)
    extended = extend(house, signed, after)
    assert extended.startswith(signed)
    assert judge(house, extended) == (Conclusion.VALID, [after])
    check_ltv(read_store(extended), [house.identity().certificate, *house.tsa.signers()], house.root)


def test_years_later_only_renewed_archives_are_valid(house: House, clock: Clock) -> None:
    plain = sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-T"), CLIENT)
    archived = neglected = sign_pdf(house.signer, make_pdf(), PdfOptions(), CLIENT)
    extend(house, plain)  # has the lists published that our verifier goes by
    leaf, end = house.identity().certificate, house.tsa.signers()[0].not_valid_after_utc
    clock.move(days=4 * 365)
    assert clock() > leaf.not_valid_after_utc
    assert judge(house, archived) == (Conclusion.VALID, ["B-LTA"])
    renew_services(house, 2)
    archived = extend(house, archived)
    assert judge(house, archived) == (Conclusion.VALID, ["B-LTA"])
    clock.at = end + timedelta(days=30)  # whoever stamped first has no valid certificate any more
    assert judge(house, archived) == (Conclusion.VALID, ["B-LTA"])
    assert judge(house, neglected)[0] is Conclusion.INDETERMINATE
    assert judge(house, plain)[0] is Conclusion.INDETERMINATE


def test_what_is_due_is_planned_told_once_and_done_with_by_renewal(house: House, clock: Clock) -> None:
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(), CLIENT)
    plan = house.plan()
    (planned,) = plan.page(PlanQuery()).documents
    end = house.tsa.signers()[0].not_valid_after_utc
    assert (planned.until, planned.due, planned.client) == (end, end - timedelta(days=90), CLIENT.name)
    assert plan.remind() == 0
    clock.at = planned.due + timedelta(days=1)
    assert [one.digest for one in plan.page(PlanQuery(due_before=clock())).documents] == [planned.digest]
    renew_services(house, 2)
    assert house.plan().remind() == 1
    assert house.plan().remind() == 0  # once a month
    with house.database.read() as db:
        assert [event.subject for event in db.query(OutboxEvent).filter_by(kind=DUE)] == [CLIENT.name]
    extend(house, signed)
    (planned,) = plan.page(PlanQuery()).documents
    assert planned.until > end


def test_nothing_to_extend_and_nothing_worth_extending_is_refused(house: House) -> None:
    with pytest.raises(Rejected, match="no signature"):
        extend(house, make_pdf())
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-T"), CLIENT)
    with pytest.raises(Conflict, match="does not hold"):
        extend(house, signed.replace(b"Xin chao 1", b"Xin chao 2"))


def test_an_encrypted_document_is_judged_as_well(house: House, tmp_path: Path) -> None:
    document = qpdf(tmp_path, make_pdf(), "--encrypt", "mo", "chu", "256", "--")
    signed = sign_pdf(house.signer, document, PdfOptions(level="B-T", password="mo"), CLIENT)
    options = ExtendOptions(password="mo")
    extended = house.extender().extend(Content.of(signed), options, CLIENT)
    assert extended.startswith(Content.of(signed))
    report = Verifier(database=house.database, now=house.now).verify(extended, password="mo")
    assert [one.level for one in report.signatures] == ["B-LTA"]
    with pytest.raises(Conflict, match="does not hold"):
        house.extender().extend(Content.of(signed.replace(b"%PDF-1.7", b"%PDF-1.6")), options, CLIENT)


def test_a_signature_of_an_authority_nobody_trusts_here_is_refused(house: House) -> None:
    with pytest.raises(Conflict, match="install its anchor"):
        extend(house, sign(plain_pdf(), Pki()))
    with pytest.raises(Conflict, match="install its anchor"):
        extend(house, sign(plain_pdf(), Pki(), signer=issue("Tự cấp cho mình")))


def test_a_signature_first_proven_after_its_revocation_is_refused(house: House, clock: Clock) -> None:
    """A timestamp that comes now would only prove that it may have been made by whoever has the stolen key."""
    bare, proven = (sign_pdf(house.signer, make_pdf(), PdfOptions(level=level), CLIENT) for level in ("B-B", "B-T"))
    clock.move(hours=1)
    revoke("keyCompromise")(house, clock)
    CrlPublisher(database=house.database, keys=house.keys, now=clock, config=Config(home=Path())).publish("issuing", actor=SYSTEM)
    with pytest.raises(Conflict, match="revoked"):
        extend(house, bare)
    assert judge(house, extend(house, proven)) == (Conclusion.VALID, ["B-LTA"])


def test_over_http_a_client_extends_and_sees_its_own_plan(house: House) -> None:
    with house.database.write() as db:
        db.execute(sa.update(ApiClient).where(ApiClient.name == CLIENT.name).values(key_sha256=key_digest("a-key")))
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/v1/signatures/pdf/extend", Extensions(extender=house.extender()))
    app.add_route("/v1/archive/plan", ArchivePlans(plan=house.plan()))
    client, key = testing.TestClient(app), {"Authorization": "Bearer a-key"}
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-T"), CLIENT)
    pdf = {**key, "Content-Type": "application/pdf"}
    answer = client.simulate_post("/v1/signatures/pdf/extend", body=signed, headers=pdf, params={"level": "B-LTA"})
    assert answer.status_code == 200
    assert answer.content.startswith(signed)
    listed = client.simulate_get("/v1/archive/plan", headers=key).json["documents"]
    assert [one["digest"] for one in listed] == [hashlib.sha256(answer.content).hexdigest()]
    assert client.simulate_get("/v1/archive/plan").status_code == 401
    refused = client.simulate_post("/v1/signatures/pdf/extend", body=make_pdf(), headers=pdf)
    assert (refused.status_code, refused.json["violations"][0]["field"]) == (422, "document")


def test_files_in_a_folder_are_renewed_where_they_lie(house: House, clock: Clock, tmp_path: Path) -> None:
    """The command's own part: what is due, in place, whole at any moment, and what fails does not stop the rest."""
    services: Any = SimpleNamespace(extender=house.extender(), plan=house.plan(), now=clock)
    path, other = tmp_path / "a.pdf", tmp_path / "b.pdf"
    path.write_bytes(sign_pdf(house.signer, make_pdf(), PdfOptions(), CLIENT))
    path.chmod(0o640)
    other.write_bytes(make_pdf())
    assert list(find_files([tmp_path])) == [path, other] or list(find_files([tmp_path])) == [other, path]
    assert renew_file(services, path, clock(), None).startswith("not due before")
    assert renew_file(services, other, clock(), None) == "carries no signature"
    before = path.read_bytes()
    clock.move(days=6 * 365)
    renew_services(house, 2)
    assert renew_file(services, path, clock() + timedelta(days=3 * 365), None).startswith("renewed, due again")
    assert path.read_bytes().startswith(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir() if "sqlite" not in one.name) == ["a.pdf", "b.pdf"]
    assert renew_file(services, path, clock(), None).startswith("not due before")
    after = path.read_bytes()
    clock.move(days=12 * 365)
    with pytest.raises(Conflict, match="too late"):
        renew_file(services, path, clock(), None)
    assert path.read_bytes() == after
