"""What the README says of the settings and of `make` is so. (Its commands are run in tests/system/test_readme.py.)"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import Config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTING = re.compile(r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \| (.*?) \|", re.MULTILINE)
IN_WORDS = {
    "database_url": "`condau.sqlite3` in the folder",
    "hsm.environment": "none",
    "notices.webhooks": "none",
    "signer.font": "Tinos of `fonts-croscore`",
}


def _stated() -> Iterator[tuple[str, str]]:
    """Keys and defaults of the README's table; a row may hold several, parted by commas."""
    for names, defaults in SETTING.findall(README):
        yield from zip(names.replace("`", "").split(", "), defaults.split(", "), strict=True)


def _real(kind: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Keys and defaults of a configuration class, the defaults as TOML writes them."""
    for field in dataclasses.fields(kind):
        name = prefix + field.name
        if isinstance(field.default_factory, type) and dataclasses.is_dataclass(field.default_factory):
            yield from _real(field.default_factory, f"{name}.")
        elif name != "home":
            value = str(field.default) if isinstance(field.default, Path) else field.default
            yield name, IN_WORDS.get(name) or f"`{json.dumps(value)}`"


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    assert dict(_stated()) == dict(_real(Config))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))))
def test_every_make_target_the_readme_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_index_of_decisions_names_every_one_by_its_title() -> None:
    folder = ROOT / "docs" / "adr"
    pages = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in folder.glob("[0-9]*.md")}
    index = (folder / "README.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| \[(\d{4})\]\((.*?)\) \| (.*?) \|", index, re.MULTILINE)
    assert {name: f"# {number}: {title}" for number, name, title in stated} == pages
