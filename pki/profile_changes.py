"""Changing a profile with four eyes: a version nobody approved is not issued under (``approvals.profile``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from approvals.service import Payload
from audit.log import Actor
from core.clock import Now
from core.db import Database
from core.errors import Conflict, NotFound
from pki.models import ProfileVersion
from pki.orders import record_profile
from pki.profile import Profile, profile_digest, profile_terms

CHANGE: Final = "profile.change"


class ProfileChanges:
    """The step from one version of a profile to the next."""

    def __init__(self, *, database: Database, now: Now, profiles: Mapping[str, Profile]) -> None:
        self._database = database
        self._now = now
        self._profiles = profiles

    def describe(self, name: str) -> Payload:
        """What is approved: all that the configured version says, and what the last one said. NotFound, Conflict (in use)."""
        profile = self._profiles.get(name)
        if profile is None:
            raise NotFound("profile", f"no profile is named {name[:80]!r}")
        query = sa.select(ProfileVersion).where(ProfileVersion.name == name).order_by(ProfileVersion.version.desc())
        with self._database.read() as db:
            before = db.scalar(query.limit(1))
        if before is not None and before.version == profile.version:
            raise Conflict(f"version {profile.version} of the profile {name} is in use already")
        last = None if before is None else before.terms
        now = {"version": profile.version, "sha256": profile_digest(profile), "terms": profile_terms(profile)}
        return {"profile": name, **now, "before": last}

    def perform(self, payload: Payload, actor: Actor) -> Payload:  # noqa: ARG002 - the approval's own entries tell of it
        """Put the version into use; Conflict when the configured one is not what was approved."""
        profile = self._profiles.get(payload["profile"])
        if profile is None or profile_digest(profile) != payload["sha256"]:
            raise Conflict("the profile's file was changed since this was asked for, or the service not started again: ask again")
        with self._database.write() as db:
            record_profile(db, profile, self._now())
        return {"profile": profile.name, "version": profile.version}


def record_allowed_profile(db: Session, profile: Profile, at: datetime, gated: Collection[str]) -> None:
    """Record the version at its first use; Conflict when it changes a profile in ``gated`` and was not approved."""
    if profile.name in gated or "*" in gated:
        versions = set(db.scalars(sa.select(ProfileVersion.version).where(ProfileVersion.name == profile.name)))
        if versions and profile.version not in versions:
            raise Conflict(
                f"version {profile.version} of the profile {profile.name} waits for approval: ask for it at "
                f"/v1/profiles/{profile.name}/activation"
            )
    record_profile(db, profile, at)
