"""What other programs read out of our OCSP and CRLs: good, revoked with its reason, unknown; and nginx relying on both."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hsm.keys import KeySpec
from pki.ca import IssuedCertificate, to_pem
from tests.pki.house import ADMIN, House, make_csr, run
from tests.service import free_port
from tests.software_keys import make_key

pytestmark = pytest.mark.interop
BOUNCY_CASTLE = ":".join(f"/usr/share/java/{name}.jar" for name in ("bcpkix", "bcprov", "bcutil"))


@dataclass(frozen=True, slots=True)
class Scene:
    """A served house and, as files, a certificate of each status with the chain above: ``good.pem``, ``good.der`` and so on."""

    house: House
    folder: Path

    def pem(self, name: str) -> Path:
        """A file of the scene."""
        return self.folder / f"{name}.pem"


@pytest.fixture
def scene(served: House, tmp_path: Path) -> Scene:
    """``good``, ``revoked`` (keyCompromise), ``held``, ``unknown``, ``issuing``, ``root``."""
    issued = {name: served.issue() for name in ("good", "revoked", "held")}
    served.revocations.revoke(issued["revoked"].serial, reason="keyCompromise", actor=ADMIN)
    served.revocations.suspend(issued["held"].serial, actor=ADMIN)
    certificates = {name: item.certificate for name, item in issued.items()}
    issuing, root = issued["good"].chain
    certificates |= {"unknown": _never_issued(served, issued["good"]), "issuing": issuing, "root": root}
    for name, certificate in certificates.items():
        (tmp_path / f"{name}.pem").write_text(to_pem(certificate))
        (tmp_path / f"{name}.der").write_bytes(certificate.public_bytes(Encoding.DER))
    (tmp_path / "chain.pem").write_text(to_pem(issuing) + to_pem(root))
    for name in ("root", "issuing"):
        der = served.crl.current(name).der
        (tmp_path / f"{name}.crl").write_bytes(der)
        (tmp_path / f"{name}.crl.pem").write_bytes(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM))
    return Scene(served, tmp_path)


def _never_issued(house: House, like: IssuedCertificate) -> x509.Certificate:
    """What a thief of the authority's key would make: everything is right, but we know nothing of it."""
    builder = x509.CertificateBuilder(
        issuer_name=like.certificate.issuer,
        subject_name=like.certificate.subject,
        public_key=like.certificate.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=like.certificate.not_valid_before_utc,
        not_valid_after=like.certificate.not_valid_after_utc,
        extensions=list(like.certificate.extensions),
    )
    return builder.sign(house.keys.key("ca-issuing"), hashes.SHA256())


def test_ocsp_by_pkijs(scene: Scene, pkijs: Path) -> None:
    """By POST, CertIDs over SHA-256, with a nonce; PKI.js checks the signature and the responder's chain."""
    program = shutil.copy(Path(__file__).parent / "clients" / "ocsp.mjs", pkijs)
    names = ("good", "revoked", "held", "unknown")
    said = run("node", program, f"{scene.house.config.public_url}/ocsp", scene.folder, *names)
    assert said.split() == ["good:good", "revoked:revoked:1", "held:revoked:6", "unknown:unknown"]


def test_ocsp_by_openssl(scene: Scene) -> None:
    names = ("good", "revoked", "held", "unknown")
    asked = [item for name in names for item in ("-cert", scene.pem(name))]
    url = f"{scene.house.config.public_url}/ocsp"
    said = run("openssl", "ocsp", "-issuer", scene.pem("issuing"), *asked, "-url", url, "-CAfile", scene.pem("chain"))
    assert "Response verify OK" in said
    for name, status in zip(names, ("good", "revoked", "revoked", "unknown"), strict=True):
        assert f"{scene.pem(name)}: {status}" in said
    assert "Reason: keyCompromise" in said
    assert "Reason: certificateHold" in said


def test_ocsp_by_gnutls(scene: Scene) -> None:
    for name, status in (("good", "good"), ("revoked", "revoked"), ("unknown", "unknown")):
        ask = ("ocsptool", "--ask", "--load-cert", scene.pem(name), "--load-issuer", scene.pem("issuing"))
        said = run(*ask, "--load-trust", scene.pem("issuing"), check=False)
        assert f"Certificate Status: {status}" in said
        assert ("Revocation reason" not in said) or status == "revoked"


@pytest.mark.slow
def test_ocsp_by_the_jdk_in_its_default_mode(scene: Scene) -> None:
    """java.security.cert's PKIX checker, which asks by GET, about the leaf and about the issuing authority."""
    (scene.folder / "Check.java").write_text(_JDK)
    said = run("java", scene.folder / "Check.java", scene.folder, "good", "revoked", "held", "unknown", check=False).splitlines()
    answers = dict(line.split(": ", 1) for line in said if ": " in line)
    assert answers["good"] == "valid"
    assert "KEY_COMPROMISE" in answers["revoked"]
    assert "CERTIFICATE_HOLD" in answers["held"]
    assert "unknown" in answers["unknown"]


@pytest.mark.slow
def test_ocsp_by_bouncy_castle(scene: Scene) -> None:
    """Its own request with SHA-256 and a nonce by POST; it verifies the signature and the nonce, and reads the extensions."""
    (scene.folder / "Ask.java").write_text(_BOUNCY_CASTLE)
    url = f"{scene.house.config.public_url}/ocsp"  # what the JVM says of its options comes last
    said = run("java", "-cp", BOUNCY_CASTLE, scene.folder / "Ask.java", url, scene.folder, "good", "revoked", "held", "unknown")
    assert said.split()[:4] == ["good:good", "revoked:revoked:1", "held:revoked:6", "unknown:unknown"]


def test_crl_by_openssl(scene: Scene) -> None:
    (scene.folder / "crls.pem").write_bytes(
        (scene.folder / "root.crl.pem").read_bytes() + (scene.folder / "issuing.crl.pem").read_bytes()
    )
    trusted = ("-CAfile", scene.pem("root"), "-untrusted", scene.pem("issuing"), "-CRLfile", scene.folder / "crls.pem")
    verify = ("openssl", "verify", "-x509_strict", "-crl_check_all", *trusted)
    assert "OK" in run(*verify, scene.pem("good"))
    for name in ("revoked", "held"):
        assert "certificate revoked" in run(*verify, scene.pem(name), check=False)


def test_a_delta_crl_by_openssl(scene: Scene) -> None:
    """It holds a full CRL that is older than the revocation, and learns of it from the delta; and of a hold that ended."""
    late = scene.house.issue()
    (scene.folder / "late.pem").write_text(late.pem)
    base = scene.house.crl.publish("issuing", actor=ADMIN)
    scene.house.clock.move(seconds=1)
    time.sleep(1)
    scene.house.revocations.revoke(late.serial, reason="superseded", actor=ADMIN)
    scene.house.revocations.resume(format(_serial(scene, "held"), "x"), actor=ADMIN)
    ders = [scene.house.crl.current("root").der, base.der]
    deltas = [*ders, scene.house.crl.current("issuing", delta=True).der]
    for name, lists in (("before", ders), ("after", deltas)):
        pems = [x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in lists]
        (scene.folder / f"{name}.pem").write_bytes(b"".join(pems))

    def verify(name: str, crls: str) -> str:
        trusted = ("-CAfile", scene.pem("root"), "-untrusted", scene.pem("issuing"), "-CRLfile", scene.pem(crls))
        options = ("-crl_check_all", "-extended_crl", "-use_deltas")
        return run("openssl", "verify", *options, *trusted, scene.pem(name), check=False)

    assert "OK" in verify("late", "before")
    assert "certificate revoked" in verify("late", "after")
    assert "certificate revoked" in verify("held", "before")
    assert "OK" in verify("held", "after")


def test_a_part_of_a_divided_crl_by_openssl(scene: Scene) -> None:
    divided = scene.house.with_partitions(2)
    issued = divided.issue()
    (scene.folder / "part.pem").write_text(issued.pem)
    part = 1 + int(issued.serial, 16) % 2

    def verify(partition: int) -> str:
        ders = [divided.crl.current("root").der, divided.crl.current("issuing", partition=partition).der]
        (scene.folder / "parts.pem").write_bytes(b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in ders))
        trusted = ("-CAfile", scene.pem("root"), "-untrusted", scene.pem("issuing"), "-CRLfile", scene.folder / "parts.pem")
        return run("openssl", "verify", "-x509_strict", "-crl_check_all", *trusted, scene.pem("part"), check=False)

    assert "OK" in verify(part)
    assert "scope" in verify(3 - part), "the other part says that it is not about this certificate"
    divided.revocations.revoke(issued.serial, reason="superseded", actor=ADMIN)
    assert "certificate revoked" in verify(part)


def test_crl_by_certtool(scene: Scene) -> None:
    verify = ("certtool", "--verify-crl", "--load-ca-certificate", scene.pem("issuing"))
    assert "verified" in run(*verify, "--infile", scene.folder / "issuing.crl.pem").lower()
    listed = run("certtool", "--crl-info", "--infile", scene.folder / "issuing.crl.pem").lower()
    for name in ("revoked", "held"):
        assert f"{_serial(scene, name):040x}" in listed.replace(":", "")
    assert f"{_serial(scene, 'good'):040x}" not in listed.replace(":", "")


def test_crl_by_strongswan(scene: Scene) -> None:
    cas = ("--cacert", scene.pem("root"), "--cacert", scene.pem("issuing"))
    crls = ("--crl", scene.folder / "issuing.crl", "--crl", scene.folder / "root.crl")
    for name, said in (("good", "certificate trusted"), ("revoked", "key compromise"), ("held", "certificate hold")):
        assert said in run("pki", "--verify", "--in", scene.pem(name), *cas, *crls, check=False)


def test_crl_by_nss(scene: Scene) -> None:
    store = ("-d", f"sql:{scene.folder}")
    run("certutil", "-N", *store, "--empty-password")
    for name, trust in (("root", "CT,C,C"), ("issuing", ",,"), ("good", ",,"), ("revoked", ",,"), ("held", ",,")):
        run("certutil", "-A", *store, "-n", name, "-t", trust, "-i", scene.pem(name))
    for name in ("root", "issuing"):
        run("crlutil", "-I", *store, "-i", scene.folder / f"{name}.crl", "-B")
    assert "valid" in run("certutil", "-V", *store, "-n", "good", "-u", "C")
    for name in ("revoked", "held"):
        assert "revoked" in run("certutil", "-V", *store, "-n", name, "-u", "C", check=False)


@pytest.fixture
def nginx(scene: Scene) -> Iterator[int]:
    """nginx with a certificate of ours: it staples our OCSP, and lets in whom our CRL does not list. Its port."""
    for name in ("server", "guest", "thief"):
        key = make_key(KeySpec.P_256)
        issued = scene.house.issue(csr=make_csr(key))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (scene.folder / f"{name}.key").write_bytes(pem)
        (scene.folder / f"{name}.pem").write_text(issued.pem + to_pem(issued.chain[0]))
        if name == "thief":
            scene.house.revocations.revoke(issued.serial, reason="keyCompromise", actor=ADMIN)
    ders = [scene.house.crl.current(name).der for name in ("root", "issuing")]
    (scene.folder / "crls.pem").write_bytes(b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in ders))
    port = free_port()
    (scene.folder / "nginx.conf").write_text(_NGINX.format(folder=scene.folder, port=port))
    command = ["/usr/sbin/nginx", "-e", str(scene.folder / "error.log"), "-c", str(scene.folder / "nginx.conf")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield port
    process.terminate()
    process.wait(timeout=20)


def test_nginx_refuses_a_revoked_client_and_staples_our_ocsp(scene: Scene, nginx: int) -> None:
    def connect(name: str) -> str:
        client = ("--cert", scene.pem(name), "--key", scene.folder / f"{name}.key", "--insecure")
        return run("curl", "-sS", "--max-time", "10", *client, f"https://127.0.0.1:{nginx}/", check=False)

    deadline = time.monotonic() + 60
    while "Hello" not in (said := connect("guest")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "Hello" in said
    answer = connect("thief")
    assert "Hello" not in answer
    assert "400" in answer
    assert "certificate revoked" in (scene.folder / "error.log").read_text()
    stapled = ("openssl", "s_client", "-connect", f"127.0.0.1:{nginx}", "-status", "-CAfile", str(scene.pem("root")))
    while "Cert Status: good" not in (said := run("sh", "-c", f"timeout 10 {' '.join(stapled)} </dev/null 2>&1", check=False)):
        assert time.monotonic() < deadline, said[-2000:]
        time.sleep(0.3)
    assert "OCSP Response Status: successful" in said


def _serial(scene: Scene, name: str) -> int:
    return x509.load_pem_x509_certificate(scene.pem(name).read_bytes()).serial_number


_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 32; }}
http {{
  access_log off; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
    ssl_client_certificate {folder}/chain.pem; ssl_verify_client optional; ssl_verify_depth 3; ssl_crl {folder}/crls.pem;
    ssl_stapling on; ssl_stapling_verify on; ssl_trusted_certificate {folder}/chain.pem;
    location / {{ default_type text/plain; return 200 Hello; }}
  }}
}}
"""

_JDK = """
import java.io.*; import java.security.cert.*; import java.util.*;
class Check {
    public static void main(String[] arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        Map<String, X509Certificate> read = new HashMap<>();
        List<String> names = new ArrayList<>(List.of(arguments).subList(1, arguments.length));
        for (String name : List.of("root", "issuing")) read.put(name, load(factory, arguments[0], name));
        for (String name : names) {
            CertPathValidator validator = CertPathValidator.getInstance("PKIX");
            PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
            checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK));
            PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(read.get("root"), null)));
            parameters.addCertPathChecker(checker);
            try {
                List<X509Certificate> path = List.of(load(factory, arguments[0], name), read.get("issuing"));
                validator.validate(factory.generateCertPath(path), parameters);
                System.out.println(name + ": valid");
            } catch (CertPathValidatorException error) {
                System.out.println(name + ": " + error + " " + error.getCause());
            }
        }
    }
    static X509Certificate load(CertificateFactory factory, String folder, String name) throws Exception {
        try (InputStream in = new FileInputStream(folder + "/" + name + ".der")) {
            return (X509Certificate) factory.generateCertificate(in);
        }
    }
}
"""

_BOUNCY_CASTLE = """
import java.io.*; import java.math.BigInteger; import java.net.*; import java.nio.file.*; import java.util.*;
import org.bouncycastle.asn1.*; import org.bouncycastle.asn1.ocsp.OCSPObjectIdentifiers;
import org.bouncycastle.asn1.x509.*;
import org.bouncycastle.asn1.nist.NISTObjectIdentifiers; import org.bouncycastle.cert.*; import org.bouncycastle.cert.ocsp.*;
import org.bouncycastle.operator.*; import org.bouncycastle.operator.jcajce.*;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
class Ask {
    public static void main(String[] arguments) throws Exception {
        BouncyCastleProvider provider = new BouncyCastleProvider();
        DigestCalculatorProvider digests = new JcaDigestCalculatorProviderBuilder().setProvider(provider).build();
        X509CertificateHolder issuer = load(arguments[1], "issuing");
        for (String name : Arrays.copyOfRange(arguments, 2, arguments.length)) {
            BigInteger serial = load(arguments[1], name).getSerialNumber();
            AlgorithmIdentifier sha256 = new AlgorithmIdentifier(NISTObjectIdentifiers.id_sha256);
            CertificateID id = new CertificateID(digests.get(sha256), issuer, serial);
            byte[] nonce = new byte[32]; new Random().nextBytes(nonce);
            byte[] wrapped = new DEROctetString(nonce).getEncoded();
            Extension extension = new Extension(OCSPObjectIdentifiers.id_pkix_ocsp_nonce, false, wrapped);
            OCSPReqBuilder builder = new OCSPReqBuilder().addRequest(id).setRequestExtensions(new Extensions(extension));
            byte[] request = builder.build().getEncoded();
            HttpURLConnection connection = (HttpURLConnection) new URL(arguments[0]).openConnection();
            connection.setDoOutput(true); connection.setRequestProperty("Content-Type", "application/ocsp-request");
            connection.getOutputStream().write(request);
            BasicOCSPResp basic = (BasicOCSPResp) new OCSPResp(connection.getInputStream().readAllBytes()).getResponseObject();
            X509CertificateHolder responder = basic.getCerts()[0];
            ContentVerifierProvider verifier = new JcaContentVerifierProviderBuilder().setProvider(provider).build(responder);
            ContentVerifierProvider above = new JcaContentVerifierProviderBuilder().setProvider(provider).build(issuer);
            if (!basic.isSignatureValid(verifier) || !responder.isSignatureValid(above)) throw new Exception("signature");
            Extension echoed = basic.getExtension(OCSPObjectIdentifiers.id_pkix_ocsp_nonce);
            byte[] said_nonce = ASN1OctetString.getInstance(echoed.getParsedValue()).getOctets();
            if (!Arrays.equals(said_nonce, nonce)) throw new Exception("nonce");
            SingleResp single = basic.getResponses()[0];
            if (single.getExtension(OCSPObjectIdentifiers.id_pkix_ocsp_archive_cutoff) == null) throw new Exception("cutoff");
            CertificateStatus status = single.getCertStatus();
            String said = status == CertificateStatus.GOOD ? "good" : status instanceof UnknownStatus ? "unknown" : "revoked";
            if (status instanceof RevokedStatus) said += ":" + ((RevokedStatus) status).getRevocationReason();
            System.out.println(name + ":" + said);
        }
    }
    static X509CertificateHolder load(String folder, String name) throws Exception {
        return new X509CertificateHolder(Files.readAllBytes(Path.of(folder, name + ".der")));
    }
}
"""
