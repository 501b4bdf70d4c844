"""Keys of ours that other authorities certify: only what belongs to the key and leads to an installed anchor is taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import Conflict, Forbidden, Malformed, NotFound, Rejected
from hsm.keys import KeySpec
from pki.anchors import fingerprint, install_anchor, installed_anchors, remove_anchor
from pki.certificates import Identity, signing_identities, signing_identity
from pki.external import ExternalCertificates
from pki.models import ExternalCertificate
from pki.trust import load_trust
from registry import registry
from tests.pki.house import ADMIN, House
from tests.software_keys import make_key


class Elsewhere:
    """Somebody else's authorities: a root and one below it."""

    def __init__(self, at: datetime, name: str = "Elsewhere", *, path_length: int | None = 0, identifiers: bool = False) -> None:
        """``identifiers``: its certificates carry their key identifier."""
        self._at, self._identifiers = at, identifiers
        self._root_key, self._key = make_key(KeySpec.P_384), make_key(KeySpec.P_256)
        self.root = self._certify(f"{name} Root", self._root_key.public_key(), f"{name} Root", self._root_key, authority=True)
        self.issuing = self._certify(
            f"{name} CA", self._key.public_key(), f"{name} Root", self._root_key, authority=True, path_length=path_length
        )
        self._name = f"{name} CA"

    def answer(self, row: ExternalCertificate, **options: Any) -> x509.Certificate:
        """A certificate for the request."""
        request = x509.load_der_x509_csr(row.request_der or b"")
        assert request.is_signature_valid
        return self._certify("Whoever they say", request.public_key(), self._name, self._key, **options)

    def _certify(
        self,
        subject: str,
        public_key: Any,
        issuer: str,
        key: Any,
        *,
        authority: bool = False,
        path_length: int | None = None,
        days: int = 30,
        extended: Sequence[x509.ObjectIdentifier] = (),
        serial: int | None = None,
    ) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(public_key)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(self._at - timedelta(days=2))
            .not_valid_after(self._at + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage), critical=True
            )
        )
        if self._identifiers:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        return builder.sign(key, hashes.SHA256())


@pytest.fixture
def elsewhere(house: House) -> Elsewhere:
    return Elsewhere(house.clock())


@pytest.fixture
def externals(house: House) -> ExternalCertificates:
    return ExternalCertificates(database=house.database, keys=house.keys, now=house.clock)


def _trust(house: House, anchor: x509.Certificate, domain: str = "cong-vu") -> None:
    with house.database.write() as db:
        data, sha256 = anchor.public_bytes(Encoding.PEM), fingerprint(anchor)
        install_anchor(db, at=house.clock(), actor=ADMIN, data=data, domain=domain, sha256=sha256)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _request(externals: ExternalCertificates) -> ExternalCertificate:
    return externals.request(subscriber="seal", spec=KeySpec.P_256, key_label=None, actor=ADMIN)


def _identity(house: House, signer: str | None) -> Identity:
    with house.database.read() as db:
        return signing_identity(db, client="system", signer=signer, at=house.clock())


def _grant(house: House, subscriber: str = "seal") -> None:
    with house.database.write() as db:
        registry.grant(db, at=house.clock(), actor=ADMIN, client="system", subscriber=subscriber)


def test_what_came_back_is_signed_with_as_with_our_own(house: House, externals: ExternalCertificates, elsewhere: Elsewhere) -> None:
    _trust(house, elsewhere.root)
    _grant(house)
    row = _request(externals)
    leaf = elsewhere.answer(row)
    taken = externals.accept(row.id, _pem(elsewhere.root, elsewhere.issuing, leaf), ADMIN)  # in any order
    assert taken.domain == "cong-vu"
    for signer in (None, "seal", taken.serial):
        identity = _identity(house, signer)
        assert identity.certificate == leaf
        assert identity.chain == (elsewhere.issuing, elsewhere.root)
        assert (identity.domain, identity.subscriber) == ("cong-vu", "seal")
        assert house.keys.key(identity.key_label).public_key() == leaf.public_key()
    with house.database.read() as db:
        assert [found.certificate for found in signing_identities(db, client="system", at=house.clock())] == [leaf]
    assert house.actions(row.key_label) == ["key.generate", "external.intend", "external.request"]
    assert house.actions(taken.serial or "") == ["external.import"]


def test_an_existing_key_of_the_subscriber_can_be_certified_twice_and_nobody_elses(
    house: House, externals: ExternalCertificates, elsewhere: Elsewhere
) -> None:
    _trust(house, elsewhere.root)
    row = _request(externals)
    externals.accept(row.id, _pem(elsewhere.answer(row), elsewhere.issuing), ADMIN)
    again = externals.request(subscriber="seal", spec=None, key_label=row.key_label, actor=ADMIN)
    assert again.spki_sha256 == row.spki_sha256
    for subscriber, label in (("officer", row.key_label), ("seal", "ca-issuing"), ("seal", "no-such-key")):
        with pytest.raises(NotFound):
            externals.request(subscriber=subscriber, spec=None, key_label=label, actor=ADMIN)
    with pytest.raises(Rejected, match="either"):
        externals.request(subscriber="seal", spec=None, key_label=None, actor=ADMIN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"authority": True}, "authority's"),
        ({"extended": [ExtendedKeyUsageOID.SERVER_AUTH]}, "keeps it for something else"),
        ({"days": -1}, "not valid now"),
    ],
)
def test_a_certificate_of_no_use_for_signing_is_refused(
    house: House, externals: ExternalCertificates, elsewhere: Elsewhere, options: dict[str, Any], message: str
) -> None:
    _trust(house, elsewhere.root)
    row = _request(externals)
    with pytest.raises(Rejected, match=message):
        externals.accept(row.id, _pem(elsewhere.answer(row, **options), elsewhere.issuing), ADMIN)
    assert externals.one(row.id).der is None


def test_another_key_another_anchor_and_garbage_are_refused(
    house: House, externals: ExternalCertificates, elsewhere: Elsewhere
) -> None:
    row, other = _request(externals), _request(externals)
    leaf = elsewhere.answer(row)
    with pytest.raises(Rejected, match="installed anchor"):
        externals.accept(row.id, _pem(leaf, elsewhere.issuing, elsewhere.root), ADMIN)  # what they bring is no anchor
    _trust(house, elsewhere.root)
    with pytest.raises(Rejected, match="is for the key"):
        externals.accept(other.id, _pem(leaf, elsewhere.issuing), ADMIN)
    with pytest.raises(Rejected, match="installed anchor"):
        externals.accept(row.id, _pem(leaf), ADMIN)  # the link between is missing
    with pytest.raises(Malformed):
        externals.accept(row.id, b"\x30\x03nothing", ADMIN)
    with pytest.raises(NotFound):
        externals.accept(10_000, _pem(leaf, elsewhere.issuing), ADMIN)
    impostor = Elsewhere(house.clock())  # the same names, other keys
    with pytest.raises(Rejected, match="installed anchor"):
        externals.accept(row.id, _pem(impostor.answer(row), impostor.issuing), ADMIN)
    externals.accept(row.id, _pem(leaf, elsewhere.issuing), ADMIN)
    with pytest.raises(Conflict):
        externals.accept(row.id, _pem(leaf, elsewhere.issuing), ADMIN)


def test_withdrawn_and_expired_ones_are_not_signed_with(
    house: House, externals: ExternalCertificates, elsewhere: Elsewhere
) -> None:
    _trust(house, elsewhere.root)
    _grant(house)
    row = _request(externals)
    taken = externals.accept(row.id, _pem(elsewhere.answer(row), elsewhere.issuing), ADMIN)
    externals.withdraw(row.id, why="revoked there", actor=ADMIN)
    with pytest.raises(Conflict, match="withdrawn"):
        _identity(house, taken.serial)
    with pytest.raises(Conflict):
        _identity(house, "seal")
    with pytest.raises(Conflict):
        externals.withdraw(row.id, why="again", actor=ADMIN)
    second = _request(externals)
    late = externals.accept(second.id, _pem(elsewhere.answer(second), elsewhere.issuing), ADMIN)
    house.clock.move(days=31)
    with pytest.raises(Conflict, match="only"):
        _identity(house, late.serial)


def test_the_serial_of_somebody_elses_certificate_grants_nothing(
    house: House, externals: ExternalCertificates, elsewhere: Elsewhere
) -> None:
    _trust(house, elsewhere.root)
    _grant(house, "officer")
    row = _request(externals)
    taken = externals.accept(row.id, _pem(elsewhere.answer(row), elsewhere.issuing), ADMIN)
    with pytest.raises(Forbidden):
        _identity(house, taken.serial)


def test_an_anchor_is_pinned_labelled_and_removed(house: House, elsewhere: Elsewhere) -> None:
    pem, sha256 = elsewhere.root.public_bytes(Encoding.PEM), fingerprint(elsewhere.root)
    leaf = house.issue().certificate

    def install(data: bytes = pem, domain: str = "cong-vu", pin: str = sha256) -> None:
        with house.database.write() as db:
            install_anchor(db, at=house.clock(), actor=ADMIN, data=data, domain=domain, sha256=pin)

    for wrong in ({"pin": "0" * 64}, {"pin": "abc"}, {"domain": "own"}, {"domain": "Công vụ"}, {"data": b"nothing"}):
        with pytest.raises(Rejected):
            install(**wrong)
    with pytest.raises(Rejected, match="no trust anchor"):
        install(_pem(leaf), pin=fingerprint(leaf))
    install(pin=":".join(sha256.upper()[at : at + 2] for at in range(0, 64, 2)))
    with pytest.raises(Conflict):
        install()
    with house.database.read() as db:
        trust = load_trust(db)
    assert trust.domain(elsewhere.root) == "cong-vu"
    assert {trust.domain(anchor) for anchor in trust.anchors} == {"own", "cong-vu"}
    with house.database.write() as db:
        remove_anchor(db, at=house.clock(), actor=ADMIN, sha256=sha256)
    with house.database.read() as db:
        assert installed_anchors(db) == []
        assert elsewhere.root not in load_trust(db).anchors
    install(domain="public")  # an admin may come back to it
    with pytest.raises(NotFound), house.database.write() as db:
        remove_anchor(db, at=house.clock(), actor=ADMIN, sha256="0" * 64)
    assert house.actions(sha256) == ["anchor.install", "anchor.remove", "anchor.install"]
