"""Lint blocks before the key is used; and pkilint's own programs find nothing in what every profile makes."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from pkilint.bin import lint_crl, lint_etsi_cert, lint_ocsp_response, lint_pkix_cert

from core.db import Database
from core.errors import Rejected, Unavailable
from core.settings import Config
from hsm.keys import KeySpec
from pki import issuer, ocsp, orders
from pki.authorities import Organisation, create_authorities
from pki.certificates import authority_certificate, authority_named
from pki.crl_der import REMOVED, CrlDraft, Entry
from pki.issuer import Issuer, Urls, build_draft
from pki.lint import lint_certificate, lint_set
from pki.lint_crl import break_crl_rules, check_crl_draft, sample_entries
from pki.lint_rules import CRL_RULES, RULES, Context, break_rules
from pki.profile import Profile, build_subject
from pki.profile_files import DEFAULTS
from registry import registry
from tests.conftest import Clock
from tests.pki.house import ADMIN, ANYBODY, REFERENCE, House, add_subscribers, ocsp_request
from tests.software_keys import SoftwareKeys, make_key

pytestmark = pytest.mark.one_database  # certificates and lists are looked at

URLS = Urls("http://ca.example.gov.vn")
_NO_IDENTIFIER = {"etsi.en_319_412_3.leg-4.2.1-2.organization_identifier_attribute_absent"}
ETSI = {
    "officer": ("NCP-NATURAL-PERSON-CERTIFICATE", {"etsi.en_319_412_2.nat-4.2.4-1.required_attribute_missing"}),
    "agency-seal": ("NCP-LEGAL-PERSON-CERTIFICATE", _NO_IDENTIFIER),
    "device": ("NCP-LEGAL-PERSON-CERTIFICATE", _NO_IDENTIFIER),
    "tls-server": ("NCP-W-LEGAL-PERSON-FINAL-CERTIFICATE", _NO_IDENTIFIER),
    "tsa": ("NCP-LEGAL-PERSON-CERTIFICATE", {"etsi.en_319_412_2.gen-4.3.10-1.eku_extension_is_critical"}),
}
"""The type of lint_etsi_cert that fits each profile, and the one thing it says against each; why that stays is in
docs/operations.md. For certificates of authorities and OCSP responders it has no type."""


class _Named(io.BytesIO):
    """Bytes that are called something, as standard input is."""

    name = "input"


def _judged(main: Callable[[list[str]], int], der: bytes, *arguments: str) -> str:
    """What one of pkilint's programs says of a file on its standard input, ERROR and FATAL only."""
    said = io.StringIO()
    with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(_Named(der)))
        main(["lint", "-s", "ERROR", *arguments, "-"])
    return said.getvalue().strip()


def _one_of_each(house: House) -> dict[str, bytes]:
    particulars: dict[str, dict[str, Any]] = {
        "officer": {"uid": "CCCD:001099000001", "email": "a@example.gov.vn"},
        "agency-seal": {"uid": "MST:0100000003"},
        "device": {},
        "tls-server": {"dns_names": ["www.example.gov.vn"]},
    }
    with house.database.write() as db:
        agency = registry.agency_with_code(db, "H26.1")
        for profile, more in particulars.items():
            kind = DEFAULTS[profile].holder
            assert kind is not None
            registry.add_subscriber(
                db, at=house.clock(), actor=ADMIN, handle=f"x-{profile}", kind=kind, common_name="Tên", agency=agency, **more
            )
    for profile in particulars:
        wanted: dict[str, Any] = {"profile": profile, "subscriber": f"x-{profile}", "reference": REFERENCE, "actor": ADMIN}
        for spec in (KeySpec.P_256, KeySpec.RSA_3072):
            house.ca.issue_for_key(spec=spec, **wanted)
    return {f"{row.profile}-{row.id}": row.der or b"" for row in house.rows("issued")}


def test_every_certificate_of_every_profile_pleases_pkilint_and_etsi(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path
) -> None:
    house = House(database, keys, clock, Config(home=tmp_path, public_url=URLS.base))  # a public name, as EN 319 412 wants
    organisation = Organisation("Cơ quan Thử nghiệm", "Hà Nội", "MD:VN-H26")
    create_authorities(house.ca, house.crl, organisation=organisation, actor=ADMIN)
    add_subscribers(database, clock)
    found = _one_of_each(house)
    made = {name.rpartition("-")[0] for name in found}
    assert made == set(DEFAULTS) - {"cross-ca"}, "a cross certificate is made in a ceremony"
    for name, der in found.items():
        assert _judged(lint_pkix_cert.main, der) == "", name
        kind, tolerated = ETSI.get(name.rpartition("-")[0], (None, set()))
        if kind is not None:
            said = _judged(lint_etsi_cert.main, der, "-t", kind)
            assert set(re.findall(r"^\s+(\S+) \((?:ERROR|FATAL)\)", said, re.MULTILINE)) == tolerated, said


def test_every_kind_of_crl_pleases_pkilint(house: House) -> None:
    root = _authority(house, "root")
    kinds = [flag.value for flag in x509.ReasonFlags]
    entries = [Entry(f"{number:x}", house.clock(), reason, None) for number, reason in enumerate(kinds, 1)]
    entries.append(Entry("ff", house.clock(), "unspecified", house.clock() - timedelta(days=1)))
    for partition, base in ((0, None), (2, None), (0, 1)):
        kept = entries if base else [entry for entry in entries if entry.reason != REMOVED]
        draft = _crl(root, house, kept, partition=partition, base_number=base)
        check_crl_draft(draft, URLS)
    for name, kind in (("root", "ARL"), ("issuing", "CRL")):
        assert _judged(lint_crl.main, house.crl.current(name).der, "-t", kind, "-p", "PKIX") == ""


def test_every_form_of_ocsp_response_pleases_pkilint(house: House) -> None:
    issued = house.issue()
    for algorithm in (hashes.SHA1(), hashes.SHA256()):
        for nonce in (None, bytes(32)):
            answer = house.ocsp.respond(ocsp_request(issued, algorithm=algorithm, nonce=nonce), ANYBODY)
            assert _judged(lint_ocsp_response.main, answer) == ""


def test_nothing_is_asked_of_the_key_for_a_draft_that_lint_refuses(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name no rule of the registry keeps out, made by breaking the registry's rule."""
    monkeypatch.setattr(orders, "build_alternative_names", lambda *_, **__: (x509.DNSName("not a host"),))
    before = house.rows("issued"), house.rows("intended")
    signed: list[str] = []
    monkeypatch.setattr(issuer.Draft, "sign", lambda *_: signed.append("signed"))
    with pytest.raises(Rejected) as caught:
        house.issue()
    assert {item.message.split(":")[0] for item in caught.value.violations} == {
        "lint condau.extensions",
        "lint pkix.invalid_domain_name_syntax",
    }
    assert signed == []
    assert [len(rows) for rows in (house.rows("issued"), house.rows("intended"))] == [len(rows) for rows in before]


def test_a_crl_that_lint_refuses_is_not_signed(house: House) -> None:
    root = _authority(house, "root")
    twice = [Entry("1", house.clock(), "unspecified")] * 2
    faults: list[tuple[list[Entry], dict[str, Any]]] = [
        (twice, {}),
        ([], {"next_update": house.clock()}),
        ([], {"base_number": 3}),
        ([Entry("1", house.clock(), REMOVED)], {}),
        ([Entry("0", house.clock(), "unspecified")], {}),
    ]
    for entries, change in faults:
        with pytest.raises(Unavailable, match=r"lint condau\.crl_"):
            check_crl_draft(dataclasses.replace(_crl(root, house, entries), **change), URLS)


def test_the_first_answer_of_each_form_is_linted_and_withheld_where_that_finds_a_fault(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    linted: list[bytes] = []
    monkeypatch.setattr(ocsp, "check_ocsp_lints", linted.append)
    responder, first, second = house.ocsp, house.issue(), house.issue()
    for issued in (first, second):
        responder.respond(ocsp_request(issued), ANYBODY)
    assert len(linted) == 1
    responder.respond(ocsp_request(first, nonce=bytes(32)), ANYBODY)
    assert len(linted) == 2

    def refuse(_: bytes) -> None:
        raise Unavailable("pki", "a finding")

    monkeypatch.setattr(ocsp, "check_ocsp_lints", refuse)
    with pytest.raises(Unavailable, match="a finding"):
        house.ocsp.respond(ocsp_request(first), ANYBODY)


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("condau.validity", {"max_days": 5}),
        ("condau.purposes", {"usages": frozenset({"digital_signature"})}),
        ("condau.purposes", {"extended": tuple(reversed(DEFAULTS["officer"].extended))}),
        ("condau.purposes", {"policy": "1.2.3"}),
        ("condau.extensions", {"extended_critical": True}),
        ("condau.extensions", {"policy": None}),
        ("condau.extensions", {"status_checked": False}),
        ("condau.extensions", {"host_names": True}),
        ("condau.extensions", {"key_days": 5}),
    ],
)
def test_a_certificate_that_is_not_its_profile_breaks_a_rule(house: House, rule: str, change: dict[str, Any]) -> None:
    certificate, context = _signed(house, DEFAULTS["officer"])
    assert lint_certificate(certificate, context) == []
    other = dataclasses.replace(context, profile=dataclasses.replace(context.profile, **change))
    assert rule in {name for name, _ in break_rules(certificate, other)}


def test_names_in_another_order_or_encoding_break_a_rule(house: House) -> None:
    good = list(build_subject(organization="Bộ", units=["Cục"], locality="Huế", common_name="Tên", uid="MST:0100000003"))
    for attributes, rule in (
        (good[::-1], "condau.subject_order"),
        (good[1:], "condau.subject_order"),
        ([*good, good[-1]], "condau.subject_order"),
        ([*good, x509.NameAttribute(NameOID.TITLE, "Ông")], "condau.subject_order"),
        ([*good[:-1], x509.NameAttribute(NameOID.USER_ID, "Te\u0302n")], "condau.subject_encoding"),
    ):
        certificate, context = _signed(house, DEFAULTS["officer"], subject=x509.Name(attributes), lint=False)
        assert rule in {name for name, _ in break_rules(certificate, context)}


def test_an_issuer_is_not_outlived_nor_mistaken(house: House) -> None:
    certificate, context = _signed(house, DEFAULTS["officer"])
    assert context.issuer is not None
    root = _authority(house, "root")
    assert "condau.issuer_name" in {
        name for name, _ in break_rules(certificate, dataclasses.replace(context, issuer_subject=root.subject))
    }
    assert "condau.key_identifiers" in {name for name, _ in break_rules(certificate, dataclasses.replace(context, issuer=root))}


def test_the_set_of_lints_names_its_versions_and_every_rule() -> None:
    name, lints = lint_set()
    assert name.startswith("pkilint-")
    assert len(name) <= 64
    assert {*RULES, *CRL_RULES} < set(lints)
    assert len(lints) > 100


def test_a_sample_has_one_of_each_kind(house: House) -> None:
    entries = [Entry(f"{number:x}", house.clock(), "superseded") for number in range(1, 1000)]
    odd = [Entry("aaaa", house.clock(), "keyCompromise", house.clock()), Entry("bbbb", house.clock(), "unspecified")]
    sample = sample_entries([*entries, *odd])
    assert len(sample) == 52
    assert set(odd) <= set(sample)


def test_our_rules_take_a_long_crl_in_little_time(house: House) -> None:
    """100,000 entries; building and reading it may take 3 s in all."""
    entries = [Entry(f"{number:x}", house.clock(), "superseded") for number in range(1, 100_001)]
    draft = _crl(_authority(house, "root"), house, entries)
    begin = time.process_time()
    assert list(break_crl_rules(draft)) == []
    check_crl_draft(draft, URLS)
    assert time.process_time() - begin < 1.5


def _authority(house: House, name: str) -> x509.Certificate:
    with house.database.read() as db:
        return authority_certificate(authority_named(db, name))


def _crl(authority: x509.Certificate, house: House, entries: list[Entry], **change: Any) -> CrlDraft:
    now = house.clock()
    draft = CrlDraft("root", authority, 0, 2, None, now, now + timedelta(days=1), entries)
    return dataclasses.replace(draft, **change)


def _signed(
    house: House, profile: Profile, *, subject: x509.Name | None = None, lint: bool = True
) -> tuple[x509.Certificate, Context]:
    """A certificate by a software authority of the house's names, and what it is measured by."""
    issuing = _authority(house, "issuing")
    name = subject or build_subject(organization="Bộ", locality="Huế", common_name="Tên")
    signer = Issuer(1, "issuing", "ca-issuing", issuing.subject, issuing.public_key(), issuing)  # type: ignore[arg-type]  # P-256
    with pytest.MonkeyPatch.context() as patch:
        if not lint:
            patch.setattr(issuer, "check_certificate_lints", lambda *_: None)
        draft = build_draft(
            profile,
            subject=name,
            public_key=make_key(KeySpec.P_256).public_key(),
            issuer=signer,
            not_before=house.clock(),
            not_after=house.clock() + timedelta(days=9),
            urls=URLS,
        )
    return draft.builder.sign(make_key(KeySpec.P_256), hashes.SHA256()), Context(profile, issuing.subject, issuing)
