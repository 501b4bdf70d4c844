"""Signing digests: the document is never seen, and nobody is let sign what does not fit."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import falcon
import pytest
import sqlalchemy as sa
from cryptography import x509
from falcon import testing
from pydantic import ValidationError

from audit.log import Actor
from core.db import Database
from core.errors import Conflict, Forbidden, Rejected, Unavailable
from hsm.keys import KeySpec
from registry.models import ApiClient
from registry.registry import key_digest
from signer.digests import DigestRequest, DigestSigner, ValidationRequest
from signer.http_digests import DigestSignatures
from signer.models import Signature
from signer.service import TimestampSource
from tests.conftest import Clock
from tests.signer.house import CLIENT, House, build_house
from tests.software_keys import SoftwareKeys
from web import problems
from web.access import ApiKeys, Shell

DOCUMENT = "Công văn mật không rời hệ thống".encode()
DIGEST = hashlib.sha256(DOCUMENT).digest()


def signer_of(house: House, stamp: TimestampSource | None = None, when_away: str = "refuse") -> DigestSigner:
    levels, gates = house.levels(when_away=when_away), house.gates()
    stamp = stamp or house.tsa.stamp
    return DigestSigner(database=house.database, keys=house.keys, now=house.now, stamp=stamp, levels=levels, gates=gates)


def openssl_accepts(folder: Path, cms: bytes, root: Path) -> bool:
    """Whether OpenSSL finds the detached signature good over DOCUMENT."""
    (folder / "signature.p7s").write_bytes(cms)
    (folder / "document").write_bytes(DOCUMENT)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", folder / "signature.p7s", "-cades"]
    command += ["-content", folder / "document", "-CAfile", root, "-purpose", "any", "-out", "/dev/null"]
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=30, check=False).returncode == 0


@pytest.mark.parametrize("text", [DIGEST.hex(), DIGEST.hex().upper(), base64.b64encode(DIGEST).decode()])
def test_a_digest_gets_a_signature_that_openssl_accepts(house: House, tmp_path: Path, text: str) -> None:
    answer = signer_of(house).sign(DigestRequest(digest=text), CLIENT)
    assert openssl_accepts(tmp_path, base64.b64decode(answer.cms), house.root_file(tmp_path))
    with house.database.read() as db:
        row = db.scalars(sa.select(Signature)).one()
    assert (row.format, row.level, row.digest, row.state) == ("digest", "B-T", DIGEST.hex(), "signed")


@pytest.mark.parametrize(("spec", "algorithm"), [(KeySpec.P_384, "sha384"), (KeySpec.ED25519, "sha512")])
def test_the_hash_is_the_one_of_the_key(
    database: Database, keys: SoftwareKeys, clock: Clock, spec: KeySpec, algorithm: str, tmp_path: Path
) -> None:
    house = build_house(database, keys, clock, spec=spec)
    signer = signer_of(house)
    with pytest.raises(Conflict, match=f"signs with {algorithm}: digest the document with that"):
        signer.sign(DigestRequest(digest=DIGEST.hex()), CLIENT)
    digest = hashlib.new(algorithm, DOCUMENT).hexdigest()
    answer = signer.sign(DigestRequest(digest=digest, algorithm=algorithm, level="B-B"), CLIENT)
    if spec is KeySpec.P_384:  # OpenSSL 3.0 knows no Ed25519 in CMS
        assert openssl_accepts(tmp_path, base64.b64decode(answer.cms), house.root_file(tmp_path))


@pytest.mark.parametrize(
    ("digest", "algorithm"),
    [
        ("", "sha256"),
        (DIGEST.hex()[:-1], "sha256"),
        (DIGEST.hex() + "00", "sha256"),
        (DIGEST.hex(), "sha384"),  # 64 characters are a SHA-384 digest in base64, but these are hexadecimal
        (DIGEST.hex(), "sha512"),
        (base64.b64encode(DIGEST).decode()[:-1], "sha256"),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode(), "sha256"),
        (f" {DIGEST.hex()}", "sha256"),
        (hashlib.sha1(DOCUMENT).hexdigest(), "sha1"),
        (hashlib.md5(DOCUMENT).hexdigest(), "md5"),
        (DIGEST.hex(), "SHA256"),
    ],
)
def test_what_is_no_digest_of_its_kind_is_refused(digest: str, algorithm: str) -> None:
    with pytest.raises(ValidationError, match=r"digest is \d\d bytes|is not signed here"):
        DigestRequest(digest=digest, algorithm=algorithm)


def test_a_key_that_is_not_the_callers_is_refused_and_nothing_recorded(house: House) -> None:
    with pytest.raises(Forbidden):
        signer_of(house).sign(DigestRequest(digest=DIGEST.hex(), signer=house.identity().serial), Actor("other", "client"))
    with house.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Signature)) == 0


def test_without_time_stamps_b_t_fails_closed(house: House) -> None:
    def away(_data: bytes, _actor: object) -> bytes:
        raise Unavailable("tsa", "away")

    with pytest.raises(Unavailable, match="away"):
        signer_of(house, away).sign(DigestRequest(digest=DIGEST.hex()), CLIENT)


def test_with_b_lt_comes_what_judging_it_later_needs(house: House) -> None:
    answer = signer_of(house).sign(DigestRequest(digest=DIGEST.hex(), level="B-LTA"), CLIENT)
    assert (answer.level, answer.validation is not None) == ("B-LTA", True)
    assert answer.validation is not None
    found = [x509.load_der_x509_certificate(base64.b64decode(item)) for item in answer.validation.certificates]
    assert {house.identity().certificate, *house.identity().chain, *house.tsa.signers()} <= set(found)
    assert len(answer.validation.crls) + len(answer.validation.ocsp_responses) >= 3  # signer, stamper, issuing authority
    later = signer_of(house).collect(ValidationRequest(cms=answer.cms), CLIENT)
    assert set(later.certificates) == set(answer.validation.certificates)


@pytest.mark.parametrize("cms", ["", "AAAA", "no base64", base64.b64encode(b"0" * 100).decode()])
def test_material_is_for_signatures_only(house: House, cms: str) -> None:
    with pytest.raises(Rejected):
        signer_of(house).collect(ValidationRequest(cms=cms), CLIENT)


def test_a_level_that_policy_lowers_is_said_and_recorded(house: House) -> None:
    def away(_data: bytes, _actor: object) -> bytes:
        raise Unavailable("tsa", "away")

    answer = signer_of(house, away, "lower").sign(DigestRequest(digest=DIGEST.hex(), level="B-LTA"), CLIENT)
    assert (answer.level, answer.validation) == ("B-B", None)
    with house.database.read() as db:
        assert db.scalars(sa.select(Signature.reached)).one() == "B-B"


def test_a_repeated_request_uses_the_key_once(house: House) -> None:
    with house.database.write() as db:
        db.execute(sa.update(ApiClient).where(ApiClient.name == CLIENT.name).values(key_sha256=key_digest("a-key")))
    app: Any = falcon.App(middleware=[Shell(access=ApiKeys(database=house.database), body_limit=1_000_000)])
    problems.install(app)
    app.add_route("/v1/signatures/digest", DigestSignatures(signer=signer_of(house)))
    client = testing.TestClient(app)
    headers = {"Authorization": "Bearer a-key", "Content-Type": "application/json", "Idempotency-Key": "one"}
    body = json.dumps({"digest": DIGEST.hex()})
    first, second = (client.simulate_post("/v1/signatures/digest", body=body, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code, first.json) == (200, 200, second.json)
    with house.database.read() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Signature)) == 1
    wrong = client.simulate_post("/v1/signatures/digest", body=json.dumps({"digest": "ab", "algorithm": "sha1"}), headers=headers)
    assert (wrong.status_code, wrong.json["violations"][0]["field"]) == (422, "algorithm")
