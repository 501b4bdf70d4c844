"""Structured logs: one JSON object a line on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

_write = json.JSONEncoder(ensure_ascii=False).encode


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON; ``extra={"fields": {...}}`` adds keys of its own.

    ``extra={"each": ("request_id", [...])}`` makes a line for each value of that key, alike but for it, by one write.
    """

    def format(self, record: logging.LogRecord) -> str:
        common: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "log": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            common["traceback"] = self.formatException(record.exc_info)
        each: tuple[str, Sequence[str]] | None = getattr(record, "each", None)
        if each is None:
            return _write(common)
        name, values = each
        start = f"{_write(common)[:-1]}, {_write(name)}: "
        return "\n".join(f"{start}{_write(value)}}}" for value in values)


def configure_logs(level: int = logging.INFO) -> None:
    """Send every log of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for chatty in ("pyhanko", "pyhanko_certvalidator", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
