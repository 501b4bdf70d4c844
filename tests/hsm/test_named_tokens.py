"""Further tokens beside the default one: their keys, and their absence."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import Conflict, NotFound, Unavailable
from core.settings import HsmConfig, NamedTokenConfig
from hsm.connection import try_out
from hsm.keys import KeySpec
from hsm.softhsm import ensure_named_tokens
from hsm.token import Token
from tests.hsm.instance import make_instance, pkcs11_tool


@pytest.fixture
def two(tmp_path: Path) -> HsmConfig:
    """A default token and one named ``root``, in one SoftHSM store."""
    root = NamedTokenConfig("root", "condau-root", tmp_path / "secrets" / "root-pin", offline=True)
    config = dataclasses.replace(make_instance(tmp_path), tokens=(root,))
    ensure_named_tokens(config)
    ensure_named_tokens(config)  # finds it there
    return config


@pytest.fixture
def token(two: HsmConfig) -> Iterator[Token]:
    token = Token(two)
    yield token
    token.close()


def _in_token(config: HsmConfig, label: str) -> HsmConfig:
    found = next(item for item in config.tokens if item.token_label == label)
    return dataclasses.replace(config, token_label=label, pin_file=found.pin_file)


@pytest.mark.interop
def test_a_key_is_made_in_the_token_its_label_names_and_nowhere_else(token: Token, two: HsmConfig) -> None:
    key = token.generate("root:ca-root", KeySpec.P_384)
    try_out(key)
    assert token.key("root:ca-root").public_key() == key.public_key()
    with pytest.raises(NotFound):
        token.key("ca-root")
    with pytest.raises(Conflict):
        token.generate("root:ca-root", KeySpec.P_384)
    token.generate("ca-root", KeySpec.P_256)  # the same label in another token is another key
    assert token.labels("root") == ["root:ca-root"]
    token.close()
    assert "ca-root" in pkcs11_tool(_in_token(two, "condau-root"), "--list-objects")
    assert "EC_POINT 384" in pkcs11_tool(_in_token(two, "condau-root"), "--list-objects")


def test_a_token_that_is_away_leaves_the_default_one_at_work(token: Token, tmp_path: Path) -> None:
    token.generate("root:ca-root", KeySpec.P_256)
    near = token.generate("near", KeySpec.P_256)
    token.close()
    store = tmp_path / "hsm" / "tokens"
    (folder,) = [path for path in store.iterdir() if b"condau-root" in (path / "token.object").read_bytes()]
    shutil.move(folder, tmp_path / "safe")
    with pytest.raises(Unavailable, match="not there"):
        token.key("root:ca-root")
    try_out(token.key("near"))
    assert token.key("near").public_key() == near.public_key()
    token.close()
    shutil.move(tmp_path / "safe", folder)
    try_out(token.key("root:ca-root"))


def test_a_refused_pin_is_not_tried_again_and_unknown_names_are_refused(token: Token, two: HsmConfig) -> None:
    pin_file = two.tokens[0].pin_file
    pin = pin_file.read_text()
    pin_file.write_text("wrong\n")
    for _ in range(12):  # tokens lock after some wrong PINs
        with pytest.raises(Unavailable, match="PIN"):
            token.key("root:ca-root")
    pin_file.write_text(pin)
    with pytest.raises(NotFound):
        token.key("root:ca-root")
    with pytest.raises(Unavailable, match="names no token"):
        token.key("moon:ca-root")
