"""What happens to the file, all of it on this side: an empty signature put behind it, filled in, and made to last.

Everything is an incremental update: the bytes that were there stay as they are. Files are worked on where they lie, a piece
at a time; of a large one only the cross-reference and the objects that are touched come into memory.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from asn1crypto import cms, crl, ocsp, pem, tsp, x509
from pyhanko.pdf_utils.crypt import AuthStatus
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import fields, signers
from pyhanko.sign.general import SigningError
from pyhanko.sign.signers.pdf_byterange import PreparedByteRangeDigest
from pyhanko.sign.timestamps import TimeStamper
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko.sign.validation.generic_cms import validate_sig_integrity

from condau_client.errors import CondauError, DocumentError, ServiceFault
from condau_client.transport import Transport

TIMESTAMP_ROOM: Final = 10_000
"""Bytes kept for a timestamp with its certificates; unused room costs two zeros a byte in the file."""
_ATTRIBUTES: Final = 1_500
"""Bytes of a CMS beside certificates and timestamp: attributes, and a signature value of up to 8192 bits."""
_UNREADABLE: Final = (PdfError, ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError, RecursionError)
"""What pyHanko raises over files that are broken, or that it does not read."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate the API key may sign with."""

    handle: str
    """What requests name it by."""
    serial: str
    subject: str
    algorithm: str
    """The hash a document is digested with for this key: ``sha256``, ``sha384`` or ``sha512``."""
    certificate: bytes
    """DER."""
    chain: tuple[bytes, ...]
    """Its issuers in DER, the root last."""

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> Signer:
        """One entry of ``GET /v1/signers``."""
        return cls(
            handle=str(found["signer"]),
            serial=str(found["serial"]),
            subject=str(found["subject"]),
            algorithm=str(found["digest_algorithm"]),
            certificate=_der(found["pem"]),
            chain=tuple(_der(text) for text in found["chain"]),
        )


@dataclass(frozen=True, slots=True)
class Appearance:
    """Where and how the signature shows; without one it is invisible.

    ``box`` is x0, y0, x1, y1 in points from the page's lower left corner, ``page`` counts from 1, ``style`` is one of
    pyHanko's stamp styles (:mod:`pyhanko.stamp`), such as ``TextStampStyle``.
    """

    style: Any
    box: tuple[int, int, int, int]
    page: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What a signature says of itself, and where it goes. ``field``: an empty field to sign in, or the name of a new one."""

    field: str | None = None
    reason: str | None = None
    location: str | None = None
    contact: str | None = None
    appearance: Appearance | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    """What opens an encrypted file; many open without one and only forbid printing or changes."""


@dataclass(frozen=True, slots=True)
class Material:
    """Certificates and revocation answers, each in DER."""

    certificates: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    ocsp_responses: tuple[bytes, ...] = ()

    @classmethod
    def of_json(cls, found: dict[str, Any]) -> Material:
        """``validation`` of an answer."""
        return cls(*(tuple(map(base64.b64decode, found[name])) for name in ("certificates", "crls", "ocsp_responses")))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file with an empty signature behind it, and the digest that is to be signed: all that leaves is ``digest``."""

    file: BinaryIO
    digest: bytes
    algorithm: str
    options: Options
    hole: PreparedByteRangeDigest


class HoleTooSmall(CondauError):
    """The CMS of ``size`` bytes does not fit what was reserved."""

    def __init__(self, size: int) -> None:
        super().__init__(f"no room for a CMS of {size} bytes")
        self.size = size


@contextmanager
def _reading() -> Iterator[None]:
    """The one place where pyHanko's errors become ours."""
    try:
        yield
    except CondauError:
        raise
    except (SigningError, *_UNREADABLE) as error:
        raise DocumentError(f"this PDF cannot be signed: {str(error) or 'it is broken'}") from error


def prepare(file: BinaryIO, signer: Signer, options: Options | None = None, *, room: int | None = None) -> Prepared:
    """Put an empty signature behind ``file`` (open for reading and writing; it is changed) and compute the digest.

    ``room``: bytes reserved for the CMS; by default what ``signer``'s certificates and a timestamp will need. Raises
    DocumentError.
    """
    options = options or Options()
    certificate = x509.Certificate.load(signer.certificate)
    with _reading():
        writer = _open(file, options.password)
        name = options.field or _new_name(writer, "Signature")
        metadata = signers.PdfSignatureMetadata(
            field_name=name,
            md_algorithm=signer.algorithm,
            subfilter=fields.SigSeedSubFilter.PADES,
            reason=options.reason,
            location=options.location,
            contact_info=options.contact,
            name=certificate.subject.native.get("common_name"),
        )
        look = options.appearance
        spec = None if look is None else fields.SigFieldSpec(name, on_page=look.page - 1, box=look.box)
        worker = signers.PdfSigner(
            metadata,
            signers.ExternalSigner(certificate, None),
            stamp_style=None if look is None else look.style,
            new_field_spec=spec,
        )
        reserved = 2 * (room if room is not None else _room(signer))
        hole, _, _ = asyncio.run(worker.async_digest_doc_for_signing(writer, bytes_reserved=reserved, in_place=True))
    return Prepared(file, hole.document_digest, signer.algorithm, options, hole)


def finish(prepared: Prepared, signature: bytes) -> None:
    """Fill the hole of the prepared file with a CMS (DER), once that is found to be a good signature over its digest.

    Raises HoleTooSmall (prepare it again with more room), ServiceFault when it is none.
    """
    check_signature(signature, prepared.digest)
    if 2 * len(signature) > prepared.hole.reserved_region_end - prepared.hole.reserved_region_start - 2:
        raise HoleTooSmall(len(signature))
    prepared.hole.fill_with_cms(prepared.file, signature)


def check_signature(signature: bytes, digest: bytes) -> None:
    """Raises ServiceFault unless ``signature`` (DER) is a CMS whose own certificate verifies it over ``digest``."""
    try:
        signed = cms.ContentInfo.load(signature, strict=True)["content"]
        (signer_info,) = signed["signer_infos"]
        serial = signer_info["sid"].chosen["serial_number"].native
        certificate = next(item.chosen for item in signed["certificates"] if item.chosen.serial_number == serial)
        intact, valid = validate_sig_integrity(signer_info, certificate, "data", digest)
    except (ValueError, KeyError, TypeError, StopIteration, AttributeError, SigningError) as error:
        raise ServiceFault("the service's answer is no signature that can be read") from error
    if not (intact and valid):
        raise ServiceFault("the service's answer is no good signature over this document")


def add_material(file: BinaryIO, material: Material, password: str | None = None) -> None:
    """Put validation material into the file's DSS dictionary, as one more revision (PAdES-B-LT)."""
    with _reading():
        writer = _open(file, password)
        DocumentSecurityStore.supply_dss_in_writer(
            writer,
            None,
            certs=[x509.Certificate.load(item) for item in material.certificates],
            crls=[crl.CertificateList.load(item) for item in material.crls],
            ocsps=[ocsp.OCSPResponse.load(item) for item in material.ocsp_responses],
        )
        writer.write_in_place()


def add_archive_timestamp(file: BinaryIO, transport: Transport, password: str | None = None) -> None:
    """Time-stamp the whole file, as one more revision (PAdES-B-LTA)."""
    with _reading():
        writer = _open(file, password)
        stamper = signers.PdfTimeStamper(_Stamps(transport), field_name=_new_name(writer, "ArchiveTimestamp"))
        stamper.timestamp_pdf(writer, "sha256", bytes_reserved=2 * TIMESTAMP_ROOM, in_place=True)


def signatures_of(file: BinaryIO, password: str | None = None) -> Sequence[bytes]:
    """The CMS of every signature and timestamp in the file, in DER, oldest first. Raises DocumentError."""
    with _reading():
        file.seek(0)
        reader = PdfFileReader(file, strict=False)
        if reader.encrypted:
            reader.decrypt(password or "")
        # read and written again, it is without the zeros behind it
        return [bytes(cms.ContentInfo.load(bytes(found.pkcs7_content)).dump()) for found in reader.embedded_signatures]


class _Stamps(TimeStamper):
    """Timestamps of the service itself."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        self._transport = transport

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        headers = {"Content-Type": "application/timestamp-query"}
        return tsp.TimeStampResp.load(self._transport.request("POST", "/tsa", req.dump(), headers=headers).body)


def _open(file: BinaryIO, password: str | None) -> IncrementalPdfFileWriter:
    file.seek(0)
    writer = IncrementalPdfFileWriter(file, strict=False)
    if writer.prev.encrypted and writer.encrypt(password or "").status is AuthStatus.FAILED:
        wrong = "this PDF is encrypted: give its password" if password is None else "this password does not open the PDF"
        raise DocumentError(wrong)
    return writer


def _new_name(writer: IncrementalPdfFileWriter, stem: str) -> str:
    taken = {name for name, _, _ in fields.enumerate_sig_fields(writer)}
    return next(name for name in (f"{stem}{number}" for number in range(1, len(taken) + 2)) if name not in taken)


def _room(signer: Signer) -> int:
    """Bytes of the largest CMS that can come; issuers that are roots are left to whoever trusts them."""
    return len(signer.certificate) + sum(map(len, signer.chain)) + _ATTRIBUTES + TIMESTAMP_ROOM


def _der(text: str) -> bytes:
    return bytes(pem.unarmor(text.encode("ascii"))[2])
