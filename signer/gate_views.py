"""What the routes of the gates take and give as JSON."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from registry.agencies import VIETNAM
from signer.activation_holders import Method
from signer.gate_models import AgencySigningRule, DocumentNumber, SigningAuthorisation

Handle = Annotated[str, Field(max_length=64)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64,128}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewNumber(_Body):
    """A number to hold."""

    symbol: str = Field(max_length=80, description="The symbol behind the number: `QĐ-UBND`, `UBND-VX`")
    person: Handle = Field(description="Handle of the person who gives the number")
    number: int | None = Field(default=None, ge=1, le=999_999, description="One of your own; by default the next")
    legal: bool = Field(default=False, description="A legal document (VBQPPL): its number has the year in it, its kind a series")
    secret: bool = Field(default=False, description="A secret document, for its series; it is not signed here")
    issued_on: date | None = Field(default=None, description="The document's date, whose year counts; by default today in Vietnam")


class NumberView(BaseModel):
    """A number in the register."""

    text: str = Field(description="Number and symbol as they are written: `05/QĐ-UBND`")
    number: int
    series: str = Field(description="`QĐ`: a kind of document; `QPPL:QĐ`: of legal document; `HC`: all together; `M:…`: secret")
    year: int
    state: str = Field(
        description="`held`; `open`: a document is being signed with it, or was; `used`; `free` again; `void`: nobody's"
    )
    person: str | None = Field(description="Who gave it")
    client: str
    at: datetime
    held_until: datetime | None

    @classmethod
    def of(cls, row: DocumentNumber) -> Self:
        """One row of the register."""
        names = ("text", "number", "series", "year", "state", "client", "at", "held_until")
        person = None if row.person is None else row.person.handle
        return cls(**{name: getattr(row, name) for name in names}, person=person)


class NumberQuery(_Body):
    """Which numbers."""

    year: int | None = Field(default=None, ge=2000, le=2999, description="By default this year in Vietnam")
    series: str = Field(max_length=40, description="`QĐ`, `CV`, `QPPL:QĐ`, `HC`, …")
    after: int = Field(default=0, ge=0, le=999_999, description="Only numbers above this: the `next` of the last page")
    limit: int = Field(default=100, ge=1, le=1000)


class Gap(BaseModel):
    """Numbers that no document has, from one to another."""

    first: int
    last: int


class NumberPage(BaseModel):
    """A page of the register."""

    numbers: list[NumberView]
    gaps: list[Gap] = Field(description="Between the numbers of this page, and those that are free or whose hold has lapsed")
    next: int | None


class ReturnedNumber(_Body):
    """A number that is given back, or made void."""

    number: str = Field(max_length=80, description="As it was answered: `05/QĐ-UBND`")
    year: int = Field(ge=2000, le=2999)
    secret: bool = Field(default=False, description="It is of the series of secret documents")
    reason: str | None = Field(default=None, min_length=3, max_length=500, description="Why, for the audit log")


class VoidedNumber(ReturnedNumber):
    """A number that is made void."""

    reason: str = Field(min_length=3, max_length=500, description="Why, for the audit log")


class NewActivation(_Body):
    """A key to activate."""

    signer: Handle = Field(description="Handle of the subscriber whose key it is")
    person: Handle = Field(description="Handle of the person who activates it")
    pin: str | None = Field(default=None, max_length=200, repr=False)
    code: str | None = Field(default=None, max_length=20, repr=False, description="One-time code of an authenticator app")
    acts: int = Field(default=1, ge=1, le=100_000, description="How many signatures it is for")
    digests: list[Digest] = Field(
        default_factory=list, max_length=10_000, description="SHA-256 of the documents it is for, each once; by default any"
    )
    minutes: int = Field(default=5, ge=1, le=1440)


class ActivationView(BaseModel):
    """An activation."""

    token: str = Field(description="Goes into the header `Condau-Activation`. It is in this answer and nowhere else")
    person: str
    acts: int
    expires_at: datetime


class NewPin(_Body):
    """Another PIN."""

    signer: Handle
    person: Handle
    pin: str | None = Field(default=None, max_length=200, repr=False, description="The present one")
    code: str | None = Field(default=None, max_length=20, repr=False)
    new_pin: str = Field(max_length=200, repr=False, description="6 to 64 characters")


class HolderRequest(_Body):
    """How a person proves that it is them."""

    method: Method = Field(default="pin", description="A PIN, one-time codes (RFC 6238), or both")


class HolderSecrets(BaseModel):
    """What a holder is given, in this answer and nowhere else."""

    pin: str | None = Field(description="To be changed before the first activation")
    code_uri: str | None = Field(description="For an authenticator app")


class HolderView(BaseModel):
    """Somebody who may activate a key."""

    person: str
    method: str
    failures: int = Field(description="Wrong tries since the last right one")
    pin_initial: bool = Field(description="The PIN was not changed yet")
    locked: bool


class HolderList(BaseModel):
    """Those who may activate a key."""

    holders: list[HolderView]


class NewAuthorisationBody(_Body):
    """An authorisation to record (Nghị định 30/2020/NĐ-CP, article 13)."""

    subscriber: Handle = Field(description="Who may sign")
    granted_by: Handle = Field(description="Who authorised them")
    capacity: Literal["KT", "TM", "TL", "TUQ"]
    reference: str = Field(max_length=200, description="Number and date of the written document")
    content: str = Field(max_length=1000, description="What it is limited to, in words")
    kinds: list[str] = Field(default_factory=list, max_length=50, description="Kinds of documents: `QĐ`, `CV`; empty: every kind")
    since: AwareDatetime
    until: AwareDatetime | None = None


class AuthorisationView(BaseModel):
    """An authorisation on record."""

    id: int
    agency: str
    subscriber: str
    granted_by: str
    capacity: str
    reference: str
    content: str
    kinds: list[str]
    since: datetime
    until: datetime | None
    recorded_at: datetime
    recorded_by: str
    withdrawn_at: datetime | None

    @classmethod
    def of(cls, row: SigningAuthorisation) -> Self:
        """One row."""
        names = ("id", "capacity", "reference", "content", "kinds", "since", "until", "recorded_at", "recorded_by", "withdrawn_at")
        who = {"agency": row.agency.code, "subscriber": row.subscriber.handle, "granted_by": row.granted_by.handle}
        return cls.model_validate({name: getattr(row, name) for name in names} | who)


class AuthorisationList(BaseModel):
    """An agency's authorisations, the newest first."""

    authorisations: list[AuthorisationView]


class RuleBody(_Body):
    """What an agency decides about its signing."""

    one_person: str | None = Field(
        default=None,
        max_length=200,
        description="Number and date of the written decision that one person may be several of leader, numberer and sealer",
    )
    one_person_until: AwareDatetime | None = Field(default=None, description="Until when that counts; by default without end")
    one_series: bool = Field(default=False, description="All administrative documents share one series of numbers")


class RuleView(RuleBody):
    """What an agency has decided."""

    changed_at: datetime | None = None
    changed_by: str | None = None

    @classmethod
    def of(cls, row: AgencySigningRule | None) -> Self:
        """The row, or the rule that holds without one."""
        if row is None:
            return cls()
        names = ("one_person", "one_person_until", "one_series", "changed_at", "changed_by")
        return cls(**{name: getattr(row, name) for name in names})


class HygieneFinding(BaseModel):
    """One thing found."""

    code: str
    group: str = Field(description="The key of `[signer.hygiene]` it falls under")
    severity: str
    refused: bool = Field(description="It stands against an official signature here")
    vi: str
    en: str
    objects: list[str] = Field(description="Numbers of the PDF objects it is in: `12 0`")


class SecrecyMark(BaseModel):
    """A secrecy mark."""

    mark: str
    where: str


class HygieneView(BaseModel):
    """What a look at a document gave."""

    pages: int
    text: str = Field(description="`read`; `none`: no text, nobody can tell whether a scan bears a mark; `unreadable`")
    complete: bool = Field(description="False: not every object and page was looked at")
    secrecy: list[SecrecyMark]
    findings: list[HygieneFinding]


class HygieneQuery(_Body):
    """How the document opens."""

    password: str | None = Field(default=None, max_length=127, repr=False)


def this_year(at: datetime) -> int:
    """The year in Vietnam."""
    return at.astimezone(VIETNAM).year
