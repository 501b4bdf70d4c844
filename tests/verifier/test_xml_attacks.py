"""Forged and hostile XML signatures: whatever is done to a document, it is never called valid, and only a verdict comes out."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from core.db import Base, Database, sqlite_url
from core.errors import Rejected
from core.xmldsig import raw_ecdsa
from hsm.keys import KeySpec
from tests.conftest import Clock
from tests.databases import Databases, Furnished
from tests.signer.house import SEAL, House, build_house, furnish_with_seal, open_house
from tests.software_keys import SoftwareKeys
from tests.xml_tools import DOCUMENT, DS, INNER, SIMPLE, XADES, context_of, judge, sign, sole, take_out
from verifier.context import Context
from verifier.verdict import Indication, SubIndication
from verifier.xml import verify_xml

pytestmark = pytest.mark.one_database  # the verdict on a document

SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
ECDSA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
PSS256 = "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"


@pytest.fixture
def furnished(request: pytest.FixtureRequest, databases: Databases) -> Furnished:
    """With a house in it for a test that begins in one."""
    return databases.furnished(furnish_with_seal) if "house" in request.fixturenames else databases.plain()


@pytest.fixture
def house(database: Database, keys: SoftwareKeys, clock: Clock) -> House:
    """A house with an officer and a seal, P-256."""
    return open_house(database, keys, clock)


# Smaller lies: one replacement each in the octets of a signed document, and what must come of it.

REPLACEMENTS: dict[str, tuple[bytes, bytes, SubIndication]] = {
    "content": (b"<Tien>100<", b"<Tien>900<", SubIndication.HASH_FAILURE),
    "an element more": (b"</Tien>", b"</Tien><Tien>1</Tien>", SubIndication.HASH_FAILURE),
    "an attribute": (b"<Ten>", b"<Ten a='1'>", SubIndication.HASH_FAILURE),
    "a namespace only values could use": (b"<HoSo ", b"<HoSo xmlns:p='urn:p' ", SubIndication.HASH_FAILURE),
    "white space": (b"</Tien>", b"</Tien> ", SubIndication.HASH_FAILURE),
    "an instruction": (b"<HoSo ", b"<?xml-stylesheet href='evil.xsl'?><HoSo ", SubIndication.HASH_FAILURE),
    "the signing time": (b"<xades:SigningTime>20", b"<xades:SigningTime>19", SubIndication.HASH_FAILURE),
    "the media type": (b"<xades:MimeType>text", b"<xades:MimeType>evil", SubIndication.HASH_FAILURE),
    "a digest": (b"<ds:DigestValue>", b"<ds:DigestValue>AAAA", SubIndication.SIG_CRYPTO_FAILURE),
    "the value": (b'-value">', b'-value">AAAA', SubIndication.SIG_CRYPTO_FAILURE),
    "a comment in the value": (b'-value">', b'-value">AAAA<!-- -->', SubIndication.FORMAT_FAILURE),
    "the reference": (b'URI=""', b'URI="#hs-1"', SubIndication.SIG_CRYPTO_FAILURE),
    "a second SignedInfo": (b"<ds:SignatureValue", b"<ds:SignedInfo/><ds:SignatureValue", SubIndication.FORMAT_FAILURE),
    "a SignedInfo in front": (b"<ds:SignedInfo>", b"<ds:SignedInfo/><ds:SignedInfo>", SubIndication.FORMAT_FAILURE),
    "no certificate": (b"X509Certificate", b"X509SubjectName", SubIndication.NO_SIGNING_CERTIFICATE_FOUND),
    "no base64": (b"<ds:X509Certificate>", b"<ds:X509Certificate>?", SubIndication.FORMAT_FAILURE),
    "no certificate in it": (b"<ds:X509Certificate>MII", b"<ds:X509Certificate>AAA", SubIndication.NO_SIGNING_CERTIFICATE_FOUND),
    "a public key for a secret": (b"#ecdsa-sha256", b"#hmac-sha256", SubIndication.CRYPTO_CONSTRAINTS_FAILURE),
    "a method for another key": (b"#ecdsa-sha256", b"#rsa-sha256", SubIndication.CRYPTO_CONSTRAINTS_FAILURE),
    "another hash": (b"#ecdsa-sha256", b"#ecdsa-sha384", SubIndication.SIG_CRYPTO_FAILURE),
    "no algorithm": (b"#ecdsa-sha256", b"#none", SubIndication.CRYPTO_CONSTRAINTS_FAILURE),
    "a program": (
        b"http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        b"http://www.w3.org/TR/1999/REC-xslt-19991116",
        SubIndication.SIG_CONSTRAINTS_FAILURE,
    ),
    "an expression": (
        b"http://www.w3.org/2000/09/xmldsig#enveloped-signature",
        b"http://www.w3.org/2002/06/xmldsig-filter2",
        SubIndication.SIG_CONSTRAINTS_FAILURE,
    ),
}


@pytest.mark.parametrize("what", REPLACEMENTS)
def test_a_changed_document_is_not_valid_and_says_why(house: House, what: str) -> None:
    old, new, expected = REPLACEMENTS[what]
    signed = sign(house, SIMPLE)
    assert old in signed
    verdict = sole(house, signed.replace(old, new))
    assert verdict.sub_indication is expected
    assert not verdict.intact


def test_a_comment_changes_nothing_that_is_read_and_is_reported_where_it_could_mislead(house: House) -> None:
    """Comments are in no digest here. What we read, we read without them; a text that one cuts in two is a warning."""
    signed = sign(house, SIMPLE)
    plain = sole(house, signed)
    for place in (b"<ds:DigestValue>", b"<xades:SigningTime>20", b'-properties">', b"<xades:MimeType>te"):
        verdict = sole(house, signed.replace(place, place + b"<!-- x -->"))
        assert (verdict.indication, verdict.level) == (Indication.TOTAL_PASSED, "B-B")
        assert verdict.claimed_at == plain.claimed_at
    verdict = sole(house, signed.replace(b">100<", b">1<!-- -->00<"))
    assert verdict.indication is Indication.TOTAL_PASSED
    assert [finding.code for finding in verdict.findings] == ["COMMENT_IN_TEXT"]


def test_another_certificate_in_place_of_the_signers_is_seen(house: House) -> None:
    signed = sign(house, SIMPLE)
    own, other = (base64_of(house, signer) for signer in (None, SEAL))
    assert own in signed
    assert sole(house, signed.replace(own, other)).sub_indication is SubIndication.SIG_CRYPTO_FAILURE
    both = signed.replace(own, other + b"</ds:X509Certificate><ds:X509Certificate>" + own)
    assert sole(house, both).indication is Indication.TOTAL_PASSED  # SigningCertificateV2 tells them apart, not their order


def base64_of(house: House, signer: str | None) -> bytes:
    identity = house.identity() if signer is None else house.identity(signer)
    pem = identity.certificate.public_bytes(Encoding.PEM)
    return b"".join(pem.splitlines()[1:-1])


# Signatures by a key we know over whatever an attacker who owns one would sign: the value holds, the rest must stop it.


def reference(uri: str, octets: bytes = b"", *, transforms: str = "") -> str:
    digest = base64.b64encode(hashlib.sha256(octets).digest()).decode()
    listed = f"<ds:Transforms>{transforms}</ds:Transforms>" if transforms else ""
    value = f'<ds:DigestMethod Algorithm="{SHA256}"/><ds:DigestValue>{digest}</ds:DigestValue>'
    return f'<ds:Reference URI="{uri}">{listed}{value}</ds:Reference>'


def forge(
    house: House, references: str, *, method: str = ECDSA256, rest: str = "", make: Callable[[bytes], bytes] | None = None
) -> bytes:
    """SIMPLE with a signature of the officer's own key (or what ``make`` makes) over a SignedInfo with these references."""
    identity = house.identity()
    head = f'<ds:CanonicalizationMethod Algorithm="{EXCLUSIVE}"/><ds:SignatureMethod Algorithm="{method}"/>'
    info = f'<ds:SignedInfo xmlns:ds="{DS}">{head}{references}</ds:SignedInfo>'
    octets = etree.tostring(etree.fromstring(info), method="c14n", exclusive=True)
    if make is None:
        key = house.keys.key(identity.key_label)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        value = raw_ecdsa(key.sign(octets, ec.ECDSA(hashes.SHA256())), key.curve)
    else:
        value = make(octets)
    certificate = base64.b64encode(identity.certificate.public_bytes(Encoding.DER)).decode()
    key_info = f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
    text = f"<ds:SignatureValue>{base64.b64encode(value).decode()}</ds:SignatureValue>{key_info}{rest}"
    return SIMPLE.replace(b"</HoSo>", f'<ds:Signature xmlns:ds="{DS}" Id="s-1">{info}{text}</ds:Signature></HoSo>'.encode())


WHOLE = reference("", SIMPLE, transforms=f'<ds:Transform Algorithm="{DS}enveloped-signature"/>')


def test_what_the_forger_makes_is_valid_when_it_is_no_lie(house: House) -> None:
    assert sole(house, forge(house, WHOLE)).indication is Indication.TOTAL_PASSED


def test_rsassa_pss_is_taken_with_the_salt_its_name_means(database: Database, keys: SoftwareKeys, clock: Clock) -> None:
    """RFC 9231 clause 2.3.10: MGF1 with the same hash, a salt as long as the hash; another length is another algorithm."""
    house = build_house(database, keys, clock, spec=KeySpec.RSA_2048)
    key = house.keys.key(house.identity().key_label)
    assert isinstance(key, rsa.RSAPrivateKey)
    verdicts = []
    for salt in (32, 20):
        make = functools.partial(key.sign, padding=padding.PSS(padding.MGF1(hashes.SHA256()), salt), algorithm=hashes.SHA256())
        verdicts.append(sole(house, forge(house, WHOLE, method=PSS256, make=make)))
    assert [(one.signature_algorithm, one.sub_indication) for one in verdicts] == [
        ("rsa-pss", None),
        ("rsa-pss", SubIndication.SIG_CRYPTO_FAILURE),
    ]


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9/evil.xml", "file:///etc/hostname", "evil.xml", "#nobody", "#xpointer(/)", "#xpointer(id('hs-1'))"]
)
def test_a_reference_elsewhere_is_never_followed(house: House, uri: str) -> None:
    assert sole(house, forge(house, WHOLE + reference(uri))).sub_indication is SubIndication.SIGNED_DATA_NOT_FOUND


def test_a_reference_without_uri_says_nothing(house: House) -> None:
    forged = forge(house, reference("").replace(' URI=""', ""))
    assert sole(house, forged).sub_indication is SubIndication.SIGNED_DATA_NOT_FOUND


def test_a_mac_keyed_with_public_data_is_no_signature(house: House) -> None:
    certificate = house.identity().certificate
    public = certificate.public_key()
    for mac_key in (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        certificate.public_bytes(Encoding.DER),
    ):
        make = functools.partial(hmac.digest, mac_key, digest="sha256")
        forged = forge(house, WHOLE, method="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", make=make)
        assert sole(house, forged).sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE


@pytest.mark.parametrize(
    "transform",
    [
        '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>not(ancestor-or-self::Tien)</ds:XPath></ds:Transform>',
        '<ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2"/>',
        '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/>',
        '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#base64"/>',
        f'<ds:Transform Algorithm="{EXCLUSIVE}"/><ds:Transform Algorithm="{DS}enveloped-signature"/>',
        f'<ds:Transform Algorithm="{EXCLUSIVE}"/><ds:Transform Algorithm="{EXCLUSIVE}"/>',
        "<ds:Transform/>",
    ],
)
def test_a_transform_that_chooses_what_is_signed_is_refused(house: House, transform: str) -> None:
    forged = forge(house, reference("", SIMPLE, transforms=transform))
    assert sole(house, forged).sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE


def test_a_signature_over_nothing_is_not_one_over_the_document(house: House) -> None:
    """The transform leaves out the very element the reference names: what is left, and digested, is empty."""
    transform = f'<ds:Transform Algorithm="{DS}enveloped-signature"/>'
    forged = forge(house, reference("#o-1", b"", transforms=transform), rest='<ds:Object Id="o-1"/>')
    assert sole(house, forged).sub_indication is SubIndication.HASH_FAILURE


def test_an_id_that_two_elements_have_is_refused(house: House) -> None:
    signed = sign(house, INNER, element="hs-1")
    for attribute in (b"Id", b"ID", b"id", b"xml:id"):
        doubled = signed.replace(b"<Goi>", b'<Goi><HoSo %s="hs-1"><Tien>999</Tien></HoSo>' % attribute)
        assert sole(house, doubled).sub_indication is SubIndication.FORMAT_FAILURE


def test_more_references_than_anybody_needs_are_not_digested(house: House) -> None:
    assert sole(house, forge(house, WHOLE * 30)).indication is Indication.TOTAL_PASSED
    assert sole(house, forge(house, WHOLE * 31)).sub_indication is SubIndication.FORMAT_FAILURE
    assert sole(house, forge(house, WHOLE * 1000)).sub_indication is SubIndication.FORMAT_FAILURE


def test_work_is_bounded_by_the_size_of_the_document(house: House) -> None:
    """Thirty references over two megabytes are sixty megabytes to digest, sixteen times the document and more."""
    filler = b"<Ten>" + b"x" * 4_000_000 + b"</Ten>"
    octets = SIMPLE.replace(b"<Ten>An</Ten>", filler)
    once = reference("", octets, transforms=f'<ds:Transform Algorithm="{DS}enveloped-signature"/>')
    assert sole(house, forge(house, once).replace(b"<Ten>An</Ten>", filler)).indication is Indication.TOTAL_PASSED
    verdict = sole(house, forge(house, once * 30).replace(b"<Ten>An</Ten>", filler))
    assert verdict.findings[0].code == "TOO_MUCH_WORK"


def test_more_signatures_than_anybody_needs_are_refused(house: House) -> None:
    with pytest.raises(Rejected, match="65 signatures"):
        judge(house, b"<a>" + (b'<Signature xmlns="%s"/>' % DS.encode()) * 65 + b"</a>")


def test_properties_that_the_signature_does_not_cover_are_not_believed(house: House) -> None:
    properties = (
        f'<ds:Object><x:QualifyingProperties xmlns:x="{XADES}" Target="#s-1"><x:SignedProperties Id="p-1">'
        "<x:SignedSignatureProperties><x:SigningTime>2001-01-01T00:00:00Z</x:SigningTime></x:SignedSignatureProperties>"
        "</x:SignedProperties></x:QualifyingProperties></ds:Object>"
    )
    verdict = sole(house, forge(house, WHOLE, rest=properties))
    assert verdict.sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE
    assert verdict.claimed_at is None
    assert "PROPERTIES_NOT_SIGNED" in {finding.code for finding in verdict.findings}
    other = sole(house, forge(house, WHOLE, rest=properties.replace("#s-1", "#s-2")))
    assert other.sub_indication is SubIndication.FORMAT_FAILURE


# And what nobody thought of.


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Context]:
    """A document signed twice with timestamps, and what is needed to verify it."""
    database = Database(sqlite_url(tmp_path_factory.mktemp("xml") / "condau.sqlite3"))
    Base.metadata.create_all(database.engine)
    house = build_house(database, SoftwareKeys(), Clock(datetime.now(UTC).replace(microsecond=0)), seal=True)
    signed = sign(house, sign(house, DOCUMENT, level="B-T"), signer=SEAL, level="B-T")
    context = context_of(house)
    database.close()
    return signed, context


def covered(document: bytes, name: str) -> bytes:
    """What the signature with this Id covers of ``document``: all of it without itself, canonical."""
    tree = etree.fromstring(document).getroottree()
    take_out(next(element for element in tree.iter(f"{{{DS}}}Signature") if element.get("Id") == name))
    return etree.tostring(tree, method="c14n", with_comments=False)


SNIPPETS = [
    *(b"<", b">", b"/>", b"]]>", b"<!--", b"-->", b"<!-- -->", b"<?x?>", b"&#0;", b"&#xD;", b"&amp;", b'"', b"\x00", b"\xff", b"="),
    *(b"<!DOCTYPE a>", b"<ds:Object>", b"</ds:Object>", b"<ds:Object/>", b"<ds:Signature/>", b"<ds:Reference/>", b"9", b"AAAA"),
    *(b' Id="hs-1"', b' xmlns=""', b' xmlns="urn:x"', b' xmlns:ds="urn:x"', b' xml:lang="en"', b"\xef\xbb\xbf"),
]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "remove", "insert", "repeat", "move"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 60) | st.integers(1, 4000),
        st.sampled_from(SNIPPETS) | st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def edit(document: bytes, edits: list[tuple[str, float, float, int, bytes]]) -> bytes:
    for kind, where, whither, length, new in edits:
        start = int(where * len(document))
        piece = document[start : start + length]
        if kind in ("replace", "remove", "move"):
            document = document[:start] + (new if kind == "replace" else b"") + document[start + length :]
        if kind in ("insert", "repeat", "move"):
            target = int(whither * len(document))
            document = document[:target] + (new if kind == "insert" else piece) + document[target:]
    return document


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
def test_no_change_brings_an_exception_or_a_valid_lie(
    specimen: tuple[bytes, Context], edits: list[tuple[str, float, float, int, bytes]]
) -> None:
    document, context = specimen
    changed = edit(document, edits)
    try:
        verdicts = verify_xml(changed, context)
    except Rejected:
        return
    for verdict in verdicts:
        if verdict.indication is Indication.TOTAL_PASSED:
            assert covered(changed, verdict.name) == covered(document, verdict.name)
