"""The page that a QR code leads to: opened with a signature's intent, published with the signed file, found by its code.

The code is drawn into the document, so it is there before the signature is. It is random, because whoever can count must not be
able to list what was signed; and it says nothing by itself, because anybody can copy a code from one paper to another. What
decides is the file: its SHA-256, and that of its beginning, are compared with what was published (docs/adr/0028).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

import sqlalchemy as sa
from cryptography import x509
from sqlalchemy.orm import Session

from pki.certificates import authority_chain, format_serial
from pki.models import Certificate, ExternalCertificate
from signer.models import Signature, VerificationPage
from signer.options import PdfOptions

_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALIKE: Final = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None})
_LENGTH: Final = 20
CODE_BITS: Final = 5 * _LENGTH
"""Among a thousand million pages a guess meets one with a probability of 10^-21."""
_GROUP: Final = 4

CertificateStatus = Literal["good", "suspended", "revoked", "expired", "unknown"]


@dataclass(frozen=True, slots=True)
class PageDraft:
    """A page from before its signature is made."""

    code: str
    number: str | None
    issued_on: date | None


@dataclass(frozen=True, slots=True)
class PublishedSignature:
    """What anybody may know of a signature who holds the document with its code. Nothing here names a client or a request."""

    code: str
    at: datetime
    """When the key was used, by the house's clock."""
    profile: str
    level: str
    number: str | None
    issued_on: date | None
    sha256: str
    """Of the signed file as it left the house, lower-case hex."""
    size: int
    """Its bytes."""
    certificate: x509.Certificate
    status: CertificateStatus
    """Of the certificate now; ``unknown`` for those of other authorities."""
    since: datetime | None
    """When it was suspended or revoked, or when it expired."""


def draft_page(options: PdfOptions) -> PageDraft:
    """A new page, with a code that nobody has."""
    code = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    return PageDraft(code, options.number, options.issued_on)


def parse_code(text: str) -> str | None:
    """The code somebody typed from a paper, in any case and with the letters one takes for others; None for what is none."""
    code = text.upper().translate(_ALIKE)
    return code if len(code) == _LENGTH and set(code) <= set(_LETTERS) else None


def format_code(code: str) -> str:
    """The code in groups, as it is printed: ``7K2M-9QXD-…``."""
    return "-".join(code[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def open_page(db: Session, draft: PageDraft, signature_id: int) -> None:
    """Write the page down with its signature's intent."""
    page = VerificationPage(code=draft.code, signature_id=signature_id, number=draft.number, issued_on=draft.issued_on)
    db.add(page)


def publish_page(db: Session, draft: PageDraft, *, sha256: str, size: int) -> int:
    """Write down what file left the house under the page's code; from now on it is found. Returns its signature's id."""
    mine = sa.update(VerificationPage).where(VerificationPage.code == draft.code)
    return db.execute(mine.values(sha256=sha256, size=size).returning(VerificationPage.signature_id)).scalar_one()


def find_page(db: Session, text: str, at: datetime) -> PublishedSignature | None:
    """The published page with the code in ``text`` (see :func:`parse_code`), its certificate's status as of ``at``."""
    code = parse_code(text)
    page = None if code is None else db.scalar(sa.select(VerificationPage).where(VerificationPage.code == code))
    if page is None or page.sha256 is None or page.size is None:
        return None
    signature = db.get_one(Signature, page.signature_id)
    certificate, status, since = _certificate(db, signature, at)
    return PublishedSignature(
        code=page.code,
        at=signature.at,
        profile=signature.profile or "plain",
        level=signature.reached or signature.level,
        number=page.number,
        issued_on=page.issued_on,
        sha256=page.sha256,
        size=page.size,
        certificate=certificate,
        status=status,
        since=since,
    )


def _certificate(db: Session, signature: Signature, at: datetime) -> tuple[x509.Certificate, CertificateStatus, datetime | None]:
    """The certificate a signature was made with, and what it is worth at ``at``."""
    own = db.scalar(sa.select(Certificate).where(_of(Certificate, signature)))
    if own is None or own.der is None:
        other = db.scalars(sa.select(ExternalCertificate.der).where(_of(ExternalCertificate, signature))).one()
        return x509.load_der_x509_certificate(other or b""), "unknown", None
    certificate = x509.load_der_x509_certificate(own.der)
    if own.revocation_reason == "certificateHold":
        return certificate, "suspended", own.revoked_at
    above = [format_serial(issuer.serial_number) for issuer in authority_chain(db, own.authority_id)]
    revoked_at = sa.select(sa.func.min(Certificate.revoked_at)).where(Certificate.serial.in_([own.serial, *above]))
    since = db.scalar(revoked_at)
    if since is not None:
        return certificate, "revoked", since
    return (certificate, "expired", own.not_after) if at > own.not_after else (certificate, "good", None)


def _of(table: type[Certificate | ExternalCertificate], signature: Signature) -> sa.ColumnElement[bool]:
    return sa.and_(table.serial == signature.serial, table.key_label == signature.key_label)
