"""XML Signature (W3C xmldsig-core1) in parts that signer and verifier share: its names, its algorithms, canonical XML.

Only what is listed here is ever computed: an algorithm identifier from a document selects an entry or is refused. There is
no HMAC (a public key would become its secret), no XSLT or XPath, and each signature method names the one kind of key it
goes with. SHA-1 can be read, because documents made with it exist; nothing here is ever made with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from lxml import etree

from core.xml import Element, Tree, copy_subtree

DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
SIGNED_PROPERTIES = "http://uri.etsi.org/01903#SignedProperties"
"""The Type of the reference to a signature's own SignedProperties (EN 319 132-1 clause 4.4.1)."""
ENVELOPED = DS + "enveloped-signature"
INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_INCLUSIVE_11 = "http://www.w3.org/2006/12/xml-c14n11"
_MORE_2001 = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007 = "http://www.w3.org/2007/05/xmldsig-more#"
_MORE_2021 = "http://www.w3.org/2021/04/xmldsig-more#"
_XENC = "http://www.w3.org/2001/04/xmlenc#"
_XML = "{http://www.w3.org/XML/1998/namespace}"


class Fault(StrEnum):
    """What can be wrong with an XML signature."""

    MALFORMED_SIGNATURE = "MALFORMED_SIGNATURE"
    """It is not built as xmldsig-core1 says."""
    TOO_MANY_REFERENCES = "TOO_MANY_REFERENCES"
    TOO_MUCH_WORK = "TOO_MUCH_WORK"
    """Digesting all it refers to costs more than a document of this size is worth."""
    AMBIGUOUS_REFERENCE = "AMBIGUOUS_REFERENCE"
    """More than one element has the Id it refers to."""
    EXTERNAL_REFERENCE = "EXTERNAL_REFERENCE"
    """It refers to something outside the document, which is never fetched."""
    REFERENCE_NOT_FOUND = "REFERENCE_NOT_FOUND"
    TRANSFORM_REFUSED = "TRANSFORM_REFUSED"
    ALGORITHM_REFUSED = "ALGORITHM_REFUSED"
    DIGEST_DIFFERS = "DIGEST_DIFFERS"
    """What it refers to was changed."""
    VALUE_WRONG = "VALUE_WRONG"
    """The signature value was not made over this SignedInfo with the key at hand."""


class XmlSignatureError(ValueError):
    """An XML signature does not hold, or cannot be checked: ``fault`` says how, ``what`` shows the piece it is about."""

    def __init__(self, fault: Fault, what: str) -> None:
        super().__init__(f"{fault}: {what}")
        self.fault = fault
        self.what = what


@dataclass(frozen=True, slots=True)
class Canonicalization:
    """One way of turning nodes into octets. ``prefixes``: the InclusiveNamespaces PrefixList of exclusive canonical XML."""

    exclusive: bool = False
    comments: bool = False
    second: bool = False
    """Canonical XML 1.1 instead of 1.0."""
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """One signature method: ``scheme`` is ``rsa-pkcs1v15``, ``rsa-pss``, ``ecdsa`` or ``ed25519``."""

    scheme: str
    algorithm: hashes.HashAlgorithm


CANONICALIZATIONS = {
    INCLUSIVE: Canonicalization(),
    INCLUSIVE + "#WithComments": Canonicalization(comments=True),
    _INCLUSIVE_11: Canonicalization(second=True),
    _INCLUSIVE_11 + "#WithComments": Canonicalization(second=True, comments=True),
    EXCLUSIVE: Canonicalization(exclusive=True),
    EXCLUSIVE + "WithComments": Canonicalization(exclusive=True, comments=True),
}
DIGESTS: dict[str, hashes.HashAlgorithm] = {
    DS + "sha1": hashes.SHA1(),  # noqa: S303 - read and judged, never made
    _XENC + "sha256": hashes.SHA256(),
    _MORE_2001 + "sha384": hashes.SHA384(),
    _XENC + "sha512": hashes.SHA512(),
    _MORE_2007 + "sha3-256": hashes.SHA3_256(),
    _MORE_2007 + "sha3-384": hashes.SHA3_384(),
    _MORE_2007 + "sha3-512": hashes.SHA3_512(),
}
_SHA2 = (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
METHODS = {
    DS + "rsa-sha1": Method("rsa-pkcs1v15", hashes.SHA1()),  # noqa: S303 - read and judged, never made
    _MORE_2001 + "ecdsa-sha1": Method("ecdsa", hashes.SHA1()),  # noqa: S303 - read and judged, never made
    _MORE_2021 + "eddsa-ed25519": Method("ed25519", hashes.SHA512()),
    **{_MORE_2001 + f"rsa-{item.name}": Method("rsa-pkcs1v15", item) for item in _SHA2},
    **{_MORE_2001 + f"ecdsa-{item.name}": Method("ecdsa", item) for item in _SHA2},
    **{_MORE_2007 + f"{item.name}-rsa-MGF1": Method("rsa-pss", item) for item in _SHA2},
}
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def canonicalize(node: Element | Tree, how: Canonicalization) -> bytes:
    """``node`` with everything below it as canonical XML: a tree with what stands around its root, an element as a subset.

    Raises XmlSignatureError for a tree that has no canonical form (a relative namespace URI) and for an ``xml:base`` above
    a subset under Canonical XML 1.1, which asks for it to be recomputed.
    """
    try:
        if isinstance(node, Element):
            inherited = {} if how.exclusive else _inherited(node, how)
            node = copy_subtree(node)
            for name, value in inherited.items():
                node.getroot().set(name, value)
        return etree.tostring(
            node,
            method="c14n",
            exclusive=how.exclusive,
            with_comments=how.comments,
            inclusive_ns_prefixes=list(how.prefixes) or None,
        )
    except etree.LxmlError as error:
        raise XmlSignatureError(Fault.MALFORMED_SIGNATURE, f"no canonical form: {error}") from error


def _inherited(element: Element, how: Canonicalization) -> dict[str, str]:
    """The ``xml:`` attributes inclusive canonical XML copies from above to the top of a subset; the nearest ancestor's wins."""
    found: dict[str, str] = {}
    for ancestor in element.iterancestors():
        if how.second and _XML + "base" in ancestor.attrib:
            raise XmlSignatureError(Fault.TRANSFORM_REFUSED, "Canonical XML 1.1 below an xml:base")
        for name, value in ancestor.attrib.items():
            if str(name).startswith(_XML) and name not in element.attrib:
                found.setdefault(str(name), str(value))
    if how.second:
        found.pop(_XML + "id", None)
    return found


def raw_ecdsa(der: bytes, curve: ec.EllipticCurve) -> bytes:
    """r and s side by side, each as long as the curve's order (xmldsig-core1 clause 6.4.3), from the DER of an ECDSA value."""
    r, s = decode_dss_signature(der)
    length = (curve.key_size + 7) // 8
    return r.to_bytes(length, "big") + s.to_bytes(length, "big")


def check_value(certificate: x509.Certificate, method: Method, octets: bytes, value: bytes) -> None:
    """Raises XmlSignatureError unless ``value`` is the signature over ``octets`` by ``method`` and the certificate's key.

    ALGORITHM_REFUSED when the method is for another kind of key or the curve is not P-256, P-384 or P-521.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise XmlSignatureError(Fault.ALGORITHM_REFUSED, f"key of the certificate: {error}") from error
    try:
        _verify(key, method, octets, value)
    except (InvalidSignature, ValueError) as error:
        if isinstance(error, XmlSignatureError):
            raise
        raise XmlSignatureError(Fault.VALUE_WRONG, method.scheme) from error


def _verify(key: object, method: Method, octets: bytes, value: bytes) -> None:
    algorithm = method.algorithm
    match method.scheme, key:
        case "rsa-pkcs1v15", rsa.RSAPublicKey():
            key.verify(value, octets, padding.PKCS1v15(), algorithm)
        case "rsa-pss", rsa.RSAPublicKey():
            pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)  # RFC 9231 clause 2.3.10
            key.verify(value, octets, pss, algorithm)
        case "ecdsa", ec.EllipticCurvePublicKey() if isinstance(key.curve, _CURVES):
            length = (key.curve.key_size + 7) // 8
            if len(value) != 2 * length:
                raise InvalidSignature
            der = encode_dss_signature(int.from_bytes(value[:length], "big"), int.from_bytes(value[length:], "big"))
            key.verify(der, octets, ec.ECDSA(algorithm))
        case "ed25519", ed25519.Ed25519PublicKey():
            key.verify(value, octets)
        case _:
            raise XmlSignatureError(Fault.ALGORITHM_REFUSED, f"{method.scheme} with a {type(key).__name__}")
