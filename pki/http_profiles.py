"""Route of the certificate profiles in force, and of the lints that every draft passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import falcon
from pydantic import BaseModel, Field

from audit.log import Actor
from pki.lint import lint_set
from pki.profile import Profile, profile_digest, profile_terms
from registry.models import Role
from web.operation import operation, send_json


class ProfileView(BaseModel):
    """What a certificate of one kind says."""

    name: str
    version: int
    sha256: str = Field(description="Over the canonical form: `terms` as JSON with sorted keys and no blanks, in UTF-8")
    terms: dict[str, Any]


class ProfileList(BaseModel):
    """The rules in force."""

    profiles: list[ProfileView]
    lint_set: str = Field(description="The name that certificates give as `lints`")
    lints: list[str]


class Profiles:
    """``/v1/profiles``."""

    def __init__(self, *, profiles: Mapping[str, Profile]) -> None:
        self._profiles = profiles

    @operation(
        roles={Role.ADMIN, Role.AUDITOR},
        summary="List the certificate profiles in force, and the lints every certificate passes",
        tag="certificates",
        returns=ProfileList,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer with all of them."""
        views = [
            ProfileView(name=item.name, version=item.version, sha256=profile_digest(item), terms=profile_terms(item))
            for item in self._profiles.values()
        ]
        name, lints = lint_set()
        send_json(resp, ProfileList(profiles=views, lint_set=name, lints=list(lints)))
