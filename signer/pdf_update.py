"""A PDF opened for one more revision: what is in it that matters to a signature, and the bytes that go behind it.

pyHanko reads and writes the objects. Everything it may raise on a hostile or broken file ends at :func:`reading`.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.crypt import AuthStatus, StandardSecurityHandler
from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, pdf_name
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.misc import PdfError

from core.content import Content
from core.errors import CondauError, Conflict, Malformed, Rejected
from core.pdf_reader import BoundedReader

_DEPTH = 50
"""How deep a page or field tree may nest; real ones stay below ten."""
_log = logging.getLogger(__name__)


@contextmanager
def reading() -> Iterator[None]:
    """The one edge around pyHanko: whatever a file makes it raise becomes Malformed("document", …)."""
    try:
        yield
    except CondauError:
        raise
    except PdfError as error:
        raise Malformed("document", f"this PDF cannot be read: {str(error)[:200]}; repair it and send it again") from error
    except Exception as error:  # hostile bytes bring out every kind; ours are told apart by the log
        _log.warning("pdf_unreadable", exc_info=True)
        what = "it nests without end" if isinstance(error, RecursionError) else f"{type(error).__name__} {str(error)[:200]}".strip()
        raise Malformed("document", f"this PDF cannot be read: it is broken ({what}); repair it and send it again") from error


class Update(IncrementalPdfFileWriter):
    """What one revision adds. Metadata, version and everything else nobody asked to change stay as they are.

    Several revisions can follow each other without the file being read again: take :meth:`revision`, then
    :meth:`commit` what became of it, then add to the same update.
    """

    output_version = (1, 0)  # the file keeps the version it states

    prev: BoundedReader

    def __init__(self, document: Content, reader: BoundedReader) -> None:
        """``reader``: over ``document``, and able to decrypt it."""
        super().__init__(reader.stream, prev=reader)
        self.document = document
        """What the next revision goes behind."""
        self._written: dict[tuple[int, int], generic.PdfObject] = {}
        self._lastobj_id = max(self._lastobj_id, reader.highest_number)  # with too small a /Size we would overwrite objects

    def get_object(self, ido: Any, as_metadata_stream: bool = False) -> Any:
        """The object as it is now: added or changed in this revision, in one committed before, or read from the file."""
        key = ido.generation, ido.idnum
        if key not in self.objects and key in self._written:
            return self._written[key]
        return super().get_object(ido, as_metadata_stream)

    def _write_header(self, stream: object) -> None:
        """The earlier revisions are not copied: the caller has them."""

    def _update_meta(self) -> None:
        """Signing says nothing about the document's metadata."""

    def revision(self) -> bytearray:
        """The new revision: the bytes that go behind ``document``."""
        size = self.document.size
        tail = _Tail(size)
        tail.write(b"" if self.document.read(size - 1, size) in (b"\n", b"\r") else b"\n")
        self.write(tail)  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        return bytearray(tail.getbuffer())

    def commit(self, document: Content) -> None:
        """Go on behind ``document``, which is the earlier one with :meth:`revision` (its hole filled) behind it."""
        end = document.read(max(self.document.size, document.size - 64), document.size)
        self.prev.last_startxref = int(end.rpartition(b"startxref")[2].split()[0])
        self.document = document
        with reading():
            for (generation, number), item in self.objects.items():
                _own(item, generic.Reference(number, generation, self))
        self._written |= self.objects
        self.objects = {}
        self._lastobj_id += self.stream_xrefs  # the cross-reference stream is an object as well


class _Tail(io.BytesIO):
    """Tells positions as if ``offset`` bytes stood before it."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self._offset = offset

    def tell(self) -> int:
        return self._offset + super().tell()


def _own(item: Any, owner: generic.Reference) -> None:
    """Let everything direct in ``item`` know which object it is part of, as it would had it been read from the file."""
    if not isinstance(item, generic.PdfObject) or isinstance(item, (IndirectObject, generic.DecryptedObjectProxy)):
        return
    if item.container_ref is None:
        item.container_ref = owner
    for part in item.values() if isinstance(item, DictionaryObject) else item if isinstance(item, ArrayObject) else ():
        _own(part, owner)


def open_update(document: Content, password: str | None) -> Update:
    """``document`` opened for one more revision. Raises Malformed, or Rejected for what is locked."""
    with reading():
        return Update(document, open_reader(document, password))


def open_reader(document: Content, password: str | None, earlier: BoundedReader | None = None) -> BoundedReader:
    """``document`` opened to be read, and decrypted; ``earlier`` as for :class:`BoundedReader`, errors as for the above."""
    with reading():
        reader = BoundedReader(document, earlier)
        handler = reader.security_handler
        if handler is None:
            return reader
        if not isinstance(handler, StandardSecurityHandler):
            raise Rejected("document", "the PDF is encrypted for the holders of certain certificates: send it unencrypted")
        if handler.pdf_mac_enabled:
            raise Rejected("document", "the PDF is encrypted with an integrity code (ISO/TS 32004): send it without")
        if reader.decrypt(password or "").status is AuthStatus.FAILED:
            message = "the PDF is encrypted: give its password" if password is None else "this password does not open the PDF"
            raise Rejected("password", message)
        return reader


def check_not_final(update: Update) -> None:
    """Raises Conflict when a signature already there allows no further change (ISO 32000-1, 12.8.2.2: P = 1)."""
    root = update.root
    permissions = entry(root, "/Perms")
    signatures = [entry(permissions, "/DocMDP")] if isinstance(permissions, DictionaryObject) else []
    signatures += [entry(field, "/V") for _, _, field in signature_fields(root)]
    for signature in signatures:
        references = entry(signature, "/Reference") if isinstance(signature, DictionaryObject) else None
        for reference in references if isinstance(references, ArrayObject) else ():
            parameters = entry(reference.get_object(), "/TransformParams")
            if entry(parameters, "/P") == 1:
                raise Conflict("the document is certified or locked against any further change: it cannot be signed again")


def signature_fields(root: DictionaryObject) -> Iterator[tuple[str, IndirectObject, DictionaryObject]]:
    """(full name, reference, dictionary) of every signature field; what is no proper field is passed over."""
    form = entry(root, "/AcroForm")
    waiting = [(item, "", None, 0) for item in _references(entry(form, "/Fields"))]
    seen: set[tuple[int, int]] = set()
    while waiting:
        reference, prefix, kind, depth = waiting.pop()
        field = reference.get_object()
        key = (reference.idnum, reference.generation)
        if key in seen or depth > _DEPTH or not isinstance(field, DictionaryObject):
            continue
        seen.add(key)
        kind = entry(field, "/FT") or kind
        part = entry(field, "/T")
        name = prefix if part is None else f"{prefix}.{part}".lstrip(".")
        kids = [kid for kid in _references(entry(field, "/Kids")) if entry(kid.get_object(), "/T") is not None]
        if kind == "/Sig" and not kids:
            yield name, reference, field
        waiting += [(kid, name, kind, depth + 1) for kid in kids]


def add_signature_field(
    update: Update, page: IndirectObject, widget: DictionaryObject, *, name: str = "Signature"
) -> DictionaryObject:
    """Add ``widget`` as a signature field on ``page`` and in the form, named ``name`` and a number of its own; returns it."""
    form = entry(update.root, "/AcroForm")
    if not isinstance(form, DictionaryObject):
        form = DictionaryObject()
        update.root["/AcroForm"] = update.add_object(form)
        update.update_root()  # type: ignore[no-untyped-call]  # pyHanko states no types for it
    fields = entry(form, "/Fields")
    if not isinstance(fields, ArrayObject):
        fields = form["/Fields"] = ArrayObject()
        update.update_container(form)
    taken = {str(entry(item.get_object(), "/T")) for item in _references(fields)}
    widget["/T"] = generic.TextStringObject(next(free for number in count(1) if (free := f"{name}{number}") not in taken))
    widget["/P"] = page
    reference = update.add_object(widget)
    fields.append(reference)
    update.update_container(fields)
    dictionary = page.get_object()
    annotations = entry(dictionary, "/Annots")
    if isinstance(annotations, ArrayObject):
        annotations.append(reference)
        update.update_container(annotations)
    else:
        dictionary["/Annots"] = ArrayObject([reference])
        update.mark_update(page.reference)
    return widget


def set_signature_flags(update: Update) -> None:
    """SignaturesExist and AppendOnly (ISO 32000-1, table 219)."""
    form = update.root["/AcroForm"]
    if entry(form, "/SigFlags") != 3:
        form["/SigFlags"] = generic.NumberObject(3)
        update.update_container(form)


def find_page(update: Update, number: int) -> IndirectObject:
    """Reference to page ``number``, counted from 1. Raises Rejected("page", …)."""
    count = 0
    for count, page in enumerate(pages(update), start=1):
        if count == number:
            return page
    raise Rejected("page", f"there is no page {number}: the document has {count}")


def pages(update: Update) -> Iterator[IndirectObject]:
    """References to the pages, in order; the tree's own /Count is not believed. Raises Malformed where there is none."""
    found = False
    waiting = [(item, 0) for item in _references(ArrayObject([update.root.raw_get("/Pages")]))]
    seen: set[tuple[int, int]] = set()
    while waiting:
        reference, depth = waiting.pop()
        node = reference.get_object()
        key = (reference.idnum, reference.generation)
        if key in seen or depth > _DEPTH or not isinstance(node, DictionaryObject):
            continue
        seen.add(key)
        kids = entry(node, "/Kids")
        if isinstance(kids, ArrayObject):
            waiting += [(kid, depth + 1) for kid in reversed(_references(kids))]
            continue
        found = True
        yield reference
    if not found:
        raise Malformed("document", "this PDF has no page")


def inherited(page: DictionaryObject, key: str) -> Any:
    """A page's attribute, its own or from the tree above it (ISO 32000-1, 7.7.3.4); None when nobody has it."""
    node: Any = page
    for _ in range(_DEPTH):
        if not isinstance(node, DictionaryObject):
            return None
        value = entry(node, key)
        if value is not None:
            return value
        node = entry(node, "/Parent")
    return None


def entry(dictionary: Any, key: str) -> Any:
    """The resolved value of ``key``, or None where there is none or ``dictionary`` is no dictionary."""
    if not isinstance(dictionary, DictionaryObject):
        return None
    try:
        return dictionary[pdf_name(key)]
    except KeyError:
        return None


def stream_data(stream: generic.StreamObject) -> bytes | None:
    """What is in a stream, or None where it cannot be decoded: for what is no reason not to sign."""
    try:
        return stream.data
    except Exception:  # noqa: BLE001 - each filter fails in ways of its own
        return None


def _references(array: Any) -> list[IndirectObject]:
    return [item for item in array.iterate() if isinstance(item, IndirectObject)] if isinstance(array, ArrayObject) else []
