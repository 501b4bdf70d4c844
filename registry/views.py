"""What the routes of the registry take and give as JSON."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from registry.agencies import VIETNAM
from registry.models import Role, SubscriberKind

_EFFECTIVE: Final = "The day from which it counts, in Vietnam; by default now. It may lie behind or ahead"


_SHORT: Final = "What certificates call it, where its name has more than the 64 characters they hold; null: its name"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def start_of(day: date | None, now: datetime) -> datetime:
    """The first moment of a day in Vietnam, in UTC; ``now`` where no day is named."""
    return now if day is None else datetime.combine(day, time(), VIETNAM).astimezone(UTC)


class PageQuery(_Body):
    """Which page of a list."""

    after: str | None = Field(default=None, max_length=64, description="Only what comes after this: the `next` of the last page")
    limit: int = Field(default=100, ge=1, le=1000)


class AgencyQuery(PageQuery):
    """Which agencies, and as of when."""

    at: AwareDatetime | None = Field(default=None, description="The moment whose names and tree are told; by default now")
    parent: str | None = Field(default=None, max_length=35, description="Only those directly under the agency with this code")


class MomentQuery(_Body):
    """As of when."""

    at: AwareDatetime | None = Field(default=None, description="The moment whose name and place are told; by default now")


class NewAgency(_Body):
    """An agency to add."""

    code: str = Field(max_length=35, description="Its identifier code in either written order: `H12.34` or `000.00.34.H12`")
    name: str = Field(max_length=300)
    certificate_name: str | None = Field(default=None, max_length=64, description=_SHORT)
    locality: str = Field(max_length=128)
    parent: str | None = Field(default=None, max_length=35, description="The code of the agency it is under; null at the top")
    since: date | None = Field(default=None, description="Since when it has had this name; by default now")


class AgencyName(_Body):
    """Another name."""

    name: str = Field(max_length=300)
    certificate_name: str | None = Field(default=None, max_length=64, description=_SHORT)
    locality: str | None = Field(default=None, max_length=128, description="By default it stays where it is")
    effective: date | None = Field(default=None, description=_EFFECTIVE)


class AgencyParent(_Body):
    """Another place in the tree."""

    parent: str | None = Field(max_length=35, description="The code of the agency it comes under; null for the top")
    effective: date | None = Field(default=None, description=_EFFECTIVE)


class AgencyMerger(_Body):
    """Into which agency one is merged."""

    into: str = Field(max_length=35, description="The code of the agency that takes over; those below come under it")
    effective: date | None = Field(default=None, description=_EFFECTIVE)


class AgencyClosure(_Body):
    """From when an agency is no more."""

    effective: date | None = Field(default=None, description=_EFFECTIVE)


class AgencyVersionView(BaseModel):
    """What an agency was from a moment on."""

    since: datetime
    name: str
    certificate_name: str | None = Field(description=_SHORT)
    locality: str
    parent: str | None = Field(description="The code of the agency it was under")
    closed: bool
    successor: str | None = Field(description="The code of the agency it was merged into")


class AgencyView(AgencyVersionView):
    """An agency as it was at the moment asked for."""

    code: str = Field(description="As it was given")
    code_key: str = Field(description="In the order of 2020, the form in which codes are compared")


class AgencyDetail(AgencyView):
    """The same with everything it was and will be."""

    path: list[str] = Field(description="Its name and those of all it was under, the top first")
    history: list[AgencyVersionView]


class AgencyPage(BaseModel):
    """A page of agencies, by code."""

    agencies: list[AgencyView]
    next: str | None = Field(description="Pass as `after` for the next page; null at the end")


class SubscriberQuery(PageQuery):
    """Which subscribers."""

    agency: str | None = Field(default=None, max_length=35, description="Only those of the agency with this code")
    kind: SubscriberKind | None = None


class NewSubscriber(_Body):
    """A subscriber to add."""

    handle: str = Field(max_length=80, description="The short name that requests use: a-z, 0-9 and hyphen")
    kind: SubscriberKind
    common_name: str = Field(
        max_length=200, description="CN in certificates: a person's name without title, an agency's, a device's"
    )
    agency: str = Field(max_length=35, description="The code of the agency that manages it")
    uid: str | None = Field(
        default=None, max_length=80, description="`MST:` and a tax code, `CCCD:` or `CMND:` and an identity number"
    )
    email: str | None = Field(default=None, max_length=254)
    dns_names: list[str] = Field(default=[], max_length=50, description="Host names, of a device that is a server")


class SubscriberChange(_Body):
    """What is to change; what is left out stays. Certificates that are out keep saying what they said."""

    common_name: str = Field(default="", max_length=200)
    agency: str = Field(default="", max_length=35)
    uid: str | None = Field(default=None, max_length=80)
    email: str | None = Field(default=None, max_length=254)
    dns_names: list[str] = Field(default=[], max_length=50)


class SubscriberView(BaseModel):
    """Whom certificates name."""

    model_config = ConfigDict(from_attributes=True)

    handle: str
    kind: SubscriberKind
    common_name: str
    agency: str = Field(description="The agency's code")
    uid: str | None
    email: str | None
    dns_names: list[str]


class SubscriberPage(BaseModel):
    """A page of subscribers, by handle."""

    subscribers: list[SubscriberView]
    next: str | None = Field(description="Pass as `after` for the next page; null at the end")


class NewClient(_Body):
    """A caller to add."""

    name: str = Field(max_length=80, description="a-z, 0-9 and hyphen")
    role: Role


class ClientView(BaseModel):
    """A caller of the API."""

    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None
    grants: list[str] = Field(description="The handles of the subscribers it may sign for")


class ClientKey(BaseModel):
    """A caller's new API key: shown this once and not kept."""

    name: str
    role: Role
    key: str


class ClientPage(BaseModel):
    """A page of callers, by name."""

    clients: list[ClientView]
    next: str | None = Field(description="Pass as `after` for the next page; null at the end")
