"""What the routes and commands of this room take and give as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from hsm.keys import KeySpec
from pki.inventory import Standing

PROFILE_HELP: Final = "`agency-seal`, `officer`, `device`, `tls-server` or one of the instance's own, by the kind of the subscriber"

CSR_LENGTH: Final = 65_536
"""Characters of a PKCS #10 request in PEM."""


class IssueOptions(BaseModel):
    """For whom, and what kind of certificate."""

    model_config = ConfigDict(extra="forbid")

    profile: str = Field(max_length=80, description=PROFILE_HELP)
    subscriber: str = Field(max_length=80, description="The subscriber's handle; the certificate's name comes from the registry")
    reference: str = Field(max_length=400, description="Number and date of the written request it is issued on; kept with it")
    days: int | None = Field(default=None, description="How many days it is valid; by default the profile's term")


class CertificateRequest(IssueOptions):
    """Exactly one of ``csr`` and ``key`` says where the key comes from."""

    csr: str | None = Field(
        default=None, max_length=CSR_LENGTH, description="A PKCS #10 request in PEM; only its key and proof of possession count"
    )
    key: KeySpec | None = Field(default=None, description="Make a key of this kind in the HSM")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.csr is None) == (self.key is None):
            raise ValueError("give either csr or key")
        return self


class RenewalRequest(BaseModel):
    """On what written request a certificate gets a successor, and for how long."""

    model_config = ConfigDict(extra="forbid")

    reference: str = Field(max_length=400, description="Number and date of the written request it is issued on; kept with it")
    days: int | None = Field(default=None, description="How many days it is valid, at most 3 years; by default the profile's term")


class RekeyRequest(RenewalRequest):
    """Exactly one of ``csr`` and ``key`` says where the new key comes from."""

    csr: str | None = Field(default=None, max_length=CSR_LENGTH, description="A PKCS #10 request in PEM over the new key")
    key: KeySpec | None = Field(default=None, description="Make a new key of this kind in the HSM")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.csr is None) == (self.key is None):
            raise ValueError("give either csr or key")
        return self


class ProfileInUse(BaseModel):
    """The version of a profile under which certificates are issued."""

    profile: str
    version: int


class CertificateSummary(BaseModel):
    """One certificate in a list."""

    serial: str = Field(description="In lower-case hex without leading zeros")
    profile: str
    subscriber: str | None = Field(description="The handle of whom it names; null for the service's own")
    agency: str | None = Field(description="The code of their agency when it was issued")
    subject: str = Field(description="The distinguished name as RFC 4514 writes it")
    issuer: str = Field(description="The name of the authority, as in `/ca/{name}.pem`")
    state: Literal["intended", "issued", "abandoned"] = Field(description="How far its issuance came")
    standing: Standing = Field(description="What it is worth now; `undecided` while its issuance has no result")
    spki_sha256: str = Field(description="SHA-256 of its public key (SubjectPublicKeyInfo), in hex")
    key_in_hsm: bool
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None
    revocation_reason: str | None


class CertificateDetail(CertificateSummary):
    """One certificate with its bytes, and by which rules it was issued."""

    request_reference: str | None = Field(description="The written request it was issued on; null for the service's own")
    profile_version: int | None
    profile_sha256: str | None = Field(description="SHA-256 over the profile's canonical form, in hex")
    lints: str | None = Field(description="The set of lints it passed before it was signed")
    pem: str = Field(description="Empty when the issuance was never completed")
    chain: list[str] = Field(description="The issuers in PEM, its own first, the root last")


class CertificatePage(BaseModel):
    """A page of certificates, the newest first; in a search about expiry that names no holder, key or serial, the earliest end."""

    certificates: list[CertificateSummary]
    next: str | None = Field(
        description="Pass as `cursor` for the next page; null at the end. A page may be short, even empty, with more to come"
    )


class CertificateFilter(BaseModel):
    """Which certificates: all that meet every condition given."""

    model_config = ConfigDict(extra="forbid")

    agency: str | None = Field(
        default=None, max_length=35, description="An agency's code; those subordinate to it or merged into it now count as well"
    )
    subscriber: str | None = Field(default=None, max_length=80, description="The handle of whom they name")
    profile: str | None = Field(default=None, max_length=80)
    standing: Standing | None = Field(default=None, description="What they are worth now")
    expiring_days: int | None = Field(default=None, ge=0, le=3660, description="Valid, and expiring within so many days")
    expires_from: AwareDatetime | None = Field(default=None, description="Valid at least until this moment")
    expires_before: AwareDatetime | None = Field(default=None, description="No longer valid from this moment on")
    spki_sha256: str | None = Field(
        default=None, pattern="^[0-9A-Fa-f]{64}$", description="SHA-256 of the public key (SubjectPublicKeyInfo), in hex"
    )
    key_in_hsm: bool | None = Field(default=None, description="Whether the private key is in this service's HSM")
    serial: str | None = Field(default=None, max_length=80, description="The serial number in hex")
    text: str | None = Field(
        default=None,
        max_length=200,
        description="Words of the holder's names, past ones too, or their beginnings, with or without accents: `nguyen v`",
    )
    state: Literal["intended", "issued", "abandoned"] | None = Field(
        default=None, description="Only those whose issuance came this far"
    )

    @model_validator(mode="after")
    def _one_expiry(self) -> Self:
        if self.expiring_days is not None and (self.standing or self.expires_from or self.expires_before):
            raise ValueError("expiring_days stands alone: leave out standing, expires_from and expires_before")
        return self


class CertificateQuery(CertificateFilter):
    """Which certificates, and which page of them."""

    cursor: str | None = Field(default=None, max_length=200, description="The `next` of the last page")
    limit: int = Field(default=100, ge=1, le=1000)


class ExportQuery(CertificateFilter):
    """Which certificates, and how they are written."""

    format: Literal["csv", "jsonl"] = Field(default="csv", description="CSV for spreadsheets, or one JSON object a line")


class CertificateCount(BaseModel):
    """How many certificates of one kind there are."""

    agency: str | None = Field(description="The agency's code; null for the service's own certificates")
    profile: str
    standing: Standing
    count: int


class CertificateCounts(BaseModel):
    """All certificates counted, at ``at``: within the last quarter of an hour."""

    at: datetime
    total: int
    by_standing: dict[str, int]
    by_profile: dict[str, int]
    counts: list[CertificateCount]


class Signer(BaseModel):
    """A certificate the calling client system may sign with."""

    signer: str = Field(description="The subscriber's handle: what `signer=` of a signature request takes")
    serial: str
    profile: str
    subject: str
    not_after: datetime
    pem: str
    digest_algorithm: str = Field(description="What a document is digested with for this key: sha256, sha384 or sha512")
    chain: list[str] = Field(description="The issuers in PEM, the root last")


class SignerList(BaseModel):
    """Everything the calling client system may sign with now."""

    signers: list[Signer]
