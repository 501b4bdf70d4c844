"""Opening a PDF that may be hostile: bounded in decoding, in objects visited and in time."""

from __future__ import annotations

import re
import time
from io import BytesIO
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.crypt import AuthStatus
from pyhanko.pdf_utils.decode_limits import DecodeLimits, DocumentDecodeBudget
from pyhanko.pdf_utils.reader import HistoricalResolver

from core.content import Content
from core.errors import Malformed
from core.pdf import Reader
from verifier.reading import reading

_DECODED: Final = 128 << 20
_MOST_VISITS: Final = 1_000_000
_SECONDS: Final = 20.0
_TAIL: Final = 2048
_END_OF_FILE: Final = re.compile(rb"[\r\n][ \t]{0,64}startxref\s{1,64}\d{1,12}\s{1,64}%%EOF")


class NeedsPassword(Malformed):
    """The document is encrypted and opens only with a password."""


class BoundedReader(Reader):
    """A lenient reader that gives up after so many visits to objects or so much time.

    pyHanko's difference analysis lists every path to every object; forty objects that each name the next one twice would
    keep it busy for ever. All of its steps, and ours, go through here, so this is where they are counted.
    """

    def __init__(self, document: Content) -> None:
        self._visits = 0
        self._deadline = time.monotonic() + _SECONDS
        limits = DecodeLimits(document_budget=DocumentDecodeBudget(base_allowance=_DECODED, max_ratio=5))
        super().__init__(BytesIO(document.read(0, document.size)), strict=False, decode_limits=limits)
        self._resolvers: dict[int, HistoricalResolver] = {}

    def count_visit(self) -> None:
        """Raises Malformed(``document``) when the budget is used up."""
        self._visits += 1
        if self._visits > _MOST_VISITS or time.monotonic() > self._deadline:
            raise Malformed("document", "looking at all of its objects takes too long")

    def get_object(self, *arguments: Any, **options: Any) -> Any:
        """As pyHanko's, counted."""
        self.count_visit()
        return super().get_object(*arguments, **options)  # type: ignore[no-untyped-call]  # pyHanko leaves it untyped

    def get_historical_resolver(self, revision: int) -> HistoricalResolver:
        """As pyHanko's, with a resolver that counts."""
        if revision not in self._resolvers:
            self._resolvers[revision] = _BoundedResolver(self, revision)
        return self._resolvers[revision]


class _BoundedResolver(HistoricalResolver):
    def __init__(self, reader: BoundedReader, revision: int) -> None:
        super().__init__(reader, revision)
        self._bounded = reader

    def get_object(self, ref: generic.Reference, as_metadata_stream: bool = False) -> Any:
        self._bounded.count_visit()
        return super().get_object(ref, as_metadata_stream)


def open_pdf(document: Content, password: str | None = None) -> BoundedReader:
    """A reader of ``document``, decrypted by ``password`` or the empty one. Raises NeedsPassword, or Malformed(``document``)."""
    if _END_OF_FILE.search(document.read(max(0, document.size - _TAIL), document.size)) is None:
        raise Malformed("document", "no startxref and %%EOF at the end: it is cut off or no PDF")
    with reading("document"):
        reader = BoundedReader(document)
        if reader.encrypted and reader.decrypt(password or "").status is AuthStatus.FAILED:
            raise NeedsPassword("document", "the file is encrypted and needs a password")
        if not isinstance(reader.root, generic.DictionaryObject):
            raise Malformed("document", "the file has no catalog")
        return reader
