"""Signing a PDF as plain pyHanko does it, with a key, time-stamps and CRLs of ours: the baseline of the PDF benchmark."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence

from asn1crypto import tsp
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers import PdfSignatureMetadata, PdfSigner
from pyhanko.sign.signers.pdf_cms import Signer
from pyhanko.sign.timestamps import TimeStamper
from pyhanko_certvalidator import ValidationContext
from pyhanko_certvalidator.registry import SimpleCertificateStore

from core.signatures import fitting_hash, sign
from hsm.keys import PrivateKey
from pki.certificates import Identity


class _KeySigner(Signer):
    """pyHanko's own CMS, over a signature by ``key``."""

    def __init__(self, identity: Identity, key: PrivateKey) -> None:
        logging.getLogger("pyhanko").setLevel(logging.ERROR)  # it warns each time that it may not fetch
        leaf, *chain = (
            asn1_x509.Certificate.load(item.public_bytes(Encoding.DER)) for item in (identity.certificate, *identity.chain)
        )
        super().__init__(signing_cert=leaf, cert_registry=SimpleCertificateStore.from_certs(chain), embed_roots=False)
        self._identity = identity
        self._key = key

    async def async_sign_raw(self, data: bytes, digest_algorithm: str, dry_run: bool = False) -> bytes:  # noqa: ARG002 - pyHanko's signature
        return bytes(80) if dry_run else sign(self._key, data, fitting_hash(self._identity.certificate.public_key()))


class _InProcess(TimeStamper):
    """pyHanko's own requests and answers, without HTTP between them."""

    def __init__(self, respond: Callable[[bytes], bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        self._respond = respond

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        return tsp.TimeStampResp.load(self._respond(req.dump()))


class PlainPyHanko:
    """What a program that signs with pyHanko keeps from one document to the next."""

    def __init__(self, identity: Identity, key: PrivateKey, *, respond: Callable[[bytes], bytes], crls: Sequence[bytes]) -> None:
        """``respond``: RFC 3161 request to answer, both DER; ``crls``: DER, of every authority."""
        self._signer = _KeySigner(identity, key)
        self._stamper = _InProcess(respond)
        self._root = asn1_x509.Certificate.load(identity.chain[-1].public_bytes(Encoding.DER))
        self._others = [asn1_x509.Certificate.load(item.public_bytes(Encoding.DER)) for item in identity.chain[:-1]]
        self._crls = crls

    def sign(self, document: bytes, level: str) -> bytes:
        """``document`` with an invisible signature of this level (``B-B``, ``B-T`` or ``B-LTA``)."""
        metadata = PdfSignatureMetadata(
            field_name="Signature1",
            subfilter=SigSeedSubFilter.PADES,
            md_algorithm="sha256",
            embed_validation_info=level == "B-LTA",
            use_pades_lta=level == "B-LTA",
            validation_context=self._context() if level == "B-LTA" else None,
        )
        signer = PdfSigner(metadata, signer=self._signer, timestamper=None if level == "B-B" else self._stamper)
        signed: io.BytesIO = signer.sign_pdf(IncrementalPdfFileWriter(io.BytesIO(document), strict=False))
        return signed.getvalue()

    def _context(self) -> ValidationContext:
        """A new one for each document, as its moment and what it has gathered are that document's."""
        return ValidationContext(
            trust_roots=[self._root],
            other_certs=self._others,
            crls=list(self._crls),
            allow_fetching=False,
            revocation_mode="hard-fail",
        )
