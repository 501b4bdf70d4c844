"""Configuration: one TOML file in the instance's folder, and the only reader of the environment.

Every key has a default that makes sense for one machine with SoftHSM and SQLite. Unknown keys are refused, and so are
combinations that cannot be meant, with the key named. Secrets are read from files. The environment may say where the
instance is (``CONDAU_HOME``), its port (``CONDAU_PORT``) and its database (``CONDAU_DATABASE_URL``), nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from core.db import sqlite_url
from core.errors import Rejected

FILE_NAME = "condau.toml"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamedTokenConfig:
    """``[[hsm.tokens]]``: one more token of the same module. A key in it is labelled ``name:label``."""

    name: str = ""
    """What key labels begin with; a-z, 0-9 and hyphens."""
    token_label: str = ""
    pin_file: Path = Path()
    """As ``hsm.pin_file``."""
    offline: bool = False
    """It need not be present while serving (a root's): the authority's CRL is made in a ceremony, not by schedule."""


@dataclass(frozen=True, slots=True)
class HsmConfig:
    """``[hsm]``: which PKCS#11 module, which token, and how many calls at once it bears."""

    module: Path = Path("/usr/lib/softhsm/libsofthsm2.so")
    """The PKCS#11 module (a shared library)."""
    token_label: str = "condau"  # noqa: S105 - the token's public label, not a secret
    pin_file: Path = Path("secrets/user-pin")
    """Holds the user PIN on its first line; relative to the instance's folder."""
    sessions: int = 1
    """PKCS#11 sessions used at once in one process. 1 puts one lock around every call, which every module bears; more is
    for a module that does its own locking (a network HSM), to keep several requests in flight."""
    retry_after: int = 1
    """Seconds a client is told to wait while the HSM is away."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables the module itself reads (``SOFTHSM2_CONF``, ``P11_KIT_SERVER_ADDRESS``); ``{home}`` is the instance's folder."""
    tokens: tuple[NamedTokenConfig, ...] = ()
    """Further tokens of the same module."""

    def is_offline(self, key_label: str) -> bool:
        """Whether the key with this label lies in a token that need not be present while serving."""
        name, colon, _ = key_label.partition(":")
        return bool(colon) and any(token.offline for token in self.tokens if token.name == name)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """``[server]``: the HTTP side."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    threads: int = 8
    body_limit: int = 100_000_000
    """Bytes of a request body; more is refused while it is being read."""


@dataclass(frozen=True, slots=True)
class PkiConfig:
    """``[pki]``: terms of certificates and of the lists about them."""

    certificate_days: int = 1095
    """Validity of a subscriber's certificate; law allows at most 5 years (1826 days)."""
    profiles: Path = Path("profiles")
    """Folder of the instance's own certificate profiles (``NAME.toml``), relative to its folder; it need not exist."""
    crl_hours: int = 24
    """From a CRL's thisUpdate to its nextUpdate; a new one is issued when half of it has passed."""
    crl_partitions: int = 1
    """Over how many parts of the CRL new certificates are spread; 1: they all name the complete one, which is always issued."""
    offline_crl_days: int = 180
    """The same for an authority whose token is offline: its CRL is issued in a ceremony, and lasts until the next one."""
    restore_gap: int = 1000
    """By how much CRL numbers jump after a restore: more than any that may have been published since the backup."""
    backup_hours: int = 24
    """`condau check` warns of a last backup older than this."""
    ocsp_minutes: int = 10
    """From an OCSP response's thisUpdate to its nextUpdate."""
    ocsp_cache_seconds: int = 30
    """For how long an answer without a nonce may be given again, as long as no status changed; 0: never."""


@dataclass(frozen=True, slots=True)
class TsaConfig:
    """``[tsa]``: the time-stamping unit."""

    policy: str = "1.3.6.1.4.1.99999.1.1"
    """The TSA policy OID put into every timestamp when the request names none."""
    accuracy_milliseconds: int = 1000
    """The stated accuracy; ETSI EN 319 421 allows at most 1 s."""


@dataclass(frozen=True, slots=True)
class SignerConfig:
    """``[signer]``: signatures on documents."""

    font: Path = Path("/usr/share/fonts/truetype/croscore/Tinos-Regular.ttf")
    """A TrueType font with every Vietnamese letter, for visible stamps. Tinos has the metrics of Times New Roman (Debian and
    Ubuntu: fonts-croscore)."""


@dataclass(frozen=True, slots=True)
class ApprovalsConfig:
    """``[approvals]``: which acts wait until other people have approved them. Each list names profiles (authorities, roles);
    ``"*"`` is every one. Empty lists: nobody has to be asked."""

    needed: int = 1
    """How many people beside the one who asks."""
    hours: int = 72
    """After this a request that nobody decided has expired."""
    issue: tuple[str, ...] = ()
    """Profiles whose certificates are issued, renewed or rekeyed only with approval, also in bulk."""
    revoke: tuple[str, ...] = ()
    """Profiles whose certificates are revoked only with approval."""
    profile: tuple[str, ...] = ()
    """Profiles that are changed only with approval."""
    authority: tuple[str, ...] = ()
    """Authorities that are put to work only with approval."""
    role: tuple[str, ...] = ()
    """Roles that are given to a caller or taken from one only with approval."""


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """``[jobs]``: enrolments and replacements in bulk."""

    rows_per_second: int = 20
    """The most rows a job does in a second, so that signatures asked for meanwhile find the HSM free."""


@dataclass(frozen=True, slots=True)
class NoticesConfig:
    """``[notices]``: who is told what: reminders by e-mail, every event by webhook. Nothing is sent until it is configured."""

    officer_days: int = 60
    """So many days before a certificate expires its holder is reminded; 0: not at all, as below."""
    agency_days: int = 30
    """The same for the holder's agency, and the holder again."""
    operator_days: int = 7
    """The same for the operator of this service, and both of them again."""
    operator_email: str = ""
    """The operator's address."""
    mail_from: str = ""
    """The sender's address; needed where there is a mail server."""
    smtp_host: str = ""
    """The mail server; empty: no e-mail is sent."""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    """``starttls``, ``tls`` (from the first byte) or ``none`` (a mail server on this machine)."""
    smtp_user: str = ""
    """Empty: no login."""
    smtp_password_file: Path = Path("secrets/smtp-password")
    """Holds the user's password; relative to the instance's folder."""
    webhooks: Mapping[str, str] = field(default_factory=dict)
    """Names of receivers and the URLs that every event is sent to. Only these: no request can name another."""
    secrets: Path = Path("secrets/webhooks")
    """The folder with each webhook's secret, in a file with its name; relative to the instance's folder."""
    attempts: int = 12
    """How often a delivery is tried, at growing intervals, before it is given up; 12 attempts take about a day."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of ``condau.toml``. ``home`` is the folder it was found in."""

    home: Path
    public_url: str = "http://127.0.0.1:8080"
    """Where clients reach this service; written into certificates as CRL, OCSP and issuer URLs."""
    database_url: str = ""
    """SQLAlchemy URL; empty means ``condau.sqlite3`` in the instance's folder."""
    development: bool = False
    """A development instance: known to be one, and never to be trusted by anybody else."""
    hsm: HsmConfig = field(default_factory=HsmConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    pki: PkiConfig = field(default_factory=PkiConfig)
    approvals: ApprovalsConfig = field(default_factory=ApprovalsConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    tsa: TsaConfig = field(default_factory=TsaConfig)
    signer: SignerConfig = field(default_factory=SignerConfig)
    notices: NoticesConfig = field(default_factory=NoticesConfig)


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
    if not text.isdigit() or not 0 < int(text) < 65536:
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
    config = dataclasses.replace(config, hsm=hsm, notices=notices, database_url=url, pki=pki)
    _check(config)
    return config


def export_module_environment(config: HsmConfig) -> None:
    """Set the variables the PKCS#11 module reads, before it is loaded; it reads nothing else of ours."""
    os.environ.update(config.environment)


def _build(kind: type[T], table: Mapping[str, Any], prefix: str) -> T:
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise Rejected(prefix + unknown[0], f"unknown key; known here: {', '.join(sorted(set(hints) - {'home'}))}")
    return kind(**{name: _value(hints[name], value, prefix + name) for name, value in table.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise Rejected(name, "is a table")
        return _build(hint, value, name + ".")
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise Rejected(name, "is a table of strings")
        return value
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Rejected(name, "is a list of strings")
        return tuple(value)
    if typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0]):
        return _tables(typing.get_args(hint)[0], value, name)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if isinstance(hint, types.GenericAlias) or type(value) is not hint:
        raise Rejected(name, f"must be {getattr(hint, '__name__', hint)}, not {type(value).__name__}")
    return value


def _tables(kind: Any, value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Rejected(name, f"is an array of tables: write [[{name}]]")
    return tuple(_build(kind, item, f"{name}.") for item in value)


def _check_hsm(config: HsmConfig, home: Path) -> None:
    names = [token.name for token in config.tokens]
    if len(set(names)) < len(names) or not all(re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name) for name in names):
        raise Rejected("hsm.tokens.name", "each token has a name of its own, of a-z, 0-9 and hyphens")
    if not all(token.token_label and token.pin_file != home for token in config.tokens):
        raise Rejected("hsm.tokens.token_label", "each token has a token_label and a pin_file")
    if not 1 <= config.sessions <= 64:
        raise Rejected("hsm.sessions", "must be from 1 to 64")


def _check_notices(config: NoticesConfig) -> None:
    if not 0 <= config.operator_days <= config.agency_days <= config.officer_days <= 366:
        raise Rejected("notices.officer_days", "officer_days, agency_days and operator_days must fall from 366 at most to 0 at least")
    if config.smtp_security not in ("starttls", "tls", "none"):
        raise Rejected("notices.smtp_security", "must be starttls, tls or none")
    if config.smtp_host and "@" not in config.mail_from:
        raise Rejected("notices.mail_from", "must be an address where there is an smtp_host")
    if config.smtp_user and config.smtp_security == "none":
        raise Rejected("notices.smtp_user", "must not log in without encryption: set smtp_security")
    if not 1 <= config.attempts <= 100:
        raise Rejected("notices.attempts", "must be from 1 to 100")
    for name, url in config.webhooks.items():
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise Rejected(f"notices.webhooks.{name}", "must be http(s)://host[:port]/path without a user")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            raise Rejected(f"notices.webhooks.{name}", "a name has lower-case letters, digits and hyphens, at most 63")


def _check(config: Config) -> None:
    parts = urlsplit(config.public_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or config.public_url.endswith("/"):
        raise Rejected("public_url", "must be http(s)://host[:port] without a slash at the end")
    _check_hsm(config.hsm, config.home)
    if not 1 <= config.pki.certificate_days <= 1826:
        raise Rejected("pki.certificate_days", "must be from 1 to 1826: a subscriber's certificate lives at most 5 years")
    if not 1 <= config.pki.crl_hours <= 24 * 365:
        raise Rejected("pki.crl_hours", "must be from 1 to 8760")
    if not 1 <= config.pki.crl_partitions <= 1000:
        raise Rejected("pki.crl_partitions", "must be from 1 to 1000")
    if not 0 <= config.pki.ocsp_cache_seconds <= config.pki.ocsp_minutes * 30:
        raise Rejected("pki.ocsp_cache_seconds", "must be from 0 to half of pki.ocsp_minutes, so that no answer is stale")
    if not 1 <= config.pki.offline_crl_days <= 366 or config.pki.restore_gap < 1 or config.pki.backup_hours < 1:
        raise Rejected("pki.offline_crl_days", "must be from 1 to 366; pki.restore_gap and pki.backup_hours at least 1")
    if not 1 <= config.pki.ocsp_minutes <= 60 * 24 * 7:
        raise Rejected("pki.ocsp_minutes", "must be from 1 to 10080")
    if not 1 <= config.tsa.accuracy_milliseconds <= 1000:
        raise Rejected("tsa.accuracy_milliseconds", "must be from 1 to 1000 (ETSI EN 319 421: 1 s or better)")
    if not 1 <= config.approvals.needed <= 5:
        raise Rejected("approvals.needed", "must be from 1 to 5")
    if not 1 <= config.approvals.hours <= 24 * 90:
        raise Rejected("approvals.hours", "must be from 1 to 2160")
    if not 1 <= config.jobs.rows_per_second <= 1000:
        raise Rejected("jobs.rows_per_second", "must be from 1 to 1000")
    _check_notices(config.notices)
    if config.server.body_limit < 65_536:
        raise Rejected("server.body_limit", "must be at least 65536 bytes")
    if config.server.workers < 1 or config.server.threads < 1:
        raise Rejected("server.workers", "at least one worker and one thread are needed")
