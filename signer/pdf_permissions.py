"""What may still be done to a document after a signature: certification (DocMDP) and locked fields (FieldMDP), by request only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyhanko.pdf_utils.generic import ArrayObject, DictionaryObject, IndirectObject, NumberObject, pdf_name, pdf_string

from core.errors import Conflict, Rejected
from signer.options import PdfOptions
from signer.pdf_update import Update, entry, signature_fields

_PERMITTED: Final = {"nothing": 1, "forms": 2, "annotations": 3}
"""/P of the DocMDP transform parameters (ISO 32000-1, table 254)."""


def request_lock(options: PdfOptions, field: DictionaryObject) -> None:
    """Write into a new field which ones are locked once it is signed (ISO 32000-1, table 233).

    Raises Rejected for a field that was there before: what it locks is its author's to say.
    """
    if options.lock is None:
        return
    if options.field is not None:
        raise Rejected("lock", "goes with a new signature field: what an existing one locks is written in it already")
    lock = DictionaryObject({pdf_name("/Type"): pdf_name("/SigFieldLock"), pdf_name("/Action"): pdf_name("/All")})
    if options.lock != "*":
        names = [name.strip() for name in options.lock.split(",") if name.strip()]
        if not names:
            raise Rejected("lock", "names no field: name some, or * for all of them, or leave it out")
        lock["/Action"] = pdf_name("/Include")
        lock["/Fields"] = ArrayObject(map(pdf_string, names))
    field["/Lock"] = lock


def apply_lock(update: Update, field: DictionaryObject, signature: DictionaryObject) -> None:
    """Carry over what the field's author wants locked once it is signed (ISO 32000-1, 12.8.2.4)."""
    seed = entry(field, "/SV")
    if entry(seed, "/Ff"):
        raise Conflict("the signature field prescribes how it is to be signed (a seed value dictionary): sign in a new field")
    lock = entry(field, "/Lock")
    if not isinstance(lock, DictionaryObject):
        return
    parameters = DictionaryObject({key: lock.raw_get(key) for key in lock if key in ("/Action", "/Fields", "/P")})
    _refer(update, signature, "/FieldMDP", parameters)


def check_new_field(update: Update, field: DictionaryObject, *, visible: bool) -> None:
    """Whether the signatures that are there let a further ``field`` come. Raises Conflict where it would make them void."""
    name = str(entry(field, "/T"))
    if is_locked(update, name):
        raise Conflict(f"an earlier signature has locked all fields, or {name}, which is to come: sign in one that is not locked")
    if visible and _is_certified(update):
        raise Conflict(
            "the document is certified, and a further signature shows only in a field that it has: name an empty one (field), or "
            "sign without a stamp"
        )


def _is_certified(update: Update) -> bool:
    if entry(entry(update.root, "/Perms"), "/DocMDP") is not None:
        return True
    return any(entry(one, "/TransformMethod") == "/DocMDP" for one in _references(update))


def is_locked(update: Update, name: str) -> bool:
    """Whether a signature that is there already locks the field with this full name (FieldMDP: ISO 32000-1, 12.8.2.4)."""
    return any(_locks(parameters, name) for parameters in _field_locks(update))


def _field_locks(update: Update) -> Iterator[DictionaryObject]:
    for reference in _references(update):
        parameters = entry(reference, "/TransformParams")
        if entry(reference, "/TransformMethod") == "/FieldMDP" and isinstance(parameters, DictionaryObject):
            yield parameters


def _references(update: Update) -> Iterator[DictionaryObject]:
    """The signature reference dictionaries of the signatures that are there (ISO 32000-1, table 253)."""
    for _, _, field in signature_fields(update.root):
        references = entry(entry(field, "/V"), "/Reference")
        for reference in references if isinstance(references, ArrayObject) else ():
            yield reference.get_object()


def _locks(parameters: DictionaryObject, name: str) -> bool:
    named = entry(parameters, "/Fields")
    listed = [str(item.get_object()) for item in named] if isinstance(named, ArrayObject) else []
    among = any(name == one or name.startswith(f"{one}.") for one in listed)
    return {"/All": True, "/Include": among, "/Exclude": not among}.get(str(entry(parameters, "/Action")), False)


def certify(update: Update, options: PdfOptions, signature: DictionaryObject, value: IndirectObject) -> None:
    """Make the signature a certification (ISO 32000-1, 12.8.2.2 and 12.8.4); ``value`` refers to it.

    Raises Conflict where the document is signed already: a certification comes first.
    """
    if options.certify is None:
        return
    if any(entry(field, "/V") not in (None, signature) for _, _, field in signature_fields(update.root)):
        raise Conflict("the document is signed already and only a first signature can certify it: leave certify out")
    _refer(update, signature, "/DocMDP", DictionaryObject({pdf_name("/P"): NumberObject(_PERMITTED[options.certify])}))
    permissions = entry(update.root, "/Perms")
    if isinstance(permissions, DictionaryObject):
        permissions["/DocMDP"] = value
        update.update_container(permissions)
    else:
        update.root["/Perms"] = DictionaryObject({pdf_name("/DocMDP"): value})
        update.update_root()  # type: ignore[no-untyped-call]  # pyHanko states no types for it


def _refer(update: Update, signature: DictionaryObject, method: str, parameters: DictionaryObject) -> None:
    """One more signature reference dictionary (ISO 32000-1, table 253)."""
    parameters["/Type"], parameters["/V"] = pdf_name("/TransformParams"), pdf_name("/1.2")
    reference = DictionaryObject({pdf_name("/Type"): pdf_name("/SigRef"), pdf_name("/TransformMethod"): pdf_name(method)})
    reference["/TransformParams"] = parameters
    if method == "/FieldMDP":
        reference["/Data"] = update.trailer.raw_get("/Root")
    references = entry(signature, "/Reference")
    if isinstance(references, ArrayObject):
        references.append(reference)
    else:
        signature["/Reference"] = ArrayObject([reference])
