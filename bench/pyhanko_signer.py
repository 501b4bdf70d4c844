"""Signing a PDF as plain pyHanko does it, with a key of ours: the baseline of the PDF benchmark."""

from __future__ import annotations

import io

from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner
from pyhanko.sign.signers.pdf_cms import Signer
from pyhanko_certvalidator.registry import SimpleCertificateStore

from core.signatures import fitting_hash, sign
from hsm.keys import PrivateKey
from pki.certificates import Identity


class _KeySigner(Signer):
    """pyHanko's own CMS, over a signature by ``key``."""

    def __init__(self, identity: Identity, key: PrivateKey) -> None:
        leaf, *chain = (
            asn1_x509.Certificate.load(item.public_bytes(Encoding.DER)) for item in (identity.certificate, *identity.chain)
        )
        super().__init__(signing_cert=leaf, cert_registry=SimpleCertificateStore.from_certs(chain), embed_roots=False)
        self._identity = identity
        self._key = key

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:  # noqa: ARG002 - pyHanko's signature
        return bytes(80) if dry_run else sign(self._key, data, fitting_hash(self._identity.certificate.public_key()))


def sign_with_pyhanko(document: bytes, identity: Identity, key: PrivateKey) -> bytes:
    """``document`` with a PAdES-B-B signature, invisible."""
    metadata = PdfSignatureMetadata(field_name="Signature1", subfilter=SigSeedSubFilter.PADES, md_algorithm="sha256")
    signer = PdfSigner(metadata, signer=_KeySigner(identity, key))
    signed: io.BytesIO = signer.sign_pdf(IncrementalPdfFileWriter(io.BytesIO(document), strict=False))
    return signed.getvalue()
