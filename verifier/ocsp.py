"""What OCSP responses that came with a document say of a certificate at a moment (RFC 6960); nobody is asked over the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from asn1crypto import core
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.errors import Malformed
from verifier.chain import is_issued_by
from verifier.reading import reading
from verifier.verdict import Revocation

_PSS = "1.2.840.113549.1.1.10"


def parse_answers(ders: Sequence[bytes]) -> list[ocsp.OCSPResponse]:
    """Those of ``ders`` that can be read and are answers."""
    found = []
    for der in ders:
        try:
            with reading("ocsp"):
                response = ocsp.load_der_ocsp_response(der)
                if response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL:
                    found.append(response)
        except Malformed:
            continue  # an unreadable answer is no evidence; its absence is reported as unknown status
    return found


def answered_at(
    certificate: x509.Certificate, issuer: x509.Certificate, responses: Sequence[ocsp.OCSPResponse], at: datetime
) -> Revocation:
    """The status of ``certificate`` at moment ``at`` by the newest answer that ``issuer``, or a responder it named, signed.

    As with lists, ``good`` needs an answer that was still fresh at ``at`` or is newer, and was given while the certificate had not
    yet expired, unless the responder says how far back it tells (archive cutoff, RFC 6960 clause 4.4.4). Otherwise ``unknown``.
    """
    found = [(single, response) for response in responses for single in _about(response, certificate, issuer)]
    found.sort(key=lambda item: item[0].this_update_utc, reverse=True)
    for single, response in found:
        if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN or not _is_signed(response, issuer):
            continue
        since, source = single.revocation_time_utc, f"OCSP · {issuer.subject.rfc4514_string()}"
        if since is not None:
            reason = None if single.revocation_reason is None else single.revocation_reason.value
            return Revocation(
                status="revoked" if since <= at else "good",
                at=at,
                source=source,
                published_at=single.this_update_utc,
                revoked_at=since,
                reason=reason,
            )
        fresh = single.next_update_utc is not None and single.next_update_utc >= at
        if (fresh or single.this_update_utc >= at) and not _forgets(single, response, certificate):
            return Revocation(status="good", at=at, source=source, published_at=single.this_update_utc)
    return Revocation(status="unknown", at=at)


def weightier(one: Revocation, other: Revocation) -> Revocation:
    """Of two sources the one to go by: who knows, before who does not; a revocation that cannot be taken back; else the newer."""
    if "unknown" in (one.status, other.status):
        return other if one.status == "unknown" else one
    for found in (one, other):
        if found.revoked_at is not None and found.reason != "certificateHold":
            return found
    newer = (one.published_at or one.at) >= (other.published_at or other.at)
    return one if newer else other


def _about(
    response: ocsp.OCSPResponse, certificate: x509.Certificate, issuer: x509.Certificate
) -> Iterator[ocsp.OCSPSingleResponse]:
    name = issuer.subject.public_bytes()
    for single in response.responses:
        if single.serial_number != certificate.serial_number:
            continue
        algorithm = single.hash_algorithm
        if single.issuer_name_hash != hashes.Hash.hash(algorithm, name):
            continue
        if single.issuer_key_hash == _key_hash(issuer, algorithm):
            yield single


def _key_hash(issuer: x509.Certificate, algorithm: hashes.HashAlgorithm) -> bytes:
    """The hash of the public key's bits, without their DER header: the last element of SubjectPublicKeyInfo."""
    key = issuer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    elif isinstance(key, ed25519.Ed25519PublicKey):
        bits = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        return b""
    return hashes.Hash.hash(algorithm, bits)


def _is_signed(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """By the issuer, or by one to whom it gave a certificate for just that (RFC 6960, 4.2.2.2) and that held then."""
    try:
        with reading("ocsp"):
            signers = [issuer, *(one for one in response.certificates if _may_answer(one, issuer, response.produced_at_utc))]
            return any(_made_by(response, one) for one in signers if _is_named(response, one))
    except Malformed:
        return False


def _may_answer(certificate: x509.Certificate, issuer: x509.Certificate, at: datetime) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    held = certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
    return held and ExtendedKeyUsageOID.OCSP_SIGNING in usages and is_issued_by(certificate, issuer)


def _is_named(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name == certificate.subject
    return response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def _made_by(response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    key, value, data = certificate.public_key(), response.signature, response.tbs_response_bytes
    hashing = response.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey) and hashing is not None:
            pss = response.signature_algorithm_oid.dotted_string == _PSS
            how = padding.PSS(padding.MGF1(hashing), padding.PSS.AUTO) if pss else padding.PKCS1v15()
            key.verify(value, data, how, hashing)
        elif isinstance(key, ec.EllipticCurvePublicKey) and hashing is not None:
            key.verify(value, data, ec.ECDSA(hashing))
        elif isinstance(key, ed25519.Ed25519PublicKey) and hashing is None:
            key.verify(value, data)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _forgets(single: ocsp.OCSPSingleResponse, response: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    """It was given after the certificate's end, and does not say that it still tells of such."""
    if single.this_update_utc <= certificate.not_valid_after_utc:
        return False
    for extension in response.single_extensions if len(list(response.responses)) == 1 else ():
        if isinstance(extension.value, x509.UnrecognizedExtension) and extension.oid.dotted_string == "1.3.6.1.5.5.7.48.1.6":
            return certificate.not_valid_after_utc < _generalized_time(extension.value.value)
    return True


def _generalized_time(der: bytes) -> datetime:
    moment: datetime = core.GeneralizedTime.load(der).native
    return moment
