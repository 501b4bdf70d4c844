"""XAdES signatures, judged by xmlsec1 and by the JDK."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from core.db import Database
from core.errors import Conflict, Malformed, Rejected, TooLarge, Unavailable
from core.xmldsig import XmlSignatureError
from hsm.keys import KeySpec
from signer import xml
from signer.models import Signature
from signer.xml_options import XmlOptions
from tests.conftest import Clock
from tests.signer.house import CLIENT, SEAL, House, build_house
from tests.software_keys import SoftwareKeys
from tests.xml_tools import DOCUMENT, DS, XADES, parent_of, sign, signature_in, take_out, xmlsec1_accepts

pytestmark = pytest.mark.one_database  # the signed document is looked at

JUDGE = Path(__file__).parent / "VerifyXml.java"


def java_accepts(folder: Path, document: bytes) -> list[bool]:
    """What javax.xml.crypto with secure validation says of each signature."""
    path = folder / "judged.xml"
    path.write_bytes(document)
    result = subprocess.run(["java", str(JUDGE), str(path)], check=True, capture_output=True, text=True, timeout=60)
    return [line == "valid" for line in result.stdout.split()]


def without_signatures(document: bytes) -> bytes:
    """The canonical form (with comments) of ``document`` without its first ds:Signature, taken out by hand."""
    signature = signature_in(document)
    tree = signature.getroottree()
    take_out(signature)
    return etree.tostring(tree, method="c14n", with_comments=True)


@pytest.mark.interop
@pytest.mark.parametrize("spec", [KeySpec.P_256, KeySpec.P_384, KeySpec.P_521, KeySpec.RSA_2048])
def test_xmlsec1_accepts_a_signature_by_every_kind_of_key(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path, spec: KeySpec
) -> None:
    house = build_house(database, keys, clock, spec=spec)
    signed = sign(house)
    assert xmlsec1_accepts(tmp_path, house, signed)
    assert not xmlsec1_accepts(tmp_path, house, signed.replace(b"5 &lt; 6", b"5 &lt; 7"))


@pytest.mark.interop
def test_the_jdk_accepts_signatures_in_and_beside_one_another(
    database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path
) -> None:
    house = build_house(database, keys, clock, seal=True)
    twice = sign(house, sign(house), signer=SEAL)
    assert java_accepts(tmp_path, twice) == [True, True]
    assert java_accepts(tmp_path, twice.replace(b"5 &lt; 6", b"5 &lt; 7")) == [False, False]


def test_the_octets_of_the_document_stay_as_they_are(house: House) -> None:
    signed = sign(house)
    end = DOCUMENT.index(b"</HoSo>")
    assert signed.startswith(DOCUMENT[:end] + b"<ds:Signature ")
    assert signed.endswith(b"</ds:Signature>" + DOCUMENT[end:])
    assert without_signatures(signed) == etree.tostring(etree.fromstring(DOCUMENT).getroottree(), method="c14n", with_comments=True)


@pytest.mark.interop
@pytest.mark.parametrize(
    "document",
    [
        b"<a/>",
        b"<a></a>",
        b'<p:a xmlns:p="urn:p" x="/"   />\n',
        b"<a>/></a>",
        b"\xef\xbb\xbf<a>BOM</a>",
        '<?xml version="1.0" encoding="UTF-16"?><đơn tên="Đỗ">xin</đơn>'.encode("utf-16"),
        '<?xml version="1.0" encoding="ISO-8859-1"?><\xe9/>'.encode("latin-1"),
        b'<a xmlns:ds="urn:not-xmldsig"><ds:b/></a>',
        b'<a xmlns="http://www.w3.org/2000/09/xmldsig#"><b/></a>',
    ],
)
def test_odd_but_sound_documents_are_signed_as_they_are(house: House, tmp_path: Path, document: bytes) -> None:
    signed = sign(house, document)
    assert xmlsec1_accepts(tmp_path, house, signed)
    assert without_signatures(signed) == etree.tostring(etree.fromstring(document).getroottree(), method="c14n")


@pytest.mark.interop
def test_leader_then_agency_then_leader_all_hold(database: Database, keys: SoftwareKeys, clock: Clock, tmp_path: Path) -> None:
    house = build_house(database, keys, clock, seal=True)
    once = sign(house)
    twice = sign(house, once, signer=SEAL)
    thrice = sign(house, twice)
    assert [xmlsec1_accepts(tmp_path, house, thrice, number=number) for number in (1, 2, 3)] == [True] * 3
    without_the_later = [parent_of(signature).tag for signature in etree.fromstring(thrice).iter(f"{{{DS}}}Signature")]
    assert without_the_later == ["{urn:hs}HoSo", f"{{{DS}}}Object", f"{{{DS}}}Object"]


@pytest.mark.interop
def test_one_element_is_signed_by_its_id_and_two_independently(house: House, tmp_path: Path) -> None:
    document = b'<Goi><A Id="a">1</A><B Id="b" xml:lang="vi" xmlns:u="urn:u">2</B></Goi>'
    signed = sign(house, sign(house, document, element="a"), element="b")
    assert [xmlsec1_accepts(tmp_path, house, signed, number=number, ids=("A", "B")) for number in (1, 2)] == [True, True]
    changed = signed.replace(b">2<", b">3<")
    assert [xmlsec1_accepts(tmp_path, house, changed, number=number, ids=("A", "B")) for number in (1, 2)] == [True, False]
    assert [parent_of(signature).tag for signature in etree.fromstring(signed).iter(f"{{{DS}}}Signature")] == ["A", "B"]


def test_a_broken_signature_hinders_nobody_and_one_beyond_us_is_a_conflict(house: House, tmp_path: Path) -> None:
    broken = sign(house).replace(b"5 &lt; 6", b"5 &lt; 7")
    assert xmlsec1_accepts(tmp_path, house, sign(house, broken), number=2)
    xpath = b'<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>1</ds:XPath></ds:Transform>'
    strange = sign(house).replace(b"<ds:Transforms>", b"<ds:Transforms>" + xpath, 1)
    with pytest.raises(Conflict, match="cannot be checked here"):
        sign(house, strange)


def test_the_signed_properties_are_those_of_level_b_b(house: House) -> None:
    signature = signature_in(sign(house))
    names = {"ds": DS, "x": XADES}
    properties = "ds:Object/x:QualifyingProperties/x:SignedProperties"
    signing = f"{properties}/x:SignedSignatureProperties"
    assert signature.findtext(f"{signing}/x:SigningTime", namespaces=names) == house.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert signature.find(f"{signing}/x:SigningCertificateV2/x:Cert/x:CertDigest/ds:DigestValue", names) is not None
    data = signature.findall("ds:SignedInfo/ds:Reference", names)[0]
    described = signature.find(f"{properties}/x:SignedDataObjectProperties/x:DataObjectFormat", names)
    assert described is not None
    assert described.get("ObjectReference") == f"#{data.get('Id')}"
    assert described.findtext("x:MimeType", namespaces=names) == "text/xml"
    assert len(signature.findall("ds:KeyInfo/ds:X509Data/ds:X509Certificate", names)) == 2  # the officer and the issuing CA
    assert "sha1" not in etree.tostring(signature).decode()


@pytest.mark.interop
def test_the_timestamp_is_over_the_canonical_signature_value(house: House, tmp_path: Path) -> None:
    """openssl verifies the token over what the JDK or anybody else would canonicalise; xmlsec1 still accepts the signature."""
    signed = sign(house, level="B-T")
    assert xmlsec1_accepts(tmp_path, house, signed)
    signature = signature_in(signed)
    value = signature.findall(f"{{{DS}}}SignatureValue")[0]
    token = base64.b64decode(next(signature.iter(f"{{{XADES}}}EncapsulatedTimeStamp")).text or "")
    (tmp_path / "value").write_bytes(etree.tostring(value, method="c14n", exclusive=True))
    (tmp_path / "token").write_bytes(token)
    issuing = house.identity().chain[0].public_bytes(Encoding.PEM)
    (tmp_path / "issuing.pem").write_bytes(issuing)
    command = ["openssl", "ts", "-verify", "-token_in", "-in", "token", "-data", "value", "-untrusted", "issuing.pem"]
    command += ["-CAfile", str(house.root_file(tmp_path))]
    assert b"Verification: OK" in subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30).stdout


def test_no_timestamp_means_no_document(house: House, database: Database) -> None:
    def stamp(_data: bytes, _actor: object) -> bytes:
        raise Unavailable("tsa", "gone")

    with pytest.raises(Unavailable):
        house.signer_with(stamp).sign_xml(DOCUMENT, XmlOptions(), CLIENT)
    with database.read() as db:
        assert [row.state for row in db.query(Signature)] == ["signed"]


def test_a_wrong_value_never_leaves(house: House) -> None:
    prepared = xml.prepare(DOCUMENT, XmlOptions(), identity=house.identity(), at=house.now())
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(XmlSignatureError, match="VALUE_WRONG"):
        xml.finish(xml.sign(prepared, lambda data: other.sign(data, ec.ECDSA(hashes.SHA256()))), None)


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        (b"", Malformed, "not well-formed"),
        (b"no XML at all", Malformed, "not well-formed"),
        (b"<a><b></a>", Malformed, "not well-formed"),
        (b"<a:b/>", Malformed, "not well-formed"),
        (b"<a>\xff</a>", Malformed, "not well-formed"),
        (b"<a>" + b"x" * 10_000_001 + b"</a>", Malformed, "not well-formed"),
        (b"<!DOCTYPE a><a/>", Rejected, "DOCTYPE"),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', Rejected, "DOCTYPE"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><a/>', Rejected, "DOCTYPE"),
        (b"<!DOCTYPE a [<!ENTITY a '&#60;!DOCTYPE'>" + b"<!ENTITY b '" + b"&a;" * 9999 + b"'>]><a>&b;</a>", Rejected, "DOCTYPE"),
        (b"<a>&undeclared;</a>", Malformed, "not well-formed"),
        (b"<a>" * 201 + b"</a>" * 201, Rejected, "deep"),
        (b"<a>" + b"<b/>" * 1_000_000 + b"</a>", TooLarge, "1000000"),
        (b'<?xml version="1.0" encoding="UTF-7"?><a/>', Rejected, "encoding"),
        (b'<?xml version="1.1"?><a/>', Rejected, "1.1"),
        (b'<a><b Id="x"/><c Id="x"/></a>', Rejected, "Id 'x'"),
        (b'<a xmlns="relative/uri"/>', Rejected, "canonical"),
    ],
)
def test_what_cannot_be_signed_is_refused_by_name(house: House, document: bytes, error: type[Rejected], words: str) -> None:
    with pytest.raises(error, match=words) as refused:
        sign(house, document)
    assert type(refused.value) is error
    assert [violation.field for violation in refused.value.violations] == ["document"]


@pytest.mark.parametrize("element", ["nobody", "hai", "id with spaces"])
def test_an_element_must_be_one_that_can_be_named(house: House, element: str) -> None:
    document = b'<a><b ID="hai"/><c id="hai"/><d Id="id with spaces"/></a>'
    with pytest.raises(Rejected) as refused:
        sign(house, document, element=element)
    assert [violation.field for violation in refused.value.violations] == ["element"]


def test_parts_of_a_signature_are_not_signed_again(house: House) -> None:
    signed = sign(house)
    name = next(etree.fromstring(signed).iter(f"{{{XADES}}}SignedProperties")).get("Id")
    with pytest.raises(Rejected, match="part of a signature"):
        sign(house, signed, element=name)
