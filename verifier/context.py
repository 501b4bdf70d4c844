"""What every format's reader is given, and what it hands over to be judged.

A reader (pdf, xml) only reads: it finds the signature, checks digests and the signature value, and fills in
:class:`Evidence`. :func:`verifier.conclusion.conclude` turns that into a verdict, the same way for every format.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from pki.trust import TrustMaterial
from verifier.verdict import Coverage, Finding, SubIndication, Timestamp


@dataclass(frozen=True, slots=True)
class Context:
    """``trust``: anchors, further authorities and their revocation lists; ``now``: the moment of verification (aware, UTC)."""

    trust: TrustMaterial
    now: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """One signature as its format's reader found it. Nothing here has been weighed against trust or time yet."""

    name: str
    """The PDF field's full name, or the XML signature's Id or path."""
    failure: SubIndication | None = None
    """What already went wrong: FORMAT_FAILURE (unreadable, or its place in the document is not what it must be), HASH_FAILURE
    (a digest differs), SIG_CRYPTO_FAILURE (the signature value does not verify), SIG_CONSTRAINTS_FAILURE (a signed attribute
    contradicts), NO_SIGNING_CERTIFICATE_FOUND, SIGNED_DATA_NOT_FOUND. None: digests and signature value hold."""
    intact: bool = False
    """Digests and signature value were checked and hold, whatever else went wrong."""
    certificate: x509.Certificate | None = None
    """The signing certificate, when it is known."""
    certificates: tuple[x509.Certificate, ...] = ()
    """Others the signature carries: only hints for building a path."""
    crls: tuple[bytes, ...] = ()
    """DER of CRLs the document carries."""
    ocsps: tuple[bytes, ...] = ()
    """DER of OCSP responses the document carries."""
    bound: bool = False
    """A signed attribute names the signing certificate (signingCertificateV2, SigningCertificateV2)."""
    digest_algorithm: str | None = None
    """The weakest digest used for content or signed attributes: ``sha256``, ``sha1``, … (lower case, no hyphens but in sha3-…)."""
    signature_algorithm: str | None = None
    """For the report: ``ecdsa``, ``rsa-pkcs1v15``, ``rsa-pss``, ``ed25519``."""
    claimed_at: datetime | None = None
    reason: str | None = None
    timestamps: tuple[Timestamp, ...] = ()
    """Verdicts on those that prove the signature existed: over the signature value, or over the document that holds it."""
    baseline: bool = False
    """It has what its PAdES/XAdES baseline level B asks for; the level is reported only then."""
    complete: bool = False
    """The document carries all that is needed to judge it and its timestamps later (level LT, if they pass)."""
    archived: bool = False
    """A document timestamp stands over all of that (level LTA)."""
    coverage: Coverage | None = None
    changes: tuple[Finding, ...] = ()
    """What changed after it; one with severity ``error`` forbids TOTAL-PASSED."""
    findings: tuple[Finding, ...] = ()
