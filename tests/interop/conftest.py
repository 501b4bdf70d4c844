"""The judge of this folder's tests: started once, and missing with the reason said where it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.dss import Away, Dss


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """These tests run by ``make interop`` alone: they need programs that only Maven has."""
    return None if collection_path.suffix != ".py" or config.getoption("--interop") else True


@pytest.fixture(scope="session")
def dss() -> Iterator[Dss]:
    """EU DSS."""
    try:
        judge = Dss()
    except Away as away:
        pytest.skip(str(away))
    with judge:
        yield judge
