"""``/verify``: the verification page for people, and ``/verify/{code}``, to which the QR code of a document leads."""

from __future__ import annotations

from typing import Any, Final

import falcon
from pydantic import BaseModel, ConfigDict, Field

from audit.log import Actor
from core.content import Content
from core.errors import Malformed, NotFound, Rejected, TooLarge, Unavailable
from verifier.page_words import Language
from verifier.pages import FindPage, Pages, SignatureOnPaper, Site
from verifier.service import Verifier
from web.body import drain
from web.operation import PUBLIC, Document, operation
from web.pages import send_page
from web.turns import Turns

_HTML: Final = "text/html"
_FORM: Final = Document(parts=("password",), large=("data",), spooled=True)
_PROBLEMS: Final = (Malformed, Rejected, TooLarge, Unavailable)


class PageOptions(BaseModel):
    """In which language. Whatever else an address carries (trackers add things to those they pass on) is left alone."""

    model_config = ConfigDict(extra="ignore")

    lang: Language = "vi"


class FormOptions(PageOptions):
    """The same, and the code from a paper."""

    code: str | None = Field(default=None, max_length=100, description="The code printed beside a QR code: leads to its page.")


class Counter:
    """What both pages share: who checks, who finds, and how many may be served at once."""

    def __init__(self, *, verifier: Verifier, find: FindPage, site: Site, threads: int) -> None:
        """``threads``: of this process; a quarter of them check at once, and as long as half of them wait, a quarter stays free."""
        self._verifier = verifier
        self._find = find
        self._turns = Turns("verification", at_once=max(1, threads // 4), waiting=threads // 2, patience=10.0)
        self.pages = Pages(site)

    def signature(self, code: str) -> SignatureOnPaper:
        """The signature a code leads to; raises NotFound."""
        found = self._find(code)
        if found is None:
            raise NotFound("code", "no document that was signed here has this code")
        return found

    def check(
        self,
        req: falcon.Request,
        language: Language,
        *,
        document: Content,
        parts: dict[str, bytes],
        contents: dict[str, Content],
        signature: SignatureOnPaper | None = None,
    ) -> str:
        """The page with the verdict. A file input that was left empty sends a part without content, which counts as none."""
        if not document.size:
            raise Rejected("document", "choose the signed file: nothing was sent")
        data = contents.get("data")
        password = parts.get("password", b"").decode("utf-8", "replace")
        with self._turns.take():
            report = self._verifier.verify(document, data=data if data and data.size else None, password=password or None)
            return self.pages.result(language, report, document, req.context.document_name, signature)

    def problem(self, req: falcon.Request, resp: falcon.Response, problem: dict[str, Any]) -> None:
        """Answer with an error as a page; implements what :mod:`web.problems` asks of a resource."""
        language: Language = "en" if req.params.get("lang") == "en" else "vi"
        path = "/verify" if problem["status"] == 404 else req.path
        if problem["status"] == 413:
            drain(req)
        _send(resp, self.pages.problem(language, path, problem))


class VerificationForm:
    """``/verify``."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.answer_problem = counter.problem

    @operation(
        roles=PUBLIC,
        summary="The verification page, for people",
        description="With `code`, leads to the page of that code.",
        tag="verification",
        query=FormOptions,
        returns=_HTML,
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: FormOptions) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer the form."""
        if options.code:
            found = self._counter.signature(options.code)
            _see_other(resp, f"/verify/{found.code}?lang={options.lang}")
            return
        _send(resp, self._counter.pages.form(options.lang))

    @operation(
        roles=PUBLIC,
        summary="Verify a file and read the verdict as a page",
        description="As `/v1/verifications`, from a form: `document`, perhaps `data` (what a time-stamp stamps) and `password`.",
        tag="verification",
        query=PageOptions,
        body=_FORM,
        returns=_HTML,
        problems=_PROBLEMS,
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,  # noqa: ARG002 - every responder is told who asks
        options: PageOptions,
        document: Content,
        parts: dict[str, bytes],
        contents: dict[str, Content],
    ) -> None:
        """Answer the verdict."""
        _send(resp, self._counter.check(req, options.lang, document=document, parts=parts, contents=contents))


class SignaturePage:
    """``/verify/{code}``."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self.answer_problem = counter.problem

    @operation(
        roles=PUBLIC,
        summary="The page to which the QR code of a document leads, for people",
        tag="verification",
        query=PageOptions,
        returns=_HTML,
        problems=(NotFound,),
    )
    def on_get(self, _: falcon.Request, resp: falcon.Response, *, actor: Actor, options: PageOptions, code: str) -> None:  # noqa: ARG002 - every responder is told who asks
        """Answer what is public of that signature, and the form."""
        _send(resp, self._counter.pages.form(options.lang, self._counter.signature(code)))

    @operation(
        roles=PUBLIC,
        summary="Verify a file, and whether it is the one that a code stands for",
        tag="verification",
        query=PageOptions,
        body=_FORM,
        returns=_HTML,
        problems=(*_PROBLEMS, NotFound),
    )
    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        *,
        actor: Actor,  # noqa: ARG002 - every responder is told who asks
        options: PageOptions,
        document: Content,
        parts: dict[str, bytes],
        contents: dict[str, Content],
        code: str,
    ) -> None:
        """Answer the verdict."""
        found = self._counter.signature(code)
        _send(resp, self._counter.check(req, options.lang, document=document, parts=parts, contents=contents, signature=found))


def _see_other(resp: falcon.Response, path: str) -> None:
    """See other (RFC 9110, 15.4.4)."""
    resp.status = falcon.HTTP_303
    resp.set_header("Location", path)


def _send(resp: falcon.Response, html: str) -> None:
    """Answer with a page about somebody's document: not to be kept, not to be indexed, not to be told to the next site."""
    send_page(resp, html, script=True)
    resp.set_header("Cache-Control", "no-store")
    resp.set_header("X-Robots-Tag", "noindex")
    resp.set_header("Referrer-Policy", "no-referrer")
