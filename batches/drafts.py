"""Items of a batch before they are taken in: what is said of each, and whether it can be meant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from batches.views import check_name, fields_of
from core.errors import Rejected, Violation
from signer.options import PdfOptions


@dataclass(frozen=True, slots=True)
class Draft:
    """An item before there is a row of it."""

    name: str
    digest: str
    size: int | None
    options: dict[str, Any]
    """As they are kept: without the password."""
    trace: str | None = None
    """Of the password (:meth:`PasswordSeal.trace`), where there is one."""

    @property
    def said(self) -> tuple[object, ...]:
        """What makes it the same as one that was sent before."""
        return (self.name, self.digest, self.options) + (() if self.trace is None else (self.trace,))


def merge_options(options: PdfOptions, own: bytes | None, number: int) -> PdfOptions:
    """The options of one document: those of the batch, with its own over them; the signer and level are the batch's."""
    said = fields_of(options)
    if own is not None:
        try:
            found = json.loads(own)
        except (ValueError, RecursionError) as error:
            raise Rejected("options", f"those before file {number} are no JSON") from error
        if not isinstance(found, dict) or {"signer", "level"} & set(found):
            raise Rejected("options", f"those before file {number} must be a JSON object, without signer and level")
        said |= found
    try:
        return PdfOptions.model_validate_json(json.dumps(said))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)
        fields = [Violation(".".join(map(str, item["loc"])) or "options", f"of file {number}: {item['msg']}") for item in wrong]
        raise Rejected.all(fields) from error


def check_names(drafts: Sequence[Draft]) -> None:
    """Raise Rejected for names that are none, or that two items have."""
    seen: dict[str, int] = {}
    violations = []
    for number, draft in enumerate(drafts, start=1):
        try:
            check_name(draft.name)
        except ValueError as error:
            violations.append(Violation("name", f"of item {number}: {error}"))
        earlier = seen.setdefault(draft.name, number)
        if earlier != number:
            violations.append(Violation("name", f"items {earlier} and {number} have the same: {draft.name[:80]!r}"))
    if violations:
        raise Rejected.all(violations[:20])
