"""The door: what it is, which trust counts, and that whatever comes in is a verdict."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.content import Content
from core.db import Database
from core.errors import TooLarge
from pki.models import Authority, Crl, CrlState
from tests.verifier.authorities import NOW, Pki
from tests.verifier.files import encrypted_pdf, plain_pdf, sign
from tests.verifier.test_timestamps import DATA, token
from verifier.service import Verifier, sniff
from verifier.verdict import Conclusion, Indication, SubIndication

pytestmark = pytest.mark.one_database  # the verdict on a document


@pytest.fixture
def verifier(database: Database, pki: Pki) -> Verifier:
    """Trusts the test's root, by the tables the authorities keep."""
    lists = pki.trust().crls
    with database.write() as db:
        for number, (name, identity, parent) in enumerate((("root", pki.root, None), ("issuing", pki.issuing, 1)), start=1):
            subject = identity.certificate.subject.rfc4514_string()
            der = identity.certificate.public_bytes(Encoding.DER)
            db.add(
                Authority(
                    id=number, name=name, subject=subject, key_label=name, certificate_der=der, parent_id=parent, crl_number=1
                )
            )
            db.flush()
            db.add(
                Crl(
                    authority_id=number,
                    number=1,
                    status_version=0,
                    state=CrlState.ISSUED,
                    der=lists[number - 1],
                    this_update=NOW,
                    next_update=NOW,
                )
            )
    return Verifier(database=database, now=lambda: NOW)


def test_a_signed_pdf_is_valid_in_both_languages(verifier: Verifier, pki: Pki) -> None:
    pdf = sign(plain_pdf(), pki)
    report = verifier.verify(Content.of(pdf))
    assert (report.format, report.conclusion, report.indication) == ("pdf", Conclusion.VALID, Indication.TOTAL_PASSED)
    assert report.message.vi.startswith("Hợp lệ")
    assert report.message.en.startswith("Valid")
    assert report.digest_sha256 == hashlib.sha256(pdf).hexdigest()
    assert report.size == len(pdf)
    assert report.verified_at == NOW


def test_one_bad_signature_spoils_the_file(verifier: Verifier, pki: Pki) -> None:
    pdf = sign(sign(plain_pdf(), pki), Pki(), field="Second")
    report = verifier.verify(Content.of(pdf))
    assert [one.indication for one in report.signatures] == [Indication.TOTAL_PASSED, Indication.INDETERMINATE]
    assert report.conclusion is Conclusion.INDETERMINATE


def test_a_file_without_signatures_is_not_called_valid(verifier: Verifier) -> None:
    report = verifier.verify(Content.of(plain_pdf()))
    assert (report.conclusion, report.indication) == (Conclusion.UNSIGNED, Indication.INDETERMINATE)
    assert [finding.code for finding in report.findings] == ["NO_SIGNATURE"]


def test_an_encrypted_file_is_judged_with_its_password(verifier: Verifier, pki: Pki) -> None:
    document = Content.of(sign(encrypted_pdf("mo cua"), pki, password="mo cua"))
    assert verifier.verify(document, password="mo cua").conclusion is Conclusion.VALID
    for password in (None, "sai"):
        report = verifier.verify(document, password=password)
        assert (report.conclusion, [finding.code for finding in report.findings]) == (Conclusion.INDETERMINATE, ["ENCRYPTED"])


@pytest.mark.parametrize(("start", "size"), [(b"<a/>", 100_000_001), (b"\x30\x82", 10_000_001)])
def test_only_a_pdf_may_be_larger_than_memory(verifier: Verifier, tmp_path: Path, start: bytes, size: int) -> None:
    with (tmp_path / "large").open("wb+") as file:
        file.write(start)
        file.truncate(size)
        document = Content.of_file(file)
    with pytest.raises(TooLarge):
        verifier.verify(document)


def test_what_a_timestamp_stamps_may_be_larger_than_memory(verifier: Verifier, pki: Pki, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb+") as file:
        file.truncate(40_000_000)
        data = Content.of_file(file)
    assert verifier.verify(Content.of(token(pki, data=bytes(40_000_000))), data=data).conclusion is Conclusion.VALID


def test_a_timestamp_is_judged_with_the_data_sent_along(verifier: Verifier, pki: Pki) -> None:
    stamp = token(pki)
    assert verifier.verify(Content.of(stamp), data=Content.of(DATA)).conclusion is Conclusion.VALID
    assert verifier.verify(Content.of(stamp), data=Content.of(b"khac")).conclusion is Conclusion.INVALID
    assert verifier.verify(Content.of(stamp)).conclusion is Conclusion.INDETERMINATE


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"plain text",
        b"%PDF-1.7\n",
        b"<",
        b"<a",
        b"\x30\x03\x02\x01\x00",
        b"\x30\x80" * 3000,
        b"PK\x03\x04",
        b"\xff\xfe<\x00a\x00",
    ],
)
def test_what_cannot_be_read_is_a_failure_of_form(verifier: Verifier, document: bytes) -> None:
    report = verifier.verify(Content.of(document))
    assert (report.conclusion, report.sub_indication) == (Conclusion.INVALID, SubIndication.FORMAT_FAILURE)
    assert [finding.code for finding in report.findings] == ["UNREADABLE"]


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b"%PDF-1.4", "pdf"),
        (b"junk before\n%PDF-1.4", "pdf"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><a/>", "xml"),
        (b"  \n<a/>", "xml"),
        (b"\x30\x82\x01\x00", "timestamp"),
        (b"GIF89a", "unknown"),
    ],
)
def test_the_first_bytes_say_what_it_is(document: bytes, kind: str) -> None:
    assert sniff(document) == kind


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from([b"%PDF-1.7\n", b"<a>", b"\x30\x82", b""]), rest=st.binary(max_size=400))
def test_any_bytes_are_a_verdict(verifier: Verifier, start: bytes, rest: bytes) -> None:
    report = verifier.verify(Content.of(start + rest))
    assert report.conclusion in {Conclusion.INVALID, Conclusion.UNSIGNED, Conclusion.INDETERMINATE}
