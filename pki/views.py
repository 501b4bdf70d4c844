"""What the routes and commands of this room take and give as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hsm.keys import KeySpec

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
"""The CRLReason names of RFC 5280, 5.3.1, without certificateHold and removeFromCRL: a revocation is final."""

PROFILE_HELP: Final = "`agency-seal`, `officer` or `device`, by the kind of the subscriber"


class IssueOptions(BaseModel):
    """For whom, and what kind of certificate."""

    model_config = ConfigDict(extra="forbid")

    profile: str = Field(max_length=80, description=PROFILE_HELP)
    subscriber: str = Field(max_length=80, description="The subscriber's handle; the certificate's name comes from the registry")
    days: int | None = Field(default=None, description="How many days it is valid; by default what the service is configured to")


class CertificateRequest(IssueOptions):
    """Exactly one of ``csr`` and ``key`` says where the key comes from."""

    csr: str | None = Field(
        default=None, max_length=65_536, description="A PKCS #10 request in PEM; only its key and proof of possession count"
    )
    key: KeySpec | None = Field(default=None, description="Make a key of this kind in the HSM")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.csr is None) == (self.key is None):
            raise ValueError("give either csr or key")
        return self


class CertificateSummary(BaseModel):
    """One certificate in a list."""

    serial: str = Field(description="In lower-case hex without leading zeros")
    profile: str
    subscriber: str | None = Field(description="The handle of whom it names; null for the service's own")
    subject: str = Field(description="The distinguished name as RFC 4514 writes it")
    issuer: str = Field(description="The name of the authority, as in `/ca/{name}.pem`")
    state: Literal["intended", "issued", "abandoned"]
    key_in_hsm: bool
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    revocation_reason: str | None


class CertificateDetail(CertificateSummary):
    """One certificate with its bytes."""

    pem: str = Field(description="Empty when the issuance was never completed")
    chain: list[str] = Field(description="The issuers in PEM, its own first, the root last")


class CertificatePage(BaseModel):
    """A page of certificates, the newest first."""

    certificates: list[CertificateSummary]
    next: int | None = Field(description="Pass as `before` for the next page; null at the end")


class CertificateQuery(BaseModel):
    """Which certificates."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, description="Only those older than this: the `next` of the last page")
    subscriber: str | None = Field(default=None, max_length=80, description="Only those of the subscriber with this handle")
    state: Literal["intended", "issued", "abandoned"] | None = Field(
        default=None, description="Only those whose issuance came this far"
    )
    limit: int = Field(default=100, ge=1, le=1000)


class RevocationRequest(BaseModel):
    """Why a certificate is revoked."""

    model_config = ConfigDict(extra="forbid")

    reason: RevocationReason = Field(default="unspecified", description="A CRLReason of RFC 5280, 5.3.1")


class RevocationReceipt(BaseModel):
    """A revocation that is in force. OCSP says so from this moment on."""

    serial: str
    authority: str
    revoked_at: datetime
    reason: RevocationReason
    crl_number: int | None = Field(
        description="The number of the CRL that lists it; null when the CRL could not be issued at once: it follows by itself, "
        "the revocation stands"
    )


class Signer(BaseModel):
    """A certificate the calling client system may sign with."""

    signer: str = Field(description="The subscriber's handle: what `signer=` of a signature request takes")
    serial: str
    profile: str
    subject: str
    not_after: datetime
    pem: str


class SignerList(BaseModel):
    """Everything the calling client system may sign with now."""

    signers: list[Signer]
