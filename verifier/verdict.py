"""What a verification answers: one report for every format, in the words of ETSI EN 319 102-1 and of people.

Everything here is frozen and becomes JSON as it stands. Moments are aware datetimes in UTC, serials lower-case hex,
digests lower-case hex.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Indication(StrEnum):
    """Main status indication, EN 319 102-1 clause 5.1.3."""

    TOTAL_PASSED = "TOTAL-PASSED"
    TOTAL_FAILED = "TOTAL-FAILED"
    INDETERMINATE = "INDETERMINATE"


class SubIndication(StrEnum):
    """Why it is not TOTAL-PASSED, EN 319 102-1 tables 5 and 6."""

    FORMAT_FAILURE = "FORMAT_FAILURE"
    HASH_FAILURE = "HASH_FAILURE"
    SIG_CRYPTO_FAILURE = "SIG_CRYPTO_FAILURE"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    NOT_YET_VALID = "NOT_YET_VALID"
    SIG_CONSTRAINTS_FAILURE = "SIG_CONSTRAINTS_FAILURE"
    CHAIN_CONSTRAINTS_FAILURE = "CHAIN_CONSTRAINTS_FAILURE"
    CERTIFICATE_CHAIN_GENERAL_FAILURE = "CERTIFICATE_CHAIN_GENERAL_FAILURE"
    CRYPTO_CONSTRAINTS_FAILURE = "CRYPTO_CONSTRAINTS_FAILURE"
    TIMESTAMP_ORDER_FAILURE = "TIMESTAMP_ORDER_FAILURE"
    NO_SIGNING_CERTIFICATE_FOUND = "NO_SIGNING_CERTIFICATE_FOUND"
    NO_CERTIFICATE_CHAIN_FOUND = "NO_CERTIFICATE_CHAIN_FOUND"
    REVOKED_NO_POE = "REVOKED_NO_POE"
    REVOKED_CA_NO_POE = "REVOKED_CA_NO_POE"
    OUT_OF_BOUNDS_NO_POE = "OUT_OF_BOUNDS_NO_POE"
    TRY_LATER = "TRY_LATER"
    SIGNED_DATA_NOT_FOUND = "SIGNED_DATA_NOT_FOUND"

    @property
    def indication(self) -> Indication:
        """The main indication this one belongs under."""
        return Indication.TOTAL_FAILED if self in _FAILED else Indication.INDETERMINATE


_FAILED = {
    SubIndication.FORMAT_FAILURE,
    SubIndication.HASH_FAILURE,
    SubIndication.SIG_CRYPTO_FAILURE,
    SubIndication.REVOKED,
    SubIndication.EXPIRED,
    SubIndication.NOT_YET_VALID,
}


class Conclusion(StrEnum):
    """The verdict on the whole file, as people ask for it."""

    VALID = "valid"
    """hợp lệ: every signature is TOTAL-PASSED."""
    INVALID = "invalid"
    """không hợp lệ: at least one signature is TOTAL-FAILED, or the file cannot be read."""
    INDETERMINATE = "indeterminate"
    """chưa đủ căn cứ: nothing failed, but something could not be decided."""
    UNSIGNED = "unsigned"
    """không có chữ ký: the file was read and carries no signature."""


class Severity(StrEnum):
    """How much a finding weighs."""

    INFO = "info"
    WARNING = "warning"
    """Worth knowing; does not by itself stand in the way of TOTAL-PASSED."""
    ERROR = "error"
    """Stands in the way of TOTAL-PASSED."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Text(_Value):
    """The same sentence in both languages."""

    vi: str
    en: str


class Finding(_Value):
    """One thing a reader of the report should know."""

    code: str
    """Stable, in capitals: ``PAGES_ADDED``, ``WEAK_DIGEST``."""
    severity: Severity
    text: Text


class Revocation(_Value):
    """Whether a certificate was revoked at the moment that counts."""

    status: Literal["good", "revoked", "unknown"]
    """``good``: not revoked at ``at`` (it may have been since: then ``revoked_at`` is later than ``at``)."""
    at: datetime
    """The moment the status is about: the best signature time, or the time of verification where nothing proves an earlier one."""
    source: str | None = None
    """What says so, e.g. ``CRL 17 of CN=…``; absent when unknown."""
    published_at: datetime | None = None
    """thisUpdate of the source."""
    revoked_at: datetime | None = None
    reason: str | None = None
    """The CRL entry's reason code, RFC 5280 clause 5.3.1 (``keyCompromise``, …), when it has one."""


class ChainCertificate(_Value):
    """One certificate on the way from the signer to a trust anchor."""

    subject: str
    """RFC 4514."""
    serial: str
    issuer: str
    not_before: datetime
    not_after: datetime
    anchor: bool = False
    """True for the trust anchor itself."""
    revocation: Revocation | None = None
    """None for the anchor, and where no path to an anchor was found."""


class Chain(_Value):
    """The path that was built, the signer's certificate first."""

    trusted: bool
    """It ends in a trust anchor and every certificate on it held at the moment that counts."""
    anchor: str | None
    """The trust anchor's name, RFC 4514."""
    domain: str | None = None
    """Whose trust it is: ``own``, or the label under which an admin installed the anchor (``cong-vu``, ``public``)."""
    certificates: tuple[ChainCertificate, ...]


class Signer(_Value):
    """Whom the signing certificate names, and who vouches for it."""

    subject: str
    """RFC 4514."""
    common_name: str | None
    organization: str | None
    serial: str
    issuer: str
    """RFC 4514."""
    issuing_organization: str | None
    """O of the issuer, or its CN where it has no O: who created and issued the certificate."""
    not_before: datetime
    not_after: datetime


class Timestamp(_Value):
    """The verdict on one RFC 3161 timestamp."""

    kind: Literal["signature", "document", "content", "detached"]
    """``signature``: over a signature value; ``document``: a PDF document timestamp; ``content``: made before the signature;
    ``detached``: it was handed in by itself."""
    indication: Indication
    sub_indication: SubIndication | None = None
    generated_at: datetime | None = None
    """genTime; None when the token cannot be read."""
    accuracy_milliseconds: float | None = None
    serial: str | None = None
    policy: str | None = None
    digest_algorithm: str | None = None
    imprint: str | None = None
    nonce: str | None = None
    """Lower-case hex."""
    intact: bool | None = None
    """Imprint, message digest and signature hold; None where the stamped data were not handed in."""
    authority: Signer | None = None
    """Who stamped."""
    chain: Chain | None = None
    findings: tuple[Finding, ...] = ()


class Coverage(_Value):
    """What the signature's digest was computed over."""

    whole_file: bool
    """Every byte of the file (but for the signature itself) or the whole XML document."""
    description: Text
    byte_range: tuple[int, ...] | None = None
    """PDF: the four numbers of ByteRange."""
    revision: int | None = None
    """PDF: 1 is the file as it was first written."""
    revisions: int | None = None
    """PDF: how many there are in all."""
    elements: tuple[str, ...] = ()
    """XML: the elements signed, by path."""


class SignatureVerdict(_Value):
    """Everything known of one signature."""

    name: str
    """The PDF field's full name, or the XML signature's Id or path."""
    indication: Indication
    sub_indication: SubIndication | None = None
    message: Text
    signer: Signer | None = None
    signer_reason: str | None = None
    """The reason the signer gave, where the format has room for one."""
    level: str | None = None
    """``B-B``, ``B-T``, ``B-LT``, ``B-LTA``, by what it carries; None where it is none of them."""
    digest_algorithm: str | None = None
    signature_algorithm: str | None = None
    claimed_at: datetime | None = None
    """When the signer says it was made: unproven."""
    proven_at: datetime | None = None
    """The best signature time: the earliest valid timestamp over it. The signature existed at this moment."""
    intact: bool
    """The signed bytes are unchanged and the signature was made with the certificate's key."""
    chain: Chain | None = None
    coverage: Coverage | None = None
    changes: tuple[Finding, ...] = ()
    """What was changed after this signature; severity ``error`` where that is not allowed."""
    timestamps: tuple[Timestamp, ...] = ()
    findings: tuple[Finding, ...] = ()


class Report(_Value):
    """The answer to one verification."""

    format: Literal["pdf", "xml", "timestamp", "unknown"]
    verified_at: datetime
    digest_sha256: str
    """Of the bytes handed in."""
    size: int
    conclusion: Conclusion
    indication: Indication
    """TOTAL-PASSED only when every signature is; INDETERMINATE for a file without signatures."""
    sub_indication: SubIndication | None = None
    message: Text
    signatures: tuple[SignatureVerdict, ...] = ()
    timestamps: tuple[Timestamp, ...] = Field(default=())
    """Timestamps of the file as such: PDF document timestamps, or the token handed in."""
    findings: tuple[Finding, ...] = ()
    """About the file as a whole."""
