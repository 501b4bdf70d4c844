"""One revision of a PDF, for pyHanko's difference analysis: what it asks of a document answered without reading all of it again.

pyHanko copies every object of every revision and lists every path to each, though a step from one revision to the next asks for
the paths to what was replaced. Here it is found once, for all revisions that share an object, where that object leads; and only
paths that end at what is asked for are followed.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.reader import HistoricalResolver, RawPdfPath

from core.errors import Malformed
from core.pdf_streams import LargeStream

if TYPE_CHECKING:
    from verifier.pdf_reader import BoundedReader

_GENERATION: Final = 34
"""Bits of an object number: ten decimal digits. A reference is kept as one number, the generation above them."""
_MOST_PATHS: Final = 100_000
_Path = tuple[Any, str | int] | None
"""(path before, last step); None is the trailer."""


class Revision(HistoricalResolver):
    """The document as it was in one of its revisions."""

    reader: BoundedReader

    def __init__(self, reader: BoundedReader, revision: int) -> None:
        super().__init__(reader, revision)
        self._usages: dict[int, list[RawPdfPath]] = {}

    def get_object(self, ref: generic.Reference, as_metadata_stream: bool = False) -> Any:
        """As pyHanko's, counted."""
        self.reader.count_visit()
        found = self.cache.get(ref)
        if found is None:
            found = self.reader.get_object(ref, self.revision, transparent_decrypt=False, as_metadata_stream=as_metadata_stream)
            found = self._subsume(found, generic.Reference(ref.idnum, ref.generation, self))
            self.cache[ref] = found
        return found.decrypted if isinstance(found, generic.DecryptedObjectProxy) else found

    def _subsume(self, value: Any, container: generic.Reference) -> Any:
        """A copy of ``value`` whose references lead to objects of this revision."""
        if isinstance(value, generic.IndirectObject):
            return generic.IndirectObject(value.idnum, value.generation, self)
        result: Any
        if isinstance(value, generic.DecryptedObjectProxy):
            return generic.DecryptedObjectProxy(self._subsume(value.raw_object, container), value.handler)
        if isinstance(value, generic.DictionaryObject):
            entries = {key: self._subsume(item, container) for key, item in value.items()}
            if isinstance(value, LargeStream):
                result = value.with_entries(entries)
            elif isinstance(value, generic.StreamObject):
                result = generic.StreamObject(entries, encoded_data=value.encoded_data)
            else:
                result = generic.DictionaryObject()
                result.update(entries)
        elif isinstance(value, generic.ArrayObject):
            result = generic.ArrayObject(self._subsume(item, container) for item in value)
        else:
            return value  # these are shared, and so stay as they are
        result.container_ref = container
        return result

    def collect_dependencies(self, obj: Any, since_revision: int | None = None) -> set[generic.Reference]:
        """As pyHanko's."""
        if since_revision is not None:
            return super().collect_dependencies(obj, since_revision)
        return {reference_to(key, self) for key in self._reachable(_leads_to(obj))}

    def dependencies_beside_root(self, obj: Any) -> set[generic.Reference]:
        """What ``obj`` leads to without going through the catalog, to which a field lock (FieldMDP) leads back."""
        return {reference_to(key, self) for key in self._reachable(_leads_to(obj), {key_of(self.root_ref)})}

    def _load_reverse_xref_cache(self) -> None:
        """Find the paths to what the next revision replaced."""
        self._find_usages({key_of(ref) for ref in self.reader.xrefs.explicit_refs_in_revision(self.revision + 1)})

    def _get_usages_of_ref(self, ref: generic.Reference) -> set[RawPdfPath]:
        key = key_of(ref)
        if key not in self._usages:
            self._find_usages({key})
        return set(self._usages[key])

    def _find_usages(self, wanted: Collection[int]) -> None:
        found: dict[int, list[RawPdfPath]] = {key: [] for key in wanted if key not in self._usages}
        if found:
            _Paths(self, found, self._leading_to(found)).follow()
        self._usages |= found

    def leads_to(self, key: int) -> Iterable[int]:
        """The references in an object of this revision."""
        return self.reader.leads_to(key, self.revision)

    def raw(self, key: int) -> Any:
        """An object of this revision as the file has it: whatever it leads to must be asked for here."""
        return _bare(self.reader.get_object(reference_to(key, self.reader), self.revision, transparent_decrypt=False))

    def _reachable(self, start: Iterable[int], seen: Iterable[int] = ()) -> set[int]:
        seen = set(seen)
        pending = list(start)
        while pending:
            key = pending.pop()
            if key not in seen:
                seen.add(key)
                pending.extend(self.leads_to(key))
        return seen

    def _leading_to(self, wanted: Collection[int]) -> set[int]:
        """The objects from which one of ``wanted`` is reached."""
        backwards = self.reader.backwards(self)
        found: set[int] = set()
        pending = [one for key in wanted for one in backwards.get(key, ())]
        while pending:
            key = pending.pop()
            if key not in found:
                found.add(key)
                pending.extend(backwards.get(key, ()))
        return found

    def find_backwards(self) -> dict[int, array[int]]:
        """Of each object those that lead to it."""
        found: dict[int, array[int]] = {}
        for key in self._reachable(_leads_to(self.trailer_view)):
            for target in self.leads_to(key):
                found.setdefault(target, array("q")).append(key)
        return found

    @cached_property
    def page_tree(self) -> dict[int, _Path]:
        """The nodes of the page tree, and the paths that lead to them by way of it."""
        return dict(self._page_tree())

    def _page_tree(self) -> Iterator[tuple[int, _Path]]:
        top = self.raw(key_of(self.root_ref)).raw_get("/Pages", _RAW)
        pending: list[tuple[Any, _Path]] = [(top, _PAGES)]
        seen: set[int] = set()
        while pending:
            node, path = pending.pop()
            if isinstance(node, generic.IndirectObject):
                if key_of(node) in seen:
                    raise Malformed("Pages", "the page tree runs in circles")
                seen.add(key_of(node))
                yield key_of(node), path
            value = self._resolved(node)
            if node is top or value.get("/Type") == "/Pages":
                kids = self._resolved(value.raw_get("/Kids", _RAW))
                pending += [(kid, ((path, "/Kids"), position)) for position, kid in enumerate(kids)]

    @cached_property
    def structure_tree(self) -> set[int]:
        """The elements of the structure tree (ISO 32000-2 clause 14.7.2)."""
        root = self.raw(key_of(self.root_ref))
        if "/StructTreeRoot" not in root:
            return set()
        found: set[int] = set()
        pending = [self._resolved(root.raw_get("/StructTreeRoot", _RAW))]
        while pending:
            node = pending.pop()
            kids = self._resolved(node.raw_get("/K", _RAW)) if "/K" in node else ()
            for kid in kids if isinstance(kids, generic.ArrayObject) else (kids,):
                value = self._resolved(kid)
                if not isinstance(value, generic.DictionaryObject) or value.get("/Type", "/StructElem") != "/StructElem":
                    continue
                if isinstance(kid, generic.IndirectObject):
                    if key_of(kid) in found:
                        raise Malformed("StructTreeRoot", "the structure tree runs in circles")
                    found.add(key_of(kid))
                pending.append(value)
        return found

    def _resolved(self, value: Any) -> Any:
        """What ``value`` is, or leads to."""
        for _ in range(_INDIRECTIONS):
            if not isinstance(value, generic.IndirectObject):
                return _bare(value)
            value = self.raw(key_of(value))
        raise Malformed("document", "a reference leads to itself")


class _Paths:
    """Follows the paths from the trailer, by pyHanko's rules, and notes those that end at what is asked for.

    The rules: no object twice on one path; a node of the page tree is entered from the tree alone, one of the structure tree from
    that alone, and /Parent (in the structure tree /P as well) leads back.
    """

    def __init__(self, revision: Revision, found: dict[int, list[RawPdfPath]], through: Collection[int]) -> None:
        self._revision = revision
        self._found = found
        self._through = through
        self._on_path: set[int] = set()
        self._count = 0
        self._pages = revision.page_tree
        self._structure = revision.structure_tree

    def follow(self) -> None:
        self._follow(self._revision.trailer_view, None, structure=False)

    def _follow(self, value: Any, path: _Path, *, structure: bool) -> None:
        if isinstance(value, generic.IndirectObject):
            key = key_of(value)
            if key in self._on_path:
                return
            if key in self._found:
                self._note(key, path)
            canonical = self._pages.get(key, path)
            if key not in self._through or path != canonical or (not structure and key in self._structure):
                return
            self._on_path.add(key)
            self._into(self._revision.raw(key), path, structure=structure)
            self._on_path.discard(key)
        else:
            self._into(_bare(value), path, structure=structure)

    def _into(self, value: Any, path: _Path, *, structure: bool) -> None:
        if isinstance(value, generic.DictionaryObject):
            for name, item in value.items():
                if _holds(item) and name != "/Parent" and not (structure and name == "/P"):
                    below = structure or (name == "/K" and path == _STRUCTURE)
                    self._follow(item, (path, name), structure=below)
        elif isinstance(value, generic.ArrayObject):
            for position, item in enumerate(value):
                if _holds(item):
                    self._follow(item, (path, position), structure=structure)

    def _note(self, key: int, path: _Path) -> None:
        self._count += 1
        if self._count > _MOST_PATHS:
            raise Malformed("document", "its objects are used in too many ways to look at all of them")
        self._found[key].append(RawPdfPath(*_steps(path)))


_RAW: Final = generic.EncryptedObjAccess.RAW
_PAGES: Final = ((None, "/Root"), "/Pages")
_STRUCTURE: Final = ((None, "/Root"), "/StructTreeRoot")
_INDIRECTIONS: Final = 50


def references_in(value: Any) -> array[int]:
    """What an object leads to: nothing where it is itself a reference, as pyHanko has it."""
    return array("q", () if isinstance(value, generic.IndirectObject) else _leads_to(value))


def _leads_to(value: Any) -> Iterator[int]:
    pending = [value]
    while pending:
        part = _bare(pending.pop())
        if isinstance(part, generic.IndirectObject):
            yield key_of(part)
        elif isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def _holds(value: Any) -> bool:
    """Whether anything may be below it."""
    return isinstance(value, generic.IndirectObject | dict | list | generic.DecryptedObjectProxy)


def _bare(value: Any) -> Any:
    return value.raw_object if isinstance(value, generic.DecryptedObjectProxy) else value


def key_of(ref: Any) -> int:
    """A reference as one number."""
    return int(ref.idnum) | int(ref.generation) << _GENERATION


def reference_to(key: int, handler: Any) -> generic.Reference:
    """The reference that is kept as ``key``."""
    return generic.Reference(key & ((1 << _GENERATION) - 1), key >> _GENERATION, handler)


def _steps(path: _Path) -> list[str | int]:
    steps = []
    while path is not None:
        path, step = path
        steps.append(step)
    return steps[::-1]
