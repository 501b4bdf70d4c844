"""Sound signatures, and those that certificate, time or revocation keep from being called valid."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from pyhanko.sign import PdfSigner
from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter

from pki.trust import TrustMaterial
from tests.verifier.authorities import DAY, NOW, Identity, Pki, crl, issue
from tests.verifier.files import encrypted_pdf, plain_pdf, sign, stamp_document
from tests.verifier.judging import verify_pdf
from verifier.context import Context
from verifier.pdf_reader import NeedsPassword
from verifier.verdict import Indication, SignatureVerdict, SubIndication

HOUR = timedelta(hours=1)


def only(pdf: bytes, context: Context) -> SignatureVerdict:
    """The verdict on the file's one signature."""
    (verdict,) = verify_pdf(pdf, context).signatures
    return verdict


def codes(verdict: SignatureVerdict) -> set[str]:
    return {finding.code for finding in (*verdict.findings, *verdict.changes)}


def test_a_plain_signature_passes_and_says_who_when_and_what(pki: Pki, context: Context) -> None:
    verdict = only(sign(plain_pdf(), pki), context)
    assert verdict.indication is Indication.TOTAL_PASSED
    assert verdict.level == "B-B"
    assert verdict.intact
    assert verdict.signer is not None
    assert verdict.signer.common_name == "Nguyễn Văn Thử"
    assert verdict.signer.issuing_organization == "Cơ quan thử nghiệm"
    assert verdict.coverage is not None
    assert verdict.coverage.whole_file
    assert verdict.chain is not None
    assert verdict.chain.trusted
    assert [one.revocation and one.revocation.status for one in verdict.chain.certificates] == ["good", "good", None]
    assert verdict.proven_at is None
    assert verdict.claimed_at is not None


def test_a_timestamp_proves_the_moment(pki: Pki, context: Context) -> None:
    verdict = only(sign(plain_pdf(), pki, stamped_at=NOW - HOUR), context)
    assert (verdict.indication, verdict.level, verdict.proven_at) == (Indication.TOTAL_PASSED, "B-T", NOW - HOUR)


def test_signatures_one_after_another_all_pass(pki: Pki, context: Context) -> None:
    pdf = sign(plain_pdf(2), pki, stamped_at=NOW - 3 * HOUR)
    pdf = sign(pdf, pki, field="Second", box=(300, 50, 500, 100))
    pdf = stamp_document(pdf, pki, NOW - HOUR)
    found = verify_pdf(pdf, context)
    assert [one.indication for one in found.signatures] == [Indication.TOTAL_PASSED] * 2
    assert [one.indication for one in found.timestamps] == [Indication.TOTAL_PASSED]
    assert codes(found.signatures[0]) >= {"SIGNED_AGAIN"}
    assert found.signatures[1].proven_at == NOW - HOUR, "the document timestamp covers it"
    assert found.signatures[1].level == "B-T", "a document timestamp over it does as well (EN 319 142-1, table 1)"


def test_a_certification_that_forbids_changes_forbids_a_further_signature(
    pki: Pki, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PdfSigner, "_enforce_certification_constraints", lambda *_: None)
    pdf = sign(sign(plain_pdf(), pki, certify=MDPPerm.NO_CHANGES), pki, field="Second")
    first, second = verify_pdf(pdf, context).signatures
    assert first.indication is not Indication.TOTAL_PASSED
    assert second.indication is Indication.TOTAL_PASSED


def test_a_certification_that_allows_signing_bears_a_further_signature(pki: Pki, context: Context) -> None:
    pdf = sign(sign(plain_pdf(), pki, certify=MDPPerm.FILL_FORMS), pki, field="Second")
    assert [one.indication for one in verify_pdf(pdf, context).signatures] == [Indication.TOTAL_PASSED] * 2


def test_a_file_without_signatures_has_none(context: Context) -> None:
    assert verify_pdf(plain_pdf(), context).signatures == ()


def test_an_encrypted_file_asks_for_its_password(context: Context) -> None:
    with pytest.raises(NeedsPassword):
        verify_pdf(encrypted_pdf("user"), context)


def test_a_file_that_only_restricts_what_readers_may_do_is_verified(pki: Pki, context: Context) -> None:
    assert only(sign(encrypted_pdf(""), pki, password=""), context).indication is Indication.TOTAL_PASSED


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()], ids=["rsa", "ed25519"]
)
def test_other_kinds_of_key_pass_too(pki: Pki, context: Context, key: rsa.RSAPrivateKey) -> None:
    signer = pki.issue("Khóa khác", key=key)
    digest = "sha512" if isinstance(key, ed25519.Ed25519PrivateKey) else "sha256"
    assert only(sign(plain_pdf(), pki, signer=signer, digest=digest), context).indication is Indication.TOTAL_PASSED


def test_a_digest_that_is_broken_is_not_accepted(pki: Pki, context: Context) -> None:
    verdict = only(sign(plain_pdf(), pki, digest="sha1", subfilter=SigSeedSubFilter.ADOBE_PKCS7_DETACHED), context)
    assert verdict.intact
    assert verdict.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE
    assert "WEAK_DIGEST" in codes(verdict)


def test_an_authority_nobody_trusts_leaves_it_open(pki: Pki) -> None:
    verdict = only(sign(plain_pdf(), pki), Context(trust=TrustMaterial((), (), ()), now=NOW))
    assert verdict.intact
    assert verdict.sub_indication is SubIndication.NO_CERTIFICATE_CHAIN_FOUND
    assert verdict.chain is not None
    assert not verdict.chain.trusted


def test_a_namesake_of_the_authority_is_not_it(context: Context) -> None:
    """Same names everywhere, other keys: the path must not be believed by names."""
    forged = Pki()
    verdict = only(sign(plain_pdf(), forged), context)
    assert verdict.sub_indication is SubIndication.NO_CERTIFICATE_CHAIN_FOUND


def test_a_leaf_cannot_act_as_an_authority(pki: Pki, context: Context) -> None:
    sub = issue("Giả", issuer=pki.signer)
    verdict = only(sign(plain_pdf(), pki, signer=sub), Context(trust=_with_intermediate(context.trust, pki.signer), now=NOW))
    assert verdict.indication is not Indication.TOTAL_PASSED
    assert verdict.sub_indication is SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE


def _with_intermediate(trust: TrustMaterial, identity: Identity) -> TrustMaterial:
    return TrustMaterial(trust.anchors, (*trust.intermediates, identity.certificate), trust.crls)


def test_an_unknown_critical_extension_is_not_passed_over(pki: Pki, context: Context) -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    verdict = only(sign(plain_pdf(), pki, signer=pki.issue("Lạ", extra=[strange])), context)
    assert verdict.sub_indication is SubIndication.CERTIFICATE_CHAIN_GENERAL_FAILURE


@pytest.mark.parametrize(
    "usage", [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.OCSP_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH]
)
def test_a_key_kept_for_another_use_does_not_sign_documents(pki: Pki, context: Context, usage: x509.ObjectIdentifier) -> None:
    verdict = only(sign(plain_pdf(), pki, signer=pki.issue("Dịch vụ", usages=[usage])), context)
    assert verdict.sub_indication is SubIndication.CHAIN_CONSTRAINTS_FAILURE


def test_expired_without_a_timestamp_stays_open_and_with_one_passes(pki: Pki) -> None:
    signer = pki.issue("Hết hạn", not_before=NOW - 20 * DAY, not_after=NOW + DAY)
    later = Context(trust=pki.trust(at=NOW + 2 * DAY - HOUR), now=NOW + 2 * DAY)
    plain = only(sign(plain_pdf(), pki, signer=signer), later)
    assert plain.sub_indication is SubIndication.OUT_OF_BOUNDS_NO_POE
    history = TrustMaterial(later.trust.anchors, later.trust.intermediates, (*pki.trust(at=NOW).crls, *later.trust.crls))
    stamped = only(sign(plain_pdf(), pki, signer=signer, stamped_at=NOW + HOUR), Context(trust=history, now=later.now))
    assert stamped.indication is Indication.TOTAL_PASSED


def test_a_list_that_forgets_expired_certificates_says_nothing_of_them(pki: Pki) -> None:
    signer = pki.issue("Hết hạn", not_before=NOW - 20 * DAY, not_after=NOW + DAY)
    later = Context(trust=pki.trust(at=NOW + 2 * DAY - HOUR), now=NOW + 2 * DAY)
    verdict = only(sign(plain_pdf(), pki, signer=signer, stamped_at=NOW + HOUR), later)
    assert verdict.sub_indication is SubIndication.TRY_LATER


def test_proven_before_the_certificate_was_born_fails(pki: Pki, context: Context) -> None:
    signer = pki.issue("Chưa có", not_before=NOW - HOUR)
    verdict = only(sign(plain_pdf(), pki, signer=signer, stamped_at=NOW - DAY), context)
    assert (verdict.indication, verdict.sub_indication) == (Indication.TOTAL_FAILED, SubIndication.NOT_YET_VALID)


def test_revoked_before_the_proven_time_fails(pki: Pki) -> None:
    trust = pki.trust([(pki.signer, NOW - 3 * HOUR, x509.ReasonFlags.key_compromise)])
    verdict = only(sign(plain_pdf(), pki, stamped_at=NOW - 2 * HOUR), Context(trust=trust, now=NOW))
    assert (verdict.indication, verdict.sub_indication) == (Indication.TOTAL_FAILED, SubIndication.REVOKED)
    assert "CERTIFICATE_REVOKED" in codes(verdict)


def test_revoked_after_the_proven_time_passes_and_is_told(pki: Pki) -> None:
    trust = pki.trust([(pki.signer, NOW - HOUR, None)])
    verdict = only(sign(plain_pdf(), pki, stamped_at=NOW - 2 * HOUR), Context(trust=trust, now=NOW))
    assert verdict.indication is Indication.TOTAL_PASSED
    assert verdict.chain is not None
    status = verdict.chain.certificates[0].revocation
    assert status is not None
    assert (status.status, status.revoked_at) == ("good", NOW - HOUR)


def test_revoked_and_nothing_proves_when_it_was_signed(pki: Pki) -> None:
    trust = pki.trust([(pki.signer, NOW - HOUR, None)])
    verdict = only(sign(plain_pdf(), pki), Context(trust=trust, now=NOW))
    assert verdict.sub_indication is SubIndication.REVOKED_NO_POE


def test_a_suspended_certificate_leaves_it_open(pki: Pki) -> None:
    trust = pki.trust([(pki.signer, NOW - HOUR, x509.ReasonFlags.certificate_hold)])
    verdict = only(sign(plain_pdf(), pki), Context(trust=trust, now=NOW))
    assert verdict.sub_indication is SubIndication.TRY_LATER
    assert "CERTIFICATE_SUSPENDED" in codes(verdict)


def test_a_stale_list_says_nothing(pki: Pki) -> None:
    verdict = only(sign(plain_pdf(), pki), Context(trust=pki.trust(at=NOW - 3 * DAY), now=NOW))
    assert verdict.sub_indication is SubIndication.TRY_LATER
    assert "REVOCATION_UNKNOWN" in codes(verdict)


def test_a_forged_list_says_nothing(pki: Pki) -> None:
    good = pki.trust()
    forged = crl(pki.issuing, at=NOW - HOUR, key=issue("Kẻ giả").key)
    verdict = only(
        sign(plain_pdf(), pki), Context(trust=TrustMaterial(good.anchors, good.intermediates, (good.crls[0], forged)), now=NOW)
    )
    assert verdict.sub_indication is SubIndication.TRY_LATER


def test_an_authority_of_a_revoked_authority_leaves_it_open(pki: Pki) -> None:
    lists = (crl(pki.root, [(pki.issuing, NOW - HOUR, None)], at=NOW - HOUR), crl(pki.issuing, at=NOW - HOUR))
    trust = TrustMaterial((pki.root.certificate,), (pki.issuing.certificate,), lists)
    verdict = only(sign(plain_pdf(), pki), Context(trust=trust, now=NOW))
    assert verdict.sub_indication is SubIndication.REVOKED_CA_NO_POE


def test_a_weak_key_is_not_accepted(pki: Pki, context: Context) -> None:
    weak = pki.issue("Khóa yếu", key=rsa.generate_private_key(65537, 1024))
    verdict = only(sign(plain_pdf(), pki, signer=weak), context)
    assert verdict.intact
    assert verdict.sub_indication is SubIndication.CRYPTO_CONSTRAINTS_FAILURE


def test_a_certificate_signed_over_a_stronger_digest_passes(pki: Pki, context: Context) -> None:
    signer = pki.issue("SHA-512", algorithm=hashes.SHA512())
    assert only(sign(plain_pdf(), pki, signer=signer), context).indication is Indication.TOTAL_PASSED


@pytest.mark.interop
def test_pdfsig_agrees_on_whole_and_broken_files(pki: Pki, context: Context, tmp_path: Path) -> None:
    good = sign(plain_pdf(), pki, stamped_at=NOW - HOUR)
    bad = good.replace(b"(Page 1)", b"(Page 9)")
    for number, (pdf, says) in enumerate([(good, "Signature is Valid."), (bad, "Digest Mismatch.")]):
        file = tmp_path / f"{number}.pdf"
        file.write_bytes(pdf)
        output = subprocess.run(["pdfsig", str(file)], capture_output=True, text=True, check=False, timeout=60).stdout
        assert says in output
        assert only(pdf, context).intact is (pdf is good)
