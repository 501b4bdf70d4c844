"""Verdicts on XML signatures that others made, in the shapes the field uses, and on our own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.db import Database
from core.errors import Rejected
from hsm.keys import KeySpec
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.house import SEAL, House, build_house, furnish_with_seal, open_house
from tests.software_keys import SoftwareKeys
from tests.xml_tools import DOCUMENT, DS, judge, sign, xmlsec1_accepts, xmlsec1_sign
from verifier.verdict import Indication, SignatureVerdict, SubIndication

pytestmark = pytest.mark.one_database  # the verdict on a document

C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N11 = "http://www.w3.org/2006/12/xml-c14n11"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = DS + "enveloped-signature"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
ECDSA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
RSA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With a house in it for a test that begins in one."""
    return databases.furnished(furnish_with_seal) if "house" in request.fixturenames else databases.plain()


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    """A house with an officer and a seal, P-256."""
    return open_house(database, keys, clock)


def reference(uri: str, *transforms: str, digest: str = SHA256) -> str:
    steps = "".join(f'<Transform Algorithm="{transform}"/>' for transform in transforms)
    listed = f"<Transforms>{steps}</Transforms>" if steps else ""
    return f'<Reference URI="{uri}">{listed}<DigestMethod Algorithm="{digest}"/><DigestValue/></Reference>'


def template(*references: str, c14n: str = C14N, method: str = ECDSA256, rest: str = "") -> str:
    return (
        f'<Signature xmlns="{DS}"><SignedInfo><CanonicalizationMethod Algorithm="{c14n}"/><SignatureMethod Algorithm="{method}"/>'
        f"{''.join(references)}</SignedInfo><SignatureValue/><KeyInfo><X509Data/></KeyInfo>{rest}</Signature>"
    )


def codes(verdict: SignatureVerdict) -> list[str]:
    return [finding.code for finding in verdict.findings]


@pytest.mark.parametrize("spec", list(KeySpec))
def test_our_own_signature_is_valid_with_every_kind_of_key(
    database: Database, keys: SoftwareKeys, clock: Clock, spec: KeySpec
) -> None:
    house = build_house(database, keys, clock, spec=spec)
    signed = sign(house)
    (verdict,) = judge(house, signed)
    assert (verdict.indication, verdict.level, verdict.intact) == (Indication.TOTAL_PASSED, "B-B", True)
    assert verdict.claimed_at == house.now()
    (changed,) = judge(house, signed.replace(b"5 &lt; 6", b"5 &lt; 7"))
    assert (changed.sub_indication, changed.intact) == (SubIndication.HASH_FAILURE, False)


def test_two_signatures_with_timestamps_prove_their_times_and_say_who(house: House, clock: Clock) -> None:
    once = sign(house, level="B-T")
    first_at = clock()
    clock.move(minutes=10)
    twice = sign(house, once, signer=SEAL, level="B-T")
    officer, seal = judge(house, twice)
    for verdict, at in ((officer, first_at), (seal, clock())):
        assert (verdict.indication, verdict.level) == (Indication.TOTAL_PASSED, "B-T")
        assert verdict.proven_at == at
        assert verdict.coverage is not None
        assert verdict.coverage.whole_file
        assert verdict.coverage.elements == ("/HoSo",)
    assert officer.signer is not None
    assert officer.signer.common_name == "Nguyễn Thị Ký"
    assert seal.signer is not None
    assert seal.signer.common_name == "Ủy ban nhân dân xã Thử Nghiệm"


def test_a_timestamp_over_another_value_proves_nothing(house: House) -> None:
    signed, other = (sign(house, level="B-T").decode() for _ in range(2))
    cut = [text.partition("EncapsulatedTimeStamp>")[2].partition("</")[0] for text in (signed, other)]
    (verdict,) = judge(house, signed.replace(cut[0], cut[1]).encode())
    assert verdict.proven_at is None
    assert [timestamp.sub_indication for timestamp in verdict.timestamps] == [SubIndication.HASH_FAILURE]
    (unreadable,) = judge(house, signed.replace(cut[0], "?").encode())
    assert [timestamp.sub_indication for timestamp in unreadable.timestamps] == [SubIndication.FORMAT_FAILURE]


def test_a_document_without_signature_has_no_verdict(house: House) -> None:
    assert judge(house, DOCUMENT) == []


def test_what_is_no_readable_xml_is_refused_before_it_means_anything(house: House) -> None:
    signed = sign(house)
    declaration = b'<!DOCTYPE HoSo [<!ATTLIST HoSo Id ID "x"><!ENTITY e SYSTEM "file:///etc/hostname">]>'
    for document in (b"<a>", signed.replace(b"<HoSo", declaration + b"<HoSo", 1)):
        with pytest.raises(Rejected) as refused:
            judge(house, document)
        assert [violation.field for violation in refused.value.violations] == ["document"]


@pytest.mark.interop
@pytest.mark.parametrize(
    ("references", "c14n", "whole"),
    [
        ([reference("", ENVELOPED)], C14N, True),
        ([reference("", ENVELOPED, C14N)], C14N, True),
        ([reference("", ENVELOPED, C14N + "#WithComments")], C14N + "#WithComments", True),
        ([reference("", ENVELOPED, EXCLUSIVE)], EXCLUSIVE, True),
        ([reference("", ENVELOPED, EXCLUSIVE + "WithComments")], EXCLUSIVE + "WithComments", True),
        ([reference("", ENVELOPED, C14N11)], C14N11, True),
        ([reference("#hs-1", ENVELOPED, C14N)], C14N, True),
        ([reference("#nd-1")], C14N, False),
        ([reference("#nd-1", C14N)], C14N, False),
        ([reference("#nd-1", C14N11)], C14N11 + "#WithComments", False),
        ([reference("#nd-1", EXCLUSIVE)], EXCLUSIVE, False),
        ([reference("#nd-1", ENVELOPED, C14N), reference("", ENVELOPED)], C14N, True),
    ],
)
def test_what_xmlsec1_signs_is_intact_and_its_coverage_known(
    house: House, tmp_path: Path, references: list[str], c14n: str, whole: bool
) -> None:
    """The document has namespaces, xml:lang and xml:base above what is signed, where canonical forms differ."""
    unsigned = DOCUMENT.decode().replace('xml:lang="vi"', 'xml:lang="vi" xml:space="preserve"')
    text = unsigned.replace("</HoSo>\n<!", template(*references, c14n=c14n) + "</HoSo>\n<!")
    signed = xmlsec1_sign(tmp_path, house, text, ids=("urn:hs:HoSo", "urn:hs:NoiDung"))
    (verdict,) = judge(house, signed)
    assert verdict.intact
    assert verdict.coverage is not None
    assert verdict.coverage.whole_file is whole
    assert verdict.indication is (Indication.TOTAL_PASSED if whole else Indication.INDETERMINATE)
    assert ("PARTIAL_COVERAGE" in codes(verdict)) is not whole
    assert "CERTIFICATE_NOT_BOUND" in codes(verdict)  # it is no XAdES
    (changed,) = judge(house, signed.replace(b"5 &lt; 6", b"5 &lt; 7"))
    assert changed.sub_indication is SubIndication.HASH_FAILURE


@pytest.mark.interop
def test_an_inclusive_prefix_list_is_honoured(house: House, tmp_path: Path) -> None:
    def signed_with(listed: str) -> bytes:
        prefixes = f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="{listed}"/>'
        one = reference("#nd-1", EXCLUSIVE).replace(f'"{EXCLUSIVE}"/>', f'"{EXCLUSIVE}">{prefixes}</Transform>')
        text = DOCUMENT.decode().replace("</HoSo>\n<!", template(one, c14n=EXCLUSIVE) + "</HoSo>\n<!")
        return xmlsec1_sign(tmp_path, house, text, ids=("urn:hs:NoiDung",))

    (verdict,) = judge(house, signed_with("k"))
    assert verdict.intact
    (beyond,) = judge(house, signed_with("k #default"))
    assert codes(beyond)[0] == "TRANSFORM_REFUSED"


@pytest.mark.interop
def test_an_enveloping_signature_covers_its_object(house: House, tmp_path: Path) -> None:
    text = template(reference("#o-1"), rest=f'<Object Id="o-1"><d xmlns="">{"dữ liệu"}</d></Object>')
    signed = xmlsec1_sign(tmp_path, house, text, ids=(f"{DS}:Object",))
    (verdict,) = judge(house, signed)
    assert (verdict.indication, verdict.intact) == (Indication.TOTAL_PASSED, True)
    (second,) = judge(house, signed.replace(b"</Signature>", b"<Object>khac</Object></Signature>"))
    assert second.sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE
    assert "UNSIGNED_CONTENT_IN_SIGNATURE" in codes(second)


@pytest.mark.interop
def test_an_invoice_is_intact_partial_and_its_local_time_is_vietnamese(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path
) -> None:
    """The shape of Nghị định 123/2020: RSA, an element by Id, the signature beside it, the time in a SignatureProperty."""
    house = build_house(database, keys, clock, spec=KeySpec.RSA_2048)
    local = clock().astimezone(UTC).replace(tzinfo=None)
    properties = (
        '<Object Id="t-1"><SignatureProperties xmlns=""><SignatureProperty Target="#ban">'
        f"<SigningTime>{local.isoformat()}</SigningTime></SignatureProperty></SignatureProperties></Object>"
    )
    signature = template(reference("#hd-1", ENVELOPED), reference("#t-1"), method=RSA256, rest=properties)
    data = '<DLHDon Id="hd-1"><TTChung>1</TTChung></DLHDon><MCCQT Id="m-1">A</MCCQT>'
    text = f"<HDon>{data}<DSCKS><NBan>{signature}</NBan></DSCKS></HDon>"
    (verdict,) = judge(house, xmlsec1_sign(tmp_path, house, text, ids=("DLHDon", f"{DS}:Object")))
    assert (verdict.intact, verdict.sub_indication) == (True, SubIndication.SIG_CONSTRAINTS_FAILURE)
    assert verdict.coverage is not None
    assert verdict.coverage.elements == ("/HDon/DLHDon",)
    assert verdict.claimed_at == datetime.fromisoformat(f"{local.isoformat()}+07:00")
    assert "TIME_WITHOUT_ZONE" in codes(verdict)


@pytest.mark.interop
@pytest.mark.parametrize(
    ("spec", "method", "digest"),
    [
        (KeySpec.RSA_2048, DS + "rsa-sha1", DS + "sha1"),
        (KeySpec.RSA_2048, DS + "rsa-sha1", SHA256),
        (KeySpec.RSA_2048, RSA256, DS + "sha1"),
        (KeySpec.P_256, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1", DS + "sha1"),
    ],
)
def test_sha_1_is_read_and_judged_but_never_passes(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path, spec: KeySpec, method: str, digest: str
) -> None:
    house = build_house(database, keys, clock, spec=spec)
    text = f"<HoSo>{template(reference('', ENVELOPED, digest=digest), method=method)}</HoSo>"
    signed = xmlsec1_sign(tmp_path, house, text)
    assert xmlsec1_accepts(tmp_path, house, signed)
    (verdict,) = judge(house, signed)
    assert (verdict.intact, verdict.digest_algorithm) == (True, "sha1")
    assert verdict.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    assert "WEAK_DIGEST" in codes(verdict)
