"""The one tree of errors that cross a room's door.

    CondauError
    ├── Rejected                 what was sent is wrong; nothing happened
    │   ├── Malformed            it cannot be read at all
    │   ├── MediaTypeRejected    it is of a type this route does not take
    │   ├── TooLarge             it is bigger than the configured limit
    │   └── Refused              the rules of signing do not allow it; each broken one is listed
    ├── Unauthenticated          nobody known is asking
    ├── Forbidden                somebody known is asking for what is not theirs
    ├── NotFound                 the thing named does not exist
    ├── Conflict                 it exists, and its state does not allow this
    ├── TooMany                  a quota or rate is used up
    └── Unavailable              a part we depend on is away; come back later
        └── ClockUntrusted       the time is not known well enough to stamp with it

Only ``web/problems.py`` knows which HTTP status each becomes (RFC 9457). The class name is the problem type, the first
line of the docstring its title. A library's own exception is wrapped where the library is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with one field: ``field`` as the caller wrote it, ``message`` with the remedy in it."""

    field: str
    message: str


class CondauError(Exception):
    """The request could not be carried out."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Rejected(CondauError):
    """What was sent is not acceptable."""

    def __init__(self, field: str, message: str, *, violations: Sequence[Violation] = ()) -> None:
        """Reject one ``field``; ``violations`` lists every one where several were found at once."""
        super().__init__(message)
        self.violations: tuple[Violation, ...] = tuple(violations) or (Violation(field, message),)

    @classmethod
    def all(cls, violations: Sequence[Violation]) -> Rejected:
        """Reject for every one of ``violations`` (at least one)."""
        first = violations[0]
        detail = first.message if len(violations) == 1 else f"{len(violations)} fields are not acceptable"
        return cls(first.field, detail, violations=violations)


class Malformed(Rejected):
    """What was sent cannot be read."""


class MediaTypeRejected(Rejected):
    """This route does not take that media type."""


class TooLarge(Rejected):
    """What was sent is larger than the limit."""


class Refused(Rejected):
    """The rules of signing do not allow this."""


class Unauthenticated(CondauError):
    """The request carries no valid API key."""


class Forbidden(CondauError):
    """The caller may not do this."""


class NotFound(CondauError):
    """What was named does not exist."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Conflict(CondauError):
    """The state of what was named does not allow this."""


class TooMany(CondauError):
    """The caller's quota is used up."""

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(CondauError):
    """A part of the service is away for the moment."""

    def __init__(self, part: str, detail: str, *, retry_after: int = 1) -> None:
        """``part``: what is away (``hsm``, ``database``, ``tsa``); ``retry_after``: seconds, sent as Retry-After."""
        super().__init__(detail)
        self.part = part
        self.retry_after = retry_after


class ClockUntrusted(Unavailable):
    """The time is not known well enough for a time-stamp."""
