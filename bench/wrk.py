"""The load generator wrk (Debian's package of that name), driven from here."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SETTLE: Final = 1.0
"""Seconds before each run: a worker that still starts, or still counts the connections of the run before, gets no share of this
one's, and they stay where they are to its end."""
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Rate:
    """What one run of wrk saw: requests answered a second, latencies in milliseconds, answers that were no 2xx."""

    per_second: float
    median: float
    p99: float
    refused: int


def measure(
    url: str, *, seconds: int, connections: int = 16, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Rate:
    """GET ``url`` (or POST ``body`` to it) from ``connections`` connections for ``seconds``."""
    time.sleep(_SETTLE)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "request.lua"
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or {}).items()]
        if body is not None:
            (Path(folder) / "body").write_bytes(body)
            lines += [
                'wrk.method = "POST"',
                f'local file = io.open("{folder}/body", "rb")',
                'wrk.body = file:read("*a")',
                "file:close()",
            ]
        script.write_text("\n".join(lines))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", str(script), url]
        output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Rate(
        per_second=float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        median=_milliseconds(_find(r"^\s+50%\s+(\S+)", output)),
        p99=_milliseconds(_find(r"^\s+99%\s+(\S+)", output)),
        refused=int(refused.group(1)) if refused else 0,
    )


def _find(pattern: str, output: str) -> str:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise ValueError(f"wrk said nothing of {pattern}:\n{output}")
    return found.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]  # wrk writes no other form
    return float(number) * _UNITS[unit]
