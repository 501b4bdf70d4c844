"""What a request must keep to, without any key or database."""

from __future__ import annotations

import unicodedata
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from core.errors import Malformed, Rejected
from hsm.keys import KeySpec
from pki.profile import (
    build_subject,
    check_csr,
    check_days,
    check_holder,
    check_key,
    check_subject,
    parse_csr,
    subscriber_profile,
    term,
)
from pki.profile_files import DEFAULTS
from tests.conftest import Clock
from tests.pki.house import make_csr
from tests.software_keys import make_key


@pytest.mark.parametrize("spec", list(KeySpec))
def test_every_kind_of_key_a_token_makes_may_be_certified(spec: KeySpec) -> None:
    assert list(check_key(make_key(spec).public_key())) == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (rsa.generate_private_key(65537, 1024), "1024 bits"),
        (rsa.generate_private_key(3, 2048), "exponent"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ec.generate_private_key(ec.SECP224R1()), "secp224r1"),
        (ed448.Ed448PrivateKey.generate(), "of this kind"),
        (dsa.generate_private_key(1024), "of this kind"),
    ],
    ids=["rsa-1024", "rsa-e3", "secp256k1", "p-224", "ed448", "dsa"],
)
def test_weak_and_foreign_keys_are_violations(key: object, says: str) -> None:
    assert says in next(check_key(key.public_key())).message  # type: ignore[attr-defined]  # every private key has it


def test_every_fault_of_a_csr_is_listed() -> None:
    """A weak key and a proof of possession that does not hold."""
    der = bytearray(make_csr(rsa.generate_private_key(3, 1024), encoding=Encoding.DER))
    der[-1] ^= 1
    found = [violation.message for violation in check_csr(parse_csr(bytes(der)))]
    assert len(found) == 3
    assert "possession" in found[0]
    assert "1024" in found[1]
    assert "exponent" in found[2]


def test_a_csr_signed_with_sha1_is_a_violation() -> None:
    der = _sha1_csr()
    assert ["sha1" in violation.message for violation in check_csr(parse_csr(der))] == [True]


def _sha1_csr() -> bytes:
    """cryptography does not sign with SHA-1 any more, so the algorithm is exchanged and the bytes are signed by hand."""
    key = rsa.generate_private_key(65537, 2048)
    request = x509.load_der_x509_csr(make_csr(key, encoding=Encoding.DER))
    signature = key.sign(request.tbs_certrequest_bytes, padding.PKCS1v15(), hashes.SHA1())
    der = request.public_bytes(Encoding.DER)
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    return der.replace(sha256, sha1).replace(request.signature, signature)


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", b"0\x03\x02\x01\x00"],
)
def test_what_is_no_request_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse_csr(data)
    assert caught.value.violations[0].field == "csr"


@pytest.mark.parametrize("name", ["nothing", "root", "issuing-ca", "tsa", "ocsp-responder"])
def test_only_subscriber_profiles_can_be_asked_for(name: str) -> None:
    with pytest.raises(Rejected, match="agency-seal, device, officer, tls-server"):
        subscriber_profile(DEFAULTS, name)


def test_a_term_beyond_five_years_is_a_violation() -> None:
    profile = DEFAULTS["officer"]
    assert list(check_days(profile, 1826)) == []
    assert [violation.field for violation in check_days(profile, 1827)] == ["days"]
    assert [violation.field for violation in check_days(profile, 0)] == ["days"]


def test_a_profile_fits_one_kind_of_subscriber() -> None:
    assert list(check_holder(DEFAULTS, DEFAULTS["officer"], "officer")) == []
    assert "agency-seal" in next(check_holder(DEFAULTS, DEFAULTS["officer"], "agency")).message


def test_nothing_outlives_its_issuer(clock: Clock) -> None:
    end = clock() + timedelta(days=100)
    assert term(DEFAULTS["officer"], at=clock(), days=1095, issuer_not_after=end) == (clock(), end)
    assert term(DEFAULTS["officer"], at=clock(), days=10, issuer_not_after=end)[1] == clock() + timedelta(days=10, seconds=-1)


def test_a_subject_is_ordered_nfc_utf8() -> None:
    decomposed = unicodedata.normalize("NFD", "Ủy ban")
    subject = build_subject(organization=decomposed, units=("Phòng A", "Tổ B"), locality="Huế", common_name="Máy 1")
    assert [attribute.oid for attribute in subject] == [
        NameOID.COUNTRY_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.LOCALITY_NAME,
        NameOID.COMMON_NAME,
    ]
    assert b"\x0c" + bytes([len("Ủy ban".encode())]) + "Ủy ban".encode() in subject.public_bytes()


def test_a_name_longer_than_a_certificate_holds_is_a_violation() -> None:
    subject = build_subject(organization="ủ" * 65, locality="Huế", common_name="Máy 1")
    assert [violation.field for violation in check_subject(subject)] == ["subscriber"]
    assert list(check_subject(build_subject(organization="ủ" * 64, locality="Huế", common_name="Máy 1"))) == []
