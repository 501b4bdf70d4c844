"""Configuration: one TOML file in the instance's folder, and the only reader of the environment.

Every key has a default that makes sense for one machine with SoftHSM and SQLite. Unknown keys are refused, and so are
combinations that cannot be meant, with the key named. Secrets are read from files. The environment may say where the
instance is (``CONDAU_HOME``), its port (``CONDAU_PORT``) and its database (``CONDAU_DATABASE_URL``), nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from core.config_checks import check_config
from core.db import sqlite_url
from core.errors import Rejected
from core.settings import Config, HsmConfig

FILE_NAME = "condau.toml"
T = TypeVar("T")


def home_from_environment() -> Path:
    """The instance's folder: ``CONDAU_HOME``, by default ``var`` below the working directory."""
    return Path(os.environ.get("CONDAU_HOME") or "var").resolve()


def load_config(home: Path) -> Config:
    """Read ``home/condau.toml``, let the environment override port and database, and check it as a whole.

    Raises :class:`~core.errors.Rejected` naming the key for a missing file, an unknown key, a value of the wrong type or
    an unsafe combination.
    """
    path = home / FILE_NAME
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Rejected("CONDAU_HOME", f"there is no {FILE_NAME} in {home}: run `condau init` first") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Rejected(FILE_NAME, f"not valid TOML: {error}") from error
    config = parse_config(table, home)
    port = port_from_environment()
    if port is not None:
        config = dataclasses.replace(config, server=dataclasses.replace(config.server, port=port))
    url = os.environ.get("CONDAU_DATABASE_URL")
    return dataclasses.replace(config, database_url=url) if url else config


def port_from_environment() -> int | None:
    """``CONDAU_PORT`` as a number, or None when it is not set."""
    text = os.environ.get("CONDAU_PORT")
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Rejected("CONDAU_PORT", f"{text!r} is not a TCP port")
    return int(text)


def parse_config(table: Mapping[str, Any], home: Path) -> Config:
    """The configuration a parsed TOML ``table`` says, with paths and the database made absolute against ``home``."""
    if "home" in table:
        raise Rejected("home", "not a key: the folder is the one the file lies in")
    config = _build(Config, {"home": home, **table}, "")
    hsm = dataclasses.replace(
        config.hsm,
        pin_file=home / config.hsm.pin_file,
        environment={name: value.replace("{home}", str(home)) for name, value in config.hsm.environment.items()},
        tokens=tuple(dataclasses.replace(token, pin_file=home / token.pin_file) for token in config.hsm.tokens),
    )
    notices = dataclasses.replace(
        config.notices,
        smtp_password_file=home / config.notices.smtp_password_file,
        secrets=home / config.notices.secrets,
    )
    url = config.database_url or sqlite_url(home / "condau.sqlite3")
    pki = dataclasses.replace(config.pki, profiles=home / config.pki.profiles)
    server = dataclasses.replace(config.server, spool=home / config.server.spool)
    batches = dataclasses.replace(config.batches, key_file=home / config.batches.key_file)
    config = dataclasses.replace(config, hsm=hsm, database_url=url, pki=pki, notices=notices, server=server, batches=batches)
    check_config(config)
    return config


def export_module_environment(config: HsmConfig) -> None:
    """Set the variables the PKCS#11 module reads, before it is loaded; it reads nothing else of ours."""
    os.environ.update(config.environment)


def export_metrics_folder(folder: Path) -> None:
    """Set the variable prometheus-client reads to find the folder the workers' counters lie in."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _build(kind: type[T], table: Mapping[str, Any], prefix: str) -> T:
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise Rejected(prefix + unknown[0], f"unknown key; known here: {', '.join(sorted(set(hints) - {'home'}))}")
    needed = {item.name for item in dataclasses.fields(kind) if item.default is item.default_factory is dataclasses.MISSING}  # type: ignore[arg-type]  # it is called with dataclasses only
    missing = sorted(needed - set(table))
    if missing:
        raise Rejected(prefix + missing[0], "must be given: it has no default")
    return kind(**{name: _value(hints[name], value, prefix + name) for name, value in table.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise Rejected(name, "is a table")
        return _build(hint, value, name + ".")
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise Rejected(name, "is a list")
        item_hint = typing.get_args(hint)[0]
        return tuple(_value(item_hint, item, f"{name}[{position}]") for position, item in enumerate(value))
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise Rejected(name, "is a table of strings")
        return value
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if isinstance(hint, types.GenericAlias) or type(value) is not hint:
        raise Rejected(name, f"must be {getattr(hint, '__name__', hint)}, not {type(value).__name__}")
    return value
