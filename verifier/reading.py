"""The edge between hostile bytes and us: whatever a library raises over them becomes one typed error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from core.errors import CondauError, Malformed

_ENDLESS: Final = re.compile(rb"[\x80-\xff]{768}")


@contextmanager
def reading(part: str) -> Iterator[None]:
    """Whatever the block raises over unreadable input becomes :class:`~core.errors.Malformed` naming ``part``.

    The libraries behind the readers answer hostile bytes with KeyError, AssertionError, RecursionError, OSError and types
    of their own; no list of them would be complete, so every ``Exception`` is taken here. Ours pass through unchanged.
    """
    try:
        yield
    except CondauError:
        raise
    except Exception as error:
        raise Malformed(part, f"{type(error).__name__}: {error}"[:300]) from error


def check_arcs(data: bytes, part: str) -> None:
    """Raise Malformed where ``data``, DER or BER, could hold a number of an object identifier longer than 768 octets.

    asn1crypto takes minutes for one of a megabyte, and hours for ten. All octets of such a number but its last have their
    highest bit set, and nothing else in a signature has so many of them in a row: a notice in a certificate (RFC 5280, 4.2.1.4) has
    200 letters.
    """
    if _ENDLESS.search(data):
        raise Malformed(part, "an object identifier in it has no end")
