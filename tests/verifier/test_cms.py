"""CMS as openssl writes it, in all the ways older tools do: BER, SHA-1, leaf only, no attributes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.errors import Malformed
from tests.verifier.authorities import Identity, issue
from verifier.cms import check_signed_data, find_signer, parse_signed_data
from verifier.octets import Octets
from verifier.verdict import SubIndication

CONTENT = b"noi dung van ban" * 500
RSA = issue("RSA", key=rsa.generate_private_key(65537, 2048))
EC = issue("EC")

pytestmark = pytest.mark.interop


def made(folder: Path, identity: Identity, *options: str) -> bytes:
    """A CMS over CONTENT by `openssl cms -sign`."""
    (folder / "cert.pem").write_bytes(identity.certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "data").write_bytes(CONTENT)
    command = ["openssl", "cms", "-sign", "-binary", "-in", "data", "-signer", "cert.pem", "-inkey", "key.pem", "-outform", "DER"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("identity", [RSA, EC], ids=["rsa", "ec"])
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-stream",),
        ("-md", "sha1"),
        ("-md", "sha512"),
        ("-noattr",),
        ("-keyid",),
        ("-nosmimecap", "-cades"),
        ("-nodetach",),
        ("-nodetach", "-stream"),
    ],
    ids=" ".join,
)
def test_what_openssl_signs_holds(tmp_path: Path, identity: Identity, options: tuple[str, ...]) -> None:
    der = made(tmp_path, identity, *options)
    assert ("-stream" in options) == (der[1] == 0x80), "streamed means BER with indefinite lengths"
    message = parse_signed_data(der + b"\0" * 100)
    certificate, bound = find_signer(message, ())
    assert certificate == identity.certificate
    assert bound is ("-cades" in options)
    assert (message.content == CONTENT) is bool({"-nodetach", "-stream"} & set(options))
    assert check_signed_data(message, certificate.public_key(), Octets.of(CONTENT)) is None


def test_rsa_pss_holds(tmp_path: Path) -> None:
    der = made(tmp_path, RSA, "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:20")
    message = parse_signed_data(der)
    assert message.algorithm is not None
    assert message.algorithm.scheme == "rsa-pss"
    assert check_signed_data(message, RSA.certificate.public_key(), Octets.of(CONTENT)) is None


def test_other_content_other_keys_and_other_kinds_of_key_do_not_hold(tmp_path: Path) -> None:
    message = parse_signed_data(made(tmp_path, RSA))
    assert check_signed_data(message, RSA.certificate.public_key(), Octets.of(CONTENT + b"!")) is SubIndication.HASH_FAILURE
    other = issue("Khác", key=rsa.generate_private_key(65537, 2048))
    assert check_signed_data(message, other.certificate.public_key(), Octets.of(CONTENT)) is SubIndication.SIG_CRYPTO_FAILURE
    assert check_signed_data(message, EC.certificate.public_key(), Octets.of(CONTENT)) is SubIndication.SIG_CRYPTO_FAILURE
    bare = parse_signed_data(made(tmp_path, RSA, "-noattr"))
    assert check_signed_data(bare, RSA.certificate.public_key(), Octets.of(CONTENT + b"!")) is SubIndication.SIG_CRYPTO_FAILURE


def test_a_certificate_left_out_is_taken_from_those_at_hand(tmp_path: Path) -> None:
    message = parse_signed_data(made(tmp_path, RSA, "-nocerts"))
    assert message.certificates == ()
    assert find_signer(message, ())[0] is None
    assert find_signer(message, [EC.certificate, RSA.certificate])[0] == RSA.certificate


def test_a_namesake_with_the_same_serial_is_not_the_one_that_is_bound(tmp_path: Path) -> None:
    """Issuer and serial can be copied; the hash in signingCertificate cannot."""
    message = parse_signed_data(made(tmp_path, RSA, "-cades", "-nocerts"))
    twin = _same_name_and_serial(RSA)
    assert find_signer(message, [twin.certificate]) == (None, False)
    assert find_signer(message, [twin.certificate, RSA.certificate]) == (RSA.certificate, True)


def _same_name_and_serial(identity: Identity) -> Identity:
    original = identity.certificate
    key = rsa.generate_private_key(65537, 2048)
    builder = (
        x509.CertificateBuilder()
        .subject_name(original.subject)
        .issuer_name(original.issuer)
        .public_key(key.public_key())
        .serial_number(original.serial_number)
        .not_valid_before(original.not_valid_before_utc)
        .not_valid_after(original.not_valid_after_utc)
    )
    return Identity(builder.sign(key, hashes.SHA256()), key)


@pytest.mark.parametrize("missing", ["content_type", "message_digest"])
def test_an_attribute_that_must_be_there_once_is_not_done_without(tmp_path: Path, missing: str) -> None:
    info = cms.ContentInfo.load(made(tmp_path, RSA))
    signer = info["content"]["signer_infos"][0]
    signer["signed_attrs"] = cms.CMSAttributes([one for one in signer["signed_attrs"] if one["type"].native != missing])
    message = parse_signed_data(info.dump(force=True))
    assert check_signed_data(message, RSA.certificate.public_key(), Octets.of(CONTENT)) is SubIndication.FORMAT_FAILURE


def test_two_signers_or_none_are_refused(tmp_path: Path) -> None:
    info = cms.ContentInfo.load(made(tmp_path, RSA))
    one = info["content"]["signer_infos"][0]
    for signers in ([], [one, one.copy()]):
        info["content"]["signer_infos"] = cms.SignerInfos(signers)
        with pytest.raises(Malformed, match="signers"):
            parse_signed_data(info.dump(force=True))


@pytest.mark.parametrize("junk", [b"", b"\0" * 64, b"\x30\x00", b"\x30\x80\x06", b"0" * 1000, b"\x30\x80" * 2000])
def test_junk_is_malformed(junk: bytes) -> None:
    with pytest.raises(Malformed):
        parse_signed_data(junk)
