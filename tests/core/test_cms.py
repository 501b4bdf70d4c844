"""core/cms.py, judged by openssl and read by asn1crypto."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.cms import ID_DATA, ID_TST_INFO, CmsSigner, check_signed_data, encode_certificates
from core.signatures import fitting_hash, sign
from hsm.keys import KeySpec, PrivateKey
from tests.software_keys import make_key

CONTENT = b"Th\xc3\xb4ng t\xc6\xb0 30/2020\n"


def self_signed(key: Any, algorithm: hashes.SHA256 | None) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "VN"), x509.NameAttribute(NameOID.COMMON_NAME, "Con dấu thử")])
    now = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False).sign(key, algorithm)


@pytest.fixture(scope="module", params=list(KeySpec))
def holder(request: pytest.FixtureRequest) -> tuple[PrivateKey, x509.Certificate]:
    """A key of every kind the house makes, and a certificate for it."""
    key = make_key(request.param)
    return key, self_signed(key, None if request.param is KeySpec.ED25519 else hashes.SHA256())


@pytest.fixture(scope="module")
def p256() -> tuple[PrivateKey, x509.Certificate]:
    key = make_key(KeySpec.P_256)
    return key, self_signed(key, hashes.SHA256())


def sign_content(holder: tuple[PrivateKey, x509.Certificate], *, detached: bool, **options: Any) -> bytes:
    key, certificate = holder
    signer = CmsSigner(certificate)
    attributes = signer.build_attributes(content_type=ID_DATA, message_digest=signer.digest(CONTENT))
    signature = sign(key, attributes, signer.hash_algorithm)
    options = {"certificates": encode_certificates([certificate]), **options}
    return signer.build_signed_data(attributes, signature, content_type=ID_DATA, content=None if detached else CONTENT, **options)


def openssl_accepts(der: bytes, certificate: x509.Certificate, folder: Path, *, detached: bool) -> bool:
    (folder / "content").write_bytes(CONTENT)
    (folder / "cms.der").write_bytes(der)
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    command = [
        "openssl",
        "cms",
        "-verify",
        "-cades",
        "-inform",
        "DER",
        "-in",
        "cms.der",
        "-CAfile",
        "ca.pem",
        "-binary",
        "-out",
        "out",
    ]
    command += ["-certfile", "ca.pem", *(["-content", "content"] if detached else [])]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return done.returncode == 0 and (folder / "out").read_bytes() == CONTENT


@pytest.mark.interop
@pytest.mark.parametrize("detached", [True, False])
def test_openssl_verifies_every_kind_of_key_with_its_ess_certificate(
    holder: tuple[PrivateKey, x509.Certificate], detached: bool, tmp_path: Path
) -> None:
    """``-cades`` makes openssl demand and compare the ESSCertIDv2 attribute (RFC 5035)."""
    der = sign_content(holder, detached=detached)
    check_signed_data(der, certificate=holder[1], message_digest=CmsSigner(holder[1]).digest(CONTENT))
    if not isinstance(holder[0], ed25519.Ed25519PrivateKey):  # of which openssl 3.0 knows the signature, but not inside CMS
        assert openssl_accepts(der, holder[1], tmp_path, detached=detached)


@pytest.mark.interop
def test_openssl_verifies_the_ed25519_signature_over_the_attributes(tmp_path: Path) -> None:
    """RFC 8419, 3.1: pure Ed25519 over the DER of the attributes, whose digest is SHA-512."""
    key = make_key(KeySpec.ED25519)
    certificate = self_signed(key, None)
    (signer,) = cms.ContentInfo.load(sign_content((key, certificate), detached=True))["content"]["signer_infos"]
    assert signer["digest_algorithm"]["algorithm"].native == "sha512"
    assert signer["signature_algorithm"].dump().hex() == "300506032b6570"
    (tmp_path / "signed").write_bytes(signer["signed_attrs"].untag().dump())
    (tmp_path / "signature").write_bytes(signer["signature"].native)
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-certin", "-inkey", "cert.pem", "-in", "signed", "-sigfile", "signature"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.interop
def test_openssl_refuses_another_content(p256: tuple[PrivateKey, x509.Certificate], tmp_path: Path) -> None:
    der = sign_content(p256, detached=False).replace(CONTENT, CONTENT.replace(b"30", b"31"))
    assert not openssl_accepts(der, p256[1], tmp_path, detached=False)


def test_what_is_built_is_what_another_encoder_would_write(holder: tuple[PrivateKey, x509.Certificate]) -> None:
    """asn1crypto, given only the values, encodes the same bytes: lengths, tags and the order of every SET OF are DER's."""
    der = sign_content(holder, detached=False)
    assert cms.ContentInfo.load(der, strict=True).dump(force=True) == der


def test_the_fields_are_those_of_the_standards(p256: tuple[PrivateKey, x509.Certificate]) -> None:
    signed = cms.ContentInfo.load(sign_content(p256, detached=True), strict=True)["content"]
    (signer,) = signed["signer_infos"]
    assert signed["version"].native == "v1"
    assert signed["encap_content_info"]["content"].native is None
    assert signer["sid"].name == "issuer_and_serial_number"
    assert signer["sid"].chosen["serial_number"].native == p256[1].serial_number
    assert signer["digest_algorithm"].dump().hex() == "300b0609608648016503040201"  # RFC 5754, 2: no parameters
    assert signer["signature_algorithm"]["algorithm"].native == "sha256_ecdsa"
    attributes = {item["type"].native: item["values"] for item in signer["signed_attrs"]}
    assert set(attributes) == {"content_type", "message_digest", "signing_certificate_v2"}
    (ess,) = attributes["signing_certificate_v2"][0]["certs"]
    assert ess["cert_hash"].native == p256[1].fingerprint(hashes.SHA256())
    assert [field for field in ("issuer_serial", "policies") if field in ess and ess[field].native is not None] == []
    assert ess.dump()[2:4] == b"\x04\x20"  # hashAlgorithm at its default is left out, as DER wants


def test_rsa_is_named_with_its_hash_and_null_parameters() -> None:
    """RFC 5754, 3.2."""
    key = make_key(KeySpec.RSA_2048)
    der = sign_content((key, self_signed(key, hashes.SHA256())), detached=True)
    (signer,) = cms.ContentInfo.load(der)["content"]["signer_infos"]
    assert signer["signature_algorithm"].dump().hex() == "300d06092a864886f70d01010b0500"


@pytest.mark.parametrize(("year", "form"), [(2026, "utc_time"), (2049, "utc_time"), (2050, "generalized_time")])
def test_signing_time_is_written_only_when_given_and_in_whole_seconds(
    p256: tuple[PrivateKey, x509.Certificate], year: int, form: str
) -> None:
    """RFC 5652, 11.3: UTCTime through 2049, GeneralizedTime after."""
    at = datetime(year, 5, 19, 7, 30, 1, 250_000, tzinfo=UTC)
    attributes = CmsSigner(p256[1]).build_attributes(content_type=ID_DATA, message_digest=bytes(32), signing_time=at)
    (time,) = [item for item in cms.CMSAttributes.load(attributes) if item["type"].native == "signing_time"]
    assert time["values"][0].name == form
    assert time["values"][0].native == at.replace(microsecond=0)


def test_a_content_other_than_data_makes_it_version_3(p256: tuple[PrivateKey, x509.Certificate]) -> None:
    """RFC 5652, 5.1."""
    signer = CmsSigner(p256[1])
    attributes = signer.build_attributes(content_type=ID_TST_INFO, message_digest=signer.digest(CONTENT))
    signature = sign(p256[0], attributes, signer.hash_algorithm)
    der = signer.build_signed_data(attributes, signature, content_type=ID_TST_INFO, content=CONTENT)
    signed = cms.ContentInfo.load(der)["content"]
    assert signed["version"].native == "v3"
    assert signed["certificates"].native is None
    check_signed_data(der, certificate=p256[1], message_digest=signer.digest(CONTENT))


def test_a_timestamp_becomes_an_unsigned_attribute(p256: tuple[PrivateKey, x509.Certificate]) -> None:
    """RFC 3161, appendix A; any ContentInfo stands in for the timestamp here."""
    inner = sign_content(p256, detached=False)
    der = sign_content(p256, detached=True, timestamp=inner)
    (signer,) = tsp.ContentInfo.load(der)["content"]["signer_infos"]
    (attribute,) = signer["unsigned_attrs"]
    assert attribute["type"].native == "signature_time_stamp_token"
    assert attribute["values"][0].dump() == inner
    check_signed_data(der, certificate=p256[1], message_digest=hashlib.sha256(CONTENT).digest())


def test_the_check_names_what_is_wrong(p256: tuple[PrivateKey, x509.Certificate]) -> None:
    key, certificate = p256
    der, digest = sign_content(p256, detached=False), hashlib.sha256(CONTENT).digest()
    stranger = self_signed(make_key(KeySpec.P_256), hashes.SHA256())
    twin = self_signed(key, hashes.SHA256())
    signer = CmsSigner(certificate)
    attributes = signer.build_attributes(content_type=ID_DATA, message_digest=digest)
    forged = sign(make_key(KeySpec.P_256), attributes, signer.hash_algorithm)
    bad = signer.build_signed_data(attributes, forged, content_type=ID_DATA, content=None)
    mislabelled = signer.build_signed_data(attributes, forged, content_type=ID_TST_INFO, content=None)
    for what, (given, owner, expected) in {
        "1.2.840.113549.1.9.4": (der, certificate, bytes(32)),
        "1.2.840.113549.1.9.16.2.47": (der, stranger, digest),
        "9.16.2.47 is": (der, twin, digest),  # the same key in another certificate is another signer
        "1.2.840.113549.1.9.3 ": (mislabelled, certificate, digest),
        "content is not": (der.replace(CONTENT, CONTENT[::-1]), certificate, digest),
        "does not verify": (bad, certificate, digest),
        "ParseError": (der[:-1], certificate, digest),
    }.items():
        with pytest.raises(ValueError, match=what):
            check_signed_data(given, certificate=owner, message_digest=expected)


def test_hashes_and_keys_that_cannot_sign_cms_are_refused(p256: tuple[PrivateKey, x509.Certificate]) -> None:
    with pytest.raises(ValueError, match="sha1"):
        CmsSigner(p256[1], hashes.SHA1())
    edwards = make_key(KeySpec.ED25519)
    with pytest.raises(ValueError, match="RFC 8419"):
        CmsSigner(self_signed(edwards, None), hashes.SHA256())
    with pytest.raises(ValueError, match="only RSA, EC and Ed25519"):
        CmsSigner(self_signed(dsa.generate_private_key(1024), hashes.SHA256()))


def test_the_hash_fits_the_key() -> None:
    expected = {KeySpec.P_256: "sha256", KeySpec.P_384: "sha384", KeySpec.P_521: "sha512", KeySpec.ED25519: "sha512"}
    assert {spec: fitting_hash(make_key(spec).public_key()).name for spec in expected} == expected


@pytest.mark.parametrize("hash_algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_openssl_accepts_rsa_pss(tmp_path: Path, hash_algorithm: hashes.HashAlgorithm) -> None:
    """RFC 4056, 3: one hash for all, and a salt as long as it."""
    key = make_key(KeySpec.RSA_2048)
    certificate = self_signed(key, hashes.SHA256())
    signer = CmsSigner(certificate, hash_algorithm, pss=True)
    digest = signer.digest(CONTENT)
    attributes = signer.build_attributes(content_type=ID_DATA, message_digest=digest)
    signature = sign(key, attributes, signer.hash_algorithm, pss=True)
    options: dict[str, Any] = {"content_type": ID_DATA, "content": CONTENT, "certificates": encode_certificates([certificate])}
    der = signer.build_signed_data(attributes, signature, **options)
    assert openssl_accepts(der, certificate, tmp_path, detached=False)
    check_signed_data(der, certificate=certificate, message_digest=digest)
    declared = cms.ContentInfo.load(der)["content"]["signer_infos"][0]["signature_algorithm"]
    assert declared["parameters"]["salt_length"].native == hash_algorithm.digest_size
    wrong = signer.build_signed_data(attributes, sign(key, attributes, signer.hash_algorithm), **options)
    with pytest.raises(ValueError, match="does not verify"):
        check_signed_data(wrong, certificate=certificate, message_digest=digest)


def test_every_message_of_a_hot_path_is_checked_and_the_first_of_each_shape_is_read_back(
    p256: tuple[PrivateKey, x509.Certificate],
) -> None:
    signer = CmsSigner(p256[1])

    def build(content: bytes, key: PrivateKey = p256[0]) -> tuple[bytes, bytes, bytes]:
        attributes = signer.build_attributes(content_type=ID_TST_INFO, message_digest=signer.digest(content))
        signature = sign(key, attributes, signer.hash_algorithm)
        return signer.build_signed_data(attributes, signature, content_type=ID_TST_INFO, content=content), attributes, signature

    def check(made: tuple[bytes, bytes, bytes], content: bytes) -> None:
        signer.check(*made, content=content, content_type=ID_TST_INFO)

    first = build(CONTENT)
    with pytest.raises(ValueError, match="ParseError"):  # what the declared decoder cannot read does not become a known shape
        check((first[0][:-1] + b"\x00\x00", *first[1:]), CONTENT)
    for _ in range(3):
        check(build(CONTENT), CONTENT)
        check(build(CONTENT[::-1]), CONTENT[::-1])
    with pytest.raises(ValueError, match="digest of the content"):
        check(build(CONTENT), CONTENT[::-1])
    with pytest.raises(ValueError, match="does not verify"):
        check(build(CONTENT, make_key(KeySpec.P_256)), CONTENT)
