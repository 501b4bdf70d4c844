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
_LEGAL_PERSON = re.compile(r"([A-Z]{3}|[A-Z]{2}:)[A-Z]{2}-[A-Za-z0-9.-]{1,58}")
_UNIT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
T = TypeVar("T")


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
    crl_hours: int = 24
    """From a CRL's thisUpdate to its nextUpdate; a new one is issued when half of it has passed."""
    ocsp_minutes: int = 10
    """From an OCSP response's thisUpdate to its nextUpdate."""


@dataclass(frozen=True, slots=True)
class TsaUnitConfig:
    """``[[tsa.units]]``: a time-stamping unit, which answers at ``/tsa/{name}`` and at ``/tsa`` to those who ask for its policy."""

    name: str
    """Lower-case letters, digits and hyphens, at most 32."""
    policy: str = ""
    """The policy OID it stamps under; empty: ``tsa.policy``."""
    key: str = "p-256"
    """The kind of key made for it: ``rsa-2048`` to ``rsa-4096``, ``p-256``, ``p-384``, ``p-521``, ``ed25519``."""
    pss: bool = False
    """A RSA key signs by RSASSA-PSS and not by PKCS #1 v1.5."""
    keys: int = 1
    """Keys used in turn, each with a certificate of its own, where one key is the limit."""
    qualified: bool = False
    """Every timestamp states that it is a qualified one (ETSI EN 319 422, 9.1: esi4-qtstStatement-1)."""


@dataclass(frozen=True, slots=True)
class ClockConfig:
    """``[tsa.clock]``: what the time of time-stamps rests on."""

    sources: tuple[str, ...] = ("kernel",)
    """The time sources: ``kernel`` (its synchronisation state), ``chrony`` (chronyd on this machine), ``ntp://host[:port]``."""
    quorum: int = 0
    """Sources that must agree: more than half of them. 0 is the smallest such number."""
    interval: int = 16
    """Seconds between two rounds of asking the sources."""
    max_age: int = 64
    """Seconds that the sources' verdict counts while they are silent; then nothing is stamped."""
    unchecked: bool = False
    """Stamp also when nothing vouches for the clock: only in a development instance."""


@dataclass(frozen=True, slots=True)
class TsaLimit:
    """``[[tsa.limits.clients]]``: what one known client may have; 0 is without limit."""

    name: str
    """The client's name in the registry."""
    per_second: int = 0
    per_day: int = 0


@dataclass(frozen=True, slots=True)
class TsaLimits:
    """``[tsa.limits]``: how many timestamps a caller may have; 0 is without limit. Days are those of UTC."""

    anonymous_per_second: int = 0
    """For each address a caller without a key comes from."""
    anonymous_per_day: int = 0
    """For all callers without a key together."""
    client_per_second: int = 0
    """For each known client that ``clients`` does not name."""
    client_per_day: int = 0
    clients: tuple[TsaLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class TsaConfig:
    """``[tsa]``: the time-stamping authority."""

    policy: str = "1.3.6.1.4.1.99999.1.1"
    """The TSA policy OID put into every timestamp when the request names none."""
    accuracy_milliseconds: int = 1000
    """The stated accuracy; ETSI EN 319 421 allows at most 1 s."""
    clock: ClockConfig = field(default_factory=ClockConfig)
    limits: TsaLimits = field(default_factory=TsaLimits)
    organization_identifier: str = ""
    """organizationIdentifier in the units' names, such as ``VATVN-0100000000`` or ``MD:VN-H26`` (ETSI EN 319 412-1, 5.1.4)."""
    units: tuple[TsaUnitConfig, ...] = ()
    """The units, the one first that answers where no policy and no unit is asked for; none stands for a single ``default``."""

    @property
    def all_units(self) -> tuple[TsaUnitConfig, ...]:
        """The units that there are, each with its policy said."""
        units = self.units or (TsaUnitConfig(name="default"),)
        return tuple(unit if unit.policy else dataclasses.replace(unit, policy=self.policy) for unit in units)


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """``[metrics]``: who may read ``/metrics``."""

    open: bool = False
    """Everybody who reaches the service; otherwise auditors and admins, by their API key."""


@dataclass(frozen=True, slots=True)
class SignerConfig:
    """``[signer]``: signatures on documents."""

    font: Path = Path("/usr/share/fonts/truetype/croscore/Tinos-Regular.ttf")
    """A TrueType font with every Vietnamese letter, for visible stamps. Tinos has the metrics of Times New Roman (Debian and
    Ubuntu: fonts-croscore)."""


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
    tsa: TsaConfig = field(default_factory=TsaConfig)
    signer: SignerConfig = field(default_factory=SignerConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)


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
    )
    url = config.database_url or sqlite_url(home / "condau.sqlite3")
    config = dataclasses.replace(config, hsm=hsm, database_url=url)
    _check(config)
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


def _check(config: Config) -> None:
    parts = urlsplit(config.public_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or config.public_url.endswith("/"):
        raise Rejected("public_url", "must be http(s)://host[:port] without a slash at the end")
    if not 1 <= config.hsm.sessions <= 64:
        raise Rejected("hsm.sessions", "must be from 1 to 64")
    if not 1 <= config.pki.certificate_days <= 1826:
        raise Rejected("pki.certificate_days", "must be from 1 to 1826: a subscriber's certificate lives at most 5 years")
    if not 1 <= config.pki.crl_hours <= 24 * 365:
        raise Rejected("pki.crl_hours", "must be from 1 to 8760")
    if not 1 <= config.pki.ocsp_minutes <= 60 * 24 * 7:
        raise Rejected("pki.ocsp_minutes", "must be from 1 to 10080")
    if not 1 <= config.tsa.accuracy_milliseconds <= 1000:
        raise Rejected("tsa.accuracy_milliseconds", "must be from 1 to 1000 (ETSI EN 319 421: 1 s or better)")
    if config.tsa.organization_identifier and not _LEGAL_PERSON.fullmatch(config.tsa.organization_identifier):
        raise Rejected(
            "tsa.organization_identifier",
            "is like VATVN-0100000000, or MD:VN-H26 by a scheme of the country's own (EN 319 412-1, 5.1.4)",
        )
    _check_units(config.tsa.units)
    _check_limits(config.tsa.limits)
    _check_clock(config.tsa.clock, development=config.development)
    if config.server.body_limit < 65_536:
        raise Rejected("server.body_limit", "must be at least 65536 bytes")
    if config.server.workers < 1 or config.server.threads < 1:
        raise Rejected("server.workers", "at least one worker and one thread are needed")


def _check_units(units: tuple[TsaUnitConfig, ...]) -> None:
    for position, unit in enumerate(units):
        field = f"tsa.units[{position}]"
        if not _UNIT_NAME.fullmatch(unit.name):
            raise Rejected(f"{field}.name", "must be 1 to 32 lower-case letters, digits and hyphens, a letter or digit first")
        if unit.name == "policy":
            raise Rejected(f"{field}.name", "is taken: the policy and practice statement is served at /tsa/policy")
        if unit.name in {other.name for other in units[:position]}:
            raise Rejected(f"{field}.name", f"{unit.name} is there already: each unit has a name of its own")
        if not 1 <= unit.keys <= 64:
            raise Rejected(f"{field}.keys", "must be from 1 to 64")
        if unit.pss and not unit.key.startswith("rsa-"):
            raise Rejected(f"{field}.pss", f"is for RSA keys, and this unit's is {unit.key}: leave it out")


def _check_limits(limits: TsaLimits) -> None:
    tables: list[tuple[str, TsaLimits | TsaLimit]] = [("", limits)]
    tables += [(f"clients[{position}].", limit) for position, limit in enumerate(limits.clients)]
    for prefix, table in tables:
        for item in dataclasses.fields(table):
            value = getattr(table, item.name)
            if isinstance(value, int) and value < 0:
                raise Rejected(f"tsa.limits.{prefix}{item.name}", "must be 0, which is without limit, or more")
    names = [limit.name for limit in limits.clients]
    if len(set(names)) < len(names):
        raise Rejected("tsa.limits.clients", "names a client twice")


def _check_clock(clock: ClockConfig, *, development: bool) -> None:
    if not 1 <= len(clock.sources) <= 16 or len(set(clock.sources)) < len(clock.sources):
        raise Rejected("tsa.clock.sources", "must be 1 to 16 different time sources")
    for position, source in enumerate(clock.sources):
        if source not in ("kernel", "chrony") and not _is_ntp_address(source):
            raise Rejected(f"tsa.clock.sources[{position}]", f"{source!r} is none of kernel, chrony and ntp://host[:port]")
    if clock.quorum and not len(clock.sources) < 2 * clock.quorum <= 2 * len(clock.sources):
        raise Rejected("tsa.clock.quorum", "must be more than half of the sources: two halves could contradict each other")
    if not 1 <= clock.interval <= 1024:
        raise Rejected("tsa.clock.interval", "must be from 1 to 1024")
    if not 2 * clock.interval < clock.max_age <= 3600:
        raise Rejected("tsa.clock.max_age", "must be more than two intervals, and at most 3600")
    if clock.unchecked and not development:
        raise Rejected(
            "tsa.clock.unchecked", "only a development instance may stamp with a clock nothing vouches for: name time sources"
        )


def _is_ntp_address(source: str) -> bool:
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError:
        return False
    rest = parts.path or parts.query or parts.fragment or parts.username or parts.password
    return parts.scheme == "ntp" and bool(parts.hostname) and port != 0 and not rest
