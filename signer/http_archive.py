"""Over HTTP: signatures extended for the archive, and the plan of what is due for its next archive timestamp."""

from __future__ import annotations

import falcon

from audit.log import Actor
from core.content import Content
from core.errors import Conflict, Malformed, Rejected, Unavailable
from registry.models import Role
from signer.extend import Extender, ExtendOptions
from signer.http import LEVEL_HEADER
from signer.levels import Reached
from signer.plan import ArchivePlan, Plan, PlanQuery
from web.body import send_content
from web.operation import Document, operation, send_json

_PDF = "application/pdf"


class Extensions:
    """``/v1/signatures/pdf/extend``."""

    def __init__(self, *, extender: Extender) -> None:
        self._extender = extender

    @operation(
        roles={Role.CLIENT, Role.AUDITOR},
        summary="Extend a PDF's signatures to B-LT or B-LTA",
        tag="signatures",
        description="Takes signatures made here or elsewhere. What is needed to judge them later is put into the document, and at "
        "B-LTA a timestamp over all of it: as further revisions, the document's own bytes come back unchanged. The same call "
        "renews the archive timestamp of a document that is at B-LTA already. A signature that does not hold, or leads to no "
        "authority trusted here, is refused. Where the service is configured to go on at a lower level while a part is away, the "
        f"header `{LEVEL_HEADER}` says which was reached: never for a renewal, nor where nothing would be gained.",
        query=ExtendOptions,
        body=Document(_PDF, spooled=True),
        returns=_PDF,
        problems=(Malformed, Rejected, Conflict, Unavailable),
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, *, actor: Actor, options: ExtendOptions, document: Content
    ) -> None:
        """Answer with the extended PDF."""

        def say(reached: Reached) -> None:
            resp.set_header(LEVEL_HEADER, f"{reached.level}; asked={options.level}")

        send_content(req, resp, self._extender.extend(document, options, actor, lowered=say), _PDF)


class ArchivePlans:
    """``/v1/archive/plan``."""

    def __init__(self, *, plan: ArchivePlan) -> None:
        self._plan = plan

    @operation(
        roles={Role.CLIENT, Role.AUDITOR, Role.ADMIN},
        summary="List documents that need archive timestamps, and when",
        tag="signatures",
        description="Documents are not kept here: each is named by the SHA-256 of the file that was handed out at B-LTA. Send the "
        "file to `POST /v1/signatures/pdf/extend` before it is due; it then leaves the list, and its successor enters it. A client "
        "system sees those it had stamped itself.",
        query=PlanQuery,
        returns=Plan,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: PlanQuery) -> None:
        """Answer a page of the plan."""
        send_json(resp, self._plan.page(options, client=actor.name if actor.role == Role.CLIENT else None))
