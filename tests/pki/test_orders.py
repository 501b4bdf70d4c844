"""What is drawn up for a request: every violation at once, the tree in the subject, terms, references, closed agencies."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from audit.log import AuditEntry
from core.errors import Conflict, Rejected
from hsm.keys import KeySpec
from pki import orders
from pki.ca import IssuedCertificate
from pki.models import LintSet, ProfileVersion
from pki.place import Place
from pki.profile import Profile, build_subject, profile_digest
from pki.profile_files import DEFAULTS, SHIPPED, parse_profile
from registry import agencies, registry
from registry.agencies import Change
from registry.models import Agency, SubscriberKind
from tests.pki.house import ADMIN, REFERENCE, House, make_csr


def _issue(house: House, subscriber: str, profile: str, **more: Any) -> IssuedCertificate:
    return house.ca.issue_for_key(
        profile=profile, subscriber=subscriber, spec=KeySpec.P_256, actor=ADMIN, **{"reference": REFERENCE, **more}
    )


def _agency(house: House, code: str, parent: str | None = None) -> None:
    with house.database.write() as db:
        above = None if parent is None else registry.agency_with_code(db, parent)
        name, since = f"Cơ quan {code}", house.clock() - timedelta(days=99)
        registry.add_agency(db, at=house.clock(), actor=ADMIN, code=code, name=name, locality="Huế", parent=above, since=since)


def _subscriber(house: House, handle: str, kind: SubscriberKind, agency: str, **more: Any) -> None:
    with house.database.write() as db:
        found = registry.agency_with_code(db, agency)
        registry.add_subscriber(
            db, at=house.clock(), actor=ADMIN, handle=handle, kind=kind, common_name=f"Tên {handle}", agency=found, **more
        )


def _names(issued: IssuedCertificate) -> list[str]:
    return [str(attribute.value) for attribute in issued.certificate.subject]


def test_every_violation_of_a_request_is_told_at_once(house: House) -> None:
    """Profile, holder, names, key, proof of possession, term and reference."""
    weak = make_csr(rsa.generate_private_key(65537, 1024))
    with pytest.raises(Rejected) as caught:
        house.ca.issue_from_csr(weak, profile="tls-server", subscriber="officer", days=4000, reference="  ", actor=ADMIN)
    assert [item.field for item in caught.value.violations] == ["csr", "reference", "days", "profile", "subscriber"]


@pytest.mark.parametrize("reference", ["", " ", "a\nb", "x" * 201])
def test_a_certificate_needs_a_written_request(house: House, reference: str) -> None:
    with pytest.raises(Rejected, match="written request"):
        _issue(house, "officer", "officer", reference=reference)


def test_the_reference_is_kept_and_logged(house: House) -> None:
    issued = _issue(house, "officer", "officer", reference=" 12/PYC-VP ngày 1/7/2025 ")
    assert house.row(issued.serial).request_reference == "12/PYC-VP ngày 1/7/2025"
    with house.database.read() as db:
        query = sa.select(AuditEntry).where(AuditEntry.subject == issued.serial).order_by(AuditEntry.id)
        intend, issue = db.scalars(query)
    assert intend.detail["reference"] == "12/PYC-VP ngày 1/7/2025"
    assert intend.detail["profile_sha256"] == issue.detail["profile_sha256"] == house.row(issued.serial).profile_sha256
    assert intend.detail["lints"] == house.row(issued.serial).lints


def test_the_rules_in_force_are_on_record(house: House) -> None:
    row = house.row(_issue(house, "officer", "officer").serial)
    with house.database.read() as db:
        version = db.get_one(ProfileVersion, ("officer", 1))
        lints = db.get_one(LintSet, row.lints).lints
    assert (version.sha256, version.terms["max_days"]) == (row.profile_sha256, 1826)
    assert "condau.serial" in lints
    assert any(name.startswith("pkix.") for name in lints)


def test_the_subject_follows_the_tree(house: House) -> None:
    _agency(house, "H40")
    _agency(house, "H40.1", "H40")
    _agency(house, "H40.1.2", "H40.1")
    _subscriber(house, "vien-chuc", SubscriberKind.OFFICER, "H40.1.2", uid="CCCD:001099000001", email="a@example.gov.vn")
    _subscriber(house, "con-dau", SubscriberKind.AGENCY, "H40.1.2", uid="MST:0100000003")
    _subscriber(house, "con-dau-tinh", SubscriberKind.AGENCY, "H40")
    tree = ["VN", "Cơ quan H40", "Cơ quan H40.1"]
    officer = _issue(house, "vien-chuc", "officer")
    ends = ["Cơ quan H40.1.2", "Huế", "Tên vien-chuc", "CCCD:001099000001", "a@example.gov.vn"]
    assert _names(officer) == [*tree, *ends]
    other = officer.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert other.get_values_for_type(x509.RFC822Name) == ["a@example.gov.vn"]
    assert _names(_issue(house, "con-dau", "agency-seal")) == [*tree, "Huế", "Tên con-dau", "MST:0100000003"]
    assert _names(_issue(house, "con-dau-tinh", "agency-seal")) == ["VN", "Cơ quan H40", "Huế", "Tên con-dau-tinh"]


def test_a_new_name_counts_from_its_day_on_and_old_certificates_keep_theirs(house: House) -> None:
    before = _issue(house, "officer", "officer")
    house.clock.move(seconds=1)
    with house.database.write() as db:
        agency = registry.agency_with_code(db, "H26.1")
        agencies.rename(db, agency, Change(house.clock(), ADMIN, house.clock() + timedelta(days=1)), name="Sở Mới")
    assert _names(_issue(house, "officer", "officer"))[1] == "Sở Thử nghiệm"
    house.clock.move(days=2)
    assert _names(_issue(house, "officer", "officer"))[1] == "Sở Mới"
    assert "Sở Thử nghiệm" in house.row(before.serial).subject


def test_a_server_is_known_by_its_host_names(house: House) -> None:
    _subscriber(house, "may-chu", SubscriberKind.DEVICE, "H26.1", dns_names=["www.example.gov.vn", "api.example.gov.vn"])
    issued = _issue(house, "may-chu", "tls-server")
    assert _names(issued)[-1] == "www.example.gov.vn"
    names = issued.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.example.gov.vn", "api.example.gov.vn"]
    with pytest.raises(Rejected, match="host names"):
        _issue(house, "device", "tls-server")


def test_new_ones_live_five_years_and_renewals_three(house: House) -> None:
    lives = _issue(house, "officer", "officer", days=1826).certificate
    assert lives.not_valid_after_utc - lives.not_valid_before_utc == timedelta(days=1826, seconds=-1)
    with pytest.raises(Rejected, match="1 to 1826"):
        _issue(house, "officer", "officer", days=1827)
    with pytest.raises(Rejected, match=r"renewal .* 1 to 1096"):
        _issue(house, "officer", "officer", days=1097, renewal=True)
    _issue(house, "officer", "officer", days=1096, renewal=True)


def test_a_time_stamping_key_is_used_for_less_than_its_certificate(house: House) -> None:
    (row,) = (row for row in house.rows("issued") if row.profile == "tsa")
    certificate = x509.load_der_x509_certificate(row.der or b"")
    used = certificate.extensions.get_extension_for_class(x509.PrivateKeyUsagePeriod).value
    assert used.not_after is not None
    assert used.not_before is not None
    assert used.not_after - used.not_before == timedelta(days=DEFAULTS["tsa"].key_days or 0)
    assert row.not_after - row.not_before > timedelta(days=2900)


def test_a_closed_agency_gets_nothing_and_is_told_why(house: House) -> None:
    _agency(house, "H62")
    _agency(house, "H44")
    _subscriber(house, "chuyen", SubscriberKind.OFFICER, "H62")
    effective = house.clock() + timedelta(days=1)
    with house.database.write() as db:
        gone, into = registry.agency_with_code(db, "H62"), registry.agency_with_code(db, "H44")
        agencies.merge(db, gone, Change(house.clock(), ADMIN, effective), into=into)
    _issue(house, "chuyen", "officer")
    house.clock.move(days=1)
    with pytest.raises(Conflict, match="merged into H44"):
        _issue(house, "chuyen", "officer")
    with pytest.raises(Conflict, match="merged into H44"):
        house.ca.issue_from_csr(make_csr(), profile="officer", subscriber="chuyen", reference=REFERENCE, actor=ADMIN)
    with house.database.write() as db:
        subscriber = registry.subscriber_named(db, "chuyen")
        registry.change_subscriber(db, subscriber, at=house.clock(), actor=ADMIN, agency=registry.agency_with_code(db, "H44"))
    assert _names(_issue(house, "chuyen", "officer"))[1] == "Cơ quan H44"


def test_an_agency_with_a_long_name_is_called_by_a_recorded_shorter_one(house: House) -> None:
    long = "Ban Quản lý dự án đầu tư xây dựng các công trình giao thông và nông nghiệp tỉnh"
    at = house.clock()
    with house.database.write() as db:
        above = registry.add_agency(db, at=at, actor=ADMIN, code="H63", name=long, locality="Huế")
        registry.add_agency(db, at=at, actor=ADMIN, code="H63.1", name="Phòng " + long, locality="Huế", parent=above)
    _subscriber(house, "dai", SubscriberKind.OFFICER, "H63.1")
    with pytest.raises(Rejected) as caught:
        _issue(house, "dai", "officer")
    for item, length in zip(caught.value.violations, (len(long), len(long) + 6), strict=True):
        assert f"{length} characters and a certificate holds 64: record a certificate_name" in item.message
    with pytest.raises(Rejected, match="64 printable characters"):
        registry.checked_short("x" * 65)
    with house.database.write() as db:
        for code, short in (("H63", "BQLDA tỉnh"), ("H63.1", "Phòng BQLDA tỉnh")):
            agency = registry.agency_with_code(db, code)
            agencies.rename(db, agency, Change(at, ADMIN, at + timedelta(hours=1)), name=long, certificate_name=short)
    house.clock.move(hours=2)
    assert _names(_issue(house, "dai", "officer"))[1:3] == ["BQLDA tỉnh", "Phòng BQLDA tỉnh"]
    with house.database.write() as db:
        below = registry.agency_with_code(db, "H63.1")
        moved = agencies.move(db, below, Change(at, ADMIN, at + timedelta(hours=3)), parent=None)
        assert (moved.name, moved.certificate_name) == (long, "Phòng BQLDA tỉnh")


def test_a_profile_is_issued_by_the_newest_generation_of_the_authority_it_names(house: House) -> None:
    subject = build_subject(organization="Cơ quan", locality="Huế", common_name="Other CA")
    for name, generation in (("other", 1), ("other-g2", 2), ("third", 1)):
        place = Place(alias=name.partition("-")[0], generation=generation)
        house.ca.create_authority(name, subject=subject, spec=KeySpec.P_256, issuer="root", actor=ADMIN, place=place)

    def issuer(profile: Profile) -> str:
        with house.database.read() as db:
            return orders.load_issuer_of(db, profile).name

    device = DEFAULTS["device"]
    named = replace(device, version=2, issued_by="other")
    assert (issuer(device), issuer(named)) == ("third", "other-g2")
    assert profile_digest(device) != profile_digest(replace(device, issued_by="other"))
    with pytest.raises(Conflict, match="no issuing authority has that alias"):
        issuer(replace(device, issued_by="root"))
    with pytest.raises(Rejected, match="profile with a holder"):
        parse_profile("tsa", (SHIPPED / "tsa.toml").read_text(encoding="utf-8") + '\nissued_by = "issuing"\n')


def test_two_closures_at_once_are_one(house: House) -> None:
    _agency(house, "H62")
    barrier, results = threading.Barrier(2), []

    def close() -> None:
        barrier.wait(60)
        try:
            with house.database.write() as db:
                agency: Agency = registry.agency_with_code(db, "H62")
                agencies.close(db, agency, Change(house.clock(), ADMIN, house.clock()))
            results.append("closed")
        except Conflict:
            results.append("conflict")

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["closed", "conflict"]
