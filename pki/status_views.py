"""What the routes and commands about the standing of certificates take and give as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from pki.grounds import Ground

RevocationReason = Literal[
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
]
"""The final CRLReasons of RFC 5280, 5.3.1, as in :data:`pki.grounds.REASONS`."""


class RevocationRequest(BaseModel):
    """Why a certificate is revoked."""

    model_config = ConfigDict(extra="forbid")

    reason: RevocationReason | None = Field(
        default=None, description="A CRLReason of RFC 5280, 5.3.1; left out, the one that fits the ground, or `unspecified`"
    )
    ground: Ground | None = Field(default=None, description="The legal ground, one of `/v1/revocation-grounds`")
    invalidity_date: AwareDatetime | None = Field(
        default=None, description="Since when the key is known or suspected to be unsafe; in CRL and OCSP (RFC 5280, 5.3.2)"
    )


class RevocationOrder(RevocationRequest):
    """Everything over one key, or everything of one agency."""

    key: str | None = Field(
        default=None,
        pattern="^[0-9A-Fa-f]{64}$",
        description="SHA-256 of the SubjectPublicKeyInfo in hex. The key is blocked for ever; without reason and ground it "
        "counts as compromised",
    )
    agency: str | None = Field(default=None, max_length=35, description="An agency's code: its unexpired certificates")
    subtree: bool = Field(
        default=False,
        description="With agency: also of every agency below it now, or merged into one of these; try `dry_run` first",
    )
    dry_run: bool = Field(default=False, description="Only say which certificates it would be")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.key is None) == (self.agency is None):
            raise ValueError("give either key or agency")
        if self.subtree and self.agency is None:
            raise ValueError("subtree goes with agency")
        return self


class SuspensionRequest(BaseModel):
    """Why a certificate is suspended."""

    model_config = ConfigDict(extra="forbid")

    ground: Ground | None = Field(default=None, description="The legal ground, one of `/v1/revocation-grounds`")


class Visibility(BaseModel):
    """Since when the service saw the change in its own answers over HTTP, in seconds after it; null: not seen yet.

    It looks from the first moment on and for an hour; what a command changed it sees within half a minute.
    """

    ocsp_seconds: float | None = Field(description="In OCSP, asked by GET")
    crl_seconds: float | None = Field(description="In the full CRL the certificate names")
    problem: str | None = Field(description="What the last look ran into")


class RevocationReceipt(BaseModel):
    """A change of standing that is in force. OCSP says so from this moment on."""

    id: str = Field(description="Ask `/v1/revocations/{id}` for how long it took to become visible")
    act: Literal["revoke", "suspend", "resume"]
    serial: str
    authority: str
    at: datetime = Field(description="When it was done")
    revoked_at: datetime | None = Field(
        description="Since when it counts: a revocation after a suspension counts from the suspension on; null after a resumption"
    )
    reason: str | None = Field(description="A CRLReason of RFC 5280, 5.3.1; null after a resumption")
    ground: Ground | None
    invalidity_date: datetime | None
    crl_number: int | None = Field(
        description="The number of the CRL that tells of it; null when the CRL could not be issued at once: it follows by itself, "
        "the change stands"
    )
    visible: Visibility
    also: list[str] = Field(
        default_factory=list, description="The serial numbers of what was revoked along with it, because it is over the same key"
    )


class RevocationReceipts(BaseModel):
    """What was revoked together, or with ``dry_run`` would be."""

    dry_run: bool
    serials: list[str]
    by_agency: dict[str, int] = Field(description="How many of each agency, by its code; of a dry run only")
    receipts: list[RevocationReceipt] = Field(description="One for each; empty for a dry run")


class GroundView(BaseModel):
    """One legal ground of revocation (Nghị định 68/2024/NĐ-CP, article 17)."""

    ground: Ground
    vietnamese: str
    english: str
    reasons: list[str] = Field(description="The CRLReasons that fit it; the first is taken where none is given")


class GroundList(BaseModel):
    """All grounds."""

    grounds: list[GroundView]


class StatusQuery(BaseModel):
    """At which moment."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime | None = Field(default=None, description="By default now; not in the future")


class StatusStep(BaseModel):
    """One change in the history of a certificate's standing."""

    act: Literal["revoke", "suspend", "resume"]
    at: datetime
    since: datetime | None = Field(description="From when it counts")
    reason: str | None
    ground: Ground | None
    invalidity_date: datetime | None
    actor: str


class CrlEvidence(BaseModel):
    """The CRL that proves a status to a third party."""

    authority: str
    number: int
    partition: int
    this_update: datetime
    url: str = Field(description="Where it can be fetched again, for ever")
    sha256: str
    crl: str = Field(description="The CRL in DER, in base64")


class OcspProof(BaseModel):
    """An OCSP response of ours that proves a status to a third party, as it was sent to whoever asked then."""

    this_update: datetime
    next_update: datetime
    status: Literal["good", "revoked"]
    sha256: str
    response: str = Field(description="The OCSPResponse in DER, in base64; the responder's certificate is in it")


class StatusAtMoment(BaseModel):
    """What was known of a certificate at a moment."""

    serial: str
    at: datetime
    status: Literal["good", "suspended", "revoked", "expired", "not-yet-valid", "unknown"] = Field(
        description="`revoked` and `suspended` outrank `expired`; `unknown`: it had not been issued then"
    )
    since: datetime | None = Field(description="Since when it is revoked or suspended")
    reason: str | None
    ground: Ground | None
    invalidity_date: datetime | None = Field(
        description="Since when its key is known to be unsafe, by what is known today: it may lie before `at`"
    )
    history: list[StatusStep] = Field(description="Every change up to the moment, in order")
    evidence: CrlEvidence | None = Field(
        description="Null where no CRL tells of it: never issued, or a suspension that ended before the next CRL"
    )
    ocsp: OcspProof | None = Field(
        description="The kept OCSP response that was in force at the moment and says the same, or else the first one after it that "
        "does; null where none was kept (`pki.ocsp_evidence_hours`)"
    )


class CrlQuery(BaseModel):
    """Which of the CRLs that were ever published."""

    model_config = ConfigDict(extra="forbid")

    at: AwareDatetime | None = Field(default=None, description="The newest one at this moment; by default now")
    number: int | None = Field(default=None, ge=1, description="The one with this number")
    partition: int = Field(default=0, ge=0, description="0 for the complete CRL, or the part")
    delta: bool = Field(default=False, description="A delta CRL instead of a full one")
