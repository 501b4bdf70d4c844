"""Routes of the registry about agencies and subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import falcon
import sqlalchemy as sa
from sqlalchemy.orm import Session

from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound
from registry import agencies, registry
from registry.agencies import Change
from registry.models import Agency, AgencyVersion, Role, Subscriber
from registry.views import (
    AgencyClosure,
    AgencyDetail,
    AgencyMerger,
    AgencyName,
    AgencyPage,
    AgencyParent,
    AgencyQuery,
    AgencyVersionView,
    AgencyView,
    MomentQuery,
    NewAgency,
    NewSubscriber,
    SubscriberChange,
    SubscriberPage,
    SubscriberQuery,
    SubscriberView,
    start_of,
)
from web.operation import operation, send_json

_READERS = {Role.ADMIN, Role.AUDITOR}


class _Registry:
    """What every resource here is made of."""

    def __init__(self, *, database: Database, now: Now) -> None:
        self._database = database
        self._now = now


class Agencies(_Registry):
    """``/v1/agencies``."""

    @operation(roles=_READERS, summary="List the agencies, by code", tag="registry", query=AgencyQuery, returns=AgencyPage)
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: AgencyQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        at = options.at or self._now()
        query = sa.select(Agency).order_by(Agency.code_key).limit(options.limit)
        if options.after is not None:
            query = query.where(Agency.code_key > options.after)
        with self._database.read() as db:
            if options.parent is None:
                found: Sequence[Agency] = list(db.scalars(query))
            else:
                below = agencies.children_at(db, registry.agency_with_code(db, options.parent), at)
                found = [item for item in below if item.code_key > (options.after or "")][: options.limit]
            views = [AgencyView(**_fields(db, item, at)) for item in found]
        last = views[-1].code_key if len(views) == options.limit else None
        send_json(resp, AgencyPage(agencies=views, next=last))

    @operation(
        roles={Role.ADMIN},
        summary="Add an agency",
        tag="registry",
        body=NewAgency,
        returns=AgencyDetail,
        status=201,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: NewAgency) -> None:
        """Add it."""
        at = self._now()
        with self._database.write() as db:
            parent = None if body.parent is None else registry.agency_with_code(db, body.parent)
            agency = registry.add_agency(
                db,
                at=at,
                actor=actor,
                code=body.code,
                name=body.name,
                certificate_name=body.certificate_name,
                locality=body.locality,
                parent=parent,
                since=start_of(body.since, at),
            )
            view = _detail(db, agency, at)
        resp.location = f"/v1/agencies/{agency.code}"
        send_json(resp, view)


class AgencyResource(_Registry):
    """``/v1/agencies/{code}``."""

    @operation(
        roles=_READERS,
        summary="Look up an agency, now or at a moment",
        tag="registry",
        query=MomentQuery,
        returns=AgencyDetail,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, options: MomentQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the agency and its history."""
        with self._database.read() as db:
            send_json(resp, _detail(db, registry.agency_with_code(db, code), options.at or self._now()))


class AgencyNames(_Registry):
    """``/v1/agencies/{code}/names``."""

    @operation(
        roles={Role.ADMIN},
        summary="Rename an agency from a day on",
        tag="registry",
        body=AgencyName,
        returns=AgencyDetail,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: AgencyName) -> None:
        """Add the name."""
        at = self._now()
        change = Change(at, actor, start_of(body.effective, at))
        with self._database.write() as db:
            agency = registry.agency_with_code(db, code)
            short = body.certificate_name
            agencies.rename(db, agency, change, name=body.name, certificate_name=short, locality=body.locality)
            send_json(resp, _detail(db, agency, change.effective))


class AgencyPlace(_Registry):
    """``/v1/agencies/{code}/parent``."""

    @operation(
        roles={Role.ADMIN},
        summary="Put an agency under another from a day on",
        tag="registry",
        body=AgencyParent,
        returns=AgencyDetail,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: AgencyParent) -> None:
        """Move it."""
        at = self._now()
        change = Change(at, actor, start_of(body.effective, at))
        with self._database.write() as db:
            agency = registry.agency_with_code(db, code)
            parent = None if body.parent is None else registry.agency_with_code(db, body.parent)
            agencies.move(db, agency, change, parent=parent)
            send_json(resp, _detail(db, agency, change.effective))


class AgencyMergers(_Registry):
    """``/v1/agencies/{code}/merger``."""

    @operation(
        roles={Role.ADMIN},
        summary="Merge an agency into another from a day on",
        description="It gets no certificates from then on; the agencies below it come under the other.",
        tag="registry",
        body=AgencyMerger,
        returns=AgencyDetail,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: AgencyMerger) -> None:
        """Merge it."""
        at = self._now()
        change = Change(at, actor, start_of(body.effective, at))
        with self._database.write() as db:
            agency = registry.agency_with_code(db, code)
            agencies.merge(db, agency, change, into=registry.agency_with_code(db, body.into))
            send_json(resp, _detail(db, agency, change.effective))


class AgencyClosures(_Registry):
    """``/v1/agencies/{code}/closure``."""

    @operation(
        roles={Role.ADMIN},
        summary="Close an agency from a day on",
        description="It gets no certificates from then on. Refused while agencies are under it.",
        tag="registry",
        body=AgencyClosure,
        returns=AgencyDetail,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, code: str, body: AgencyClosure) -> None:
        """Close it."""
        at = self._now()
        change = Change(at, actor, start_of(body.effective, at))
        with self._database.write() as db:
            agency = registry.agency_with_code(db, code)
            agencies.close(db, agency, change)
            send_json(resp, _detail(db, agency, change.effective))


class Subscribers(_Registry):
    """``/v1/subscribers``."""

    @operation(
        roles=_READERS, summary="List the subscribers, by handle", tag="registry", query=SubscriberQuery, returns=SubscriberPage
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: SubscriberQuery) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer one page."""
        query = sa.select(Subscriber).order_by(Subscriber.handle).limit(options.limit)
        if options.after is not None:
            query = query.where(Subscriber.handle > options.after)
        if options.kind is not None:
            query = query.where(Subscriber.kind == options.kind)
        with self._database.read() as db:
            if options.agency is not None:
                query = query.where(Subscriber.agency_id == registry.agency_with_code(db, options.agency).id)
            views = [_subscriber(item) for item in db.scalars(query)]
        last = views[-1].handle if len(views) == options.limit else None
        send_json(resp, SubscriberPage(subscribers=views, next=last))

    @operation(
        roles={Role.ADMIN},
        summary="Add a subscriber",
        tag="registry",
        body=NewSubscriber,
        returns=SubscriberView,
        status=201,
        problems=(NotFound, Conflict),
    )
    def on_post(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, body: NewSubscriber) -> None:
        """Add it."""
        at = self._now()
        with self._database.write() as db:
            agency = registry.agency_with_code(db, body.agency)
            agencies.check_open(db, agency, at)
            fields = body.model_dump(exclude={"agency"})
            view = _subscriber(registry.add_subscriber(db, at=at, actor=actor, agency=agency, **fields))
        resp.location = f"/v1/subscribers/{view.handle}"
        send_json(resp, view)


class SubscriberResource(_Registry):
    """``/v1/subscribers/{handle}``."""

    @operation(roles=_READERS, summary="Look up a subscriber", tag="registry", returns=SubscriberView, problems=(NotFound,))
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with the subscriber."""
        with self._database.read() as db:
            send_json(resp, _subscriber(registry.subscriber_named(db, handle)))

    @operation(
        roles={Role.ADMIN},
        summary="Change what future certificates say of a subscriber",
        tag="registry",
        body=SubscriberChange,
        returns=SubscriberView,
        problems=(NotFound, Conflict),
    )
    def on_patch(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, handle: str, body: SubscriberChange) -> None:
        """Change it."""
        at = self._now()
        fields = body.model_dump(include=body.model_fields_set - {"agency"})
        with self._database.write() as db:
            subscriber = registry.subscriber_named(db, handle)
            if "agency" in body.model_fields_set:
                fields["agency"] = registry.agency_with_code(db, body.agency)
                agencies.check_open(db, fields["agency"], at)
            send_json(resp, _subscriber(registry.change_subscriber(db, subscriber, at=at, actor=actor, **fields)))


def _subscriber(row: Subscriber) -> SubscriberView:
    columns = ("handle", "kind", "common_name", "uid", "email", "dns_names")
    return SubscriberView(agency=row.agency.code, **{name: getattr(row, name) for name in columns})


def _code(db: Session, identifier: int | None) -> str | None:
    return None if identifier is None else db.get_one(Agency, identifier).code


def _version(db: Session, version: AgencyVersion) -> dict[str, Any]:
    columns = ("since", "name", "certificate_name", "locality", "closed")
    codes = {"parent": _code(db, version.parent_id), "successor": _code(db, version.successor_id)}
    return {name: getattr(version, name) for name in columns} | codes


def _fields(db: Session, agency: Agency, at: datetime) -> dict[str, Any]:
    return {"code": agency.code, "code_key": agency.code_key, **_version(db, agencies.version_at(agency, at))}


def _detail(db: Session, agency: Agency, at: datetime) -> AgencyDetail:
    path = [version.name for version in agencies.path_at(db, agency, at)]
    history = [AgencyVersionView(**_version(db, version)) for version in agency.versions]
    return AgencyDetail(**_fields(db, agency, at), path=path, history=history)
