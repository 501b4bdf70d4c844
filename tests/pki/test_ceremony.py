"""Definitions are linted whole before anything happens, and what was carried out is verified and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from core.errors import Rejected, Unavailable
from pki.anchors import fingerprint
from pki.ceremony import Ceremony, load_definition
from pki.minutes import build_minutes, build_plan
from tests.pki.house import ADMIN, BrokenKeys, House, run
from tests.pki.test_external import Elsewhere
from tests.test_layering import ROOT

SUBJECT = '[subject]\norganization = "Cơ quan Thử nghiệm"\nlocality = "Hà Nội"\ncommon_name = "{}"\n'
HEAD = 'title = "t"\nreference = "Số 1"\nroles = ["Chủ trì", "Thư ký"]\n'


def _ceremony(house: House) -> Ceremony:
    return Ceremony(database=house.database, keys=house.keys, now=house.clock, config=house.config, ca=house.ca, crl=house.crl)


def _write(folder: Path, text: str) -> Path:
    path = folder / "definition.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _issuing(generation: int, name: str = "Issuing G2") -> str:
    numbers = f'generation = {generation}\nkey = "p-256"\ndays = 3000\n'
    return f'kind = "issuing-ca"\n{HEAD}authority = "issuing"\nissuer = "root"\n{numbers}{SUBJECT.format(name)}'


@pytest.mark.parametrize("path", sorted((ROOT / "certs" / "ceremonies").glob("*.toml")), ids=lambda path: path.stem)
def test_the_definitions_that_come_along_are_sound(path: Path) -> None:
    assert "SHA-256" in build_plan(load_definition(path))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('kind = "party"\n', {"kind"}),
        ('kind = "root"\n', {"title", "reference", "roles", "authority", "key", "days", "subject"}),
        (_issuing(2).replace("days = 3000", "days = 30000\nextra = 1"), {"days", "extra"}),
        (_issuing(2).replace('key = "p-256"', 'key = "rsa-512"'), {"key"}),
        (_issuing(2).replace('["Chủ trì", "Thư ký"]', '["Chủ trì"]'), {"roles"}),
        (_issuing(2).replace("issuing-ca", "root").replace('issuer = "root"\n', ""), {"key"}),
        (_issuing(2, "x" * 65), {"subject"}),
        (_issuing(2).replace('"issuing"', '"../issuing"'), {"authority"}),
        ("not toml", {"file"}),
    ],
)
def test_everything_wrong_with_a_definition_is_told_at_once(tmp_path: Path, text: str, fields: set[str]) -> None:
    with pytest.raises(Rejected) as rejected:
        load_definition(_write(tmp_path, text))
    assert {violation.field for violation in rejected.value.violations} == fields


def test_a_new_generation_issues_while_the_old_one_goes_on_signing_its_crl(house: House, tmp_path: Path) -> None:
    first, list_of_root = house.issue(), house.crl.current("root").number
    outcome = _ceremony(house).execute(load_definition(_write(tmp_path, _issuing(2))), ADMIN)
    assert outcome.certificate is not None
    assert house.crl.current("root").number == list_of_root + 1  # one that can know of it
    second = house.issue()
    assert second.chain[0] == outcome.certificate
    house.clock.move(hours=1)
    for name, issued in (("issuing", first), ("issuing-g2", second)):
        crl = x509.load_der_x509_crl(house.crl.publish(name, actor=ADMIN).der)
        assert crl.is_signature_valid(issued.chain[0].public_key())  # type: ignore[arg-type]  # a P-256 key
    violations = _ceremony(house).check(load_definition(_write(tmp_path, _issuing(2))))
    assert [violation.field for violation in violations] == ["generation"]


def test_a_ceremony_that_was_cut_off_goes_on(house: House, tmp_path: Path) -> None:
    definition = load_definition(_write(tmp_path, _issuing(2)))
    away = BrokenKeys(house.keys, Unavailable("hsm", "gone"), "ca-issuing-g2")
    with pytest.raises(Unavailable):  # the authority is there, and its first CRL is not
        _ceremony(house.with_keys(away)).execute(definition, ADMIN)
    assert _ceremony(house).check(definition) == []
    outcome = _ceremony(house).execute(definition, ADMIN)
    assert outcome.certificate is not None
    assert house.issue().chain[0] == outcome.certificate
    assert house.actions(definition.sha256) == ["ceremony.begin", "ceremony.begin", "ceremony.end"]


@pytest.mark.interop
def test_another_authority_is_cross_certified(house: House, tmp_path: Path) -> None:
    elsewhere = Elsewhere(house.clock(), identifiers=True)
    (tmp_path / "other.pem").write_bytes(elsewhere.root.public_bytes(Encoding.PEM))
    text = f'kind = "cross-certificate"\n{HEAD}issuer = "root"\ncertificate = "other.pem"\nsha256 = "{{}}"\ndays = 365\n'
    with pytest.raises(Rejected, match="reviewed"):
        load_definition(_write(tmp_path, text.format("0" * 64)))
    outcome = _ceremony(house).execute(load_definition(_write(tmp_path, text.format(fingerprint(elsewhere.root)))), ADMIN)
    assert outcome.certificate is not None
    assert outcome.certificate.subject == elsewhere.root.subject
    assert outcome.certificate.public_key() == elsewhere.root.public_key()
    files = {"anchor": outcome.chain[0], "cross": outcome.certificate, "leaf": elsewhere.issuing}
    for name, certificate in files.items():
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    run("openssl", "verify", "-CAfile", tmp_path / "anchor.pem", "-untrusted", tmp_path / "cross.pem", tmp_path / "leaf.pem")
    minutes = build_minutes(outcome, at=house.clock(), actor="somebody", version="1")
    assert fingerprint(outcome.certificate) in minutes.replace(" ", "")
