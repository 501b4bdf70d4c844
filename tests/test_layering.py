"""The house rules that a syntax tree can show: who imports whom, who may touch what, how long a file may be."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"core"}),
    frozenset({"hsm"}),
    frozenset({"audit"}),
    frozenset({"registry"}),
    frozenset({"notices"}),
    frozenset({"web"}),
    frozenset({"approvals"}),
    frozenset({"pki"}),
    frozenset({"tsa", "signer", "verifier", "jobs"}),
    frozenset({"batches"}),
    frozenset({"migrations"}),
    frozenset({"bootstrap"}),
    frozenset({"api", "backup", "instance", "selfcheck"}),
    frozenset({"server"}),
    frozenset({"cli_common"}),
    frozenset({"cli_jobs"}),
    frozenset(
        {"cli_archive", "cli_batch", "cli_ca", "cli_gates", "cli_inventory", "cli_looks", "cli_registry", "cli_status", "cli_tsa"}
    ),
    frozenset({"cli"}),
)
"""From the ground up. A room imports from floors below its own, never from its own floor or from above. The one door through
the ceiling is a room's ``http*.py``, its side of the HTTP shell, which may import ``web`` wherever the room lies."""

HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
HTTP = re.compile(r"api\.py|server\.py|web/.*|\w+/http(_\w+)?\.py")
ONLY_IN = {
    "pkcs11": re.compile(r"hsm/.*"),
    "falcon": HTTP,
    "gunicorn": re.compile(r"server\.py|web/worker\.py"),
    "pyhanko": re.compile(r"core/pdf(_\w+)?\.py|(signer|verifier)/.*"),
    "pyhanko_certvalidator": re.compile(r"verifier/.*|pki/trust\.py"),
    "web": re.compile(r"api\.py|bootstrap\.py|server\.py|cli\.py|cli_common\.py|migrations/tables\.py|web/.*|\w+/http(_\w+)?\.py"),
}
"""Which files may import what, by the top of the dotted name."""


def _sources() -> Iterator[Path]:
    for room in sorted(HEIGHT):
        folder = ROOT / room
        yield from sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{room}.py"]


SOURCES = {str(path.relative_to(ROOT)): path for path in _sources()}


def _room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """The top of every dotted name that the file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            found.add(str(node.module))
    return {name.partition(".")[0] for name in found}


def test_every_python_file_at_the_top_belongs_to_a_floor() -> None:
    outside = {"tests", "bench", "examples", "scripts", "docs", "certs", "build", "var", "out"}
    rooms = {_room(str(path.relative_to(ROOT))) for path in ROOT.glob("[!.]*/*.py")} | {path.stem for path in ROOT.glob("*.py")}
    assert rooms - outside == set(HEIGHT)


@pytest.mark.parametrize("file", SOURCES)
def test_a_room_imports_only_from_the_floors_below_it(file: str) -> None:
    own = _room(file)
    others = (_imports(SOURCES[file]) & set(HEIGHT)) - {own}
    if re.fullmatch(r"\w+/http(_\w+)?\.py", file):
        others -= {"web"}
    assert not {room for room in others if HEIGHT[room] >= HEIGHT[own]}


@pytest.mark.parametrize("file", SOURCES)
def test_a_library_is_imported_only_where_it_belongs(file: str) -> None:
    out_of_place = {name for name in _imports(SOURCES[file]) & set(ONLY_IN) if not ONLY_IN[name].fullmatch(file)}
    assert not out_of_place


@pytest.mark.parametrize("file", SOURCES)
def test_only_the_configuration_reads_the_environment(file: str) -> None:
    names = {
        node.attr
        for node in ast.walk(ast.parse(SOURCES[file].read_bytes()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert file == "core/config.py" or not names & {"environ", "environb", "getenv", "putenv", "unsetenv"}


def _repository() -> Iterator[Path]:
    """Every file that is ours: all but what .gitignore names."""
    ignored = {".git", ".venv", "var", "out", "build", "dist"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in ignored and not name.endswith(("_cache", "__pycache__", ".egg-info"))]
        yield from (Path(folder) / name for name in files)


def test_no_python_file_is_longer_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in _repository() if path.suffix == ".py"}
    assert not {file: lines for file, lines in lengths.items() if lines > 400}


def test_no_private_key_is_in_the_repository() -> None:
    """Neither as PEM nor as a file of a kind that holds one; ``certs/`` holds certificates and nothing secret."""
    pem = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/=\s]{40,}-----END")
    found = {
        str(path.relative_to(ROOT))
        for path in _repository()
        if path.suffix in {".key", ".p12", ".pfx", ".jks", ".p8"} or pem.search(path.read_bytes())
    }
    assert not found


def test_the_map_of_the_floors_is_the_one_in_the_readme() -> None:
    """README's line ``core <- hsm <- …`` names the rooms in this order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = next(line for line in readme.splitlines() if line.startswith("core <- "))
    stated = [frozenset(re.findall(r"\w+", part)) for part in line.split("<-")]
    assert all(HEIGHT[room] < HEIGHT[above] for lower, upper in pairwise(stated) for room in lower for above in upper)
    assert frozenset().union(*stated) == set(HEIGHT)
