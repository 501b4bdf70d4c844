"""Every kind of key: what it signs, other programs accept; what it is, the token says."""

from __future__ import annotations

import copy
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.x509 import ocsp
from lxml import etree
from pkcs11 import Mechanism
from signxml.signer import XMLSigner
from signxml.verifier import XMLVerifier

from core.errors import Conflict, NotFound, Rejected
from core.settings import HsmConfig
from core.signatures import sign_all
from hsm.keys import KeySpec, PrivateKey
from hsm.token import Token
from tests.hsm.instance import pkcs11_tool

MESSAGE = b"Quyet dinh so 1/QD" * 40
Keys = tuple[HsmConfig, dict[KeySpec, PrivateKey]]
HASHES = [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]


def sign(key: PrivateKey, data: bytes, algorithm: hashes.HashAlgorithm | Prehashed) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(algorithm))
    return key.sign(data)


def verify(key: Any, signature: bytes, algorithm: hashes.HashAlgorithm, message: bytes = MESSAGE) -> None:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, message, padding.PKCS1v15(), algorithm)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, message, ec.ECDSA(algorithm))
    else:
        public.verify(signature, message)


@pytest.mark.parametrize("algorithm", HASHES, ids=lambda algorithm: algorithm.name)
@pytest.mark.parametrize("spec", KeySpec)
def test_a_signature_verifies_with_each_hash(every_key: Keys, spec: KeySpec, algorithm: hashes.HashAlgorithm) -> None:
    key = every_key[1][spec]
    verify(key, sign(key, MESSAGE, algorithm), algorithm)


@pytest.mark.parametrize("spec", [KeySpec.P_256, KeySpec.P_521, KeySpec.RSA_2048])
def test_several_messages_are_signed_at_once_each_for_itself(every_key: Keys, spec: KeySpec) -> None:
    key, algorithm = every_key[1][spec], hashes.SHA512()
    messages = [b"", b"one", MESSAGE]
    for message, signature in zip(messages, sign_all(key, messages, algorithm), strict=True):
        verify(key, signature, algorithm, message)
    assert sign_all(key, [], algorithm) == []
    with pytest.raises(Rejected, match="sha3-256"):
        sign_all(key, messages, hashes.SHA3_256())


@pytest.mark.parametrize("algorithm", HASHES, ids=lambda algorithm: algorithm.name)
@pytest.mark.parametrize("spec", [spec for spec in KeySpec if spec is not KeySpec.ED25519])
def test_a_digest_handed_in_is_signed_as_it_is(every_key: Keys, spec: KeySpec, algorithm: hashes.HashAlgorithm) -> None:
    key = every_key[1][spec]
    hasher = hashes.Hash(algorithm)
    hasher.update(MESSAGE)
    verify(key, sign(key, hasher.finalize(), Prehashed(algorithm)), algorithm)


@pytest.mark.parametrize("salt", [padding.PSS.DIGEST_LENGTH, padding.PSS.MAX_LENGTH, 20], ids=["digest", "max", "20"])
@pytest.mark.parametrize("algorithm", HASHES, ids=lambda algorithm: algorithm.name)
def test_pss_verifies_with_each_salt(every_key: Keys, algorithm: hashes.HashAlgorithm, salt: Any) -> None:
    key = every_key[1][KeySpec.RSA_3072]
    assert isinstance(key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(algorithm), salt)
    key.public_key().verify(key.sign(MESSAGE, pss, algorithm), MESSAGE, pss, algorithm)


@pytest.mark.interop
@pytest.mark.parametrize("spec", KeySpec)
def test_openssl_accepts_the_signature(every_key: Keys, spec: KeySpec, tmp_path: Path) -> None:
    key = every_key[1][spec]
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    (tmp_path / "message").write_bytes(MESSAGE)
    (tmp_path / "signature").write_bytes(sign(key, MESSAGE, hashes.SHA256()))
    command = ["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "message"]
    if spec is KeySpec.ED25519:
        files = ["-inkey", "public.pem", "-in", "message", "-sigfile", "signature"]
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin", *files]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.interop
def test_pkcs11_tool_sees_keys_that_sign_and_never_leave(every_key: Keys) -> None:
    config, keys = every_key
    seen = {}
    for item in pkcs11_tool(config, "-O", "--type", "privkey").split("Private Key Object;")[1:]:
        fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in item.splitlines()[1:])}
        seen[fields["label"]] = fields
    assert set(seen) == {"condau-probe"} | {f"key-{spec.value}" for spec in keys}
    for fields in seen.values():
        assert fields["Access"] == "sensitive, always sensitive, never extractable, local"
        assert fields["Usage"] == "sign"
        assert len(bytes.fromhex(fields["ID"])) == 16


@pytest.mark.parametrize("spec", [KeySpec.RSA_2048, KeySpec.P_256, KeySpec.P_384, KeySpec.P_521, KeySpec.ED25519])
def test_the_x509_builders_sign_with_it(every_key: Keys, spec: KeySpec) -> None:
    key = every_key[1][spec]
    algorithm = None if spec is KeySpec.ED25519 else hashes.SHA256()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Thu nghiem")])
    at = datetime.now(UTC)
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    assert request.is_signature_valid
    certificate = (
        x509.CertificateBuilder(name, name, request.public_key(), 1, at, at + timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
        .sign(key, algorithm)
    )
    certificate.verify_directly_issued_by(certificate)
    crl = x509.CertificateRevocationListBuilder(name, at, at + timedelta(days=1)).sign(key, algorithm)
    assert crl.is_signature_valid(key.public_key())
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate, certificate, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, at, at, None, None
    )
    response = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, certificate).sign(key, algorithm)
    verify(key, response.signature, hashes.SHA256(), response.tbs_response_bytes)


@pytest.mark.parametrize("spec", [KeySpec.RSA_2048, KeySpec.P_256])
def test_signxml_signs_with_it(every_key: Keys, spec: KeySpec) -> None:
    key = every_key[1][spec]
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Thu nghiem")])
    at = datetime.now(UTC) - timedelta(minutes=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, at, at + timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    method = "rsa-sha256" if spec is KeySpec.RSA_2048 else "ecdsa-sha256"
    signed = XMLSigner(signature_algorithm=method).sign(etree.fromstring("<a>1</a>"), key=key, cert=pem)
    XMLVerifier().verify(signed, x509_cert=pem)


def test_the_private_key_itself_is_refused(every_key: Keys) -> None:
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for spec, key in every_key[1].items():
        with pytest.raises(Rejected, match="never leaves its token"):
            key.private_bytes(*encoding)
        assert copy.copy(key) is key
        assert copy.deepcopy(key) is key
        assert spec.value in repr(key)


def test_what_a_token_cannot_sign_is_refused(every_key: Keys) -> None:
    rsa_key, ec_key = every_key[1][KeySpec.RSA_2048], every_key[1][KeySpec.P_256]
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    assert isinstance(ec_key, ec.EllipticCurvePrivateKey)
    with pytest.raises(Rejected, match="sha1 is not supported"):
        rsa_key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(Rejected, match="NoDigestInfo"):
        rsa_key.sign(MESSAGE, padding.PKCS1v15(), NoDigestInfo())
    with pytest.raises(Rejected, match="randomised"):
        ec_key.sign(MESSAGE, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    with pytest.raises(ValueError, match="has 32 bytes, not 3"):
        ec_key.sign(b"abc", ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize("missing", [Mechanism.RSA_PKCS, Mechanism.RSA_PKCS_PSS])
def test_a_token_without_the_raw_mechanism_hashes_itself(token: Token, missing: Mechanism, monkeypatch: pytest.MonkeyPatch) -> None:
    key = token.generate("unsigned", KeySpec.RSA_2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert token._connection is not None
    (lane,) = token._connection._all
    monkeypatch.setattr(lane, "_offered", lane._offered - {missing})
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    for scheme in (padding.PKCS1v15(), pss):
        key.public_key().verify(key.sign(MESSAGE, scheme, hashes.SHA256()), MESSAGE, scheme, hashes.SHA256())
    if missing is Mechanism.RSA_PKCS:
        with pytest.raises(Rejected, match="offers none of RSA_PKCS"):
            key.sign(b"d" * 32, padding.PKCS1v15(), Prehashed(hashes.SHA256()))


def test_a_kind_the_token_does_not_make_is_refused(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    token.probe()
    assert token._connection is not None
    (lane,) = token._connection._all
    monkeypatch.setattr(lane, "_offered", token._connection.offered - {Mechanism.EDDSA})
    with pytest.raises(Rejected, match="does not make ed25519 keys"):
        token.generate("edwards", KeySpec.ED25519)


def test_a_label_names_one_key(token: Token) -> None:
    key = token.generate("dấu", KeySpec.P_256)
    with pytest.raises(Conflict, match="exists already"):
        token.generate("dấu", KeySpec.P_256)
    found = token.key("dấu")
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    with pytest.raises(NotFound):
        token.key("dâu")
    assert token.labels() == ["condau-probe", "dấu"]
    token.close()
    assert token.key("dấu").public_key() == key.public_key()


def test_a_wrong_signature_does_not_verify(every_key: Keys) -> None:
    key = every_key[1][KeySpec.ED25519]
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    with pytest.raises(InvalidSignature):
        key.public_key().verify(key.sign(b"another message"), MESSAGE)
