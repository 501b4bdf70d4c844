"""Profiles in files: the shipped ones and an instance's own, refused as a whole where one cannot be meant (docs/adr/0015)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from core.errors import Rejected, Violation
from pki.profile import DOCUMENT_SIGNING, SUBSCRIBER_MAX_DAYS, USAGE_NAMES, Profile
from registry.models import SubscriberKind

SHIPPED: Final = Path(__file__).parent / "profiles"
AUTHORITY_MAX_DAYS: Final = 7305
"""20 years (Nghị định 68/2024/NĐ-CP, article 9)."""
RENEWAL_MAX_DAYS: Final = 1096
"""3 years (the same)."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){2,}")
_EXTENDED: Final = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "documentSigning": DOCUMENT_SIGNING,
}
_TYPES: Final[dict[str, tuple[type, str]]] = {
    "version": (int, "a whole number"),
    "holder": (str, "a text"),
    "usages": (list, "a list of texts"),
    "days": (int, "a whole number"),
    "max_days": (int, "a whole number"),
    "renewal_max_days": (int, "a whole number"),
    "extended": (list, "a list of texts"),
    "extended_critical": (bool, "true or false"),
    "policy": (str, "a text"),
    "authority": (bool, "true or false"),
    "path_length": (int, "a whole number"),
    "key_days": (int, "a whole number"),
    "status_checked": (bool, "true or false"),
    "host_names": (bool, "true or false"),
    "issued_by": (str, "the alias of an authority"),
}
_REQUIRED: Final = ("version", "usages", "days", "max_days")


def load_profiles(folder: Path | None = None) -> Mapping[str, Profile]:
    """The shipped profiles, and over them those of ``folder`` (``NAME.toml``; it need not exist), by name.

    Raises Rejected naming file and key for everything that is wrong, all at once.
    """
    files = {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}
    if folder is not None and folder.is_dir():
        files |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    found: dict[str, Profile] = {}
    violations: list[Violation] = []
    for name, path in files.items():
        try:
            found[name] = parse_profile(name, path.read_text(encoding="utf-8"))
        except Rejected as error:
            violations += error.violations
        except UnicodeDecodeError as error:
            violations.append(Violation(f"profiles/{path.name}", f"is not UTF-8: {error}"))
    violations += _check_together(found)
    if violations:
        raise Rejected.all(violations)
    return found


def parse_profile(name: str, text: str) -> Profile:
    """The profile that a file says; raises Rejected with every key that is wrong."""
    where = f"profiles/{name}.toml"
    if not _NAME.fullmatch(name):
        raise Rejected(where, "the file's name is the profile's: 1 to 40 characters of a-z, 0-9 and hyphen")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Rejected(where, f"not valid TOML: {error}") from error
    violations = list(_check_form(table))
    if not violations:
        values = dict(table)
        values["usages"] = frozenset(table["usages"])
        values["extended"] = tuple(_EXTENDED.get(item) or x509.ObjectIdentifier(item) for item in table.get("extended", ()))
        if "holder" in table:
            values["holder"] = SubscriberKind(table["holder"])
        profile = Profile(name=name, **values)
        violations = list(check_profile(profile))
        if not violations:
            return profile
    raise Rejected.all([Violation(f"{where}: {item.field}", item.message) for item in violations])


def check_profile(profile: Profile) -> Iterator[Violation]:
    """Every combination in a profile that cannot be meant or that no certificate may have."""
    if profile.version < 1:
        yield Violation("version", "counts from 1")
    most = AUTHORITY_MAX_DAYS if profile.holder is None else SUBSCRIBER_MAX_DAYS
    if not 1 <= profile.max_days <= most:
        yield Violation("max_days", f"must be from 1 to {most} (Nghị định 68/2024/NĐ-CP, article 9)")
    if not 1 <= profile.days <= profile.max_days:
        yield Violation("days", f"must be from 1 to max_days, {profile.max_days}")
    if profile.key_days is not None and not 1 <= profile.key_days <= profile.max_days:
        yield Violation("key_days", f"must be from 1 to max_days, {profile.max_days}")
    if profile.usages & {"encipher_only", "decipher_only"} and "key_agreement" not in profile.usages:
        yield Violation("usages", "encipher_only and decipher_only mean nothing without key_agreement (RFC 5280, 4.2.1.3)")
    yield from _check_authority(profile)
    yield from _check_purposes(profile)
    yield from _check_subscriber(profile)


def _check_authority(profile: Profile) -> Iterator[Violation]:
    if profile.authority:
        if profile.usages != {"key_cert_sign", "crl_sign"}:
            yield Violation("usages", "an authority has key_cert_sign and crl_sign, and nothing else")
        if profile.holder is not None or profile.extended or profile.host_names or profile.key_days is not None:
            yield Violation("authority", "an authority has no holder, extended usages, host names or key_days")
    else:
        if profile.usages & {"key_cert_sign", "crl_sign"}:
            yield Violation("usages", "key_cert_sign and crl_sign are for an authority (authority = true)")
        if profile.path_length is not None:
            yield Violation("path_length", "is for an authority (authority = true)")
    if profile.path_length is not None and profile.path_length < 0:
        yield Violation("path_length", "must not be negative")


def _check_purposes(profile: Profile) -> Iterator[Violation]:
    purposes = set(profile.extended)
    if len(purposes) != len(profile.extended):
        yield Violation("extended", "names a purpose twice")
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in purposes:
        yield Violation("extended", "anyExtendedKeyUsage allows everything: name the purposes")
    if ExtendedKeyUsageOID.TIME_STAMPING in purposes:
        if len(purposes) > 1 or not profile.extended_critical or profile.holder is not None:
            yield Violation("extended", "timeStamping stands alone, critical, and in no subscriber's profile (RFC 3161, 2.3)")
        if profile.key_days is None:
            yield Violation("key_days", "a time-stamping key is used for less than the certificate's term: say how long")
    responder = ExtendedKeyUsageOID.OCSP_SIGNING in purposes
    if responder and (len(purposes) > 1 or profile.holder is not None):
        yield Violation("extended", "OCSPSigning stands alone and in no subscriber's profile")
    if not profile.status_checked and not responder:
        yield Violation("status_checked", "only an OCSP responder's status may go unchecked (RFC 6960, 4.2.2.2.1)")
    if (ExtendedKeyUsageOID.SERVER_AUTH in purposes) != profile.host_names:
        yield Violation("host_names", "goes with the purpose serverAuth: a server is known by its host names")


def _check_subscriber(profile: Profile) -> Iterator[Violation]:
    if profile.holder is None:
        for name in ("renewal_max_days", "issued_by"):
            if getattr(profile, name) is not None:
                yield Violation(name, "is for a profile with a holder")
        return
    if profile.policy is None or profile.policy.startswith("2.5.29.32"):
        yield Violation("policy", "a subscriber's certificate says by its policy what its holder is: name one of your own")
    if not profile.usages & {"digital_signature", "content_commitment", "key_agreement", "key_encipherment"}:
        yield Violation("usages", "a subscriber's key is good for something: digital_signature, content_commitment, …")
    if profile.renewal_max_days is None or not 1 <= profile.renewal_max_days <= RENEWAL_MAX_DAYS:
        yield Violation("renewal_max_days", f"must be from 1 to {RENEWAL_MAX_DAYS} (Nghị định 68/2024/NĐ-CP, article 9)")
    if profile.host_names and profile.holder is not SubscriberKind.DEVICE:
        yield Violation("host_names", "only a device or service has host names")


def _check_form(table: Mapping[str, Any]) -> Iterator[Violation]:
    for key in sorted(set(table) - set(_TYPES)):
        yield Violation(key, f"unknown key; known here: {', '.join(_TYPES)}")
    for key in _REQUIRED:
        if key not in table:
            yield Violation(key, "is missing")
    for key, value in table.items():
        if key in _TYPES:
            kind, says = _TYPES[key]
            if type(value) is not kind or (isinstance(value, list) and not all(isinstance(item, str) for item in value)):
                yield Violation(key, f"must be {says}")
            else:
                yield from _check_words(key, value)


def _check_words(key: str, value: Any) -> Iterator[Violation]:
    """Texts that must be one of ours, or an OID."""
    if key == "usages" and (unknown := sorted(set(value) - set(USAGE_NAMES))):
        yield Violation(key, f"unknown: {', '.join(unknown)}; known: {', '.join(USAGE_NAMES)}")
    elif key == "extended" and (unknown := [item for item in value if item not in _EXTENDED and not _OID.fullmatch(item)]):
        yield Violation(key, f"neither a name nor an OID: {', '.join(unknown)}; names: {', '.join(_EXTENDED)}")
    elif key == "policy" and not _OID.fullmatch(value):
        yield Violation(key, "is an OID in dotted numbers")
    elif key == "holder" and value not in set(SubscriberKind):
        yield Violation(key, f"one of {', '.join(SubscriberKind)}")


def _check_together(profiles: Mapping[str, Profile]) -> Iterator[Violation]:
    """What must hold between profiles: a policy tells the kind of holder, so two kinds never share one."""
    holders: dict[str, SubscriberKind] = {}
    for profile in profiles.values():
        if profile.holder is not None and profile.policy is not None:
            other = holders.setdefault(profile.policy, profile.holder)
            if other is not profile.holder:
                message = f"{profile.policy} says {other.value} in another profile: a policy tells what the holder is"
                yield Violation(f"profiles/{profile.name}.toml: policy", message)
    for name, authority in (("root", True), ("issuing-ca", True), ("ocsp-responder", False), ("tsa", False)):
        if name in profiles and (profiles[name].authority != authority or profiles[name].holder is not None):
            yield Violation(
                f"profiles/{name}.toml: authority", "the service itself uses this profile: it cannot become another kind"
            )


DEFAULTS: Final = load_profiles()
"""The shipped profiles."""
