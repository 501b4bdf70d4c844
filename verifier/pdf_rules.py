"""What may happen to a PDF after it was signed: further signatures, document timestamps and validation material (DSS).

Two judges, of whom both must agree. The first is pyHanko's difference analysis, without the rules that let form fields be
filled (a swapped appearance passes them). The second is ours: of the objects that existed, only those that must change for a
further signature may be replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.reader import HistoricalResolver
from pyhanko.sign.diff_analysis import (
    CatalogModificationRule,
    DocInfoRule,
    FormUpdatingRule,
    MetadataUpdateRule,
    ModificationLevel,
    ObjectStreamRule,
    ReferenceUpdate,
    SigFieldCreationRule,
    SigFieldModificationRule,
    StandardDiffPolicy,
    SuspiciousModification,
    WhitelistRule,
    XrefStreamRule,
)
from pyhanko.sign.fields import FieldMDPSpec, MDPPerm, enumerate_sig_fields

from verifier.pdf_changes import borrowed
from verifier.pdf_reader import BoundedReader
from verifier.pdf_revision import Revision
from verifier.pdf_tree import entry, fields, fingerprint, items, page_references
from verifier.reading import reading

_FREE: Final = ModificationLevel.LTA_UPDATES


class _StoreRule(WhitelistRule):
    """Validation material (/DSS) may come, change and go, as EN 319 142-1 clause 5.4.2 lets it: nothing of it is ever drawn.

    What the store held before may be replaced only where nothing else in the document leads to it.
    """

    def apply(self, old: HistoricalResolver, new: HistoricalResolver) -> Iterator[ReferenceUpdate]:
        """The references below /DSS that are new, or were the store's own."""
        if "/DSS" not in new.root:
            return
        # not with since_revision: that stops at a store which was replaced in place, however much is new below it
        touched = new.collect_dependencies(new.root.raw_get("/DSS")) & set(new.explicit_refs_in_revision())
        replaced = {reference for reference in touched if not old.is_ref_unassignable(reference)}
        shared = replaced & _outside_store(cast("Revision", old)) if replaced else set()
        for reference in touched - shared:
            yield ReferenceUpdate(reference)


class _MetadataRule(MetadataUpdateRule):
    """What an update leaves alone is not looked at: files whose metadata are no XMP are signed as others are."""

    def apply(self, old: HistoricalResolver, new: HistoricalResolver) -> Iterator[ReferenceUpdate]:
        """The stream of /Metadata where this revision has another one, or the same anew; raises SuspiciousModification."""
        before, after = (root.raw_get("/Metadata") if "/Metadata" in root else None for root in (old.root, new.root))
        touched = new.explicit_refs_in_revision()
        if not isinstance(before, generic.IndirectObject) or before != after or before.reference in touched:
            yield from super().apply(old, new)


def _outside_store(old: Revision) -> set[generic.Reference]:
    rest = generic.DictionaryObject({key: old.root.raw_get(key) for key in old.root if key != "/DSS"})
    return {old.root_ref} | old.dependencies_beside_root(rest)


_STRICT: Final = StandardDiffPolicy(
    global_rules=[
        CatalogModificationRule(),
        DocInfoRule().as_qualified(_FREE),
        XrefStreamRule().as_qualified(_FREE),
        ObjectStreamRule().as_qualified(_FREE),
        _StoreRule().as_qualified(_FREE),
        _MetadataRule().as_qualified(_FREE),  # type: ignore[no-untyped-call]  # it states none for its constructor either
    ],
    form_rule=FormUpdatingRule(
        [SigFieldCreationRule(), SigFieldModificationRule(allow_in_place_appearance_stream_changes=False)],
        # NeedAppearances is not among them: it makes viewers draw every field anew
        ignored_acroform_keys=frozenset({"/Fields", "/DR", "/DA", "/Q"}),
    ),
)


@dataclass(frozen=True, slots=True)
class Step:
    """From one revision to the next. ``objection``: why it is not allowed, or None."""

    objection: str | None
    signing: bool = False
    """A signature was added (not only timestamps and validation material)."""
    touched_fields: frozenset[str] = frozenset()


def judge_step(reader: BoundedReader, revision: int, permission: MDPPerm | None) -> Step:
    """Judge the step from ``revision`` to the one after it, under the DocMDP ``permission`` in force, if any.

    Raises Malformed when the file keeps the step from being understood at all.
    """
    with reading("revision"):
        reader.check_revision(revision + 1)
        old, new = reader.get_historical_resolver(revision), reader.get_historical_resolver(revision + 1)
        try:
            result = _STRICT.apply(old, new, doc_mdp=permission)
        except SuspiciousModification as problem:
            return Step(str(problem))
        objection = _objection(old, new)
        signing = result.modification_level is not _FREE
        if signing and permission is MDPPerm.NO_CHANGES and objection is None:
            objection = "the certification (DocMDP 1) allows no further signature"
        return Step(objection, signing, frozenset(result.changed_form_fields))


def _objection(old: Revision, new: Revision) -> str | None:
    replaceable = set(_replaceable(old))
    for reference in new.explicit_refs_in_revision():  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        if old.is_ref_unassignable(reference) or reference in replaceable:
            continue
        if fingerprint(old, old(reference)) != fingerprint(new, new(reference)):
            return f"object {reference.idnum} was replaced"
    return _objection_to_form(old, new)


def _replaceable(old: Revision) -> Iterator[generic.Reference]:
    """What a further signature, a timestamp or validation material must touch; what it becomes is the first judge's care."""
    root = old.root
    yield old.root_ref
    yield from _references(old.trailer_view, ("/Info",))
    yield from _references(root, ("/AcroForm", "/Metadata", "/Extensions"))
    form = entry(root, "/AcroForm")
    yield from _references(form, ("/Fields", "/DR"))
    yield from _references(entry(form, "/DR"), ("/Font", "/XObject"))
    yield from old.collect_dependencies(root.raw_get("/DSS")) - _outside_store(old) if "/DSS" in root else ()
    for reference in page_references(old):
        yield reference
        yield from _references(old(reference), ("/Annots",))
    for field in fields(old).values():
        if entry(field.dictionary, "/FT") == "/Sig" and entry(field.dictionary, "/V") is None and field.reference is not None:
            yield field.reference


def _references(holder: Any, keys: tuple[str, ...]) -> Iterator[generic.Reference]:
    if not isinstance(holder, generic.DictionaryObject):
        return
    for key in keys:
        value = holder.raw_get(key) if key in holder else None
        if isinstance(value, generic.IndirectObject):
            yield value.reference


def _objection_to_form(old: Revision, new: Revision) -> str | None:
    """The form's shared fonts may grow in number, but those it had stay; a new signature field must carry a signature."""
    before, after = (entry(entry(entry(one.root, "/AcroForm"), "/DR"), "/Font") for one in (old, new))
    for name in before or ():
        if after is None or name not in after or fingerprint(old, before.raw_get(name)) != fingerprint(new, after.raw_get(name)):
            return f"the form's font {name} was replaced"
    known = set(fields(old))
    for name, _, _ in enumerate_sig_fields(new, filled_status=False):
        if name not in known:
            return f"an unsigned signature field {name} was added"
    return _objection_to_shared(old, new)


def _objection_to_shared(old: Revision, new: Revision) -> str | None:
    signed = {name for name, _, _ in enumerate_sig_fields(old, filled_status=True)}
    for name, _, field in enumerate_sig_fields(new, filled_status=True):
        if name not in signed and borrowed(old, field.get_object()):
            return f"the field {name} was given a signature that was there before"
    return None


def certification(dictionary: Any) -> MDPPerm | None:
    """The DocMDP permission a signature dictionary declares (ISO 32000-2 clause 12.8.2.2), or None.

    Raises Malformed for one that cannot be read.
    """
    with reading("DocMDP"):
        for raw in items(entry(dictionary, "/Reference")):
            reference = raw.get_object()
            if entry(reference, "/TransformMethod") == "/DocMDP":
                declared = entry(entry(reference, "/TransformParams"), "/P")
                return MDPPerm(2 if declared is None else int(declared))
        return None


def locked_fields(dictionary: Any, touched: frozenset[str]) -> list[str]:
    """Those of ``touched`` that the signature's FieldMDP locks (ISO 32000-2 clause 12.8.2.4)."""
    with reading("FieldMDP"):
        for raw in items(entry(dictionary, "/Reference")):
            reference = raw.get_object()
            if entry(reference, "/TransformMethod") == "/FieldMDP":
                lock = FieldMDPSpec.from_pdf_object(entry(reference, "/TransformParams"))
                return sorted(name for name in touched if lock.is_locked(name))
        return []
