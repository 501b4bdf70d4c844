"""PDFs made by hand, signed by pyHanko with software keys, and then attacked."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime
from typing import Any

from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer
from pyhanko.sign import PdfSignatureMetadata, PdfSigner, PdfTimeStamper, signers
from pyhanko.sign.fields import MDPPerm, SigFieldSpec, SigSeedSubFilter
from pyhanko.sign.timestamps import DummyTimeStamper
from pyhanko_certvalidator.registry import SimpleCertificateStore

from tests.verifier.authorities import Identity, Pki

N = generic.pdf_name


def plain_pdf(pages: int = 1, *, text_field: bool = False) -> bytes:
    """A small PDF with text on each page and, if wanted, a form with one filled text field."""
    objects: list[bytes] = []

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    catalog, tree = add(b""), add(b"")
    font = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    kids = []
    for number in range(1, pages + 1):
        text = b"BT /F1 18 Tf 72 700 Td (Page %d) Tj ET" % number
        content = add(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text))
        kids.append(
            add(
                b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 %d 0 R >> >> "
                b"/Contents %d 0 R /Annots [] >>" % (tree, font, content)
            )
        )
    form = b""
    if text_field:
        text = b"BT /F1 12 Tf (100 dong) Tj ET"
        look = add(b"<< /Type /XObject /Subtype /Form /BBox [0 0 200 20] /Length %d >>\nstream\n%s\nendstream" % (len(text), text))
        widget = add(
            b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (amount) /V (100 dong) /Rect [72 600 272 620] /P %d 0 R "
            b"/AP << /N %d 0 R >> >>" % (kids[0], look)
        )
        objects[kids[0] - 1] = objects[kids[0] - 1].replace(b"/Annots []", b"/Annots [%d 0 R]" % widget)
        form = b"/AcroForm << /Fields [%d 0 R] /DR << /Font << /F1 %d 0 R >> >> >>" % (widget, font)
    objects[catalog - 1] = b"<< /Type /Catalog /Pages %d 0 R %s >>" % (tree, form)
    objects[tree - 1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (pages, b" ".join(b"%d 0 R" % kid for kid in kids))
    return _assemble(objects, catalog)


def encrypted_pdf(password: str) -> bytes:
    """A PDF that opens with ``password``; an empty one only restricts what readers may do with it."""
    writer = copy_into_new_writer(PdfFileReader(io.BytesIO(plain_pdf())))
    writer.encrypt(owner_pass="owner", user_pass=password)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def _assemble(objects: list[bytes], catalog: int) -> bytes:
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, catalog, start))
    return out.getvalue()


def as_asn1(identity: Identity) -> tuple[asn1_x509.Certificate, asn1_keys.PrivateKeyInfo]:
    key = identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return asn1_x509.Certificate.load(identity.der), asn1_keys.PrivateKeyInfo.load(key)


def timestamper(identity: Identity, at: datetime, *certificates: Identity) -> DummyTimeStamper:
    """An RFC 3161 authority that says it is ``at``."""
    certificate, key = as_asn1(identity)
    store = SimpleCertificateStore()
    store.register_multiple([asn1_x509.Certificate.load(one.der) for one in certificates])
    return DummyTimeStamper(certificate, key, certs_to_embed=store, fixed_dt=at, include_nonce=False)


def sign(
    pdf: bytes,
    pki: Pki,
    *,
    signer: Identity | None = None,
    stamped_at: datetime | None = None,
    tsa: Identity | None = None,
    field: str = "Signature1",
    box: tuple[int, int, int, int] | None = None,
    digest: str = "sha256",
    subfilter: SigSeedSubFilter = SigSeedSubFilter.PADES,
    certify: MDPPerm | None = None,
    password: str | None = None,
) -> bytes:
    """One more signature; with ``stamped_at`` it carries a timestamp."""
    who = signer or pki.signer
    certificate, key = as_asn1(who)
    store = SimpleCertificateStore()
    store.register_multiple([certificate, asn1_x509.Certificate.load(pki.issuing.der)])
    metadata = PdfSignatureMetadata(
        field_name=field,
        md_algorithm=digest,
        subfilter=subfilter,
        reason="Ký ban hành",
        certify=certify is not None,
        docmdp_permissions=certify or MDPPerm.FILL_FORMS,
    )
    stamper = timestamper(tsa or pki.tsa, stamped_at, pki.issuing) if stamped_at else None
    tool = PdfSigner(
        metadata,
        signer=signers.SimpleSigner(signing_cert=certificate, signing_key=key, cert_registry=store),
        timestamper=stamper,
        new_field_spec=SigFieldSpec(field, box=box) if box else None,
    )
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf), strict=False)
    if password is not None:
        writer.encrypt(password)
    return bytes(tool.sign_pdf(writer).getvalue())


def stamp_document(pdf: bytes, pki: Pki, at: datetime) -> bytes:
    """A PDF document timestamp over all of it."""
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf), strict=False)
    out = PdfTimeStamper(timestamper(pki.tsa, at, pki.issuing), field_name="DocTimeStamp1").timestamp_pdf(
        writer, "sha256", validation_context=None
    )
    return bytes(out.getvalue())


def update(pdf: bytes, change: Callable[[IncrementalPdfFileWriter], Any]) -> bytes:
    """An incremental update in which ``change`` was made."""
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf), strict=False)
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def first_page(writer: IncrementalPdfFileWriter) -> Any:
    """The first page's dictionary."""
    return writer.root["/Pages"]["/Kids"][0].get_object()


def byte_range(pdf: bytes, index: int = 0) -> list[int]:
    """ByteRange of the n-th signature."""
    reader = PdfFileReader(io.BytesIO(pdf), strict=False)
    return [int(number) for number in reader.embedded_signatures[index].byte_range]
