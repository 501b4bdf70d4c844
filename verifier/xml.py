"""Verifying XML: every ds:Signature of a document, XML Signature or XAdES, up to what is left to trust and time."""

from __future__ import annotations

from dataclasses import replace

from cryptography import x509

from core.errors import Malformed
from core.xml import Element, path_of
from core.xmldsig import XmlSignatureError, check_value
from core.xmlsignature import Covered, SignedDocument, XmlSignature, read_signature
from verifier.conclusion import conclude
from verifier.context import Context, Evidence
from verifier.findings import error
from verifier.octets import Octets
from verifier.reading import reading
from verifier.timestamps import verify_timestamp
from verifier.verdict import Finding, Severity, SignatureVerdict, SubIndication
from verifier.xades import Properties, choose_certificate, claimed_time, read_properties
from verifier.xml_coverage import describe_coverage
from verifier.xml_findings import OTHER_CERTIFICATE, SUB_INDICATIONS, UNSIGNED_PROPERTIES, fault_finding

_MOST_CERTIFICATES = 64


def verify_xml(document: bytes, context: Context) -> list[SignatureVerdict]:
    """The verdict on each ds:Signature in ``document``, in document order; an empty list when it has none.

    Whatever is wrong with a signature is its verdict. Raises Malformed, Rejected or TooLarge naming ``document`` only where
    no XML can be read safely: not well-formed, a DOCTYPE, an unknown encoding, too deep, too many elements or signatures.
    """
    opened = SignedDocument(document)
    return [_verdict(opened, element, context) for element in opened.signatures]


def _verdict(document: SignedDocument, element: Element, context: Context) -> SignatureVerdict:
    name = element.get("Id") or path_of(element)
    try:
        with reading("document"):
            return conclude(_examine(document, element, name, context), context)
    except Malformed as problem:
        finding = error(
            "SIGNATURE_UNREADABLE", f"Không đọc được chữ ký: {problem.detail}.", f"The signature cannot be read: {problem.detail}."
        )
        return conclude(Evidence(name=name, failure=SubIndication.FORMAT_FAILURE, findings=(finding,)), context)


def _examine(document: SignedDocument, element: Element, name: str, context: Context) -> Evidence:
    evidence = Evidence(name=name)
    try:
        signature = read_signature(element)
        properties = read_properties(signature)
        named = properties.signing_certificates() if properties else []
        certificates = _load_certificates(signature.certificates)
        certificate, bound = choose_certificate(certificates, named)
        evidence = replace(
            evidence,
            certificate=certificate,
            certificates=certificates,
            bound=bound,
            digest_algorithm=_weakest(signature),
            signature_algorithm=signature.method.scheme,
        )
        if certificate is None:
            return evidence  # without a key nothing more can be said, and the conclusion says that
        check_value(certificate, signature.method, signature.octets, signature.value)
        covered = document.check_references(signature)
    except XmlSignatureError as problem:
        return replace(evidence, failure=SUB_INDICATIONS[problem.fault], findings=(fault_finding(problem),))
    evidence = _weigh(document, signature, properties, covered, evidence)
    if named and not bound:
        evidence = _but(evidence, OTHER_CERTIFICATE)
    evidence = replace(evidence, bound=bound and evidence.bound, baseline=bound and evidence.baseline)
    return _with_timestamps(signature, properties, evidence, context)


def _weigh(
    document: SignedDocument, signature: XmlSignature, properties: Properties | None, covered: list[Covered], evidence: Evidence
) -> Evidence:
    """Digests and value hold: what that covers, and what the signer said under it."""
    coverage, findings = describe_coverage(document, signature, covered)
    claimed_at, notes = claimed_time(signature, properties, covered)
    own = properties is not None and any(item.element is properties.signed for item in covered)
    evidence = replace(
        evidence,
        intact=True,
        coverage=coverage,
        claimed_at=claimed_at,
        bound=own,
        baseline=own and properties is not None and properties.is_baseline(covered),
        findings=tuple(notes),
    )
    for finding in findings:
        evidence = _but(evidence, finding)
    return evidence if own or properties is None else _but(evidence, UNSIGNED_PROPERTIES)


def _but(evidence: Evidence, finding: Finding) -> Evidence:
    """``evidence`` with a finding more, which is a failure when it is an error and nothing failed before."""
    failure = evidence.failure
    if finding.severity is Severity.ERROR and failure is None:
        failure = SubIndication.SIG_CONSTRAINTS_FAILURE
    return replace(evidence, failure=failure, findings=(*evidence.findings, finding))


def _with_timestamps(signature: XmlSignature, properties: Properties | None, evidence: Evidence, context: Context) -> Evidence:
    stamped = properties.timestamps(signature) if properties else []
    verdicts = [
        verify_timestamp(token, Octets.of(octets), context, kind="signature", hints=evidence.certificates, crls=evidence.crls)
        for token, octets in stamped
    ]
    return replace(evidence, timestamps=tuple(verdicts))


def _load_certificates(encoded: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    """Those that can be read; if the signer's cannot, no signing certificate is found."""
    found = []
    for der in encoded[:_MOST_CERTIFICATES]:
        try:
            found.append(x509.load_der_x509_certificate(der))
        except ValueError:
            continue
    return tuple(found)


def _weakest(signature: XmlSignature) -> str:
    """The name of the shortest digest among those over the data and the one that was signed."""
    used = [signature.method.algorithm, *(reference.digest for reference in signature.references)]
    return min(used, key=lambda algorithm: algorithm.digest_size).name.replace("-", "_")
