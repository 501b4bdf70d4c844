"""The signer over HTTP: a document in, the signed document out."""

from __future__ import annotations

import falcon

from audit.log import Actor
from core.content import Content
from core.errors import Conflict, Forbidden, Malformed, Refused, Rejected, Unavailable
from registry.models import Role
from signer.activation import HEADER as ACTIVATION
from signer.options import PdfOptions
from signer.service import Signer
from signer.xml_options import XmlOptions
from web.body import send_content
from web.operation import Document, operation

_PDF, _XML = "application/pdf", "application/xml"
LEVEL_HEADER = "Condau-Level"
"""Says the level of a signature that by policy was made at a lower one than was asked for."""
_PROBLEMS = (Malformed, Rejected, Refused, Forbidden, Conflict, Unavailable)


class PdfSignatures:
    """``/v1/signatures/pdf``."""

    def __init__(self, *, signer: Signer) -> None:
        self._signer = signer

    @operation(
        roles={Role.CLIENT},
        summary="Sign a PDF",
        tag="signatures",
        description="PAdES up to B-LTA as incremental updates: the document's own bytes come back unchanged, the signature behind "
        f"them. Where the service is configured to sign at a lower level while something is away, the header `{LEVEL_HEADER}` says "
        "which: `B-T; asked=B-LTA`. The part `image` of a multipart request is a PNG, with or without transparency, drawn into "
        "the stamp. A key or profile that needs activation takes the token of one in the header `Condau-Activation`; what the "
        "gates do not let pass is a 409 that lists every reason.",
        query=PdfOptions,
        body=Document(_PDF, parts=("image",), spooled=True),
        returns=_PDF,
        problems=_PROBLEMS,
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,
        options: PdfOptions,
        document: Content,
        parts: dict[str, bytes],
    ) -> None:
        """Answer with the signed PDF."""
        signed = self._signer.sign_pdf(
            document,
            options,
            actor,
            image=parts.get("image"),
            activation=req.get_header(ACTIVATION),
            lowered=lambda reached: resp.set_header(LEVEL_HEADER, f"{reached.level}; asked={options.level}"),
        )
        send_content(req, resp, signed, _PDF)


class XmlSignatures:
    """``/v1/signatures/xml``."""

    def __init__(self, *, signer: Signer) -> None:
        self._signer = signer

    @operation(
        roles={Role.CLIENT},
        summary="Sign an XML document",
        tag="signatures",
        description="XAdES-B-B or B-T, enveloped: the signature is put into the document it signs.",
        query=XmlOptions,
        body=Document(_XML, "text/xml"),
        returns=_XML,
        problems=_PROBLEMS,
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,
        options: XmlOptions,
        document: bytes,
    ) -> None:
        """Answer with the signed XML."""
        resp.data = self._signer.sign_xml(document, options, actor, activation=req.get_header(ACTIVATION))
        resp.content_type = _XML
