"""RFC 3161 timestamps by other people's programs, sound and not."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest
from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.der import SEQUENCE, SET, tlv
from core.errors import Malformed
from tests.verifier.authorities import DAY, NOW, Identity, Pki
from tests.verifier.files import plain_pdf, sign, timestamper
from tests.verifier.judging import verify_pdf
from tsa.request import Failure, Refusal
from tsa.response import build_refused
from verifier.context import Context
from verifier.octets import Octets
from verifier.timestamp_query import TimestampQuery, parse_timestamp_query
from verifier.timestamps import parse_timestamp, verify_timestamp
from verifier.verdict import Indication, SubIndication, Timestamp

DATA = b"d\xe1\xbb\xaf li\xe1\xbb\x87u"
STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
KEY = rsa.generate_private_key(65537, 2048)
HOUR = timedelta(hours=1)
SHA256, SHA512 = "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.3"


def token(pki: Pki, tsa: Identity | None = None, *, data: bytes = DATA, digest: str = "sha256", at: timedelta = -HOUR) -> bytes:
    stamper = timestamper(tsa or pki.tsa, NOW + at, pki.issuing)
    made = asyncio.run(stamper.async_timestamp(hashlib.new(digest, data).digest(), digest))
    return bytes(made.dump())


def verdict(der: bytes, context: Context, *, data: bytes | None = DATA, asked: TimestampQuery | None = None) -> Timestamp:
    return verify_timestamp(der, None if data is None else Octets.of(data), context, kind="detached", asked=asked)


def asking(**fields: object) -> TimestampQuery:
    """The request that :func:`token` answers, but for ``fields``."""
    imprint = (SHA256, hashlib.sha256(DATA).digest())
    answered: dict[str, object] = {"imprint": imprint, "nonce": None, "policy": None, "certificates_wanted": True}
    return TimestampQuery(**(answered | fields))  # type: ignore[arg-type]  # the tests' own fields


def test_a_sound_timestamp_passes(pki: Pki, context: Context) -> None:
    found = verdict(token(pki), context)
    assert (found.indication, found.intact, found.generated_at) == (Indication.TOTAL_PASSED, True, NOW - HOUR)
    assert found.authority is not None
    assert found.authority.common_name == "TSA"


def test_without_the_data_it_stays_open(pki: Pki, context: Context) -> None:
    found = verdict(token(pki), context, data=None)
    assert (found.sub_indication, found.intact) == (SubIndication.SIGNED_DATA_NOT_FOUND, None)


def test_other_data_fail(pki: Pki, context: Context) -> None:
    found = verdict(token(pki), context, data=b"khac")
    assert (found.indication, found.sub_indication, found.intact) == (Indication.TOTAL_FAILED, SubIndication.HASH_FAILURE, False)


@pytest.mark.parametrize(
    ("fields", "sub", "code"),
    [
        ({"nonce": 7}, SubIndication.SIG_CONSTRAINTS_FAILURE, "TIMESTAMP_NONCE"),
        ({"policy": "1.2.3.99"}, SubIndication.SIG_CONSTRAINTS_FAILURE, "TIMESTAMP_POLICY"),
        ({"imprint": (SHA256, bytes(32))}, SubIndication.HASH_FAILURE, "TIMESTAMP_IMPRINT"),
        ({"imprint": (SHA512, hashlib.sha256(DATA).digest())}, SubIndication.HASH_FAILURE, "TIMESTAMP_IMPRINT"),
        ({"certificates_wanted": False}, None, "TIMESTAMP_CERTIFICATES"),
    ],
)
def test_what_does_not_answer_the_request_is_told(
    pki: Pki, context: Context, fields: dict[str, object], sub: SubIndication | None, code: str
) -> None:
    """RFC 3161 clauses 2.2 and 2.4.2."""
    found = verdict(token(pki), context, asked=asking(**fields))
    assert (found.sub_indication, code in {finding.code for finding in found.findings}) == (sub, True)


def test_the_request_s_imprint_stands_for_the_data(pki: Pki, context: Context) -> None:
    found = verdict(token(pki), context, data=None, asked=asking())
    assert (found.indication, found.intact, found.findings) == (Indication.TOTAL_PASSED, True, ())


def test_a_request_is_read_whoever_wrote_it_and_nothing_else_is(tmp_path: Path) -> None:
    command = ["openssl", "ts", "-query", "-digest", "00" * 64, "-sha512", "-tspolicy", "1.2.3.4", "-cert", "-out", "query"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    found = parse_timestamp_query((tmp_path / "query").read_bytes())
    assert (found.imprint, found.policy, found.certificates_wanted) == ((SHA512, bytes(64)), "1.2.3.4", True)
    assert found.nonce is not None
    for wrong in (b"", b"\x30\x00", (tmp_path / "query").read_bytes() + b"\x00", b"%PDF-1.7"):
        with pytest.raises(Malformed):
            parse_timestamp_query(wrong)


def test_a_weak_imprint_is_not_accepted(pki: Pki, context: Context) -> None:
    assert verdict(token(pki, digest="sha1"), context).sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE


def test_a_moment_in_the_future_is_not_believed(pki: Pki, context: Context) -> None:
    assert verdict(token(pki, at=HOUR), context).indication is not Indication.TOTAL_PASSED


@pytest.mark.parametrize(
    ("usages", "critical"),
    [
        ((STAMPING,), False),
        ((STAMPING, ExtendedKeyUsageOID.EMAIL_PROTECTION), True),
        ((ExtendedKeyUsageOID.EMAIL_PROTECTION,), True),
        ((), True),
    ],
    ids=["not critical", "not alone", "another", "none"],
)
def test_the_extended_key_usage_is_critical_and_alone(
    pki: Pki, context: Context, usages: tuple[x509.ObjectIdentifier, ...], critical: bool
) -> None:
    """RFC 3161 clause 2.3."""
    tsa = pki.issue("TSA", key=KEY, usages=usages, usages_critical=critical)
    assert verdict(token(pki, tsa), context).sub_indication is SubIndication.CHAIN_CONSTRAINTS_FAILURE


def bound(pki: Pki, *references: tuple[str, bytes]) -> bytes:
    """A sound token but for the references to its certificate: names of attributes with the hash each gives."""
    content = tsp.ContentInfo.load(token(pki))
    signer = content["content"]["signer_infos"][0]
    kept = [one for one in signer["signed_attrs"].untag() if not one["type"].native.startswith("signing_certificate")]
    added = [cms.CMSAttribute({"type": name, "values": [{"certs": [{"cert_hash": digest}]}]}) for name, digest in references]
    signer["signed_attrs"] = signed = cms.CMSAttributes([*kept, *added])
    assert isinstance(pki.tsa.key, rsa.RSAPrivateKey)
    signer["signature_algorithm"] = {"algorithm": "sha256_rsa"}
    signer["signature"] = pki.tsa.key.sign(signed.dump(), padding.PKCS1v15(), hashes.SHA256())
    return bytes(content.dump(force=True))


def test_every_reference_to_the_certificate_must_be_to_it(pki: Pki, context: Context) -> None:
    """RFC 5035 clauses 3 and 4: ESSCertID and ESSCertIDv2 are each evaluated, and there is one of each."""
    one, two = hashlib.sha1(pki.tsa.der).digest(), hashlib.sha256(pki.tsa.der).digest()
    v1, v2 = "signing_certificate", "signing_certificate_v2"
    for good in ([(v1, one)], [(v2, two)], [(v1, one), (v2, two)]):
        assert verdict(bound(pki, *good), context).indication is Indication.TOTAL_PASSED
    for wrong in ([(v1, bytes(20))], [(v2, bytes(32))], [(v1, bytes(20)), (v2, two)], [(v1, one), (v2, bytes(32))]):
        assert verdict(bound(pki, *wrong), context).sub_indication is SubIndication.NO_SIGNING_CERTIFICATE_FOUND
    assert verdict(bound(pki), context).sub_indication is SubIndication.SIG_CONSTRAINTS_FAILURE
    assert verdict(bound(pki, (v2, two), (v2, two)), context).sub_indication is SubIndication.FORMAT_FAILURE


def test_a_signature_does_not_lean_on_a_timestamp_that_did_not_pass(pki: Pki, context: Context) -> None:
    tsa = pki.issue("TSA", key=KEY, usages=())
    (found,) = verify_pdf(sign(plain_pdf(), pki, tsa=tsa, stamped_at=NOW - HOUR), context).signatures
    assert found.indication is Indication.TOTAL_PASSED
    assert found.proven_at is None
    assert "TIMESTAMP_NOT_PASSED" in {finding.code for finding in found.findings}


def test_the_chain_counts_at_the_moment_of_the_timestamp(pki: Pki) -> None:
    """One that has expired since proves nothing by itself any more, unless something shows that the timestamp existed before."""
    tsa = pki.issue("TSA", key=KEY, usages=(STAMPING,), not_after=NOW - DAY)
    trust = pki.trust(at=NOW - 3 * DAY, hours=48)
    context = Context(trust=trust, now=NOW)
    made = token(pki, tsa, at=-2 * DAY)
    archived = verify_timestamp(made, Octets.of(DATA), context, kind="document", existed_at=NOW - 1.5 * DAY)
    assert archived.indication is Indication.TOTAL_PASSED
    assert verdict(made, context).sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE
    assert verdict(token(pki, tsa), context).sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE


def test_a_timestamp_from_after_the_one_over_it_is_out_of_order(pki: Pki, context: Context) -> None:
    found = verify_timestamp(token(pki), Octets.of(DATA), context, kind="document", existed_at=NOW - 2 * HOUR)
    assert found.sub_indication is SubIndication.TIMESTAMP_ORDER_FAILURE


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (x509.ReasonFlags.unspecified, Indication.TOTAL_PASSED),
        (x509.ReasonFlags.affiliation_changed, Indication.TOTAL_PASSED),
        (x509.ReasonFlags.superseded, Indication.TOTAL_PASSED),
        (x509.ReasonFlags.cessation_of_operation, Indication.TOTAL_PASSED),
        (x509.ReasonFlags.key_compromise, Indication.TOTAL_FAILED),
        (x509.ReasonFlags.ca_compromise, Indication.TOTAL_FAILED),
        (x509.ReasonFlags.aa_compromise, Indication.TOTAL_FAILED),
        (x509.ReasonFlags.privilege_withdrawn, Indication.TOTAL_FAILED),
        (None, Indication.TOTAL_FAILED),
    ],
)
def test_a_later_revocation_counts_by_its_reason(pki: Pki, reason: x509.ReasonFlags | None, expected: Indication) -> None:
    """RFC 3161 clause 4: after a compromise, or when no reason is given, every token of that key is invalid."""
    context = Context(trust=pki.trust([(pki.tsa, NOW, reason)], at=NOW), now=NOW)
    assert verdict(token(pki), context).indication is expected


def test_stamped_after_revocation_fails(pki: Pki) -> None:
    context = Context(trust=pki.trust([(pki.tsa, NOW - 2 * HOUR, x509.ReasonFlags.superseded)]), now=NOW)
    assert verdict(token(pki), context).sub_indication is SubIndication.REVOKED


def test_a_token_without_certificates_is_judged_with_those_at_hand(pki: Pki, context: Context) -> None:
    content = tsp.ContentInfo.load(token(pki))
    signed = content["content"]
    signed["certificates"] = cms.CertificateSet([])
    bare = tsp.ContentInfo({"content_type": "signed_data", "content": signed.untag()}).dump(force=True)
    assert verdict(bare, context).sub_indication is SubIndication.NO_SIGNING_CERTIFICATE_FOUND
    found = verify_timestamp(bare, Octets.of(DATA), context, kind="detached", hints=[pki.tsa.certificate])
    assert found.indication is Indication.TOTAL_PASSED


@pytest.mark.parametrize(("attributes", "values"), [(50_000, 1), (1, 200_000)])
@pytest.mark.parametrize("signed", [True, False])
def test_more_attributes_than_anybody_needs_cost_nothing(
    pki: Pki, context: Context, signed: bool, attributes: int, values: int
) -> None:
    """A token of 10 MB kept the verifier busy for a minute."""
    message = tsp.ContentInfo.load(token(pki))["content"]
    signer = message["signer_infos"][0]
    many = tlv(SEQUENCE, cms.CMSAttributeType("signature_time_stamp_token").dump(), tlv(SET, b"\x05\x00" * values)) * attributes
    fields = [signer[name].dump() for name in ("version", "sid", "digest_algorithm")]
    fields.append(tlv(0xA0, signer["signed_attrs"].contents, many if signed else b""))
    fields += [signer[name].dump() for name in ("signature_algorithm", "signature")]
    fields.append(b"" if signed else tlv(0xA1, many))
    around = [message[name].dump() for name in ("version", "digest_algorithms", "encap_content_info", "certificates")]
    hostile = tlv(SEQUENCE, *around, tlv(SET, tlv(SEQUENCE, *fields)))
    hostile = tlv(SEQUENCE, cms.ContentType("signed_data").dump(), tlv(0xA0, hostile))
    began = time.process_time()
    assert verdict(hostile, context).sub_indication is SubIndication.FORMAT_FAILURE
    assert time.process_time() - began < 0.5


def test_no_field_of_a_token_keeps_the_verifier_busy(pki: Pki, context: Context) -> None:
    """A policy of one megabyte took two minutes to read, a megabyte of extensions three seconds."""
    content = tsp.ContentInfo.load(token(pki))
    message = content["content"]
    info = message["encap_content_info"]["content"].parsed
    policy = info["policy"].dump()
    extension = tlv(SEQUENCE, b"\x06\x02\x2a\x03", tlv(0x04, b"\x05\x00"))
    began = time.process_time()
    for hostile in (
        info.contents.replace(policy, tlv(0x06, b"\x2a" + b"\xff" * 1_000_000 + b"\x01")),
        info.contents + tlv(0xA1, extension * 100_000),
    ):
        octets = tlv(0x04, tlv(SEQUENCE, hostile))
        encapsulated = tlv(SEQUENCE, cms.ContentType("tst_info").dump(), tlv(0xA0, octets))
        around = [message["version"].dump(), message["digest_algorithms"].dump(), encapsulated]
        signed = tlv(SEQUENCE, *around, message["certificates"].dump(), message["signer_infos"].dump())
        der = tlv(SEQUENCE, content["content_type"].dump(), tlv(0xA0, signed))
        assert verdict(der, context).sub_indication is SubIndication.FORMAT_FAILURE
    assert time.process_time() - began < 0.5


def test_whatever_is_cut_or_flipped_is_a_verdict(pki: Pki, context: Context) -> None:
    der = token(pki)
    for cut in range(0, len(der), 37):
        assert verdict(der[:cut], context).indication is not Indication.TOTAL_PASSED
    for position in range(0, len(der), 11):
        verdict(der[:position] + bytes([der[position] ^ 0x41]) + der[position + 1 :], context)


def test_a_response_is_taken_and_a_refusal_says_why(pki: Pki) -> None:
    inner = tsp.ContentInfo.load(token(pki))
    response = tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": inner}).dump()
    assert parse_timestamp(response) == token_bytes(inner)
    with pytest.raises(Malformed, match=r"it refuses: rejection$"):
        parse_timestamp(bytes.fromhex("30053003020102"))
    with pytest.raises(Malformed, match=r"it refuses: rejection, bad_alg, SHA-1 is too weak$"):
        parse_timestamp(build_refused(Refusal(Failure.BAD_ALG, "SHA-1 is too weak")))
    with pytest.raises(Malformed):
        parse_timestamp(bytes.fromhex("30053003020100"))  # granted, and nothing given


def token_bytes(inner: tsp.ContentInfo) -> bytes:
    return bytes(inner.dump())


@pytest.mark.interop
def test_openssl_s_timestamps_pass_and_openssl_agrees(pki: Pki, tmp_path: Path) -> None:
    """`openssl ts` stamps and verifies; we say the same of the same bytes."""
    for identity, label in ((pki.tsa, "tsa"), (pki.root, "root"), (pki.issuing, "issuing")):
        (tmp_path / f"{label}.pem").write_bytes(identity.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "tsa.key").write_bytes(pki.tsa.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "serial").write_text("01\n")
    (tmp_path / "ts.cnf").write_text(
        "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_cert = tsa.pem\nsigner_key = tsa.key\ncerts = issuing.pem\n"
        "signer_digest = sha256\ndefault_policy = 1.2.3\ndigests = sha256\naccuracy = secs:1, millisecs:500\n"
        "ordering = no\ness_cert_id_chain = no\n"
    )
    (tmp_path / "data").write_bytes(DATA)

    def openssl(*arguments: str) -> str:
        done = subprocess.run(["openssl", "ts", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    openssl("-query", "-data", "data", "-sha256", "-cert", "-out", "query")
    openssl("-reply", "-config", "ts.cnf", "-section", "one", "-queryfile", "query", "-out", "reply")
    assert "Verification: OK" in openssl(
        "-verify", "-queryfile", "query", "-in", "reply", "-CAfile", "root.pem", "-untrusted", "issuing.pem"
    )
    request = parse_timestamp_query((tmp_path / "query").read_bytes())
    context = Context(trust=pki.trust(), now=NOW + HOUR)
    found = verdict(parse_timestamp((tmp_path / "reply").read_bytes()), context, asked=request)
    assert found.indication is Indication.TOTAL_PASSED
    assert found.accuracy_milliseconds == 1500.0
    assert request.nonce is not None
    assert found.nonce == format(request.nonce, "x")
