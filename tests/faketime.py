"""Another time than the true one, by libfaketime, for programs that run beside this process, which stays in true time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.service import Service

LIBRARY: Final = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_SITECUSTOMIZE: Final = """\
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
"""libfaketime 0.9.10 breaks the sleep of Python 3.11 when the monotonic clock is left alone (its issue 426)."""


class FakedTime:
    """A time that a file says and that changes while programs run in it; their raw clock stays true, as a real one does.

    Make it just before the programs are started: libfaketime counts what a rate makes from a program's start.
    """

    def __init__(self, folder: Path) -> None:
        """``folder`` is new, and this one's own."""
        self._folder = folder
        self._file = folder / "offset"
        self._started = time.time()
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        self.set(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes a program live in it. Python programs want :attr:`python_path` first in PYTHONPATH as well."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a wall clock that is set does not take the raw clock along
            "NO_FAKE_STAT": "1",
        }

    @property
    def python_path(self) -> str:
        """Where Python finds its sleep mended."""
        return str(self._folder)

    def set(self, offset: float, *, rate: float = 1.0) -> None:
        """Set the wall clock ``offset`` seconds off, and let it run at ``rate`` from there."""
        # the last rate is kept when none is given
        text = f"{offset - (rate - 1) * (time.time() - self._started):+.6f} x{rate}"
        temporary = self._file.with_suffix(".new")
        temporary.write_text(text + "\n")
        temporary.replace(self._file)


class FakedService(Service):
    """An instance whose service and commands live in ``time``."""

    def __init__(self, home: Path, time: FakedTime, *, port: int | None = None, database_url: str = "") -> None:
        super().__init__(home, port=port, database_url=database_url)
        self.time = time

    @property
    def environment(self) -> dict[str, str]:
        """With libfaketime in every process."""
        own = super().environment
        return own | dict(self.time.environment) | {"PYTHONPATH": f"{self.time.python_path}:{own['PYTHONPATH']}"}
