"""Programs that are not ours judge certificates, CRLs and OCSP responses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hsm.keys import KeySpec
from pki.ca import IssuedCertificate, to_pem
from pki.status_views import RevocationReason
from tests.pki.house import ADMIN, ANYBODY, REFERENCE, House, ocsp_request, run

pytestmark = pytest.mark.interop
FROM_NOTICE_ON = ("-s", "NOTICE")


@pytest.fixture
def folder(house: House, tmp_path: Path) -> Path:
    """``root.pem``, ``issuing.pem``, and on demand the rest."""
    issuing, root = house.issue().chain
    (tmp_path / "issuing.pem").write_text(to_pem(issuing))
    (tmp_path / "root.pem").write_text(to_pem(root))
    return tmp_path


def _write_crls(house: House, folder: Path) -> Path:
    pems = [x509.load_der_x509_crl(house.crl.current(name).der).public_bytes(Encoding.PEM) for name in ("root", "issuing")]
    (folder / "crls.pem").write_bytes(b"".join(pems))
    return folder / "crls.pem"


def _verify(house: House, folder: Path, issued: IssuedCertificate, *, check: bool = True) -> str:
    (folder / "leaf.pem").write_text(issued.pem)
    trusted = ("-CAfile", folder / "root.pem", "-untrusted", folder / "issuing.pem", "-CRLfile", _write_crls(house, folder))
    return run("openssl", "verify", "-x509_strict", "-crl_check_all", *trusted, folder / "leaf.pem", check=check)


def _one_of_each_profile(house: House) -> dict[str, x509.Certificate]:
    for profile, subscriber in (("agency-seal", "seal"), ("officer", "officer"), ("device", "device")):
        house.ca.issue_for_key(profile=profile, subscriber=subscriber, spec=KeySpec.P_256, reference=REFERENCE, actor=ADMIN)
    return {row.profile: x509.load_der_x509_certificate(row.der or b"") for row in house.rows("issued")}


def test_openssl_verifies_and_after_revocation_refuses(house: House, folder: Path) -> None:
    issued = house.issue()
    assert "leaf.pem: OK" in _verify(house, folder, issued)
    house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    assert "certificate revoked" in _verify(house, folder, issued, check=False)


def test_openssl_refuses_everything_below_a_revoked_authority(house: House, folder: Path) -> None:
    issued = house.issue()
    (issuing,) = (row for row in house.rows("issued") if row.profile == "issuing-ca")
    house.revocations.revoke(issuing.serial, reason="cACompromise", actor=ADMIN)
    assert "certificate revoked" in _verify(house, folder, issued, check=False)


@pytest.mark.parametrize("name", ["pkilint", "openssl", "certtool"])
def test_every_profile_pleases(house: House, folder: Path, name: str) -> None:
    certificates = _one_of_each_profile(house)
    assert set(certificates) == {"root", "issuing-ca", "ocsp-responder", "tsa", "agency-seal", "officer", "device"}
    for profile, certificate in certificates.items():
        path = folder / f"{profile}.pem"
        path.write_text(to_pem(certificate))
        if name == "pkilint":
            findings = run(*_lint("pkix_cert"), *FROM_NOTICE_ON, path)
            assert findings.strip() == "", profile
        elif name == "openssl":
            assert "X509v3 Subject Key Identifier" in run("openssl", "x509", "-in", path, "-noout", "-text", "-nameopt", "utf8")
        else:
            assert "Subject Key Identifier" in run("certtool", "--certificate-info", "--infile", path)


def test_extended_key_usages_serve_their_purpose(house: House, folder: Path) -> None:
    certificates = _one_of_each_profile(house)
    purposes = {"tsa": "timestampsign", "ocsp-responder": "ocsphelper", "agency-seal": "smimesign", "device": "sslclient"}
    for profile, purpose in purposes.items():
        path = folder / f"{profile}.pem"
        path.write_text(to_pem(certificates[profile]))
        chain = ("-CAfile", folder / "root.pem", "-untrusted", folder / "issuing.pem")
        run("openssl", "verify", "-x509_strict", "-purpose", purpose, *chain, path)


def test_pkilint_and_openssl_accept_every_crl(house: House, folder: Path) -> None:
    reasons: list[RevocationReason] = ["unspecified", "keyCompromise", "privilegeWithdrawn"]
    for reason in reasons:
        house.revocations.revoke(house.issue().serial, reason=reason, actor=ADMIN)
    for name, kind in (("root", "ARL"), ("issuing", "CRL")):
        path = folder / f"{name}.crl"
        path.write_bytes(house.crl.current(name).der)
        assert run(*_lint("crl"), "-t", kind, "-p", "PKIX", *FROM_NOTICE_ON, path).strip() == ""
        command = ("openssl", "crl", "-inform", "DER", "-in", path, "-CAfile", folder / f"{name}.pem", "-noout", "-text")
        assert "verify OK" in run(*command)
        run("openssl", "crl", "-inform", "DER", "-in", path, "-out", folder / "pem.crl")
        run("certtool", "--verify-crl", "--load-ca-certificate", folder / f"{name}.pem", "--infile", folder / "pem.crl")


def test_openssl_asks_for_several_certificates_with_a_nonce(house: House, folder: Path) -> None:
    """Its own request, our response, its own judgement of signature, delegation, nonce and times."""
    good, revoked = house.issue(), house.issue()
    house.revocations.revoke(revoked.serial, reason="superseded", actor=ADMIN)
    for name, issued in (("good", good), ("revoked", revoked)):
        (folder / f"{name}.pem").write_text(issued.pem)
    asked = ("-issuer", folder / "issuing.pem", "-sha256", "-cert", folder / "good.pem", "-cert", folder / "revoked.pem")
    run("openssl", "ocsp", *asked, "-nonce", "-reqout", folder / "request")
    (folder / "response").write_bytes(house.ocsp.respond((folder / "request").read_bytes(), ANYBODY))
    trusted = ("-CAfile", folder / "root.pem", "-verify_other", folder / "issuing.pem")
    said = run("openssl", "ocsp", "-reqin", folder / "request", "-respin", folder / "response", *trusted, "-resp_text")
    assert "Response verify OK" in said
    assert "Nonce Verify error" not in said
    assert said.count("Cert Status: good") == 1
    assert said.count("Cert Status: revoked") == 1
    assert "superseded" in said


def test_pkilint_accepts_every_ocsp_response(house: House, folder: Path) -> None:
    issued = house.issue()
    path = folder / "response"
    for revoke in (False, True):
        if revoke:
            house.revocations.revoke(issued.serial, reason="affiliationChanged", actor=ADMIN)
        path.write_bytes(house.ocsp.respond(ocsp_request(issued, nonce=bytes(range(32))), ANYBODY))
        assert run(*_lint("ocsp_response"), *FROM_NOTICE_ON, path).strip() == ""


def test_gnutls_asks_the_url_in_the_certificate(served: House, tmp_path: Path) -> None:
    issued = served.issue()
    for name, certificate in zip(("leaf", "issuing", "root"), (issued.certificate, *issued.chain), strict=True):
        (tmp_path / f"{name}.pem").write_text(to_pem(certificate))
    ask = ("ocsptool", "--ask", "--load-cert", tmp_path / "leaf.pem", "--load-issuer", tmp_path / "issuing.pem")
    assert "Certificate Status: good" in run(*ask, "--load-trust", tmp_path / "issuing.pem")
    served.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    assert "Certificate Status: revoked" in run(*ask, "--load-trust", tmp_path / "issuing.pem", check=False)


@pytest.mark.slow
def test_the_jdk_validates_the_chain_by_ocsp_over_get(served: House, tmp_path: Path) -> None:
    """java.security.cert's PKIX checker, which asks about the leaf and about the issuing authority."""
    issued = served.issue()
    chain = (issued.certificate, *issued.chain)
    for name, certificate in zip(("leaf", "issuing", "root"), chain, strict=True):
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.DER))
    (tmp_path / "Check.java").write_text(_JAVA)
    check = ("java", tmp_path / "Check.java", tmp_path / "root", tmp_path / "leaf", tmp_path / "issuing")
    assert "valid" in run(*check)
    served.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    assert "KEY_COMPROMISE" in run(*check, check=False)


def _lint(kind: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"pkilint.bin.lint_{kind}", "lint")


_JAVA = """
import java.io.*; import java.security.cert.*; import java.util.*;
class Check {
    public static void main(String[] files) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        List<X509Certificate> read = new ArrayList<>();
        for (String file : files) read.add((X509Certificate) factory.generateCertificate(new FileInputStream(file)));
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK));
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(read.get(0), null)));
        parameters.addCertPathChecker(checker);
        try {
            validator.validate(factory.generateCertPath(read.subList(1, read.size())), parameters);
            System.out.println("valid");
        } catch (CertPathValidatorException error) {
            System.out.println(error + " " + error.getCause());
        }
    }
}
"""
