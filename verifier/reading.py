"""The edge between hostile bytes and us: whatever a library raises over them becomes one typed error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import CondauError, Malformed


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
