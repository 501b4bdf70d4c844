"""Fixtures over a real SoftHSM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import HsmConfig
from hsm.keys import KeySpec, PrivateKey
from hsm.token import Token
from tests.hsm.instance import make_instance


@pytest.fixture
def config(tmp_path: Path) -> HsmConfig:
    """A fresh token; the instance's folder is tmp_path."""
    return make_instance(tmp_path)


@pytest.fixture
def token(config: HsmConfig) -> Iterator[Token]:
    """The fresh token, closed afterwards."""
    token = Token(config)
    yield token
    token.close()


@pytest.fixture(scope="module")
def every_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HsmConfig, dict[KeySpec, PrivateKey]]]:
    """One key of each kind in one token; RSA keys take seconds to make."""
    config = make_instance(tmp_path_factory.mktemp("every_key"))
    token = Token(config)
    yield config, {spec: token.generate(f"key-{spec.value}", spec) for spec in KeySpec}
    token.close()
