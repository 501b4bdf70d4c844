"""PAdES signatures, judged by poppler, OpenSSL and pyHanko's validator."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, NumberObject, pdf_name, pdf_string
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.status import PdfSignatureStatus
from pyhanko_certvalidator import ValidationContext

from audit.log import Actor
from core.content import Content
from core.db import Database
from core.errors import Conflict, Forbidden, Malformed, Rejected, Unavailable
from hsm.keys import KeySpec
from signer import pdf
from signer.models import Signature
from signer.options import PdfOptions
from tests.conftest import Clock
from tests.signer.house import CLIENT, OFFICER, SEAL, House, build_house, sign_pdf
from tests.signer.pdfs import HELLO, add_empty_field, judge, make_hybrid, make_pdf, qpdf, take_apart, text_of
from tests.software_keys import SoftwareKeys
from verifier.service import Verifier

pytestmark = pytest.mark.one_database  # the signed document is looked at

B_B = PdfOptions(level="B-B")


def validate(house: House, document: bytes, which: int = -1) -> PdfSignatureStatus:
    """pyHanko's verdict, trusting the house's root and nothing else, without revocation."""
    root = asn1_x509.Certificate.load(house.root.public_bytes(Encoding.DER))
    context = ValidationContext(trust_roots=[root], allow_fetching=False, revocation_mode="soft-fail", moment=house.now())
    reader = PdfFileReader(io.BytesIO(document), strict=False)
    return validate_pdf_signature(reader.embedded_signatures[which], context, ts_validation_context=context)


@pytest.mark.parametrize("spec", [KeySpec.P_256, KeySpec.P_384, KeySpec.RSA_2048])
def test_a_signature_is_valid_for_other_programs(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path, spec: KeySpec
) -> None:
    house = build_house(database, keys, clock, spec=spec)
    document = make_pdf(pages=2)
    signed = sign_pdf(house.signer, document, B_B, CLIENT)

    assert signed.startswith(document)
    assert judge(tmp_path, signed) == [True]
    assert text_of(tmp_path, signed) == text_of(tmp_path, document)
    assert validate(house, signed).bottom_line
    content, cms = take_apart(signed)
    (tmp_path / "content").write_bytes(content)
    (tmp_path / "cms").write_bytes(cms)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "cms", "-content", "content", "-out", "/dev/null"]
    command += ["-CAfile", str(house.root_file(tmp_path)), "-purpose", "any"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)


def test_the_signing_time_is_in_the_dictionary_and_not_in_the_cms(house: House, tmp_path: Path) -> None:
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-B", reason="Duyệt", location="Cà Mau"), CLIENT)
    _, cms = take_apart(signed)
    (tmp_path / "cms").write_bytes(cms)
    command = ["openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", str(tmp_path / "cms")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "signingTime" not in printed
    assert "id-smime-aa-signingCertificateV2" in printed
    signature = PdfFileReader(io.BytesIO(signed)).embedded_signatures[0]
    assert signature.self_reported_timestamp == house.now()
    assert signature.sig_object["/M"].endswith("+07'00'")
    assert signature.sig_object["/Reason"] == "Duyệt"
    assert signature.sig_object["/Name"] == "Nguyễn Thị Ký"
    assert signature.sig_object["/SubFilter"] == "/ETSI.CAdES.detached"


def test_b_t_carries_a_timestamp_over_the_signature_value(house: House, tmp_path: Path) -> None:
    signed = sign_pdf(house.signer, make_pdf(), PdfOptions(level="B-T"), CLIENT)
    assert judge(tmp_path, signed) == [True]
    status = validate(house, signed)
    assert status.bottom_line
    assert status.timestamp_validity is not None
    assert status.timestamp_validity.valid
    assert status.timestamp_validity.timestamp == house.now()


def test_every_hand_on_one_file_stays_valid(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> None:
    house = build_house(database, keys, clock, seal=True)
    first = sign_pdf(house.signer, make_pdf(), PdfOptions(signer=OFFICER), CLIENT)
    second = sign_pdf(house.signer, first, PdfOptions(signer=SEAL, page=1), CLIENT)
    third = sign_pdf(house.signer, second, PdfOptions(signer=OFFICER, level="B-B"), CLIENT)
    assert second.startswith(first)
    assert third.startswith(second)
    assert judge(tmp_path, third) == [True, True, True]
    names = [signature.field_name for signature in PdfFileReader(io.BytesIO(third)).embedded_signatures]
    assert names == ["Signature1", "Timestamp1", "Signature2", "Timestamp2", "Signature3"]


@pytest.mark.parametrize(
    "options",
    [
        ["--object-streams=generate"],
        ["--object-streams=disable"],
        ["--linearize", "--object-streams=disable"],
        ["--linearize", "--object-streams=generate"],
        ["--min-version=1.3", "--force-version=1.3", "--object-streams=disable"],
        ["--newline-before-endstream", "--qdf"],
    ],
    ids=" ".join,
)
def test_every_build_of_pdf_is_signed(house: House, tmp_path: Path, options: list[str]) -> None:
    document = qpdf(tmp_path, make_pdf(pages=3), *options)
    signed = sign_pdf(house.signer, document, PdfOptions(level="B-B", page=3), CLIENT)
    assert signed.startswith(document)
    assert judge(tmp_path, signed) == [True]
    subprocess.run(["qpdf", "--check", tmp_path / "judged.pdf"], check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize("change", ["hybrid", "no newline at the end", "size too small", "startxref one off"])
def test_files_that_bend_the_rules_are_signed(house: House, tmp_path: Path, change: str) -> None:
    document = {
        "hybrid": make_hybrid(),
        "no newline at the end": make_pdf().rstrip(),
        "size too small": make_pdf(xref_stream=False).replace(b"/Size 7", b"/Size 3"),
        "startxref one off": _startxref_one_off(make_pdf(xref_stream=False)),
    }[change]
    signed = sign_pdf(house.signer, document, B_B, CLIENT)
    assert signed.startswith(document)
    assert judge(tmp_path, signed) == [True]
    assert HELLO in text_of(tmp_path, signed)


def _startxref_one_off(document: bytes) -> bytes:
    head, _, tail = document.rpartition(b"startxref\n")
    return head + b"startxref\n%d\n%%%%EOF\n" % (int(tail.split()[0]) - 1)


@pytest.mark.parametrize("bits", ["40", "128", "256"])
def test_an_encrypted_file_needs_its_password(house: House, tmp_path: Path, bits: str) -> None:
    weak = [] if bits == "256" else ["--allow-weak-crypto"]
    document = qpdf(tmp_path, make_pdf(), *weak, "--encrypt", "mo cua", "chu nha", bits, "--")
    with pytest.raises(Rejected, match="is encrypted") as refused:
        sign_pdf(house.signer, document, B_B, CLIENT)
    assert refused.value.violations[0].field == "password"
    with pytest.raises(Rejected, match="does not open"):
        sign_pdf(house.signer, document, PdfOptions(level="B-B", password="sai"), CLIENT)
    signed = sign_pdf(house.signer, document, PdfOptions(level="B-B", password="mo cua", page=1), CLIENT)
    assert signed.startswith(document)
    assert judge(tmp_path, signed, password="mo cua") == [True]
    assert "Nguyễn Thị Ký" in text_of(tmp_path, signed, password="mo cua")


def test_a_file_anybody_may_open_needs_no_password(house: House, tmp_path: Path) -> None:
    document = qpdf(tmp_path, make_pdf(), "--encrypt", "", "chu nha", "256", "--")
    assert judge(tmp_path, sign_pdf(house.signer, document, B_B, CLIENT)) == [True]


def test_an_encryption_dictionary_in_pieces_is_read(house: House, tmp_path: Path) -> None:
    """Its crypt filters may be indirect objects, which must not be looked for behind the decryption they describe."""
    plain = qpdf(tmp_path, make_pdf(), "--encrypt", "", "chu nha", "256", "--", "--object-streams=disable")
    filters = b"/CF << /StdCF << /AuthEvent /DocOpen /CFM /AESV3 /Length 32 >> >>"
    assert filters in plain
    number = int(plain.rpartition(b"/Size ")[2].split()[0])
    padding = b" " * (len(filters) - len(b"/CF %d 0 R" % number))
    document = plain.replace(filters, b"/CF %d 0 R" % number + padding)
    previous = int(document.rpartition(b"startxref")[2].split()[0])
    start = len(document)
    body = b"%d 0 obj\n<< /StdCF << /AuthEvent /DocOpen /CFM /AESV3 /Length 32 >> >>\nendobj\n" % number
    trailer = document.rpartition(b"trailer ")[2].partition(b">>\nstartxref")[0]
    trailer = trailer.replace(b"/Size %d" % number, b"/Size %d" % (number + 1))
    table = b"xref\n%d 1\n%010d 00000 n \ntrailer %b/Prev %d >>\nstartxref\n%d\n%%%%EOF\n"
    document += body + table % (number, start, trailer, previous, start + len(body))
    signed = sign_pdf(house.signer, document, B_B, CLIENT)
    assert judge(tmp_path, signed) == [True]
    assert Verifier(database=house.database, now=house.now).verify(Content.of(signed)).signatures[0].intact is True


def test_a_certified_document_that_allows_nothing_more_is_refused(house: House) -> None:
    signed = sign_pdf(house.signer, make_pdf(xref_stream=False), B_B, CLIENT)
    certified = _certify(signed, permission=1)
    with pytest.raises(Conflict, match="certified"):
        sign_pdf(house.signer, certified, B_B, CLIENT)
    assert sign_pdf(house.signer, _certify(signed, permission=2), B_B, CLIENT)


def _certify(signed: bytes, permission: int) -> bytes:
    """Point the catalog's /Perms at a signature with a DocMDP transform (nobody checks its value here)."""
    writer = IncrementalPdfFileWriter(io.BytesIO(signed))
    parameters = DictionaryObject({pdf_name("/P"): NumberObject(permission)})
    reference = DictionaryObject({pdf_name("/TransformMethod"): pdf_name("/DocMDP"), pdf_name("/TransformParams"): parameters})
    signature = DictionaryObject({pdf_name("/Type"): pdf_name("/Sig"), pdf_name("/Reference"): ArrayObject([reference])})
    writer.root["/Perms"] = DictionaryObject({pdf_name("/DocMDP"): writer.add_object(signature)})
    writer.update_root()
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_existing_empty_field_is_signed_where_it_stands(house: House, tmp_path: Path) -> None:
    document = add_empty_field(make_pdf(), "LanhDao")
    signed = sign_pdf(house.signer, document, PdfOptions(level="B-B", field="LanhDao"), CLIENT)
    assert judge(tmp_path, signed) == [True]
    assert [item.field_name for item in PdfFileReader(io.BytesIO(signed)).embedded_signatures] == ["LanhDao"]
    assert "Ký bởi: Nguyễn Thị Ký" in text_of(tmp_path, signed)
    with pytest.raises(Conflict, match="signed already"):
        sign_pdf(house.signer, signed, PdfOptions(level="B-B", field="LanhDao"), CLIENT)


def test_a_field_that_is_not_there_is_refused_with_those_that_are(house: House) -> None:
    with pytest.raises(Rejected, match="'LanhDao'") as refused:
        sign_pdf(house.signer, add_empty_field(make_pdf(), "LanhDao"), PdfOptions(field="VanThu"), CLIENT)
    assert refused.value.violations[0].field == "field"


def test_a_fields_lock_is_carried_into_its_signature(house: House) -> None:
    names = ArrayObject([pdf_string("SoVanBan")])
    lock = DictionaryObject({pdf_name("/Action"): pdf_name("/Include"), pdf_name("/Fields"): names})
    document = add_empty_field(make_pdf(), "LanhDao", {"/Lock": lock})
    signed = sign_pdf(house.signer, document, PdfOptions(level="B-B", field="LanhDao"), CLIENT)
    signature = PdfFileReader(io.BytesIO(signed)).embedded_signatures[0]
    assert signature.fieldmdp is not None
    assert signature.fieldmdp.is_locked("SoVanBan")
    assert not signature.fieldmdp.is_locked("NgayThang")


def test_a_field_that_prescribes_its_signature_is_refused(house: House) -> None:
    seed = DictionaryObject({pdf_name("/Type"): pdf_name("/SV"), pdf_name("/Ff"): NumberObject(2)})
    with pytest.raises(Conflict, match="seed value"):
        sign_pdf(house.signer, add_empty_field(make_pdf(), "LanhDao", {"/SV": seed}), PdfOptions(field="LanhDao"), CLIENT)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "cannot be read"),
        (b"not a PDF at all", "cannot be read"),
        (make_pdf()[:-400], "cannot be read"),
        (make_pdf(pages=0), "has no page"),
    ],
    ids=["empty", "no PDF", "truncated", "no page"],
)
def test_what_is_no_whole_pdf_is_malformed(house: House, document: bytes, message: str) -> None:
    with pytest.raises(Malformed, match=message) as refused:
        sign_pdf(house.signer, document, B_B, CLIENT)
    assert refused.value.violations[0].field == "document"


def test_a_page_or_rectangle_outside_the_document_is_refused(house: House) -> None:
    with pytest.raises(Rejected, match="the document has 2"):
        sign_pdf(house.signer, make_pdf(pages=2), PdfOptions(page=3), CLIENT)
    with pytest.raises(Rejected, match="595 x 842"):
        sign_pdf(house.signer, make_pdf(), PdfOptions(rectangle="500,700,600,800"), CLIENT)
    assert sign_pdf(house.signer, make_pdf(rotate=90), PdfOptions(rectangle="700,500,842,595", level="B-B"), CLIENT)


def test_a_client_signs_only_for_whom_it_may(house: House) -> None:
    with pytest.raises(Rejected):
        sign_pdf(house.signer, make_pdf(), PdfOptions(signer="ai-do"), CLIENT)
    with pytest.raises(Forbidden):
        sign_pdf(house.signer, make_pdf(), B_B, Actor("stranger", "client"))


def test_without_time_stamping_nothing_leaves(house: House) -> None:
    def away(_data: bytes, _actor: Actor) -> bytes:
        raise Unavailable("tsa", "away")

    with pytest.raises(Unavailable, match="away"):
        sign_pdf(house.signer_with(away), make_pdf(), PdfOptions(), CLIENT)
    with house.database.read() as db:
        assert [row.state for row in db.query(Signature)] == ["signed"]  # the key was used, and the record says so


def test_a_hole_too_small_for_the_timestamp_is_made_again(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "TIMESTAMP_ROOM", 100)
    signer = house.signer_with(house.tsa.stamp)
    assert judge(tmp_path, sign_pdf(signer, make_pdf(), PdfOptions(), CLIENT)) == [True]
    assert judge(tmp_path, sign_pdf(signer, make_pdf(), PdfOptions(), CLIENT)) == [True]
    with house.database.read() as db:
        assert db.query(Signature).count() == 3  # only the first document was signed twice
