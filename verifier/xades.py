"""XAdES properties of a signature (ETSI EN 319 132-1): read here, believed only as far as the signature covers them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from core.xml import Element, parse_xml
from core.xmldsig import (
    CANONICALIZATIONS,
    DIGESTS,
    DS,
    EXCLUSIVE,
    INCLUSIVE,
    SIGNED_PROPERTIES,
    XADES,
    Fault,
    XmlSignatureError,
    canonicalize,
)
from core.xmlsignature import Covered, XmlSignature
from verifier.verdict import Finding
from verifier.xml_findings import ZONELESS_TIME

_VIETNAM = timezone(timedelta(hours=7))
_MOST_TIMESTAMPS = 8


@dataclass(frozen=True, slots=True)
class Properties:
    """The QualifyingProperties of one signature."""

    qualifying: Element
    signed: Element
    """Its SignedProperties element in the document, whoever signed it."""
    content: Element
    """SignedProperties as they are digested: without the comments that anybody can put into a signed text to cut it short."""

    def signing_certificates(self) -> list[tuple[hashes.HashAlgorithm, bytes]]:
        """Digests of SigningCertificateV2, or of its predecessor: the signer's certificate first. Unknown digests are left out."""
        found = []
        for cert in self._of_signature("SigningCertificateV2", "Cert") or self._of_signature("SigningCertificate", "Cert"):
            method = cert.find(f"{_xades('CertDigest')}/{_ds('DigestMethod')}")
            value = cert.find(f"{_xades('CertDigest')}/{_ds('DigestValue')}")
            if method is not None and value is not None and method.get("Algorithm", "") in DIGESTS:
                found.append((DIGESTS[method.get("Algorithm", "")], _decode(value)))
        return found

    def is_baseline(self, covered: Sequence[Covered]) -> bool:
        """Whether the signed properties are those level B-B asks for (clause 6.3, table 2), for every data reference."""
        formats = self.content.findall(f"{_xades('SignedDataObjectProperties')}/{_xades('DataObjectFormat')}")
        described = {item.get("ObjectReference") for item in formats if item.find(_xades("MimeType")) is not None}
        data = [item for item in covered if item.element is not self.signed]
        types = [item.reference.type for item in covered if item.element is self.signed]
        return (
            types == [SIGNED_PROPERTIES]
            and bool(self._of_signature("SigningTime"))
            and bool(self._of_signature("SigningCertificateV2"))
            and all(f"#{item.reference.id}" in described for item in data)
        )

    def signing_time(self) -> Element | None:
        """The SigningTime element."""
        found = self._of_signature("SigningTime")
        return found[0] if len(found) == 1 else None

    def timestamps(self, signature: XmlSignature) -> list[tuple[bytes, bytes]]:
        """Of each SignatureTimeStamp the token's DER and the octets it must be over (clause 5.3); at most 8 are read.

        They are not signed, so anybody may have broken them: one that cannot be read is an empty token, not an error.
        """
        path = f"{_xades('UnsignedProperties')}/{_xades('UnsignedSignatureProperties')}/{_xades('SignatureTimeStamp')}"
        found = []
        for element in self.qualifying.findall(path)[:_MOST_TIMESTAMPS]:
            method = element.find(_ds("CanonicalizationMethod"))
            how = CANONICALIZATIONS.get(INCLUSIVE if method is None else method.get("Algorithm", ""))
            for token in element.findall(_xades("EncapsulatedTimeStamp"))[:_MOST_TIMESTAMPS]:
                try:
                    found.append((_decode(token), canonicalize(signature.value_element, how)) if how else (b"", b""))
                except XmlSignatureError:
                    found.append((b"", b""))
        return found[:_MOST_TIMESTAMPS]

    def _of_signature(self, *names: str) -> list[Element]:
        path = "/".join(_xades(name) for name in ("SignedSignatureProperties", *names))
        return self.content.findall(path)


def read_properties(signature: XmlSignature) -> Properties | None:
    """The one QualifyingProperties in the signature's objects, None when there is none.

    Raises XmlSignatureError for several, or for one that is meant for another signature (clause 4.3.1).
    """
    found = [child for item in signature.objects for child in item.findall(_xades("QualifyingProperties"))]
    if not found:
        return None
    signed = found[0].findall(_xades("SignedProperties"))
    if len(found) > 1 or len(signed) != 1 or found[0].get("Target") != f"#{signature.element.get('Id')}":
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, "QualifyingProperties are not the signature's own, or not once")
    return Properties(found[0], signed[0], _as_digested(signed[0]))


def choose_certificate(
    certificates: Sequence[x509.Certificate], named: Sequence[tuple[hashes.HashAlgorithm, bytes]]
) -> tuple[x509.Certificate | None, bool]:
    """The signer's certificate among those in KeyInfo, and whether SigningCertificate names it; the first where none is named."""
    for algorithm, value in named[:1]:
        for certificate in certificates:
            if certificate.fingerprint(algorithm) == value:
                return certificate, True
    return (certificates[0] if certificates else None), False


def claimed_time(
    signature: XmlSignature, properties: Properties | None, covered: Sequence[Covered]
) -> tuple[datetime | None, list[Finding]]:
    """When the signer says it was: XAdES SigningTime, or the SignatureProperty Vietnamese formats use; only what is signed counts.

    Vietnamese e-invoices write local time without a zone, which is read as UTC+7 and reported.
    """
    signed = {item.element for item in covered}
    element = properties.signing_time() if properties is not None and properties.signed in signed else None
    if element is None:
        objects = [_as_digested(item) for item in signature.objects if item in signed]
        element = next((time for item in objects for time in item.iter("{*}SigningTime")), None)
    if element is None:
        return None, []
    try:
        moment = datetime.fromisoformat((element.text or "").strip())
        if moment.tzinfo is None:
            return moment.replace(tzinfo=_VIETNAM).astimezone(UTC), [ZONELESS_TIME]
        return moment.astimezone(UTC), []
    except (ValueError, OverflowError):
        return None, []


def _as_digested(element: Element) -> Element:
    return parse_xml(canonicalize(element, CANONICALIZATIONS[EXCLUSIVE])).getroot()


def _decode(element: Element) -> bytes:
    try:
        return base64.b64decode("".join((element.text or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, f"{element.tag} is not base64") from error


def _ds(name: str) -> str:
    return f"{{{DS}}}{name}"


def _xades(name: str) -> str:
    return f"{{{XADES}}}{name}"
