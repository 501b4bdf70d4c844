"""Time, handed to whoever needs it, so that a test can hand over another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Now = Callable[[], datetime]
"""Returns the present moment as an aware datetime in UTC."""


def system_now() -> datetime:
    """The machine's clock: an aware datetime in UTC, microsecond precision."""
    return datetime.now(UTC)
