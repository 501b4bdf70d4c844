"""What signatures and timestamps a PDF carries, as far as somebody must know who adds to the file: no verdict on any of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asn1crypto import cms, core, tsp
from cryptography import x509
from pyhanko.pdf_utils.generic import ArrayObject, ByteStringObject, DictionaryObject, EncryptedObjAccess, TextStringObject

from core.errors import Rejected
from signer.pdf_update import Update, entry, signature_fields

_MOST: Final = 200
"""Signatures and timestamps in one file."""
_TOKEN: Final = "signature_time_stamp_token"  # noqa: S105 - asn1crypto's name of id-aa-timeStampToken


@dataclass(frozen=True, slots=True)
class Token:
    """A TimeStampToken."""

    at: datetime
    """genTime."""
    signer: x509.Certificate
    hash_name: str
    """Of the imprint: ``sha256``."""
    pss: bool
    """Signed by RSASSA-PSS."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A signature, or a document timestamp."""

    field: str
    contents: bytes
    """/Contents, padding and all."""
    end: int
    """Where its ByteRange ends, counted from the file's beginning."""
    signer: x509.Certificate
    certificates: tuple[x509.Certificate, ...]
    """All that it carries, those of its timestamps among them."""
    document_timestamp: Token | None
    """Set: this is one, and no signature."""
    timestamps: tuple[Token, ...] = ()
    """Over the value of a signature."""

    @property
    def leaves(self) -> tuple[x509.Certificate, ...]:
        """Those whose paths and statuses it rests on."""
        return self.signer, *(token.signer for token in self.timestamps)


def read_carried(update: Update) -> list[Carried]:
    """In the order they were made. Raises Rejected("document", …) for one that cannot be read."""
    found: dict[bytes, Carried] = {}  # by /Contents: several fields may show one signature
    for name, _, field in signature_fields(update.root):
        dictionary = entry(field, "/V")
        if isinstance(dictionary, DictionaryObject) and "/Contents" in dictionary and "/ByteRange" in dictionary:
            if len(found) == _MOST:
                raise Rejected("document", f"it carries more than {_MOST} signatures")
            one = _read(name, dictionary)
            found.setdefault(one.contents, one)
    return sorted(found.values(), key=lambda one: one.end)


def _read(name: str, dictionary: DictionaryObject) -> Carried:
    try:
        raw = dictionary.raw_get("/Contents", decrypt=EncryptedObjAccess.RAW)  # never encrypted (ISO 32000-1, 7.6.1)
        contents = raw if isinstance(raw, ByteStringObject) else raw.original_bytes if isinstance(raw, TextStringObject) else b""
        covered = entry(dictionary, "/ByteRange")
        end = int(covered[-2]) + int(covered[-1]) if isinstance(covered, ArrayObject) else 0
        message = cms.ContentInfo.load(contents)["content"]
        is_stamp = entry(dictionary, "/Type") == "/DocTimeStamp" or entry(dictionary, "/SubFilter") == "/ETSI.RFC3161"
        certificates = list(_certificates(message))
        (signer,) = message["signer_infos"]
        tokens = [] if is_stamp else list(_tokens(signer, certificates))
        return Carried(
            field=name,
            contents=bytes(contents),
            end=end,
            signer=_named(signer, certificates),
            certificates=tuple(certificates),
            document_timestamp=_token(message, certificates) if is_stamp else None,
            timestamps=tuple(tokens),
        )
    except Rejected:
        raise
    except Exception as error:  # the CMS of others: asn1crypto raises whatever it trips over
        raise Rejected("document", f"the signature {name!r} cannot be read ({type(error).__name__}: {str(error)[:200]})") from error


def read_token(der: bytes) -> Token:
    """A TimeStampToken of ours."""
    message = cms.ContentInfo.load(der)["content"]
    return _token(message, list(_certificates(message)))


def read_leaves(der: bytes) -> tuple[tuple[x509.Certificate, ...], tuple[x509.Certificate, ...]]:
    """Of a CMS signature or timestamp by itself: those whose paths and statuses it rests on, and all certificates in it.

    Raises Rejected("cms", …).
    """
    try:
        message = cms.ContentInfo.load(der)["content"]
        certificates = list(_certificates(message))
        (signer,) = message["signer_infos"]
        leaves = (_named(signer, certificates), *(token.signer for token in _tokens(signer, certificates)))
        return leaves, tuple(certificates)
    except Rejected:
        raise
    except Exception as error:  # the CMS of others: asn1crypto raises whatever it trips over
        raise Rejected("cms", f"this CMS cannot be read ({type(error).__name__}: {str(error)[:200]})") from error


def _certificates(message: Any) -> Iterator[x509.Certificate]:
    if isinstance(message["certificates"], core.Void):
        return
    for choice in message["certificates"]:
        if choice.name == "certificate":
            yield x509.load_der_x509_certificate(choice.chosen.dump())


def _named(signer: Any, certificates: list[x509.Certificate]) -> x509.Certificate:
    """The certificate that the SignerInfo names, which must be in the message: from nowhere else could it be taken."""
    sid = signer["sid"]
    for certificate in certificates:
        if sid.name == "issuer_and_serial_number":
            same = certificate.serial_number == sid.chosen["serial_number"].native
        else:
            same = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest == sid.chosen.native
        if same:
            return certificate
    raise ValueError("the certificate of its signer is not in it")


def _tokens(signer: Any, certificates: list[x509.Certificate]) -> Iterator[Token]:
    """The timestamps over the signature value; adds their certificates to ``certificates``."""
    attributes = signer["unsigned_attrs"]
    for attribute in () if isinstance(attributes, core.Void) else attributes:
        if attribute["type"].native == _TOKEN:
            for value in attribute["values"]:
                own = list(_certificates(value["content"]))
                yield _token(value["content"], own)
                certificates += [one for one in own if one not in certificates]


def _token(message: Any, certificates: list[x509.Certificate]) -> Token:
    (signer,) = message["signer_infos"]
    info = tsp.TSTInfo.load(bytes(message["encap_content_info"]["content"]))
    at: datetime = info["gen_time"].native
    hash_name: str = info["message_imprint"]["hash_algorithm"]["algorithm"].native
    pss = signer["signature_algorithm"]["algorithm"].native == "rsassa_pss"
    return Token(at.astimezone(UTC), _named(signer, certificates), hash_name, pss)
