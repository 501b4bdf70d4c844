"""The elements of an XAdES baseline signature (ETSI EN 319 132-1 clauses 4 to 6), built as a document of their own."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from core.signatures import fitting_hash
from core.xml import Element
from core.xmldsig import (
    CANONICALIZATIONS,
    DIGESTS,
    DS,
    ENVELOPED,
    EXCLUSIVE,
    INCLUSIVE,
    METHODS,
    SIGNED_PROPERTIES,
    XADES,
    canonicalize,
)
from core.xmlsignature import Reference

_EXCLUSIVE = CANONICALIZATIONS[EXCLUSIVE]
_DIGEST_NAMES = {algorithm.name: identifier for identifier, algorithm in DIGESTS.items()}
_METHOD_NAMES = {(method.scheme, method.algorithm.name): identifier for identifier, method in METHODS.items()}


def data_reference(uri: str, *, enveloped: bool, certificate: x509.Certificate) -> Reference:
    """What the reference to the signed data says, its digest value still empty.

    Inclusive canonical XML 1.0, the one every XML Signature program must have: unlike the exclusive one it also covers
    namespace declarations that only values use (``xsi:type="p:Name"``), so that nobody can point ``p`` elsewhere.
    """
    digest = fitting_hash(certificate.public_key())
    how = CANONICALIZATIONS[INCLUSIVE]
    return Reference(uri=uri, type=None, id=None, enveloped=enveloped, canonicalization=how, digest=digest, value=b"")


def build_signature(
    name: str,
    reference: Reference,
    octets: bytes,
    *,
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    at: datetime,
) -> Element:
    """ds:Signature with the Id ``name`` over ``octets`` (which ``reference`` means), its SignatureValue empty.

    ``chain`` goes into KeyInfo behind the certificate; ``at`` is the SigningTime. Hash and method are those that fit the key.
    """
    key = certificate.public_key()
    algorithm = fitting_hash(key)
    scheme = "ecdsa" if isinstance(key, ec.EllipticCurvePublicKey) else "rsa-pkcs1v15"
    method = _METHOD_NAMES["ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else scheme, algorithm.name]
    signature = etree.Element(_ds("Signature"), nsmap={"ds": DS}, Id=name)
    info = _add(signature, _ds("SignedInfo"))
    _add(info, _ds("CanonicalizationMethod"), Algorithm=EXCLUSIVE)
    _add(info, _ds("SignatureMethod"), Algorithm=method)
    transforms = [ENVELOPED, INCLUSIVE] if reference.enveloped else [INCLUSIVE]
    _add_reference(info, octets, algorithm, transforms, Id=f"{name}-data", URI=reference.uri)
    _add(signature, _ds("SignatureValue"), Id=f"{name}-value")
    data = _add(_add(signature, _ds("KeyInfo")), _ds("X509Data"))
    for item in (certificate, *chain):
        _add(data, _ds("X509Certificate")).text = _base64(item.public_bytes(Encoding.DER))
    properties = _add_properties(signature, name, certificate, algorithm, at)
    signed = canonicalize(properties, _EXCLUSIVE)
    _add_reference(info, signed, algorithm, [EXCLUSIVE], Type=SIGNED_PROPERTIES, URI=f"#{name}-properties")
    return signature


def add_timestamp(signature: Element, stamp: Callable[[bytes], bytes]) -> None:
    """Add a SignatureTimeStamp (clause 5.3): ``stamp`` turns the canonical SignatureValue into a TimeStampToken's DER."""
    name = signature.get("Id", "")
    value = signature.find(_ds("SignatureValue"))
    qualifying = signature.find(f"{_ds('Object')}/{_xades('QualifyingProperties')}")
    if value is None or qualifying is None:
        raise ValueError("not a signature built here")
    token = stamp(canonicalize(value, _EXCLUSIVE))
    unsigned = _add(_add(qualifying, _xades("UnsignedProperties")), _xades("UnsignedSignatureProperties"))
    timestamp = _add(unsigned, _xades("SignatureTimeStamp"), Id=f"{name}-timestamp")
    _add(timestamp, _ds("CanonicalizationMethod"), Algorithm=EXCLUSIVE)
    _add(timestamp, _xades("EncapsulatedTimeStamp")).text = _base64(token)


def set_value(signature: Element, value: bytes) -> None:
    """Put the signature value in."""
    element = signature.find(_ds("SignatureValue"))
    if element is None:
        raise ValueError("not a signature built here")
    element.text = _base64(value)


def signed_octets(signature: Element) -> bytes:
    """The canonical SignedInfo: what is signed."""
    return canonicalize(signature[0], _EXCLUSIVE)


def _add_properties(
    signature: Element, name: str, certificate: x509.Certificate, algorithm: hashes.HashAlgorithm, at: datetime
) -> Element:
    """QualifyingProperties with what level B-B asks for (clause 6.3, table 2); returns SignedProperties."""
    qualifying = etree.SubElement(
        _add(signature, _ds("Object")), _xades("QualifyingProperties"), nsmap={"xades": XADES}, Target=f"#{name}"
    )
    properties = _add(qualifying, _xades("SignedProperties"), Id=f"{name}-properties")
    about_signature = _add(properties, _xades("SignedSignatureProperties"))
    _add(about_signature, _xades("SigningTime")).text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = _add(_add(_add(about_signature, _xades("SigningCertificateV2")), _xades("Cert")), _xades("CertDigest"))
    _add(digest, _ds("DigestMethod"), Algorithm=_DIGEST_NAMES[algorithm.name])
    _add(digest, _ds("DigestValue")).text = _base64(certificate.fingerprint(algorithm))
    about_data = _add(properties, _xades("SignedDataObjectProperties"))
    data_format = _add(about_data, _xades("DataObjectFormat"), ObjectReference=f"#{name}-data")
    _add(data_format, _xades("MimeType")).text = "text/xml"
    return properties


def _add_reference(
    info: Element, octets: bytes, algorithm: hashes.HashAlgorithm, transforms: Sequence[str], **attributes: str
) -> None:
    reference = _add(info, _ds("Reference"), **attributes)
    listed = _add(reference, _ds("Transforms"))
    for transform in transforms:
        _add(listed, _ds("Transform"), Algorithm=transform)
    _add(reference, _ds("DigestMethod"), Algorithm=_DIGEST_NAMES[algorithm.name])
    digest = hashes.Hash(algorithm)
    digest.update(octets)
    _add(reference, _ds("DigestValue")).text = _base64(digest.finalize())


def _add(parent: Element, name: str, **attributes: str) -> Element:
    return etree.SubElement(parent, name, attributes)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _ds(name: str) -> str:
    return f"{{{DS}}}{name}"


def _xades(name: str) -> str:
    return f"{{{XADES}}}{name}"
