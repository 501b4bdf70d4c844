"""What a configuration must not say: values out of range and combinations that cannot be meant, each refused by its key."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import Rejected
from core.settings import ClockConfig, Config, HsmConfig, NoticesConfig, TsaConfig, TsaLimit, TsaLimits, TsaUnitConfig

_LEGAL_PERSON = re.compile(r"([A-Z]{3}|[A-Z]{2}:)[A-Z]{2}-[A-Za-z0-9.-]{1,58}")
_UNIT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


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
        raise Rejected("notices.officer_days", "officer_days, agency_days, operator_days must fall, from 366 at most to 0 at least")
    if config.smtp_security not in ("starttls", "tls", "none"):
        raise Rejected("notices.smtp_security", "must be starttls, tls or none")
    if config.smtp_host and "@" not in config.mail_from:
        raise Rejected("notices.mail_from", "must be an address where there is an smtp_host")
    if config.smtp_user and config.smtp_security == "none":
        raise Rejected("notices.smtp_user", "must not log in without encryption: set smtp_security")
    if not 1 <= config.attempts <= 100:
        raise Rejected("notices.attempts", "must be from 1 to 100")
    if config.keep_days and not config.officer_days < config.keep_days <= 36_500:
        raise Rejected("notices.keep_days", "must be 0 (for ever) or more than officer_days, or a reminder would be sent twice")
    for name, url in config.webhooks.items():
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise Rejected(f"notices.webhooks.{name}", "must be http(s)://host[:port]/path without a user")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            raise Rejected(f"notices.webhooks.{name}", "a name has lower-case letters, digits and hyphens, at most 63")


def check_config(config: Config) -> None:
    """Raises Rejected naming the first key whose value cannot be meant."""
    parts = urlsplit(config.public_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or config.public_url.endswith("/"):
        raise Rejected("public_url", "must be http(s)://host[:port] without a slash at the end")
    for key, value, least, most, why in _ranges(config):
        if not least <= value <= most:
            raise Rejected(key, f"must be from {least} to {most}{why}")
    _check_hsm(config.hsm, config.home)
    _check_tsa(config.tsa, development=config.development)
    _check_notices(config.notices)
    if config.signer.when_material_is_away not in ("refuse", "lower"):
        raise Rejected("signer.when_material_is_away", "must be refuse or lower")
    if config.signer.secrecy not in ("official", "all"):
        raise Rejected("signer.secrecy", "must be official or all")
    for group, policy in dataclasses.asdict(config.signer.hygiene).items():
        if policy not in ("refuse", "report"):
            raise Rejected(f"signer.hygiene.{group}", "must be refuse or report")
    if not all(re.fullmatch(r"[a-z0-9.-]{1,253}(:\d{1,5})?", host) for host in config.pki.fetch.hosts):
        raise Rejected("pki.fetch.hosts", "each must be a host name in lower case, perhaps with :port")


def _ranges(config: Config) -> tuple[tuple[str, int, int, int, str], ...]:
    """Key, value, the least and the most it may be, and why where that is not plain."""
    pki, tsa, approvals, server = config.pki, config.tsa, config.approvals, config.server
    return (
        ("pki.certificate_days", pki.certificate_days, 1, 1826, ": a subscriber's certificate lives at most 5 years"),
        ("pki.crl_hours", pki.crl_hours, 1, 24 * 365, ""),
        ("pki.crl_partitions", pki.crl_partitions, 1, 1000, ""),
        ("pki.ocsp_minutes", pki.ocsp_minutes, 1, 60 * 24 * 7, ""),
        (
            "pki.ocsp_cache_seconds",
            pki.ocsp_cache_seconds,
            0,
            pki.ocsp_minutes * 30,
            ": half of pki.ocsp_minutes",
        ),
        ("pki.ocsp_evidence_hours", pki.ocsp_evidence_hours, 0, 24 * 366, ""),
        ("pki.fetch.seconds", pki.fetch.seconds, 1, 60, ""),
        ("pki.fetch.size", pki.fetch.size, 1024, 1 << 28, " bytes"),
        ("signer.archive_margin_days", config.signer.archive_margin_days, 1, 3650, ""),
        ("pki.offline_crl_days", pki.offline_crl_days, 1, 366, ""),
        ("pki.restore_gap", pki.restore_gap, 1, 1_000_000_000, ""),
        ("pki.backup_hours", pki.backup_hours, 1, 24 * 365, ""),
        ("tsa.accuracy_milliseconds", tsa.accuracy_milliseconds, 1, 1000, " (ETSI EN 319 421: 1 s or better)"),
        ("approvals.needed", approvals.needed, 1, 5, ""),
        ("approvals.hours", approvals.hours, 1, 24 * 90, ""),
        ("jobs.rows_per_second", config.jobs.rows_per_second, 1, 1000, ""),
        ("signer.activation.minutes", config.signer.activation.minutes, 1, 60 * 24, ""),
        ("signer.activation.batch", config.signer.activation.batch, 1, 100_000, ""),
        ("batches.bytes", config.batches.bytes, 1_000_000, 1 << 40, ""),
        ("batches.keep_hours", config.batches.keep_hours, 1, 24 * 90, ""),
        ("server.body_limit", server.body_limit, 65_536, 1 << 31, " bytes"),
        ("server.document_limit", server.document_limit, 65_536, 9_000_000_000, " bytes: offsets in a PDF have ten digits"),
        ("server.workers", server.workers, 1, 256, ""),
        ("server.threads", server.threads, 1, 256, ""),
    )


def _check_tsa(tsa: TsaConfig, *, development: bool) -> None:
    if tsa.organization_identifier and not _LEGAL_PERSON.fullmatch(tsa.organization_identifier):
        raise Rejected(
            "tsa.organization_identifier",
            "is like VATVN-0100000000, or MD:VN-H26 by a scheme of the country's own (EN 319 412-1, 5.1.4)",
        )
    for name, value in (("operator", tsa.operator), ("contact", tsa.contact)):
        if len(value) > 200 or not value.isprintable() or "|" in value:
            raise Rejected(f"tsa.{name}", "is one line of 200 characters at most, without |")
    _check_units(tsa.units)
    _check_limits(tsa.limits)
    _check_clock(tsa.clock, development=development)


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
