"""The request a timestamp should be the answer to (RFC 3161, 2.4.1), and the names the two sides go by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asn1crypto import tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from verifier.reading import check_arcs, reading

Imprint = tuple[str, bytes]
"""The digest algorithm's OID, dotted, and the digest. Parameters, NULL or absent, make no difference (RFC 5754, 2)."""


@dataclass(frozen=True, slots=True)
class TimestampQuery:
    """What was asked for; ``policy`` is a dotted OID."""

    imprint: Imprint
    nonce: int | None
    policy: str | None
    certificates_wanted: bool


def parse_timestamp_query(data: bytes) -> TimestampQuery:
    """Read a TimeStampReq (DER or BER); raises Malformed(``query``) for anything else."""
    check_arcs(data, "query")
    with reading("query"):
        request = tsp.TimeStampReq.load(data, strict=True)
        policy = request["req_policy"]
        return TimestampQuery(
            imprint=imprint_of(request["message_imprint"]),
            nonce=request["nonce"].native,
            policy=None if policy.native is None else policy.dotted,
            certificates_wanted=bool(request["cert_req"].native),
        )


def imprint_of(imprint: Any) -> Imprint:
    """The two values of asn1crypto's MessageImprint."""
    return imprint["hash_algorithm"]["algorithm"].dotted, imprint["hashed_message"].native


def names_authority(tsa: Any, certificate: x509.Certificate) -> bool:
    """Whether TSTInfo's ``tsa`` (asn1crypto's GeneralName) is absent or one of the certificate's subject names."""
    if tsa.native is None:
        return True
    own = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    if tsa.name == "directory_name" and tsa.chosen == own.subject:
        return True
    alternatives = own.subject_alt_name_value or []
    return any(name.name == tsa.name and name.chosen == tsa.chosen for name in alternatives)
