"""Reading CMS SignedData as others write it (RFC 5652): DER or BER, old digests, certificates left out.

Independent of the builder in ``core/cms.py`` on purpose: what one gets wrong the other must not believe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from asn1crypto import cms, core, parser, pdf, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import Malformed
from verifier.algorithms import Scheme, SignatureAlgorithm, digest, known_digest, signature_holds
from verifier.octets import Octets
from verifier.reading import check_arcs, reading
from verifier.verdict import SubIndication

DATA: Final = "data"
TST_INFO: Final = "tst_info"
_SCHEMES: Final[dict[str, Scheme]] = {
    "rsassa_pkcs1v15": "rsa-pkcs1v15",
    "rsassa_pss": "rsa-pss",
    "ecdsa": "ecdsa",
    "ed25519": "ed25519",
}
_ARCHIVED: Final = "adobe_revocation_info_archival"
_MOST_CERTIFICATES = 64  # a signature carries its chain, not a directory: more would only cost time
_MOST_MEMBERS = 200
"""Attributes, values of one, CRLs: more than any signature has use for, and each costs the reader several times."""
_EXTRA_DIGESTS: Final = {  # OIDs asn1crypto has no name for
    "2.16.840.1.101.3.4.3.13": ("rsa-pkcs1v15", "sha3_224"),
    "2.16.840.1.101.3.4.3.14": ("rsa-pkcs1v15", "sha3_256"),
    "2.16.840.1.101.3.4.3.15": ("rsa-pkcs1v15", "sha3_384"),
    "2.16.840.1.101.3.4.3.16": ("rsa-pkcs1v15", "sha3_512"),
}


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A SignedData with its one SignerInfo, read and not yet checked."""

    content_type: str
    """asn1crypto's name (``data``, ``tst_info``) or the dotted OID."""
    content: bytes | None
    """The encapsulated content; None when detached."""
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[bytes, ...]
    """DER, also those in Adobe's signed attribute."""
    ocsps: tuple[bytes, ...]
    """DER of OCSPResponses, likewise."""
    signer_id: tuple[bytes, int] | bytes
    """(DER of the issuer's name, serial number), or the subject key identifier."""
    digest_algorithm: str
    algorithm: SignatureAlgorithm | None
    """None for one we do not know: see ``algorithm_name``."""
    algorithm_name: str
    signature: bytes
    attributes: Any
    """The signed attributes as asn1crypto has them, or None when there are none."""
    values: dict[str, list[Any]]
    """Signed attributes by asn1crypto's name or dotted OID: their values."""
    timestamps: tuple[bytes, ...]
    """TimeStampTokens over the signature value (id-aa-timeStampToken)."""

    def attribute_encodings(self) -> Iterator[bytes]:
        """The signed attributes as SET OF, in the encodings they may have been signed in.

        RFC 5652 clause 5.4 wants the DER signed; some wrote, and signed, another order: both are offered.
        """
        as_sent = core.SetOf(spec=cms.CMSAttribute)
        as_sent.contents = self.attributes.contents
        sent = as_sent.dump()
        yield sent
        sorted_again = cms.CMSAttributes(list(self.attributes.untag())).dump(force=True)
        if sorted_again != sent:
            yield sorted_again

    @property
    def claimed_at(self) -> datetime | None:
        """The signing-time attribute."""
        found = self.values.get("signing_time", [])
        moment = found[0].native if len(found) == 1 else None
        return moment if isinstance(moment, datetime) else None


def parse_signed_data(data: bytes) -> SignedMessage:
    """Read the ContentInfo at the start of ``data`` (what follows it, a PDF's padding, is left alone).

    Raises Malformed(``cms``) for anything but a SignedData with exactly one SignerInfo.
    """
    check_arcs(data, "cms")
    with reading("cms"):
        info = cms.ContentInfo.load(data)
        if info["content_type"].native != "signed_data":
            raise Malformed("cms", f"the content type is {info['content_type'].native}, not signed data")
        signed = info["content"]
        if len(signed["signer_infos"]) != 1:
            raise Malformed("cms", f"there are {len(signed['signer_infos'])} signers where there must be one")
        return _read(signed, signed["signer_infos"][0])


def _read(signed: Any, signer: Any) -> SignedMessage:
    encapsulated = signed["encap_content_info"]
    content = encapsulated["content"]
    if isinstance(content, core.Constructable) and content.method == 1:
        _bounded(content, tag=core.OctetString.tag)  # BER: in pieces
    algorithm, name = _signature_algorithm(signer)
    attributes = _bounded(signer["signed_attrs"])
    present = not isinstance(attributes, core.Void) and len(attributes) > 0
    values = _attribute_values(attributes) if present else {}
    return SignedMessage(
        content_type=encapsulated["content_type"].native,
        content=None if isinstance(content, core.Void) else _octets(content),
        certificates=_certificates(signed),
        crls=(*_crls(signed), *_archived(values, "crl")),
        ocsps=(*_ocsps(signed), *_archived(values, "ocsp")),
        signer_id=_signer_id(signer["sid"]),
        digest_algorithm=signer["digest_algorithm"]["algorithm"].native,
        algorithm=algorithm,
        algorithm_name=name,
        signature=signer["signature"].native,
        attributes=attributes if present else None,
        values=values,
        timestamps=_timestamps(_bounded(signer["unsigned_attrs"])),
    )


def _bounded(members: Any, *, tag: int | None = None) -> Any:
    """The set or sequence as it is; raises Malformed for one of too many members, having looked at no more of them.

    ``tag``: the only first octet that its members may have.
    """
    if isinstance(members, core.Void):
        return members
    contents, position = members.contents, 0
    for _ in range(_MOST_MEMBERS):
        if position >= len(contents):
            return members
        if tag not in (None, contents[position]):
            raise Malformed("cms", "a piece of the content is in pieces itself")
        position += parser.peek(contents[position:])
    if position < len(contents):
        raise Malformed("cms", f"there are more than {_MOST_MEMBERS} members in a set")
    return members


def _octets(content: Any) -> bytes:
    # one that may hold structure, as which its native value would be read
    found = bytes(content) if isinstance(content, core.ParsableOctetString) else content.native
    if not isinstance(found, bytes):
        raise Malformed("cms", "the content is no octet string")
    return found


def _certificates(signed: Any) -> tuple[x509.Certificate, ...]:
    found = []
    if isinstance(signed["certificates"], core.Void):
        return ()
    for choice in list(signed["certificates"])[:_MOST_CERTIFICATES]:
        if choice.name != "certificate":
            continue  # attribute certificates and PKCS #6 ones play no part here
        try:
            found.append(x509.load_der_x509_certificate(choice.chosen.dump()))
        except ValueError:
            continue  # a broken one is not there; if it was the signer's, the check says that none was found
    return tuple(found)


def _crls(signed: Any) -> tuple[bytes, ...]:
    if isinstance(signed["crls"], core.Void):
        return ()
    return tuple(choice.chosen.dump() for choice in _bounded(signed["crls"]) if choice.name == "certificate_list")


def _ocsps(signed: Any) -> tuple[bytes, ...]:
    """OCSPResponses among the revocation values (RFC 5940)."""
    if isinstance(signed["crls"], core.Void):
        return ()
    others = [choice.chosen for choice in signed["crls"] if choice.name == "other"]
    return tuple(one["other_rev_info"].dump() for one in others if one["other_rev_info_format"].native == "ocsp_response")


def _archived(values: dict[str, list[Any]], kind: str) -> tuple[bytes, ...]:
    """What Adobe's attribute holds (RevocationInfoArchival, ISO 32000-1 clause 12.8.3.3.2): ``crl`` or ``ocsp``."""
    found = []
    for value in values.get(_ARCHIVED, []):
        held = pdf.RevocationInfoArchival.load(value.dump())[kind]
        found += [] if isinstance(held, core.Void) else [one.dump() for one in _bounded(held)]
    return tuple(found)


def _signer_id(sid: Any) -> tuple[bytes, int] | bytes:
    if sid.name == "issuer_and_serial_number":
        return sid.chosen["issuer"].dump(), sid.chosen["serial_number"].native
    identifier: bytes = sid.chosen.native
    return identifier


def _signature_algorithm(signer: Any) -> tuple[SignatureAlgorithm | None, str]:
    declared = signer["signature_algorithm"]
    name: str = declared["algorithm"].native
    digest_name: str = signer["digest_algorithm"]["algorithm"].native
    if name in _EXTRA_DIGESTS:
        scheme, own = _EXTRA_DIGESTS[name]
        return SignatureAlgorithm("rsa-pkcs1v15", own) if scheme == "rsa-pkcs1v15" else None, name
    try:
        known = _SCHEMES.get(declared.signature_algo)
    except ValueError:
        return None, name
    if known is None:
        return None, name
    if known == "rsa-pss":
        parameters = declared["parameters"]
        mask = parameters["mask_gen_algorithm"]
        if mask["algorithm"].native != "mgf1" or parameters["trailer_field"].native not in (1, "trailer_field_bc"):
            return None, name
        own = parameters["hash_algorithm"]["algorithm"].native
        return SignatureAlgorithm(known, own, parameters["salt_length"].native, mask["parameters"]["algorithm"].native), name
    try:
        own = digest_name if known == "ed25519" else declared.hash_algo
    except ValueError:  # plain rsaEncryption and the like: the digest is the SignerInfo's
        own = digest_name
    return SignatureAlgorithm(known, own), name


def _attribute_values(attributes: Any) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for attribute in attributes:
        values.setdefault(attribute["type"].native, []).extend(_bounded(attribute["values"]))
    return values


def _timestamps(attributes: Any) -> tuple[bytes, ...]:
    if isinstance(attributes, core.Void):
        return ()
    return tuple(
        token.dump()
        for attribute in attributes
        if attribute["type"].native == "signature_time_stamp_token"
        for token in _bounded(attribute["values"])
    )


def find_signer(message: SignedMessage, others: Iterable[x509.Certificate]) -> tuple[x509.Certificate | None, bool]:
    """The certificate the SignerInfo names, and whether a signed attribute names it too.

    Looked for in the message and then in ``others``. Where several carry that name, the one whose hash the
    signingCertificate attribute (RFC 2634, RFC 5035) gives is taken; one whose hash differs from it never is. Where both
    attributes are there, each must give its hash (RFC 5035, 3).
    """
    with reading("cms"):
        named = [one for one in (*message.certificates, *others) if _is_named(one, message.signer_id)]
        references = _references(message)
        for certificate in named:
            if not references:
                return certificate, False
            if all(known_digest(algorithm) and digest(algorithm, [_der(certificate)]) == value for algorithm, value in references):
                return certificate, True
        return None, False


def _is_named(certificate: x509.Certificate, signer_id: tuple[bytes, int] | bytes) -> bool:
    if isinstance(signer_id, bytes):
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        except x509.ExtensionNotFound:
            found = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
        return found == signer_id
    issuer, serial = signer_id
    if certificate.serial_number != serial:
        return False
    own = certificate.issuer.public_bytes()
    # old tools re-encode the name (PrintableString for UTF8String): compare as RFC 5280 clause 7.1 does
    return own == issuer or asn1_x509.Name.load(own) == asn1_x509.Name.load(issuer)


def _references(message: SignedMessage) -> list[tuple[str, bytes]]:
    """Digest algorithm and hash of the signer's certificate, the first one in each attribute: those after it are its issuers."""
    found = []
    for value in message.values.get("signing_certificate_v2", [])[:1]:
        found += [(item["hash_algorithm"]["algorithm"].native, item["cert_hash"].native) for item in list(value["certs"])[:1]]
    for value in message.values.get("signing_certificate", [])[:1]:
        found += [("sha1", item["cert_hash"].native) for item in list(value["certs"])[:1]]
    return found


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def check_signed_data(message: SignedMessage, key: PublicKeyTypes, content: Octets) -> SubIndication | None:
    """Whether digest, attributes and signature hold over ``content``, which was signed.

    None when they do; otherwise FORMAT_FAILURE (an attribute missing, doubled or contradicting, RFC 5652 clauses 5.3, 11),
    HASH_FAILURE, SIG_CRYPTO_FAILURE, or CRYPTO_CONSTRAINTS_FAILURE for an algorithm we do not know.
    """
    with reading("cms"):
        if message.algorithm is None or not known_digest(message.digest_algorithm) or not known_digest(message.algorithm.digest):
            return SubIndication.CRYPTO_CONSTRAINTS_FAILURE
        if message.attributes is None:
            return _check_plain(message, message.algorithm, key, content)
        return _check_attributes(message, message.algorithm, key, content)


def _check_attributes(
    message: SignedMessage, algorithm: SignatureAlgorithm, key: PublicKeyTypes, content: Octets
) -> SubIndication | None:
    content_types, digests = message.values.get("content_type", []), message.values.get("message_digest", [])
    if len(content_types) != 1 or len(digests) != 1 or content_types[0].native != message.content_type or not _protected(message):
        return SubIndication.FORMAT_FAILURE
    if any(len(message.values.get(name, [])) > 1 for name in ("signing_certificate", "signing_certificate_v2")):
        return SubIndication.FORMAT_FAILURE  # RFC 5035, 3 and 4: one instance with one value
    if digests[0].native != content.digest(message.digest_algorithm):
        return SubIndication.HASH_FAILURE
    for encoding in message.attribute_encodings():
        hashed = digest(algorithm.digest, [encoding])
        if signature_holds(key, algorithm, message.signature, signed=encoding, hashed=hashed):
            return None
    return SubIndication.SIG_CRYPTO_FAILURE


def _check_plain(
    message: SignedMessage, algorithm: SignatureAlgorithm, key: PublicKeyTypes, content: Octets
) -> SubIndication | None:
    """Without signed attributes the signature is over the content itself; allowed for plain data only."""
    if message.content_type != DATA:
        return SubIndication.FORMAT_FAILURE
    hashed = content.digest(algorithm.digest)
    signed = content.held() if algorithm.scheme == "ed25519" else None
    holds = signature_holds(key, algorithm, message.signature, signed=signed, hashed=hashed)
    # a digest of the content cannot be told from a broken signature here: there is only one number
    return None if holds else SubIndication.SIG_CRYPTO_FAILURE


def _protected(message: SignedMessage) -> bool:
    """RFC 6211: where CMSAlgorithmProtection is present it must repeat the algorithms of the SignerInfo."""
    for value in message.values.get("cms_algorithm_protection", []):
        if value["digest_algorithm"]["algorithm"].native != message.digest_algorithm:
            return False
        if (
            value["signature_algorithm"].native is not None
            and value["signature_algorithm"]["algorithm"].native != message.algorithm_name
        ):
            return False
    return True


def parse_timestamp_info(content: bytes) -> Any:
    """TSTInfo (RFC 3161 clause 2.4.2) as asn1crypto's object; raises Malformed(``timestamp``)."""
    check_arcs(content, "timestamp")
    with reading("timestamp"):
        info = tsp.TSTInfo.load(content, strict=True)
        if info["version"].native != "v1":
            raise Malformed("timestamp", "TSTInfo is not of version 1")
        _bounded(info["extensions"])
        return info
