"""Streams that stay in the file: pictures are most of a large document, and a verdict asks only whether they are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.decode_limits import DecodePurpose

from core.content import Content
from core.errors import Malformed

LARGE: Final = 1 << 16
"""Bytes from which a stream is left where it is."""
_LARGEST_READ: Final = 32 << 20


class LargeStream(generic.StreamObject):
    """A stream whose bytes are read each time they are asked for."""

    def __init__(
        self,
        entries: Mapping[Any, Any],
        content: Content,
        place: tuple[int, int],
        *,
        sealed: tuple[Any, generic.Reference] | None = None,
        handler: Any = None,
    ) -> None:
        """``place``: where its bytes start and end; ``sealed``: the security handler they are encrypted by, and the object."""
        super().__init__(dict(entries), handler=handler)
        self._content = content
        self.place = place
        self._sealed = sealed

    def with_entries(self, entries: Mapping[Any, Any]) -> LargeStream:
        """The same bytes under another dictionary."""
        return LargeStream(entries, self._content, self.place, sealed=self._sealed, handler=self._handler)

    @property
    def encoded_data(self) -> bytes:
        """As pyHanko's. Raises Malformed above 32 MiB."""
        start, end = self.place
        if end - start > _LARGEST_READ:
            raise Malformed("document", "this PDF cannot be read: what should be small in it is too large")
        data = self._content.read(start, end)
        if self._sealed is None or self._has_crypt_filter:
            return data
        handler, reference = self._sealed
        by = handler.get_embedded_file_filter() if self.is_embedded_file_stream else handler.get_stream_filter()
        opened: bytes = by.decrypt(by.derive_object_key(reference.idnum, reference.generation), data)
        return opened

    def read_data(self, purpose: DecodePurpose = DecodePurpose.GENERIC, expected_size: int | None = None) -> bytes:
        """As pyHanko's, without keeping what was read."""
        read = generic.StreamObject(dict(self), encoded_data=self.encoded_data, handler=self._handler)
        read.container_ref = self.container_ref
        return read.read_data(purpose, expected_size)

    def digest(self, check: Callable[[], None]) -> bytes:
        """SHA-256 of the bytes as they stand; where those are encrypted, of the number they are encrypted under as well.

        ``check`` is called at every 1 MiB, and may raise.
        """
        running = hashlib.sha256()
        if self._sealed is not None:
            reference = self._sealed[1]
            running.update(b"sealed %d %d " % (reference.idnum, reference.generation))
        for chunk in self._content.chunks(*self.place):
            check()
            running.update(chunk)
        return running.digest()

    def _implicit_decrypt_stream_content(
        self, handler: Any, ref: generic.Reference, decrypted_entries: dict[Any, Any]
    ) -> LargeStream:
        return LargeStream(decrypted_entries, self._content, self.place, sealed=(handler, ref), handler=handler)
