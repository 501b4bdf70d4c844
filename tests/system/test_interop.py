"""Programs that are not ours judge what a running service makes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response

from bench.load import SAMPLE_PDF, make_csr
from tests.service import ROOT, Service
from tests.system.conftest import run

pytestmark = pytest.mark.interop
ISSUE = "/v1/certificates?profile=device&subscriber=demo-device&reference=01/CV-TN"
SAMPLE_XML = (ROOT / "examples" / "cong-van.xml").read_bytes()


@pytest.fixture
def authorities(service: Service, tmp_path: Path) -> Path:
    """A folder with root.pem, issuing.pem, chain.pem (both) and crls.pem (both CRLs)."""
    for name in ("root", "issuing"):
        (tmp_path / f"{name}.pem").write_bytes(service.request("GET", f"/ca/{name}.pem").body)
        (tmp_path / f"{name}.crl").write_bytes(service.request("GET", f"/crl/{name}.crl").body)
    (tmp_path / "chain.pem").write_bytes((tmp_path / "root.pem").read_bytes() + (tmp_path / "issuing.pem").read_bytes())
    crls = [run("openssl", "crl", "-inform", "DER", "-in", tmp_path / f"{name}.crl").stdout for name in ("root", "issuing")]
    (tmp_path / "crls.pem").write_text("".join(crls))
    return tmp_path


@pytest.mark.parametrize("level", ["B-B", "B-T"])
@pytest.mark.parametrize("stamp", ["", "&page=1&rectangle=300,600,500,680&text=Ng%C6%B0%E1%BB%9Di%20k%C3%BD"])
def test_pdfsig_and_our_verdict_agree_on_a_signed_pdf(service: Service, authorities: Path, level: str, stamp: str) -> None:
    path = f"/v1/signatures/pdf?level={level}{stamp}"
    answer = service.request("POST", path, SAMPLE_PDF, key="client", kind="application/pdf")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.body.startswith(SAMPLE_PDF)
    signed = authorities / "signed.pdf"
    signed.write_bytes(answer.body)
    said = run("pdfsig", "-nocert", signed).stdout
    assert "Signature is Valid." in said
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said
    report = service.request("POST", "/v1/verifications", answer.body, kind="application/pdf")
    assert report.status == 200
    verdict = json.loads(report.body)["signatures"][0]
    assert verdict["indication"] == "TOTAL-PASSED"
    assert verdict["intact"] is True


@pytest.mark.parametrize("level", ["B-B", "B-T"])
def test_xmlsec1_and_our_verdict_agree_on_a_signed_xml(service: Service, authorities: Path, level: str) -> None:
    answer = service.request("POST", f"/v1/signatures/xml?level={level}", SAMPLE_XML, key="client", kind="application/xml")
    assert answer.status == 200
    signed = authorities / "signed.xml"
    signed.write_bytes(answer.body)
    root, issuing = authorities / "root.pem", authorities / "issuing.pem"
    ids = ["--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties"]
    checked = run("xmlsec1", "--verify", "--trusted-pem", root, "--untrusted-pem", issuing, *ids, signed)
    assert "OK" in checked.stdout + checked.stderr
    report = json.loads(service.request("POST", "/v1/verifications", answer.body, kind="application/xml").body)
    assert report["signatures"][0]["indication"] == "TOTAL-PASSED"


def test_openssl_ts_takes_our_timestamp(service: Service, authorities: Path) -> None:
    data, query, reply = authorities / "data", authorities / "query.tsq", authorities / "reply.tsr"
    data.write_bytes(b"van ban")
    run("openssl", "ts", "-query", "-data", data, "-sha256", "-cert", "-out", query)
    answer = service.request("POST", "/tsa", query.read_bytes(), kind="application/timestamp-query")
    assert answer.headers["content-type"] == "application/timestamp-reply"
    reply.write_bytes(answer.body)
    trust: list[str | Path] = ["-CAfile", authorities / "root.pem", "-untrusted", authorities / "issuing.pem"]
    assert "OK" in run("openssl", "ts", "-verify", "-queryfile", query, "-in", reply, *trust).stdout
    report = json.loads(service.request("POST", "/v1/verifications", answer.body, kind="application/timestamp-reply").body)
    assert report["format"] == "timestamp"


def test_rfc3161_client_takes_our_timestamp(service: Service, authorities: Path) -> None:
    query = TimestampRequestBuilder().data(b"van ban").hash_algorithm(HashAlgorithm.SHA512).build()
    answer = service.request("POST", "/tsa", query.as_bytes(), kind="application/timestamp-query")
    reply = decode_timestamp_response(answer.body)
    root = x509.load_pem_x509_certificate((authorities / "root.pem").read_bytes())
    issuing = x509.load_pem_x509_certificate((authorities / "issuing.pem").read_bytes())
    assert query.nonce is not None
    verifier = VerifierBuilder().add_root_certificate(root).add_intermediate_certificate(issuing).nonce(query.nonce).build()
    assert verifier.verify(reply, hashlib.sha512(b"van ban").digest())


def test_jarsigner_takes_our_timestamp(service: Service, authorities: Path) -> None:
    jar, store = authorities / "a.jar", authorities / "store.p12"
    (authorities / "a.txt").write_text("van ban")
    password = ["-storepass", "changeit", "-keystore", str(store)]
    run("jar", "cf", jar, "-C", authorities, "a.txt")
    names = ["-alias", "k", "-dname", "CN=test", "-keyalg", "EC", "-storetype", "PKCS12"]
    run("keytool", "-genkeypair", *names, *password)
    run("keytool", "-importcert", "-noprompt", "-alias", "root", "-file", authorities / "root.pem", *password)
    run("jarsigner", "-tsa", f"{service.url}/tsa", *password, jar, "k")
    said = run("jarsigner", "-verify", "-verbose:all", "-certs", *password, jar).stdout
    assert "jar verified" in said
    assert "Timestamped by" in said
    assert "timestamp is invalid" not in said.lower()


def test_openssl_sees_a_certificate_good_and_then_revoked(service: Service, authorities: Path) -> None:
    issued = service.request(
        "POST",
        ISSUE,
        make_csr(),
        key="admin",
        kind="application/pkcs10",
    )
    assert issued.status == 201
    certificate = json.loads(issued.body)
    leaf = authorities / "leaf.pem"
    leaf.write_text(certificate["pem"])
    assert "OK" in _verify(authorities).stdout
    assert "good" in _ocsp(authorities, service)
    revoked = service.request(
        "POST",
        f"/v1/certificates/{certificate['serial']}/revocation",
        json.dumps({"reason": "keyCompromise"}).encode(),
        key="admin",
        kind="application/json",
    )
    assert revoked.status == 200
    assert re.search(r"leaf.pem: revoked.*keyCompromise", _ocsp(authorities, service), re.DOTALL)
    _check_proofs(service, authorities, certificate["serial"])
    crl = authorities / "issuing.crl"
    crl.write_bytes(service.request("GET", "/crl/issuing.crl").body)
    crls = [run("openssl", "crl", "-inform", "DER", "-in", authorities / f"{name}.crl").stdout for name in ("root", "issuing")]
    (authorities / "crls.pem").write_text("".join(crls))
    refused = _verify(authorities, check=False)
    assert refused.returncode != 0
    assert "certificate revoked" in refused.stdout + refused.stderr


def _check_proofs(service: Service, folder: Path, serial: str) -> None:
    """What proves the revocation, by HTTP and by `condau`: openssl reads the same in both."""
    told = json.loads(service.request("GET", f"/v1/certificates/{serial}/status", key="admin").body)
    service.condau("status", serial, "--proofs", str(folder / "proofs"))
    response = folder / "proofs" / f"{serial}.ocsp"
    assert response.read_bytes() == base64.b64decode(told["ocsp"]["response"])
    assert (folder / "proofs" / f"{serial}.crl").read_bytes() == base64.b64decode(told["evidence"]["crl"])
    files: list[str | Path] = ["-issuer", folder / "issuing.pem", "-cert", folder / "leaf.pem", "-CAfile", folder / "chain.pem"]
    said = run("openssl", "ocsp", "-respin", response, *files, "-no_nonce").stdout
    assert re.search(r"leaf.pem: revoked.*keyCompromise", said, re.DOTALL)


def test_urls_in_certificates_answer(service: Service) -> None:
    """osslsigncode and others fetch what a certificate names, and reject it when that fails."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM)
    issued = service.request(
        "POST",
        ISSUE,
        pem,
        key="admin",
        kind="application/pkcs10",
    )
    leaf = x509.load_pem_x509_certificate(json.loads(issued.body)["pem"].encode())
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    names = [name for point in points for name in point.full_name or []] + [
        item.access_location for item in access if item.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    ]
    assert len(names) >= 2
    for name in names:
        assert name.value.startswith(service.url)
        assert service.request("GET", name.value.removeprefix(service.url)).status == 200


def _verify(folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    files: list[str | Path] = [
        "-CAfile",
        folder / "root.pem",
        "-untrusted",
        folder / "issuing.pem",
        "-CRLfile",
        folder / "crls.pem",
    ]
    return run("openssl", "verify", "-crl_check_all", *files, folder / "leaf.pem", check=check)


def _ocsp(folder: Path, service: Service) -> str:
    files: list[str | Path] = ["-issuer", folder / "issuing.pem", "-cert", folder / "leaf.pem", "-CAfile", folder / "chain.pem"]
    return run("openssl", "ocsp", *files, "-url", f"{service.url}/ocsp").stdout
