"""Reading PDF files through pyHanko, where it needs help: shared by those who sign and those who verify."""

from __future__ import annotations

from typing import Any, Final

from pyhanko.pdf_utils.generic import DictionaryObject, IndirectObject
from pyhanko.pdf_utils.reader import PdfFileReader

from core.errors import Malformed

_DEPTH: Final = 50
"""How deep an encryption dictionary may nest; real ones have three levels."""


class Reader(PdfFileReader):
    """pyHanko's reader, which also opens a file whose encryption dictionary is in several objects (ISO 32000-1, 7.6.1)."""

    @property
    def encrypt_dict(self) -> DictionaryObject | None:
        """Free of references: nothing in it is encrypted, and to resolve one through the decryption it describes never ends."""
        found = super().encrypt_dict
        return None if found is None else self._without_references(found)

    def _without_references(self, value: Any, depth: int = 0) -> Any:
        if depth > _DEPTH:
            raise Malformed("document", "this PDF cannot be read: its encryption dictionary nests without end")
        if isinstance(value, IndirectObject):
            value = self.get_object(value.reference, never_decrypt=True)  # type: ignore[no-untyped-call]  # pyHanko states no types for it
        if isinstance(value, DictionaryObject):
            direct = DictionaryObject({key: self._without_references(value.raw_get(key), depth + 1) for key in value})
            direct.container_ref = value.container_ref
            return direct
        return value
