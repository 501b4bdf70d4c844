"""Profiles in files: what is shipped can be meant, what cannot be meant is refused with file and key named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from falcon import testing

from bootstrap import build
from core.config import parse_config
from core.errors import Conflict, Rejected
from hsm.keys import KeySpec
from pki import http_profiles
from pki.profile import profile_digest
from pki.profile_files import DEFAULTS, SHIPPED, load_profiles, parse_profile
from registry import registry
from registry.models import Role
from tests.pki.house import ADMIN, REFERENCE, House, make_app

OFFICER = (SHIPPED / "officer.toml").read_text(encoding="utf-8")


def test_the_shipped_profiles_are_these() -> None:
    names = {"officer", "agency-seal", "device", "tls-server", "tsa", "ocsp-responder", "issuing-ca", "root"}
    assert set(DEFAULTS) >= names
    policies = {profile.holder: profile.policy for profile in DEFAULTS.values() if profile.holder is not None}
    assert len(set(policies.values())) == 3, "one policy for each kind of subscriber"


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("officer", "max_days = 1827", "max_days"),
        ("officer", "days = 1900", "days"),
        ("officer", "renewal_max_days = 1097", "renewal_max_days"),
        ("officer", "policy = '2.5.29.32.0'", "policy"),
        ("officer", "policy = 'mine'", "policy"),
        ("officer", "usages = ['key_cert_sign']", "usages"),
        ("officer", "usages = ['sign']", "usages"),
        ("officer", "usages = ['digital_signature', 'encipher_only']", "usages"),
        ("officer", "extended = ['timeStamping']", "extended"),
        ("officer", "extended = ['2.5.29.37.0']", "extended"),
        ("officer", "extended = ['everything']", "extended"),
        ("officer", "extended = ['serverAuth']", "host_names"),
        ("officer", "status_checked = false", "status_checked"),
        ("officer", "authority = true", "usages"),
        ("officer", "path_length = 0", "path_length"),
        ("officer", "holder = 'robot'", "holder"),
        ("officer", "version = 0", "version"),
        ("officer", "version = true", "version"),
        ("officer", "days = '1095'", "days"),
        ("officer", "colour = 'red'", "colour"),
        ("tsa", "key_days = 5000", "key_days"),
        ("tsa", "extended_critical = false", "extended"),
        ("tsa", "renewal_max_days = 1", "renewal_max_days"),
        ("root", "max_days = 7306", "max_days"),
        ("root", "holder = 'agency'", "authority"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(name: str, change: str, key: str) -> None:
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if line.partition(" =")[0] != change.partition(" =")[0]]
    with pytest.raises(Rejected) as caught:
        parse_profile(name, "\n".join([*kept, change]))
    assert f"profiles/{name}.toml: {key}" in [item.field for item in caught.value.violations]


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "officer.toml").write_text(OFFICER.replace("1826", "9999").replace("version = 1", "version = 0"))
    (tmp_path / "bad name.toml").write_text("")
    (tmp_path / "half.toml").write_text("version = ")
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(Rejected) as caught:
        load_profiles(tmp_path)
    assert [item.field for item in caught.value.violations] == [
        "profiles/officer.toml: version",
        "profiles/officer.toml: max_days",
        "profiles/bad name.toml",
        "profiles/half.toml",
        "profiles/latin.toml",
    ]


def test_two_kinds_of_holder_never_share_a_policy(tmp_path: Path) -> None:
    (tmp_path / "officer.toml").write_text(OFFICER.replace(".2.1", ".2.3"))
    with pytest.raises(Rejected, match="in another profile"):
        load_profiles(tmp_path)


def test_what_the_service_needs_cannot_become_something_else(tmp_path: Path) -> None:
    (tmp_path / "tsa.toml").write_text(OFFICER)
    with pytest.raises(Rejected, match="the service itself"):
        load_profiles(tmp_path)


def test_an_instance_adds_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "officer.toml").write_text(OFFICER.replace("days = 1095", "days = 30", 1))
    (tmp_path / "short-officer.toml").write_text(OFFICER.replace("days = 1095", "days = 7", 1))
    found = load_profiles(tmp_path)
    assert (found["officer"].days, found["short-officer"].days, found["device"]) == (30, 7, DEFAULTS["device"])
    assert profile_digest(found["officer"]) != profile_digest(DEFAULTS["officer"])


def test_the_digest_is_over_what_is_said_not_how() -> None:
    shuffled = "\n".join(reversed(OFFICER.splitlines()))
    assert profile_digest(parse_profile("officer", shuffled)) == profile_digest(DEFAULTS["officer"])


def test_an_unsafe_profile_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "officer.toml").write_text(OFFICER.replace("1826", "9999"))
    with pytest.raises(Rejected) as caught:
        build(parse_config({}, tmp_path))
    assert caught.value.violations[0].field == "profiles/officer.toml: max_days"


def test_a_profile_changed_under_the_same_version_issues_nothing(house: House, tmp_path: Path) -> None:
    """Two instances that read one version differently must not both issue under it."""

    def issue(folder: Path | None) -> str:
        ca = house.ca
        ca.profiles = load_profiles(folder)
        wanted = {"profile": "officer", "subscriber": "officer", "reference": REFERENCE, "actor": ADMIN}
        return ca.issue_for_key(spec=KeySpec.P_256, **wanted).serial  # type: ignore[arg-type]  # a table of keywords

    first = house.row(issue(None))
    assert (first.profile_version, first.profile_sha256) == (1, profile_digest(DEFAULTS["officer"]))
    changed = OFFICER.replace("days = 1095", "days = 30", 1)
    (tmp_path / "officer.toml").write_text(changed)
    with pytest.raises(Conflict, match="version = 2"):
        issue(tmp_path)
    (tmp_path / "officer.toml").write_text(changed.replace("version = 1", "version = 2"))
    assert house.row(issue(tmp_path)).profile_version == 2


def test_the_rules_in_force_can_be_read_by_an_auditor(house: House) -> None:
    """And anybody can compute the digest from what is told."""
    with house.database.write() as db:
        key = registry.add_client(db, at=house.clock(), actor=ADMIN, name="an-auditor", role=Role.AUDITOR)
    app = make_app(house)
    app.add_route("/v1/profiles", http_profiles.Profiles(profiles=house.ca.profiles))
    told = testing.TestClient(app).simulate_get("/v1/profiles", headers={"Authorization": f"Bearer {key}"}).json
    assert {item["name"] for item in told["profiles"]} == set(DEFAULTS)
    for item in told["profiles"]:
        form = json.dumps(item["terms"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(form.encode()).hexdigest() == item["sha256"]
    assert "condau.serial" in told["lints"]
