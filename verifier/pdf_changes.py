"""Saying what changed in a PDF between two revisions, in words a reader of the report understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pyhanko.pdf_utils import generic

from verifier.findings import error
from verifier.pdf_revision import Revision
from verifier.pdf_tree import Field, entry, fields, fingerprint, items, page_references
from verifier.reading import reading
from verifier.verdict import Finding

UNCLEAR: Final = {"FIELD_VALUE_CHANGED", "OTHER_CHANGE", "CHANGES_UNKNOWN"}
"""Changes that may be innocent: a form filled in, or something that shows nowhere. The verdict stays open over them."""
_DRAWN: Final = frozenset({"/Contents", "/Annots", "/Type"})
_ELSEWHERE: Final = {"/Pages", "/AcroForm", "/DSS", "/Metadata", "/Extensions", "/Version", "/MarkInfo", "/Type"}
_MOST_FINDINGS: Final = 20


def name_changes(old: Revision, new: Revision, objection: str) -> list[Finding]:
    """What differs between two revisions; never empty: where nothing can be named, ``objection`` is passed on.

    At most twenty, the first of each kind first. Raises Malformed when the revisions cannot be read.
    """
    with reading("revision"):
        found: list[Finding] = []
        for finding in _differences(old, new):
            if finding not in found:
                found.append(finding)
            if len(found) == _MOST_FINDINGS:
                break
    return found or [_other(objection)]


def _other(objection: str) -> Finding:
    short = " ".join(objection.split())[:300]
    return error(
        "OTHER_CHANGE",
        f"Tài liệu có thay đổi không được phép sau khi ký: {short}",
        f"The document was changed after signing in a way that is not allowed: {short}",
    )


def _differences(old: Revision, new: Revision) -> Iterator[Finding]:
    before, after = page_references(old), page_references(new)
    if len(after) > len(before):
        yield _count("PAGES_ADDED", len(after) - len(before), "trang được thêm vào", "added")
    if len(after) < len(before):
        yield _count("PAGES_REMOVED", len(before) - len(after), "trang bị bỏ đi", "removed")
    if len(after) == len(before) and after != before:
        yield error(
            "PAGES_REPLACED", "Trang bị thay hoặc đổi thứ tự sau khi ký.", "Pages were replaced or reordered after signing."
        )
    if "/AcroForm" in old.root and "/AcroForm" not in new.root:
        yield error(
            "FORM_REMOVED",
            "Biểu mẫu chứa các chữ ký bị gỡ khỏi tài liệu.",
            "The form that holds the signatures was taken out of the document.",
        )
    fields_before, fields_after = fields(old), fields(new)
    yield from _field_differences(old, new, fields_before, fields_after)
    widgets = _widget_references(fields_before) | _widget_references(fields_after)
    for number, (one, other) in enumerate(zip(before, after, strict=False), start=1):
        yield from _page_differences(old, new, (old(one), new(other)), number, widgets)
    for key in sorted((set(old.root) | set(new.root)) - _ELSEWHERE):
        if _digest(old, old.root, key) != _digest(new, new.root, key):
            yield error(
                "CATALOG_CHANGED", f"Thiết lập chung {key} của tài liệu bị thay đổi.", f"The document's setting {key} was changed."
            )


def _count(code: str, count: int, vi: str, en: str) -> Finding:
    pages = "page was" if count == 1 else "pages were"
    return error(code, f"{count} {vi} sau khi ký.", f"{count} {pages} {en} after signing.")


def _digest(resolver: Revision, holder: Any, key: str) -> bytes:
    return fingerprint(resolver, holder.raw_get(key)) if key in holder else b""


def _field_differences(old: Revision, new: Revision, before: dict[str, Field], after: dict[str, Field]) -> Iterator[Finding]:
    for name in sorted(before.keys() - after.keys()):
        yield error("FIELD_REMOVED", f"Trường “{name}” bị bỏ đi.", f"The field “{name}” was removed.")
    for name in sorted(after.keys() - before.keys()):
        field = after[name].dictionary
        if entry(field, "/FT") != "/Sig" or entry(field, "/V") is None:
            yield error(
                "FIELD_ADDED",
                f"Trường “{name}” được thêm vào, không kèm chữ ký.",
                f"The field “{name}” was added without a signature.",
            )
        elif borrowed(old, field):
            yield _borrowed(name)
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        if (
            entry(one.dictionary, "/FT") == "/Sig"
            and entry(one.dictionary, "/V") is None
            and entry(other.dictionary, "/V") is not None
        ):
            if borrowed(old, other.dictionary):
                yield _borrowed(name)
            continue  # it was signed meanwhile
        if _digest(old, one.dictionary, "/V") != _digest(new, other.dictionary, "/V"):
            yield error(
                "FIELD_VALUE_CHANGED", f"Giá trị của trường “{name}” bị thay đổi.", f"The value of the field “{name}” was changed."
            )
        elif _drawn(old, one) != _drawn(new, other):
            yield error(
                "APPEARANCE_REPLACED",
                f"Hình hiển thị của trường “{name}” bị thay trong khi giá trị vẫn giữ nguyên.",
                f"What the field “{name}” shows was replaced while its value stayed.",
            )


def borrowed(old: Revision, field: Any) -> bool:
    """Whether a signature field that was not signed in ``old`` got a signature that was there already.

    Several fields may show one signature if they were made with it; one that comes later shows what nobody signed.
    """
    value = field.raw_get("/V") if "/V" in field else None
    return isinstance(value, generic.IndirectObject) and not old.is_ref_unassignable(value.reference)


def _borrowed(name: str) -> Finding:
    return error(
        "SIGNATURE_BORROWED",
        f"Trường “{name}” được thêm sau khi ký và mượn một chữ ký đã có: hình của nó không được ai ký.",
        f"The field “{name}” was given a signature that was there before: nobody signed what it shows.",
    )


def _drawn(resolver: Revision, field: Field) -> list[bytes]:
    keys = ("/AP", "/AS", "/F", "/Rect", "/MK", "/DA", "/BS", "/Border", "/OC")
    return [_digest(resolver, widget, key) for widget in field.widgets for key in keys]


def _widget_references(all_fields: dict[str, Field]) -> set[tuple[int, int]]:
    found = set()
    for field in all_fields.values():
        for widget in field.widgets:
            reference = widget.container_ref
            if isinstance(reference, generic.Reference):
                found.add((reference.idnum, reference.generation))
    return found


def _page_differences(
    old: Revision, new: Revision, pair: tuple[Any, Any], number: int, widgets: set[tuple[int, int]]
) -> Iterator[Finding]:
    before, after = pair
    if _digest(old, before, "/Contents") != _digest(new, after, "/Contents"):
        yield error("PAGE_CONTENT_CHANGED", f"Nội dung trang {number} bị thay đổi.", f"The content of page {number} was changed.")
    if fingerprint(old, before, without=_DRAWN) != fingerprint(new, after, without=_DRAWN):
        yield error(
            "PAGE_RESOURCES_CHANGED",
            f"Phông chữ, hình ảnh hoặc khổ của trang {number} bị thay đổi.",
            f"Fonts, images or the layout of page {number} were changed.",
        )
    yield from _annotation_differences(_annotations(old, before, widgets), _annotations(new, after, widgets), number)


def _annotations(resolver: Revision, page: Any, widgets: set[tuple[int, int]]) -> dict[Any, bytes]:
    """Annotations that are no field's widget (those are told with their field), by object number or place."""
    found: dict[Any, bytes] = {}
    for position, raw in enumerate(items(entry(page, "/Annots"))):
        key = (raw.idnum, raw.generation) if isinstance(raw, generic.IndirectObject) else position
        if key not in widgets:
            found[key] = fingerprint(resolver, raw)
    return found


def _annotation_differences(before: dict[Any, bytes], after: dict[Any, bytes], number: int) -> Iterator[Finding]:
    if after.keys() - before.keys():
        yield error(
            "ANNOTATIONS_ADDED",
            f"Chú thích hoặc hình phủ được thêm vào trang {number}.",
            f"Annotations were added to page {number}.",
        )
    if before.keys() - after.keys():
        yield error(
            "ANNOTATIONS_REMOVED", f"Chú thích trên trang {number} bị bỏ đi.", f"Annotations were removed from page {number}."
        )
    if any(before[key] != after[key] for key in before.keys() & after.keys()):
        yield error(
            "ANNOTATIONS_CHANGED", f"Chú thích trên trang {number} bị thay đổi.", f"Annotations on page {number} were changed."
        )
