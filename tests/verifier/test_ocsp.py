"""OCSP responses that a document carries: which are believed, and what they say of a moment."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Any

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers.pdf_signer import PdfSignatureMetadata
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from tests.verifier.authorities import DAY, NOW, Identity, Pki, crl
from tests.verifier.files import as_asn1, plain_pdf
from tests.verifier.judging import verify_pdf
from verifier.context import Context
from verifier.ocsp import answered_at, parse_answers, weightier
from verifier.verdict import Indication, Revocation

HOUR = timedelta(hours=1)
ANSWERING = ExtendedKeyUsageOID.OCSP_SIGNING


@pytest.fixture(scope="module")
def authorities() -> Pki:
    return Pki()


def answer(
    pki: Pki,
    about: Identity | None = None,
    *,
    by: Identity | None = None,
    at: datetime = NOW - HOUR,
    revoked_at: datetime | None = None,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    algorithm: hashes.HashAlgorithm | None = None,
    hours: float = 2,
) -> bytes:
    responder = by or pki.issuing
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=(about or pki.signer).certificate,
        issuer=pki.issuing.certificate,
        algorithm=algorithm or hashes.SHA1(),
        cert_status=ocsp.OCSPCertStatus.REVOKED if revoked_at else status,
        this_update=at,
        next_update=at + timedelta(hours=hours),
        revocation_time=revoked_at,
        revocation_reason=x509.ReasonFlags.key_compromise if revoked_at else None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, responder.certificate)
    if by is not None:
        builder = builder.certificates([by.certificate])
    return builder.sign(responder.key, hashes.SHA256()).public_bytes(Encoding.DER)


def said(pki: Pki, *ders: bytes, at: datetime = NOW, about: Identity | None = None) -> Revocation:
    return answered_at((about or pki.signer).certificate, pki.issuing.certificate, parse_answers(ders), at)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])
def test_an_answer_of_the_issuer_or_its_responder_counts(authorities: Pki, algorithm: hashes.HashAlgorithm) -> None:
    responder = authorities.issue("Responder", usages=(ANSWERING,))
    for by in (None, responder):
        assert said(authorities, answer(authorities, by=by, algorithm=algorithm)).status == "good"


def test_nobody_else_answers(authorities: Pki) -> None:
    no_responder = authorities.issue("Somebody")
    stranger = Pki().issue("Responder", usages=(ANSWERING,))
    expired = authorities.issue("Responder", usages=(ANSWERING,), not_after=NOW - 2 * DAY)
    for by in (no_responder, stranger, expired):
        assert said(authorities, answer(authorities, by=by)).status == "unknown"
    broken = bytearray(answer(authorities))
    broken[-1] ^= 1
    assert said(authorities, bytes(broken), b"no answer at all", b"").status == "unknown"


def test_a_revocation_counts_from_its_moment_on(authorities: Pki) -> None:
    der = answer(authorities, revoked_at=NOW - 3 * HOUR)
    assert said(authorities, der).status == "revoked"
    before = said(authorities, der, at=NOW - 4 * HOUR)
    assert (before.status, before.revoked_at, before.reason) == ("good", NOW - 3 * HOUR, "keyCompromise")


def test_an_old_answer_an_unknown_status_and_one_after_the_end_say_nothing(authorities: Pki) -> None:
    assert said(authorities, answer(authorities, at=NOW - DAY)).status == "unknown"
    assert said(authorities, answer(authorities, at=NOW - DAY), at=NOW - 2 * DAY).status == "good"  # newer than the moment
    assert said(authorities, answer(authorities, status=ocsp.OCSPCertStatus.UNKNOWN)).status == "unknown"
    ended = authorities.issue("Ended", not_after=NOW - DAY)
    assert said(authorities, answer(authorities, ended), about=ended).status == "unknown"


def test_a_revocation_outweighs_a_newer_good_unless_it_was_a_suspension() -> None:
    def status(name: Any, published: datetime, reason: str | None = None) -> Revocation:
        return Revocation(status=name, at=NOW, published_at=published, revoked_at=NOW - DAY if reason else None, reason=reason)

    good, revoked = status("good", NOW), status("revoked", NOW - HOUR, "keyCompromise")
    held, unknown = status("revoked", NOW - HOUR, "certificateHold"), Revocation(status="unknown", at=NOW)
    for one, other in ((good, revoked), (revoked, good)):
        assert weightier(one, other) is revoked
    for one, other in ((good, held), (held, good), (good, unknown), (unknown, good)):
        assert weightier(one, other) is good


def test_adobes_attribute_is_read(authorities: Pki) -> None:
    """A signature that carries its own CRL and OCSP response, as Acrobat makes it, needs nothing of ours but the anchor."""
    certificate, key = as_asn1(authorities.signer)
    store = SimpleCertificateStore()
    store.register_multiple([certificate, asn1_x509.Certificate.load(authorities.issuing.der)])
    responses = [asn1_ocsp.OCSPResponse.load(answer(authorities))]
    lists = [asn1_crl.CertificateList.load(crl(authorities.root, (), at=NOW - HOUR))]
    context = ValidationContext(
        trust_roots=[asn1_x509.Certificate.load(authorities.root.der)],
        ocsps=responses,
        crls=lists,
        allow_fetching=False,
        moment=NOW,
    )
    metadata = PdfSignatureMetadata(
        field_name="Signature1",
        subfilter=SigSeedSubFilter.ADOBE_PKCS7_DETACHED,
        embed_validation_info=True,
        validation_context=context,
    )
    signer = signers.SimpleSigner(signing_cert=certificate, signing_key=key, cert_registry=store)
    signed = signers.PdfSigner(metadata, signer=signer).sign_pdf(IncrementalPdfFileWriter(io.BytesIO(plain_pdf())))
    bare = authorities.trust()
    trust = type(bare)(bare.anchors, (), ())
    (verdict,) = verify_pdf(bytes(signed.getvalue()), Context(trust=trust, now=NOW)).signatures
    assert verdict.indication is Indication.TOTAL_PASSED, verdict.findings
