"""Fixtures of the verifier's tests."""

from __future__ import annotations

import pytest

from tests.verifier.authorities import NOW, Pki
from verifier.context import Context


@pytest.fixture(scope="session")
def pki() -> Pki:
    """One infrastructure for all tests; nothing in it changes."""
    return Pki()


@pytest.fixture
def context(pki: Pki) -> Context:
    """Everything trusted, nothing revoked, and it is now."""
    return Context(trust=pki.trust(), now=NOW)
